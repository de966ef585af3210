"""One line a picture: file, mode, size, and the first 16 hex digits of the SHA-256 of its pixels.

    python -m benchmarks.fingerprints > new.txt
    git worktree add ../old COMMIT
    python -m benchmarks.fingerprints --tree ../old > old.txt
    diff old.txt new.txt

Pictures are those of `genfast sample` and `genfast inpaint`, seeds 0 to 3, on the CPU, by the code and the weights of a
checkout; text in the files makes no difference. Two machines may differ in the last bits: compare on one.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks import common

ROOT = Path(__file__).parents[1]
SAMPLES = {"fashion28": 8, "fashion28-ddpm": 8, "avatars1024": 3}  # by model
MORE = {"fashion28-ddpm": ["--steps", "8"]}
FILLS = 2  # of each example
EXAMPLES = ("box", "lettering", "stroke")


def commands(model: str, seed: int, garment: Path) -> Iterator[list[str]]:
    """The command lines, but for --out, that draw the pictures of a model and a seed."""
    yield ["sample", "-n", str(SAMPLES[model]), *MORE.get(model, [])]
    if model == "avatars1024":
        for name in EXAMPLES:
            yield ["inpaint", f"assets/examples/{name}.png", f"assets/examples/{name}-mask.png", "-n", str(FILLS)]
    elif model == "fashion28":
        yield ["inpaint", str(garment), str(garment.with_name("mask.png")), "-n", str(FILLS)]


def fingerprint(path: Path) -> str:
    """What tells a picture from others, whatever its format and its text."""
    with Image.open(path) as image:
        digest = hashlib.sha256(image.tobytes()).hexdigest()[:16]
        return f"{image.mode} {image.width}x{image.height} {digest}"


def draw(tree: Path, model: str, seed: int, folder: Path, threads: int | None) -> Iterator[str]:
    """Draw the pictures of a model and a seed by the checkout `tree` into an empty folder, and tell of each."""
    given = {"PYTHONPATH": str(tree), "GENFAST_DEVICE": "cpu", "GENFAST_OFFLINE": "1"}
    garment = folder.parent / "garment.png"
    for command in commands(model, seed, garment):
        line = [*common.GENFAST, *command, "--model", model, "--seed", str(seed), "--out", str(folder)]
        line += [] if threads is None else ["--threads", str(threads)]
        subprocess.run(line, cwd=tree, env=os.environ | given, check=True, stdout=subprocess.DEVNULL)
    for path in sorted(folder.iterdir()):
        yield f"seed {seed} {path.name} {fingerprint(path)}"


def main() -> None:
    given = common.parser(__doc__, "--seeds --threads", seeds=4)
    given.add_argument("--tree", type=Path, default=ROOT, help="a checkout to run (default: this one)")
    given.add_argument("--models", nargs="*", default=[*SAMPLES], choices=SAMPLES, help="these alone")
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # A garment and its mask, which are the same whatever the commit.
        shirt = Image.new("L", (28, 28))
        shirt.paste(200, (8, 4, 20, 25))
        shirt.paste(160, (4, 4, 24, 11))
        shirt.save(Path(name) / "garment.png")
        mask = Image.new("L", (28, 28))
        mask.paste(255, (10, 8, 18, 18))
        mask.save(Path(name) / "mask.png")
        for model in options.models:
            for seed in range(options.seeds):
                folder = common.folder(Path(name) / f"{model}-{seed}")
                for line in draw(options.tree.resolve(), model, seed, folder, options.threads):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
