"""dec-warm3.pt -> runs/avatars1024-dequantiser/checkpoint-STEP"""
import sys, json, dataclasses, math
from pathlib import Path
import torch, numpy as np
from training import registry
from training.nets.vqgan import VQGAN
from training.token_set import load_vqgan
from safetensors.torch import save_file
d = torch.load("runs/dec-warm3.pt", weights_only=True)
r = registry.read(Path("./training/recipes/avatars1024-dequantiser.toml"))
src, _ = load_vqgan(Path("runs/runs/avatars1024-tokens"))
v = VQGAN(r.vqgan)
v.encoder.load_state_dict(src.encoder.state_dict()); v.codebook.copy_(src.codebook); v.patch.load_state_dict(src.patch.state_dict())
st = v.dequantiser.state_dict()
new = {k: d["model"][k] for k in st if k != "size"}; new["size"] = src.codebook.square().mean().sqrt()
v.dequantiser.load_state_dict(new, strict=True)
# the decoder's convolutions go on from those that were shipped; what they read beside is silent at first
old = src.decoder.network.state_dict(); mine = v.decoder.network.state_dict()
for k, x in old.items():
    if mine[k].shape == x.shape: mine[k] = x
    else:
        mine[k].zero_(); mine[k][:, : x.shape[1]] = x; print("widened", k, tuple(x.shape), tuple(mine[k].shape))
v.decoder.network.load_state_dict(mine)
out = Path(f"runs/runs/avatars1024-dequantiser/checkpoint-{d['step']:08d}"); out.mkdir(parents=True, exist_ok=True)
save_file({k: x.contiguous() for k, x in v.state_dict().items()}, out / "model.safetensors")
(out / "recipe.json").write_text(json.dumps({"recipe": dataclasses.asdict(r), "step": d["step"], "images": d["step"] * 4, "hours": d["spent"] / 60}, default=str))
print(out)
