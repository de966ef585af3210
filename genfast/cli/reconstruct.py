"""`genfast reconstruct`: pictures to tokens and back."""

import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from genfast.cli.options import AsJson, Device, ModelName, Overwrite, SkipExisting, Threads
from genfast.cli.output import Json, Spooled, one_line, print_json
from genfast.errors import InputError, UsageError
from genfast.progress import progress


def reconstruct(
    images: Annotated[list[Path], typer.Argument(metavar="IMG...", help="Images, or folders of images.")],
    model: ModelName = "avatars1024",
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder or, of one image, a .png, .webp or .jpg file; "
            "by default, beside the image: NAME.reconstructed.png."
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    as_json: AsJson = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Encode images as tokens, decode these, and write what becomes of them: no model draws better than its tokens.

    Prints the path and the PSNR in dB of each, and the mean. An image of another size than the model's is cut to its
    middle and resized, and compared as that.
    """
    import numpy as np

    from genfast import api, outputs
    from genfast.files import atomic
    from genfast.images import io
    from genfast.metrics.psnr import psnr
    from genfast.models.vq import tokenizer

    def say(line: str) -> None:
        print("genfast:", line, file=sys.stderr)

    existing = outputs.existing(overwrite, skip_existing)
    if len(images) > 1 and outputs.named(out):
        raise UsageError(f"{out} is one file, and there are {len(images)} images; name a folder with --out")
    todo = [outputs.InpaintFiles(image, None, out, existing=existing, mark=outputs.RECONSTRUCTED) for image in images]
    written: dict[Path, Path] = {}
    for job in (job for each in todo if len(todo) > 1 for job in chain(each, each.kept())):
        ((path,),) = job.outputs
        if (first := written.setdefault(path, job.image)) is not job.image:
            raise UsageError(f"{first} and {job.image} would both become {path}; rename one of them")
    for each in todo:
        each.prepare()
    loaded = tokenizer(api.load(model, device=device, threads=threads))
    size = loaded.image
    listed, done, total, failed = Spooled(), 0, 0.0, False
    with progress("reconstructing", sum(map(len, todo))) as advance:
        for files, job in ((each, job) for each in todo for job in each):
            told: Json = {"image": str(job.image)}
            ((path,),) = job.outputs
            advance(1)
            try:
                picture = io.read(job.image)
            except InputError as error:
                if len(images) == 1 and not files.image.is_dir():
                    raise
                say(one_line(str(error)))
                listed.append(told | {"error": str(error)})
                failed = True
                continue
            height, width = picture.shape[:2]
            if (height, width) != (size.height, size.width):
                say(f"of {job.image}, {width}x{height}, the middle is seen at {size.width}x{size.height}")
            seen = io.fit(picture, size.width, size.height, size.channels)
            (again,) = loaded.decode(loaded.encode(seen[None]))
            with atomic(path) as file:
                io.encode(file, io.to_pillow(again), files.format)
            ratio = psnr(float(np.square(np.subtract(again, seen, dtype=np.float32)).mean()))
            done, total = done + 1, total + ratio
            if as_json:
                listed.append(told | {"path": str(path), "psnr": ratio})
            else:
                print(f"{path} {ratio:.2f} dB", flush=True)
    if as_json:
        print_json({"model": loaded.name, "images": listed, "psnr": total / done if done else None})
    elif done > 1:
        print(f"mean {total / done:.2f} dB")
    if failed:
        raise typer.Exit(1)
