"""What a bundle says of where it comes from, and of itself."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from genfast.bundles import bundle
from genfast.bundles.manifest import Figure, Manifest
from genfast.errors import UsageError
from training import checkpoint as checkpoints
from training import registry
from training.recipe import Recipe

_Recipe = TypeVar("_Recipe", bound=Recipe)


def commit() -> str:
    """The commit of this checkout, with "+" behind it where tracked files differ; empty where there is none."""
    describe = "describe --always --abbrev=40 --exclude=* --dirty=+".split()
    git = subprocess.run(["git", *describe], cwd=Path(__file__).parent, capture_output=True, text=True)
    return git.stdout.strip()


def trained(checkpoint: Path, *kinds: type[_Recipe]) -> tuple[_Recipe, dict[str, object]]:
    """The recipe of a checkpoint, and what the manifest's provenance says of the training.

    Raises:
        UsageError: `checkpoint` is none, or one whose recipe is of none of these kinds.
    """
    if not all((checkpoint / name).is_file() for name in ("recipe.json", "model.safetensors")):
        raise UsageError(f"{checkpoint} is no checkpoint: it lacks recipe.json or model.safetensors")
    saved = checkpoints.saved(checkpoint)
    recipe = registry.validate(saved["recipe"])
    if not isinstance(recipe, kinds):
        wanted = " or ".join(name for name, family in registry.FAMILIES.items() if family.recipe in kinds)
        raise UsageError(f"{checkpoint} is of family {recipe.family}, not {wanted}")
    spent = {"images_seen": saved["images"], "hours": round(saved["hours"], 2)}
    return recipe, {"recipe": recipe.name, **spent, "commit": commit()}


def imported(weights: Path, source: str, notes: str = "") -> dict[str, object]:
    """What the manifest's provenance says of a file of another project's weights; `source` is where it was got."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"source": source, "weights_sha256": digest, "commit": commit(), "notes": notes}


def fid(features: str, what: str, value: float, protocol: str) -> Figure:
    """A FID as a card has it; `what` drew the images: "4 steps", or a loss before that."""
    return Figure(name=f"FID, {features}, {what}", value=value, protocol=protocol)


def record(directory: Path, figures: Sequence[Figure]) -> None:
    """Put figures into the manifest of a bundle, in the place of those of the same names."""
    manifest = bundle.read(directory).manifest
    named = {figure.name: figure for figure in (*manifest.figures, *figures)}
    fields = {key: value for key, value in manifest if key not in ("format", "files", "figures")}
    bundle.write(directory, **fields, figures=[*named.values()])


def report(out: Path, manifest: Manifest) -> None:
    """Print what a bundle measured of itself."""
    print(f"{out}: parity {manifest.parity}")
    for figure in manifest.figures:
        print(f"{figure.name} {figure.value:.4f} ({figure.protocol})")
