"""Where bundles lie: shipped with genfast, or in the cache."""

import os
from pathlib import Path

import platformdirs

from genfast import catalog
from genfast.errors import ModelError, UsageError

_PACKAGE = Path(__file__).parent
# In an installed wheel the first exists, in a checkout the second.
_SHIPPED = (_PACKAGE / "bundles", _PACKAGE.parent / "assets" / "bundles")


def cache() -> Path:
    """The folder that holds what does not ship: $GENFAST_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENFAST_CACHE") or platformdirs.user_cache_dir("genfast"))


def locate(bundle: str) -> Path | None:
    """The folder of a bundle of the catalogue, None where it is not on this machine."""
    for place in (*_SHIPPED, cache() / "bundles"):
        if (place / bundle / "manifest.json").is_file():
            return place / bundle
    return None


def is_shipped(directory: Path) -> bool:
    """Whether a bundle came with genfast."""
    return directory.parent in _SHIPPED


def find(name_or_path: str, steps: int | None = None, loss: str | None = None) -> Path:
    """The folder of a bundle: that of a known model, or any folder that is one.

    A name of the catalogue wins over a folder of the same name; write ./NAME for the folder. `steps` and `loss` pick
    the variant of a known model. Raises ModelError where nothing is found, UsageError where there are no such weights.
    """
    path = Path(name_or_path)
    if name_or_path not in catalog.entries() and path.is_dir():
        if loss:
            raise UsageError(f"{path} holds one set of weights; a loss picks among those of a model of the catalogue")
        return path
    bundle = catalog.entry(name_or_path).variant(steps, loss).bundle
    directory = locate(bundle)
    if directory is None:
        raise ModelError(absence(name_or_path, steps, loss))
    return directory


def stand_in(name: str) -> str | None:
    """The model that may draw in the place of a known one whose weights nobody has published.

    None where there is no need of one.
    """
    entry = catalog.entries().get(name)
    return entry.stand_in if entry and locate(entry.variant().bundle) is None else None


def absence(name: str, steps: int | None = None, loss: str | None = None) -> str:
    """Why the weights of a known model are not here, and what to do."""
    entry = catalog.entry(name)
    place = cache() / "bundles" / entry.variant(steps, loss).bundle
    if entry.stand_in:
        recipes = f"training/recipes/{name}-*.toml, python -m export sundae"
        return f"{name}'s weights are not published: train them ({recipes}), or put their bundle into {place}"
    return f"{name} has no weights here; put its bundle into {place}"
