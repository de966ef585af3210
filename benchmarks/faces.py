"""Quality of avatars1024: reconstructions of held-out faces, distance of samples from held-out faces, copies.

    python -m benchmarks.faces [--reconstructions 200] [--samples 500] [--steps 4 8 16 32] [--out FOLDER]

Features are those of efficientnet-lite0, which nothing was trained against. Samples take the classes in turn, as the
held-out faces do. The floor is the distance of as many real faces from the same reference. Sheets of what was made are
written to --out: reconstructions beside originals, samples, samples beside the nearest faces trained on; and, for
several numbers of steps, a plot of quality against them. --card puts the figures into the model's card.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

import genfast
from benchmarks import common
from export.provenance import record
from genfast.bundles.manifest import Figure
from genfast.images import sheets
from genfast.metrics.evaluate import compare, describe
from genfast.metrics.features import Embedder, Features
from genfast.metrics.statistics import Statistics
from genfast.models.tokens import TokenModel
from genfast.types import Floats, Pixels
from training.data import avatars
from training.data.images import Split

SIZE = 1024
SHOWN = 256  # side of a picture on a sheet
SHEET = 32  # samples shown
PAIRS = 8  # pictures shown beside another


def faces(split: Split, count: int, start: int = 0) -> Iterator[Pixels]:
    """Real faces start .. start + count - 1 of a split, each uint8 [1024, 1024, 3], drawn by every core."""
    indices = range(avatars.FIRST[split] + start, avatars.FIRST[split] + start + count)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(avatars.draw, size=SIZE), indices, chunksize=8)


def embed(embedder: Embedder, pictures: Iterable[Pixels]) -> Features:
    return np.concatenate([embedder(picture[None]) for picture in pictures])


def write_sheet(path: Path, pictures: list[Pixels], columns: int) -> None:
    common.write_figure(path, sheets.contact_sheet(np.stack(pictures), columns))


def beside(*pictures: Pixels) -> Pixels:
    """Pictures side by side, as small as a sheet shows them."""
    return np.concatenate([sheets.shrink(picture, SHOWN) for picture in pictures], axis=1)


def reconstructions(model: TokenModel, embedder: Embedder, count: int, out: Path | None) -> list[Figure]:
    """Encode and decode held-out faces: PSNR, share of the vocabulary in use, distance in features, a sheet."""
    psnr, distances = [], []
    pairs: list[Pixels] = []
    used = np.zeros(model.tokens.vocabulary, bool)
    for face in faces("test", count):
        tokens = model.encode(face[None])
        drawn = model.decode(tokens)[0]
        used[tokens] = True
        psnr.append(10 * np.log10(255**2 / np.square(drawn.astype(float) - face).mean()))
        original, copy = embedder(face[None])[0], embedder(drawn[None])[0]
        distances.append(np.linalg.norm(original - copy) / np.linalg.norm(original))
        if len(pairs) < PAIRS:
            pairs.append(beside(face, drawn))
    if out:
        write_sheet(out / "avatars1024-reconstructions.webp", pairs, 4)
    figures = {
        "PSNR, dB, mean": np.mean(psnr),
        "PSNR, dB, lowest": np.min(psnr),
        "tokens in use, share of the vocabulary": used.mean(),
        "relative distance in features, mean": np.mean(distances),
    }
    return [Figure(name=name, value=value, protocol=f"avatars-test:{count}") for name, value in figures.items()]


def distances(
    model: TokenModel, embedder: Embedder, count: int, steps: list[int], seed: int, out: Path | None
) -> list[Figure]:
    """Distances of so many samples from as many held-out faces, by steps, and of other faces, as such and as tokens."""

    def see(pictures: Iterable[Pixels], dataset: str) -> Statistics:
        return describe((picture[None] for picture in pictures), [embedder], dataset)[0][0]

    reference = see(faces("test", count), "avatars-test")
    copies = (model.decode(model.encode(face[None]))[0] for face in faces("test", count, start=count))
    rows = {
        "real faces (the floor)": see(faces("test", count, start=count), "others"),
        "real faces as tokens and back": see(copies, "copies"),
    }
    for n in steps:
        drawn = model.batches(range(count), seed=seed, batch=1, options=replace(model.options, steps=n))
        rows[f"{n} steps"] = see((batch[0] for batch in drawn), "samples")
    scores = {name: compare(statistics, reference, 0) for name, statistics in rows.items()}
    if out and len(steps) > 1:
        plot({name: score.fid for name, score in scores.items()}, steps, out / "avatars1024-steps.png")
    return [
        Figure(name=f"{figure}, {name}", value=value, protocol=score.protocol)
        for name, score in scores.items()
        for figure, value in (
            ("FID", score.fid),
            ("1000 KID", score.kid and 1000 * score.kid),
            ("precision", score.precision),
            ("recall", score.recall),
        )
        if value is not None
    ]


def plot(distances: dict[str, float], steps: list[int], out: Path) -> None:
    """FID over the number of steps, with the floor."""
    from matplotlib.figure import Figure

    (floor, lowest), _, *rows = distances.items()
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, [fid for _, fid in rows], marker="o")
    axes.axhline(lowest, color="C1", linestyle="--", label=floor)
    axes.set(title="avatars1024", xlabel="steps", ylabel="FID", xscale="log", ylim=(0, None))
    axes.set_xticks(steps, map(str, steps))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=120)


def neighbours(model: genfast.Model, embedder: Embedder, train: int, seed: int, out: Path) -> list[Figure]:
    """Sheets of samples, and of each beside the face nearest to it, in features, of those trained on."""
    samples = np.concatenate(list(model.batches(range(SHEET), seed=seed, batch=1)))
    known = embed(embedder, faces("train", train))
    held_out = embed(embedder, faces("validation", SHEET))

    def nearest(features: Features) -> tuple[npt.NDArray[np.intp], Floats]:
        squared = np.square(features).sum(1)[:, None] + np.square(known).sum(1) - 2 * features @ known.T
        return squared.argmin(1), np.sqrt(squared.min(1).clip(0))

    which, near = nearest(embed(embedder, samples))
    twins = [avatars.draw(avatars.FIRST["train"] + int(i), SIZE) for i in which[:PAIRS]]
    pairs = [beside(*pair) for pair in zip(samples[:PAIRS], twins, strict=True)]
    write_sheet(out / "avatars1024-neighbours.webp", pairs, 4)
    write_sheet(out / "avatars1024-samples.webp", [sheets.shrink(x, SHOWN) for x in samples], 8)
    return [
        Figure(
            name=f"distance of {who} from the nearest face trained on, median",
            value=float(np.median(found)),
            protocol=f"avatars-train:{train}/n={SHEET}",
        )
        for who, found in (("a sample", near), ("a held-out face", nearest(held_out)[1]))
    ]


def main() -> None:
    shared = "--model --seed --device --threads --out"
    given = common.parser(__doc__, shared, model="avatars1024", seed=0, device="cpu")
    given.add_argument("--reconstructions", type=int, default=200, help="faces as tokens and back (default: 200)")
    given.add_argument("--samples", type=int, default=500, help="to measure (default: 500)")
    given.add_argument("--steps", type=int, nargs="*", default=[], help="numbers of steps; by default the model's own")
    given.add_argument("--train", type=int, default=6000, help="faces trained on, to look for copies (default: 6000)")
    given.add_argument("--card", action="store_true", help="put the figures into the model's manifest")
    options = given.parse_args()
    model = common.token_model(options.model, options.device, options.threads)
    embedder = common.extractor(options.device, options.threads)
    out = options.out and common.folder(options.out)
    figures = reconstructions(model, embedder, options.reconstructions, out) if options.reconstructions else []
    if options.samples:
        figures += distances(model, embedder, options.samples, options.steps or [model.steps], options.seed, out)
    if out:
        figures += neighbours(model, embedder, options.train, options.seed, out)
    if options.card:
        record(model.bundle.directory, figures)
    print(json.dumps({figure.name: figure.value for figure in figures}, indent=2))


if __name__ == "__main__":
    main()
