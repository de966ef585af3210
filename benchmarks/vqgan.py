"""A full-size VQ-GAN of taming-transformers (f16, random weights): speed against PyTorch eager, and what import takes.

python -m benchmarks.vqgan [--threads 2] [--json]
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
import yaml

import genfast
from benchmarks import common
from export.importers.taming import Encode, load, read_config
from export.importers.taming_net import NetConfig, TamingVQGAN
from export.vqgan import Decode

TURNS = 7
CODES, LENGTH = 16384, 256
NET: dict[str, Any] = {
    "ch": 128,
    "ch_mult": [1, 1, 2, 2, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [16],
    "resolution": 256,
    "z_channels": 256,
}


def write(folder: Path) -> tuple[Path, Path]:
    """A checkpoint of 1 GB, as the released ones are: the network, and twice as much of its optimiser."""
    torch.manual_seed(0)
    state = TamingVQGAN(NetConfig.model_validate(NET), CODES, LENGTH, gumbel=False).state_dict()
    moments = {i: torch.randn_like(value) for i, value in enumerate([*state.values()] * 2)}
    torch.save({"state_dict": state, "optimizer_states": [{"state": moments}]}, folder / "last.ckpt")
    params = {"embed_dim": LENGTH, "n_embed": CODES, "ddconfig": NET}
    (folder / "model.yaml").write_text(yaml.safe_dump({"model": {"target": "VQModel", "params": params}}))
    return folder / "last.ckpt", folder / "model.yaml"


@torch.inference_mode()
def rivals(checkpoint: Path, config: Path, bundle: Path, threads: int) -> dict[str, float]:
    """Median seconds a picture, PyTorch and onnxruntime taking turns, and the median of their ratios."""
    torch.set_num_threads(threads)
    network = load(checkpoint, read_config(config))
    model = genfast.load(str(bundle), device="cpu", threads=threads)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 256, 256, 3), np.uint8)
    tokens = rng.integers(CODES, size=(1, 16**2))
    pairs: dict[str, tuple[Callable[[], object], ...]] = {
        "encode": (partial(Encode(network), torch.from_numpy(image)), partial(model.encode, image)),
        "decode": (partial(Decode(network, 16), torch.from_numpy(tokens)), partial(model.decode, tokens)),
    }
    figures = {}
    for name, calls in pairs.items():
        seconds = []
        for _ in range(TURNS + 1):
            turn = []
            for call in calls:
                began = perf_counter()
                call()
                turn.append(perf_counter() - began)
            seconds.append(turn)
        eager, own = zip(*seconds[1:], strict=True)  # the first warms up
        figures[f"{name}, PyTorch eager, s"] = median(eager)
        figures[f"{name}, onnxruntime, s"] = median(own)
        figures[f"{name}, times as fast"] = median(a / b for a, b in zip(eager, own, strict=True))
    return figures


def main() -> None:
    arguments = common.parser(__doc__, "--threads --json", threads=2).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint, config = write(folder)
        command = [sys.executable, "-m", "export", "import", "taming-vqgan", str(checkpoint), str(folder / "vqgan")]
        figures = {"checkpoint, MB": checkpoint.stat().st_size / 1e6}
        began = perf_counter()
        figures["memory of the import, MB"] = common.peak([*command, "--config", str(config)])
        figures["import, s"] = perf_counter() - began
        figures |= rivals(checkpoint, config, folder / "vqgan", arguments.threads)
    common.report(figures, arguments.json)


if __name__ == "__main__":
    main()
