"""Quality of avatars1024: reconstructions of held-out faces, distance of samples from held-out faces, copies.

    python -m tests.benchmarks.faces [--reconstructions 200] [--samples 500] [--steps 4 8 16 32] [--out FOLDER]

Features are those of efficientnet-lite0, which nothing was trained against. Samples take the classes in turn, as the
held-out faces do. The floor is the distance of as many real faces from the same reference. Sheets of what was made are
written to --out: reconstructions beside originals, samples, samples beside the nearest faces trained on; and, for
several numbers of steps, a plot of quality against them.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

import genfast
from genfast import images
from genfast.images import Pixels
from genfast.metrics.features import Embedder, Features
from genfast.metrics.frechet import Moments, frechet_distance
from genfast.metrics.kid import kernel_distance
from genfast.session import Session
from training.data import Split, avatars

SIZE = 1024
SHOWN = 256  # side of a picture on a sheet
SHEET = 32  # samples shown


def faces(split: Split, count: int, start: int = 0) -> Iterator[Pixels]:
    """Real faces start .. start + count - 1 of a split, each uint8 [1024, 1024, 3], drawn by every core."""
    indices = range(avatars.FIRST[split] + start, avatars.FIRST[split] + start + count)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(avatars.draw, size=SIZE), indices, chunksize=8)


def embed(embedder: Embedder, pictures: Iterable[Pixels]) -> Features:
    return np.concatenate([embedder(picture[None]) for picture in pictures])


def write_sheet(path: Path, pictures: list[Pixels], columns: int) -> None:
    """In 256 colours, which take a quarter of the bytes."""
    Image.fromarray(images.contact_sheet(np.stack(pictures), columns)).quantize(256).save(path, optimize=True)


def reconstructions(model: genfast.Model, embedder: Embedder, count: int, out: Path | None) -> dict[str, float]:
    """Encode and decode held-out faces: PSNR, share of the vocabulary in use, distance in features, a sheet."""
    encode, decode = (Session(model.bundle.graph(role, "cpu"), "cpu") for role in ("encode", "decode"))
    psnr, distances, pairs = [], [], []
    used = np.zeros(model.bundle.manifest.tokens.vocabulary, bool)
    for face in faces("validation", count):
        tokens = encode.run(image=face[None])["tokens"]
        drawn = decode.run(tokens=tokens)["image"][0]
        used[tokens] = True
        psnr.append(10 * np.log10(255**2 / np.square(drawn.astype(float) - face).mean()))
        original, copy = embedder(face[None])[0], embedder(drawn[None])[0]
        distances.append(np.linalg.norm(original - copy) / np.linalg.norm(original))
        if len(pairs) < SHEET:
            pairs.append(np.concatenate([images.shrink(x, SHOWN) for x in (face, drawn)], axis=1))
    if out:
        write_sheet(out / "avatars1024-reconstructions.png", pairs, 4)
    return {
        "PSNR, dB, mean": float(np.mean(psnr)),
        "PSNR, dB, lowest": float(np.min(psnr)),
        "tokens in use, share of the vocabulary": float(used.mean()),
        "relative distance in features, mean": float(np.mean(distances)),
    }


def distances(
    model: genfast.Model, embedder: Embedder, count: int, steps: list[int], out: Path | None
) -> dict[str, float]:
    """FID and KID of so many samples from as many held-out faces, by steps, and of as many other real faces."""
    reference = embed(embedder, faces("test", count))

    def compare(features: Features) -> dict[str, float]:
        fid = frechet_distance(Moments.of(features), Moments.of(reference))
        return {"FID": fid, "1000 KID": 1000 * kernel_distance(features, reference)}

    table = {"real faces (the floor)": compare(embed(embedder, faces("test", count, start=count)))}
    for n in steps:
        drawn = (batch[0] for batch in model.batches(range(count), batch=1, steps=n))
        table[f"{n} steps"] = compare(embed(embedder, drawn))
    if out and len(steps) > 1:
        plot(table, steps, out / "avatars1024-steps.png")
    return {f"{figure}, {name}": value for name, row in table.items() for figure, value in row.items()}


def plot(table: dict[str, dict[str, float]], steps: list[int], out: Path) -> None:
    """FID over the number of steps, with the floor."""
    from matplotlib.figure import Figure

    (floor, lowest), *rows = table.items()
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, [row["FID"] for _, row in rows], marker="o")
    axes.axhline(lowest["FID"], color="C1", linestyle="--", label=floor)
    axes.set(title="avatars1024", xlabel="steps", ylabel="FID", xscale="log", ylim=(0, None))
    axes.set_xticks(steps, map(str, steps))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(out, dpi=120)


def neighbours(model: genfast.Model, embedder: Embedder, train: int, out: Path) -> dict[str, float]:
    """Sheets of samples, and of each beside the face nearest to it, in features, of those trained on."""
    samples = np.concatenate(list(model.batches(range(SHEET), batch=1)))
    known = embed(embedder, faces("train", train))
    held_out = embed(embedder, faces("validation", SHEET))

    def nearest(features: Features) -> tuple[np.ndarray, np.ndarray]:
        squared = np.square(features).sum(1)[:, None] + np.square(known).sum(1) - 2 * features @ known.T
        return squared.argmin(1), np.sqrt(squared.min(1).clip(0))

    which, near = nearest(embed(embedder, samples))
    twins = [avatars.draw(avatars.FIRST["train"] + int(i), SIZE) for i in which]
    pairs = [
        np.concatenate([images.shrink(x, SHOWN) for x in pair], axis=1) for pair in zip(samples, twins, strict=True)
    ]
    write_sheet(out / "avatars1024-neighbours.png", pairs, 4)
    write_sheet(out / "avatars1024-samples.png", [images.shrink(x, SHOWN) for x in samples], 8)
    return {
        "distance of a sample from the nearest face trained on, median": float(np.median(near)),
        "distance of a held-out face from the nearest face trained on, median": float(np.median(nearest(held_out)[1])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars1024")
    parser.add_argument("--reconstructions", type=int, default=200)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--steps", type=int, nargs="*", default=[])
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = genfast.load(options.model, device="cpu", threads=options.threads)
    embedder = Embedder.find("efficientnet-lite0", device="cpu", threads=options.threads)
    figures = reconstructions(model, embedder, options.reconstructions, options.out) if options.reconstructions else {}
    if options.samples:
        figures |= distances(model, embedder, options.samples, options.steps or [model.steps], options.out)
    if options.out:
        figures |= neighbours(model, embedder, options.train, options.out)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
