"""Blocks: how much more neighbouring pixels differ across the borders of tokens than elsewhere; 1 is no more at all.

python -m benchmarks.blocks PICTURE...                     of pictures, or of all pictures in folders
python -m benchmarks.blocks [--model avatars1024] [-n 8]   of held-out faces, of these as tokens and back, of samples
"""

from collections.abc import Iterator
from pathlib import Path

from benchmarks import common
from genfast.images import io
from genfast.images.folder import pictures
from genfast.metrics.blocks import ratio
from genfast.models.tokens import TokenModel
from genfast.types import Pixels
from training.data import avatars


def of_model(model: TokenModel, n: int, seed: int) -> dict[str, float]:
    """The ratio of n held-out faces, of the same as tokens and back, and of n samples."""
    side = model.image.height // model.tokens.height

    def faces() -> Iterator[Pixels]:
        return (avatars.draw(avatars.FIRST["test"] + index, model.image.height) for index in range(n))

    copies = (model.decode(model.encode(face[None]))[0] for face in faces())
    samples = (batch[0] for batch in model.batches(range(n), seed=seed, batch=1))
    rows = {"held-out faces": faces(), "these as tokens and back": copies, "samples": samples}
    return {f"blocks, {name}": ratio(pictures, side) for name, pictures in rows.items()}


def main() -> None:
    shared = "--model -n --seed --device --threads --json"
    given = common.parser(__doc__, shared, model="avatars1024", n=8, seed=0, device="cpu")
    given.add_argument("pictures", nargs="*", type=Path, help="pictures, or folders of pictures")
    given.add_argument("--side", type=int, default=32, help="pixels from border to border (default: 32)")
    options = given.parse_args()
    if options.pictures:
        paths = [path for each in options.pictures for path in ([*pictures(each)] if each.is_dir() else [each])]
        figures = {f"blocks, {len(paths)} pictures": ratio(map(io.read, paths), options.side)}
    else:
        model = common.token_model(options.model, options.device, options.threads)
        figures = of_model(model, options.n, options.seed)
    common.report(figures, options.json)


if __name__ == "__main__":
    main()
