"""python encode_faces.py SPLIT FIRST LAST PART PARTS: draw and encode faces FIRST..LAST-1 of a split; restartable."""
import json, os, sys, time
from pathlib import Path
import numpy as np, torch
from training.data import avatars
from training.token_set import load_vqgan
from training.data.images import signed
torch.set_num_threads(1); os.nice(-1)
split, first, last, part, parts = sys.argv[1], *map(int, sys.argv[2:6])
OUT = Path("runs/faces"); SIZE = 1024
net, _ = load_vqgan(Path("runs/runs/avatars1024-tokens"))
enc = net.encoder.to(memory_format=torch.channels_last)
N = last
def room(name, shape, dtype):
    p = OUT / name; p.open("ab").close()
    n = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if p.stat().st_size < n: os.truncate(p, n)
    return np.memmap(p, dtype, "r+", shape=shape)
pixels = OUT / f"{split}-{SIZE}-{avatars._fingerprint():08x}.u8"
pix = room(pixels.name, (N, SIZE, SIZE, 3), np.uint8)
drawn = room(pixels.with_suffix(".done").name, (N,), np.uint8)
lat = room(f"{split}-latents.f16", (N, 1024, 128), np.float16)
tok = room(f"{split}-tokens.u16", (N, 1024), np.uint16)
enc_done = room(f"{split}-encoded.u8", (N,), np.uint8)
regions = None
from training.nets.vqgan import region_map
reg = region_map(32, 32, 4)[None]
t0 = time.time(); n = 0
with torch.no_grad():
    for i in range(first, last):
        if i % parts != part or enc_done[i]: continue
        if not drawn[i]:
            pix[i] = avatars.draw(avatars.FIRST[split] + i, SIZE); drawn[i] = 1
        x = signed(torch.from_numpy(pix[i].copy()).permute(2, 0, 1)[None]).contiguous(memory_format=torch.channels_last)
        y = net.encoder(x)
        tok[i] = net.quantise(y, reg)[0].flatten().numpy()
        lat[i] = y[0].flatten(1).T.half().numpy()
        enc_done[i] = 1; n += 1
        if n % 50 == 0: print(f"{i} {n} {n/(time.time()-t0):.2f}/s", flush=True)
print("done", flush=True)
