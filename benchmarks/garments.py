"""How good garments are, by two extractors, and whether a classifier sees the class that was asked for.

    python -m benchmarks.garments [--model fashion28] [--steps 1,2,4,8] [-n 10000] [--guidance 1] [--card]

Figures are those of `genfast fid`; classes take turns, so that there are as many of each. `--card` puts FIDs into the
card of the bundle, which plots show: of seed 0, and without guidance.
"""

import sys
from collections.abc import Sequence

import numpy as np

import genfast
from benchmarks import common
from export.provenance import fid, record
from export.study import classifier
from genfast.bundles.manifest import Figure
from genfast.metrics.evaluate import Score, evaluate, references
from genfast.models.diffusion import DiffusionModel
from genfast.samplers.options import AncestralOptions
from genfast.types import Mask, Pixels, Tokens
from training.data import fashion_mnist


def as_asked(images: Pixels, asked: Tokens) -> Mask:
    """Whether a classifier sees the class that was asked for [N] in each of the garments [N, 28, 28, 1]."""
    right: Mask = classifier()(images).argmax(1).numpy() == asked
    return right


def named(scores: Sequence[Score], right: Mask | None) -> dict[str, float]:
    """Figures by name: the scores of garments and, where classes were asked for, how many are right [N]."""
    figures: dict[str, float] = {}
    for score in scores:
        kid = (score.kid or 0) * 1000
        own = {"FID": score.fid, "KID x 1000": kid, "precision": score.precision, "recall": score.recall}
        figures |= {f"{score.features}, {name}": value for name, value in own.items() if value is not None}
    return figures if right is None else figures | {"class asked for = class seen": float(right.mean())}


def measured(model: DiffusionModel, n: int, seed: int, guidance: float) -> tuple[dict[str, float], list[Figure]]:
    """Figures of n images by name, and the FIDs as a card has them."""
    options = AncestralOptions(guidance=guidance) if guidance != 1 else None
    images = model.sample(n, seed=seed, options=options)
    scores = evaluate([images], references("fashion-mnist-test", device="cpu"))
    what = f"{model.steps} steps" + (f", guidance {guidance:g}" if options else "")
    asked = np.arange(n) % len(fashion_mnist.CLASSES)
    right = as_asked(images, asked) if model.bundle.manifest.classes else None
    found = named(scores, right)
    if right is not None:
        of_class = enumerate(fashion_mnist.CLASSES)
        found |= {f"... of {name}": float(right[asked == label].mean()) for label, name in of_class}
    figures = {f"{what}: {name}": value for name, value in found.items()}
    return figures, [fid(s.features, what, s.fid, s.protocol) for s in scores]


def main() -> None:
    shared = "--model -n --seed --threads --json"
    parser = common.parser(__doc__, shared, model="fashion28", n=10_000, seed=0)
    parser.add_argument("--steps", default="1,2,4,8", help="numbers of steps (default: 1,2,4,8)")
    parser.add_argument("--guidance", type=float, default=1.0, help="towards the class; 1 is none")
    parser.add_argument("--card", action="store_true", help="put FIDs into the bundle's card")
    given = parser.parse_args()
    if given.card and (given.seed, given.guidance) != (0, 1):
        sys.exit("a card has figures of seed 0 without guidance")
    figures: dict[str, float] = {}
    for steps in map(int, given.steps.split(",")):
        model = genfast.load(given.model, steps=steps, device="cpu", threads=given.threads)
        assert isinstance(model, DiffusionModel)
        found, of_card = measured(model, given.n, given.seed, given.guidance)
        figures |= found
        if given.card:
            record(model.bundle.directory, of_card)
    common.report(figures, given.json)


if __name__ == "__main__":
    main()
