"""Where bundles lie: shipped with genfast, in the cache, or at a mirror, from which they come into the cache.

A bundle of the cache is there as a whole or not at all: it is fetched into a hidden folder beside its place, verified,
then renamed. One process fetches it while others wait, and goes on with what a killed one left.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import platformdirs

from genfast.bundles import bundle, catalog, huggingface, mirror, skeleton
from genfast.errors import AbsentError, ModelError, UsageError

_log = logging.getLogger("genfast")
_PACKAGE = Path(__file__).parents[1]
# In an installed wheel the first exists, in a checkout the second.
_SHIPPED = (_PACKAGE / "assets" / "bundles", _PACKAGE.parent / "assets" / "bundles")
_UNFINISHED = ".partial"  # ends the name of the hidden folder that a bundle is fetched into


def cache() -> Path:
    """The folder that holds what does not ship: $GENFAST_CACHE, or the user's cache folder."""
    return Path(os.environ.get("GENFAST_CACHE") or platformdirs.user_cache_dir("genfast")).expanduser()


def bundles() -> Path:
    """The folder of the cache's bundles."""
    return cache() / "bundles"


def locate(name: str) -> Path | None:
    """The folder of a bundle of the catalogue, None where it is not on this machine."""
    for place in (*_SHIPPED, bundles()):
        if (place / name / bundle.MANIFEST).is_file():
            return place / name
    return None


def is_shipped(directory: Path) -> bool:
    """Whether a bundle came with genfast."""
    return directory.parent in _SHIPPED


def size(directory: Path) -> int:
    """Bytes of the files of a bundle."""
    total = 0
    for file in filter(Path.is_file, directory.rglob("*")):
        with suppress(FileNotFoundError):  # of a download that goes on
            total += file.stat().st_size
    return total


def here(name_or_path: str, steps: int | None = None, loss: str | None = None) -> Path:
    """The folder of a bundle on this machine: that of a known model, or any folder that is one.

    A name of the catalogue wins over a folder of the same name; write ./NAME for the folder. `steps` and `loss` pick
    the variant of a known model. Raises AbsentError where it is not on this machine, ModelError where the name is
    unknown, UsageError where there are no such weights.
    """
    path = Path(name_or_path)
    if name_or_path and name_or_path not in catalog.entries() and path.is_dir():
        return path
    entry = catalog.entry(name_or_path)
    name = entry.variant(steps, loss).bundle
    if directory := locate(name):
        return directory
    place = bundles() / name
    if entry.stand_in:
        recipes = f"training/recipes/{entry.name}-*.toml, python -m export sundae"
        raise AbsentError(
            f"{entry.name}'s weights are not published: train them ({recipes}), or put their bundle into {place}"
        )
    if public := skeleton.locate(name):
        raise AbsentError(
            f"{entry.name} has no weights here; genfast pull {entry.name} fetches them "
            f"({skeleton.read(public).source.size / 1e6:.0f} MB)"
        )
    raise AbsentError(
        f"{name} has no weights here; set GENFAST_MIRROR to the address of a mirror (and GENFAST_OFFLINE to 0) "
        f"and run genfast pull {entry.name}, or put its bundle, which a clone has in assets/bundles, into {place}"
    )


def find(name_or_path: str, steps: int | None = None, loss: str | None = None) -> Path:
    """The folder of a bundle like `here`, fetched where it is missing and a mirror is set.

    Also raises ModelError where fetching fails.
    """
    try:
        return here(name_or_path, steps, loss)
    except AbsentError:
        if mirror.address() is None:
            raise
    return pull(catalog.entry(name_or_path).variant(steps, loss).bundle, mirror.fetch)


def fetch(name: str, folder: Path) -> None:
    """From the mirror, where it has the bundle; else from those who publish its weights, where only its graphs ship."""
    try:
        return mirror.fetch(name, folder)
    except AbsentError:
        if skeleton.locate(name) is None:
            raise
    skeleton.fetch(name, folder)


def pull(name: str, fetch: Callable[[str, Path], None] = fetch) -> Path:
    """The folder of a bundle of the catalogue: shipped, whole in the cache, or else fetched.

    Raises AbsentError where it is nowhere, ModelError where fetching fails.
    """
    folder = locate(name)
    if folder and (is_shipped(folder) or _fault(folder) is None):
        return folder
    return _obtain(name, partial(fetch, name))


def pull_repository(address: str) -> dict[str, Path]:
    """The folders of all bundles of hf://OWNER/REPO[@REVISION], by name: up to date in the cache, or else fetched.

    They lie apart from those of the catalogue, whose names they may have. Raises UsageError for another address,
    AbsentError where nothing may be fetched, ModelError where fetching fails.
    """
    url, owner = huggingface.resolve(address), huggingface.folder_name(address)
    if mirror.offline():
        raise AbsentError(f"GENFAST_OFFLINE forbids fetching {address}; set it to 0")
    return {
        name: _obtain(f"{owner}--{name}", partial(mirror.fetch, name, mirror=url), published.manifest_sha256)
        for name, published in mirror.index(url).bundles.items()
    }


def _obtain(name: str, fetch: Callable[[Path], None], sha256: str | None = None) -> Path:
    """A folder of the cache, filled by `fetch` unless it is whole, and of the manifest that is named, if one is."""
    target, unfinished = bundles() / name, bundles() / f".{name}{_UNFINISHED}"
    try:
        with _lock(name):
            # Another process may have fetched it meanwhile.
            if _fault(target) or sha256 not in (None, bundle.read(target).sha256):
                fetch(unfinished)
                if target.exists():
                    _remove(target)
                unfinished.rename(target)
    except OSError as error:
        raise ModelError(
            f"cannot write into {bundles()}: {error.strerror or error}; mend that, or set GENFAST_CACHE"
        ) from error
    return target


@dataclass(frozen=True)
class Cached:
    """A bundle of the cache, whole or not; `fault` says what is wrong with one that is corrupt."""

    name: str
    state: Literal["cached", "verified", "corrupt", "unfinished", "removed"]
    size: int  # bytes
    fault: str | None = None


def cached(verify: bool = False) -> list[Cached]:
    """What lies in the cache, by name; `verify` reads every byte of it."""
    return [_inspect(folder, verify) for folder in _folders()]


def prune() -> list[Cached]:
    """Remove corrupt bundles and unfinished downloads from the cache, but for those that a process is at."""
    removed = []
    for folder in _folders():
        with suppress(TimeoutError), _lock(_name(folder), patient=False):
            found = _inspect(folder, verify=True)
            if found.state in ("corrupt", "unfinished") and folder.exists():  # else it was finished meanwhile
                _remove(folder)
                removed.append(replace(found, state="removed"))
    return removed


def _remove(folder: Path) -> None:
    """Remove a bundle, of which a link is no more than that."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _folders() -> list[Path]:
    there = next(place for place in (cache(), *cache().absolute().parents) if os.path.exists(place))
    if not there.is_dir():
        raise UsageError(f"{there} is no folder; set GENFAST_CACHE to one")
    return sorted(path for path in bundles().glob("*") if path.is_dir())


def _name(folder: Path) -> str:
    return folder.name.removeprefix(".").removesuffix(_UNFINISHED)


def _inspect(folder: Path, verify: bool) -> Cached:
    name = _name(folder)
    if folder.name != name:
        return Cached(name, "unfinished", size(folder))
    fault = _fault(folder, bundle.load if verify else bundle.read)
    return Cached(name, "corrupt" if fault else "verified" if verify else "cached", size(folder), fault)


def _fault(folder: Path, check: Callable[[Path], bundle.Bundle] = bundle.load) -> str | None:
    """What is wrong with a bundle; None where nothing is."""
    try:
        check(folder)
    except ModelError as error:
        return str(error)
    return None


@contextmanager
def _lock(name: str, patient: bool = True) -> Iterator[None]:
    """Be the one process at a bundle of the cache. Raises TimeoutError where another is and one is not `patient`."""
    from filelock import FileLock

    bundles().mkdir(parents=True, exist_ok=True)
    lock = FileLock(bundles() / f".{name}.lock")
    try:
        held = lock.acquire(timeout=0)
    except TimeoutError:
        if not patient:
            raise
        _log.warning("genfast: waiting for another process that fetches %s", name)
        held = lock.acquire()
    with held:
        yield
