"""python dec_proto.py ARCH MINUTES COUNT [lr]"""
import json, math, os, sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from training.nets.hourglass import Layers, Hourglass
from training.nets.vqgan import region_map
from training.token_set import load_vqgan
from training.checkpoint import load_average, newest_checkpoint, saved
from training.families.sundae import SundaeRecipe
from pydantic import TypeAdapter
torch.set_num_threads(1); os.nice(-3); torch.manual_seed(0)
ARCH, MINUTES, COUNT = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
LR = float(sys.argv[4]) if len(sys.argv) > 4 else 1e-3
BATCH = 4
OUT = Path("runs/faces")
net, _ = load_vqgan(Path("runs/runs/avatars1024-tokens"))
reg = region_map(32, 32, 4).flatten()
codes = net.codebook.flatten(0, 1)
scale = net.codebook.square().mean().sqrt()
def mm(split, n):
    return (np.memmap(OUT / f"{split}-latents.f16", np.float16, "r").reshape(-1, 1024, 128),
            np.memmap(OUT / f"{split}-tokens.u16", np.uint16, "r").reshape(-1, 1024)[:n])
lat, tok = mm("train", COUNT); vlat, vtok = mm("validation", 40)
def ready():
    done = np.fromfile(OUT / "train-encoded.u8", np.uint8)
    return int(np.argmin(done)) if (done == 0).any() else len(done)
tokens = torch.from_numpy(np.array(tok).astype(np.int64)); vtokens = torch.from_numpy(np.array(vtok).astype(np.int64))
vlat = torch.from_numpy(np.array(vlat)).float()
often = torch.stack([torch.bincount(tokens[:, reg == r].flatten(), minlength=8192).float() for r in range(16)])
cdf = often.cumsum(1) / often.sum(1, keepdim=True)
def spoiled(t, share, gen=None):
    """Random tokens by frequency in their region in place of a share; t (B, N), share (B, 1)."""
    u = torch.rand(t.shape, generator=gen)
    rnd = torch.empty_like(t)
    for r in range(16):
        rnd[:, reg == r] = torch.searchsorted(cdf[r], u[:, reg == r].contiguous()).clamp(max=8191)
    return torch.where(torch.rand(t.shape, generator=gen) < share, rnd, t)
code = lambda t: F.embedding(t + 8192 * reg, codes)
gram = net.decoder.linear.weight.flatten(1).detach()
to_pixels = torch.linalg.cholesky((gram @ gram.T).double() + 1e-6 * torch.eye(128)).float()
error = lambda a, b: ((a - b) @ to_pixels).square().sum(-1) / 3072

class Flat(nn.Module):
    def __init__(self, width=256, depth=4):
        super().__init__()
        self.enter, self.position = nn.Linear(128, width), nn.Parameter(0.02 * torch.randn(1024, width))
        self.layers, self.norm, self.leave = Layers(depth, width, width // 64, 64, 32), nn.LayerNorm(width), nn.Linear(width, 128)
        nn.init.zeros_(self.leave.weight), nn.init.zeros_(self.leave.bias)
        self.hidden_layers = [self.layers]
    def forward(self, c):
        return c + scale * self.leave(self.norm(self.layers(self.enter(c / scale) + self.position)))

class Warm(nn.Module):
    def __init__(self, warm=True, inner=6):
        super().__init__()
        ck = newest_checkpoint(Path("runs/runs/avatars1024-prior"))
        rec = TypeAdapter(SundaeRecipe).validate_python(saved(ck)["recipe"])
        h = Hourglass(rec.hourglass)
        if warm: load_average(ck, h)
        self.token, self.position = h.token, h.position
        with torch.no_grad(): self.position += h.label.weight[5]
        self.before, self.down, self.within, self.up, self.after, self.norm = h.before, h.down, h.within, h.up, h.after, h.norm
        for part in (self.within.attention, self.within.feed_forward): del part[inner:]
        self.shorten, self.widen = h._shorten, h._widen
        self.leave = nn.Linear(192, 128)
        nn.init.zeros_(self.leave.weight), nn.init.zeros_(self.leave.bias)
        self.hidden_layers = [self.before, self.down, self.within, self.up, self.after]
    def forward(self, c):
        x = self.token(c / scale) + self.position
        x = self.before(x)
        x = x + self.widen(self.up(self.within(self.down(self.shorten(x)))))
        return c + scale * self.leave(self.norm(self.after(x)))

model = {"flat": Flat, "warm": Warm, "cold": lambda: Warm(False), "warm3": lambda: Warm(True, 3)}[ARCH]()
matrices = [p for l in model.hidden_layers for p in l.parameters() if p.ndim == 2]
known = {id(p) for p in matrices}
opts = (torch.optim.Muon(matrices, lr=2 * LR, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([p for p in model.parameters() if id(p) not in known], lr=LR, betas=(0.9, 0.98)))
print(ARCH, sum(p.numel() for p in model.parameters()) / 1e6, "M", flush=True)
start = last = time.time(); step = 0
def watch():
    g = torch.Generator().manual_seed(0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for share in (0, 0.1):
            t = spoiled(vtokens, share, g)
            e = torch.cat([error(model(code(x[None])).float()[0], y).mean()[None] for x, y in zip(t, vlat)])
            print(f"{(time.time()-start)/60:.1f} min, {step*BATCH} pictures, {share:.0%} wrong: {-10*math.log10(e.mean()/4):.2f} dB (mean of dB {(-10*(e/4).log10()).mean():.2f})", flush=True)
CK = f"runs/dec-{ARCH}.pt"
lat_all = lat; TOK = np.memmap(OUT / "train-tokens.u16", np.uint16, "r").reshape(-1, 1024)
spent = 0.0
if os.path.exists(CK):
    d = torch.load(CK, weights_only=True); model.load_state_dict(d["model"]); step = d["step"]; spent = d["spent"]
    for o, st in zip(opts, d["opts"]): o.load_state_dict(st)
    torch.manual_seed(step)
watch()
smooth = 0; n = ready(); saved_at = time.time()
while True:
    minutes = spent + (time.time() - start) / 60
    if minutes > MINUTES: break
    tail = 0.3 * MINUTES
    rate = min(1, (step + 1) / 25) * (1 if minutes < MINUTES - tail else max(0.02, (MINUTES - minutes) / tail))
    for o, full in zip(opts, (2 * LR, LR)):
        for g in o.param_groups: g["lr"] = full * rate
    if step % 100 == 0: n = ready()
    ids = torch.randint(n, (BATCH,)).numpy()
    share = torch.where(torch.rand(BATCH, 1) < 0.6, 0, 0.25 * torch.rand(BATCH, 1))
    given = spoiled(torch.from_numpy(TOK[ids].astype(np.int64)), share)
    y = torch.from_numpy(lat_all[ids]).float()
    with torch.autocast("cpu", torch.bfloat16):
        guess = model(code(given))
    loss = (error(guess.float(), y) + 1e-4).sqrt().mean()
    for o in opts: o.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o in opts: o.step()
    step += 1
    smooth = loss.item() if not smooth else 0.98 * smooth + 0.02 * loss.item()
    if step % 50 == 0: print(f"{step} {step*BATCH} of {n}: loss {smooth:.4f}, {50*BATCH/(time.time()-saved_at):.2f}/s", flush=True); saved_at = time.time()
    if time.time() - last > 300:
        last = time.time(); watch()
        torch.save({"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step, "spent": minutes}, CK + ".new"); os.replace(CK + ".new", CK)
watch()
torch.save({"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step, "spent": minutes}, CK)
