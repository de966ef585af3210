"""Where bundles lie: shipped with genfast, or in the cache."""

import os
from pathlib import Path

import platformdirs

from genfast import catalog
from genfast.errors import ModelError

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


def find(name_or_path: str, steps: int | None = None) -> Path:
    """The folder of a bundle: that of a known model, or any folder that is one.

    A name of the catalogue wins over a folder of the same name; write ./NAME for the folder. `steps` picks the variant
    of a known model. Raises ModelError where nothing is found, UsageError where the model has no weights for `steps`.
    """
    path = Path(name_or_path)
    if name_or_path not in catalog.entries() and path.is_dir():
        return path
    bundle = catalog.entry(name_or_path).variant(steps).bundle
    directory = locate(bundle)
    if directory is None:
        raise ModelError(f"{name_or_path} has no weights here; put its bundle into {cache() / 'bundles' / bundle}")
    return directory
