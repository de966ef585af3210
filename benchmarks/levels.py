"""How far each step leads from real garments: training images, noised to the level that a step begins at, drawn on.

    python -m benchmarks.levels [--model fashion28] [--steps 4] [-n 2000] [--json]

Their classes are told. From level 0 they are the images themselves; the last level is nearly noise, as samples begin.
"""

import numpy as np

import genfast
from benchmarks import common
from benchmarks.garments import as_asked, named
from genfast.metrics.evaluate import evaluate, references
from genfast.models.diffusion import DiffusionModel
from genfast.samplers import ddgan
from genfast.samplers.noise import Purpose, normal
from genfast.shards import chunks
from genfast.types import Pixels, Tokens
from training.data import fashion_mnist

BATCH = 100


def drawn_on(model: DiffusionModel, level: int, images: Pixels, labels: Tokens, seed: int) -> Pixels:
    """Images [N, H, W, C] of classes [N], noised to a level of a model and drawn from there: [N, H, W, C]."""
    manifest = model.bundle.manifest
    assert manifest.schedule
    alpha_bar = manifest.schedule.alpha_bar[model.levels[level]]
    pictures = []
    for indices in chunks(range(len(images)), BATCH):
        x_0 = ddgan.from_pixels(images[indices])
        noise = normal(seed, indices, 0, Purpose.PRIOR, x_0.shape[1:])
        x = np.float32(alpha_bar**0.5) * x_0 + np.float32((1 - alpha_bar) ** 0.5) * noise
        step = model.step(labels[indices])
        pictures.append(ddgan.denoise(step, x, steps=level, latent=manifest.latent, seed=seed, indices=indices))
    return np.concatenate(pictures)


def main() -> None:
    parser = common.parser(__doc__, "--model -n --seed --threads --json", model="fashion28", n=2000, seed=0)
    parser.add_argument("--steps", type=int, default=4, help="number of steps (default: 4)")
    given = parser.parse_args()
    model = genfast.load(given.model, steps=given.steps, device="cpu", threads=given.threads)
    assert isinstance(model, DiffusionModel)
    images, labels = fashion_mnist.load("train")
    images, labels = images[: given.n], labels[: given.n]
    judges = references("fashion-mnist-test", device="cpu")
    figures: dict[str, float] = {}
    for level in range(given.steps + 1):
        pictures = drawn_on(model, level, images, labels, given.seed)
        found = named(evaluate([pictures], judges), as_asked(pictures, labels))
        figures |= {f"from level {level}: {name}": value for name, value in found.items()}
    common.report(figures, given.json)


if __name__ == "__main__":
    main()
