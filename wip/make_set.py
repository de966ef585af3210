"""python make_set.py COUNT: token set with attributes and drafts from the encoded faces; once: the prior's new start."""
import json, pickle, sys, time, dataclasses
from pathlib import Path
import numpy as np, torch
from training.data import avatars, tokens as T
from training.data.attributes import encode
from training.token_set import load_vqgan, identity
from training.init.drafts import fit
from training.nets.hourglass import Hourglass
from training import registry
from genfast.attributes import AttributeTable
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
n = int(sys.argv[1]); rank = 192
OUT = Path("runs/faces"); SET = Path("runs/runs/avatars1024-token-set"); SET.mkdir(exist_ok=True)
net, _ = load_vqgan(Path("runs/runs/avatars1024-tokens"))
def told(split, n):
    c = Path(f"runs/told-{split}.pkl"); seen = pickle.load(open(c, "rb")) if c.exists() else []
    for i in range(len(seen), n): seen.append(avatars.told(avatars.FIRST[split] + i))
    pickle.dump(seen, open(c, "wb")); return seen[:n]
NV = 200
colours = frozenset(x for s in avatars.CLASSES for x, k in avatars.options(s).items() if "Color" in k)
a, rows = encode(told("train", n) + told("validation", NV), colours)
tok = {s: np.memmap(OUT / f"{s}-tokens.u16", np.uint16, "r").reshape(-1, 1024)[:m] for s, m in (("train", n), ("validation", NV))}
for s, m, r in (("train", n, rows[:n]), ("validation", NV, rows[n:])):
    np.save(SET / f"{s}.npy", np.array(tok[s]).reshape(m, 32, 32))
    np.save(SET / f"{s}-labels.npy", np.concatenate([np.arange(m)[:, None] % 5, r], 1))
about = T.About(identity(net), 8192, 4, "avatars", avatars.CLASSES, {"train": n, "validation": NV}, a)
(SET / "tokens.json").write_text(json.dumps(dataclasses.asdict(about), default=lambda x: x.model_dump(), indent=1))
t = time.time()
d = fit(AttributeTable(a, rows[:n], np.arange(n) % 5), torch.from_numpy(tok["train"].astype(np.int64)), net.codebook, rank, 48)
d.save(SET); print("drafts", time.time() - t)
start = Path("runs/runs/avatars1024-prior-0/checkpoint-00000000")
if not start.exists():
    old = load_file("runs/runs/avatars1024-prior/checkpoint-00000000/model.safetensors")
    recipe = registry.read(Path("./training/recipes/avatars1024-prior.toml"))
    h = Hourglass(recipe.hourglass); state = h.state_dict()
    uk, uq = old["token_head.unigram_keys"], old["unigram_queries"]  # (16, 8192, 64), (6, 1024, 64)
    reg = h.token_head.regions
    nk, nq = torch.zeros(16, 8192, 32), torch.zeros(6, 1024, 32)
    for r in range(16):
        q = uq[:, reg == r].flatten(0, 1); k = uk[r]
        # low rank of q @ k.T
        Q, Rq = torch.linalg.qr(q); K, Rk = torch.linalg.qr(k)
        u, s, v = torch.linalg.svd(Rq @ Rk.T)
        print(r, (s[:32].square().sum() / s.square().sum()).item())
        root = s[:32].sqrt()
        nq[:, reg == r] = (Q @ u[:, :32] * root).view(6, -1, 32); nk[r] = K @ v.T[:, :32] * root
    old["token_head.unigram_keys"], old["unigram_queries"] = nk, nq
    new = {k: old[k] if k in old else v for k, v in state.items()}
    print("new:", [k for k in state if k not in old]); print("gone:", [k for k in old if k not in state])
    h.load_state_dict(new); start.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in h.state_dict().items()}, start / "model.safetensors")
    rec = dataclasses.replace(recipe, init_from=None, name="avatars1024-prior-0")
    (start / "recipe.json").write_text(json.dumps({"recipe": dataclasses.asdict(rec), "step": 0, "images": 75400, "hours": 6.54}, default=str))
