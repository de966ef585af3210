"""The mirror: a tree of plain files that bundles are fetched from, at $GENFAST_MIRROR.

    index.json    what there is: each bundle with its size and the SHA-256 of its manifest
    NAME/...      the bundles, as they lie on disk

`python -m export publish` writes it, and any web server or object store can serve it. The index vouches for the
manifests and each manifest for its files. Nothing vouches for the index but the connection: whoever can change it
chooses the weights, though not where they are written and not what runs, since a bundle holds no code.
"""

import hashlib
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from genfast.bundles import bundle, huggingface, manifest
from genfast.bundles.download import download, part_of
from genfast.errors import AbsentError, ModelError, UsageError

INDEX = "index.json"

_LARGEST_TEXT = 2**20  # bytes of an index, or of a manifest


class Published(BaseModel):
    """A bundle at the mirror; `size` is that of all of its files, in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest_sha256: manifest.Sha256
    size: int = Field(gt=0)


class Index(BaseModel):
    """What index.json holds: bundles by name. What is published under a name stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    bundles: dict[manifest.Name, Published]


def address() -> str | None:
    """The URL of the mirror: $GENFAST_MIRROR. None where there is none, or nothing may be fetched ($GENFAST_OFFLINE).

    Raises UsageError where it is no address of http, https, file or hf.
    """
    url = os.environ.get("GENFAST_MIRROR", "").rstrip("/")
    if not url or offline():
        return None
    if url.startswith(huggingface.SCHEME):
        return huggingface.resolve(url)
    if not url.startswith(("http://", "https://", "file://")):
        raise UsageError(f"GENFAST_MIRROR is {url}; it must begin with http://, https://, file:// or hf://")
    return url


def offline() -> bool:
    """Whether nothing may be fetched: $GENFAST_OFFLINE."""
    return os.environ.get("GENFAST_OFFLINE", "0") not in ("", "0")


def fetch(name: str, folder: Path, mirror: str | None = None) -> None:
    """Make `folder` a verified bundle of the mirror, from what an earlier attempt left there and what is fetched now.

    `mirror` is its URL, by default `address()`. Raises AbsentError where there is no mirror or it has no such bundle;
    ModelError where the mirror cannot be reached, sends what was not announced, or too much for the disk; OSError where
    the folder cannot be written.
    """
    from genfast.progress import progress

    mirror = mirror or address()
    if mirror is None:
        raise AbsentError(
            f"nothing to fetch {name} from; set GENFAST_MIRROR to the address of a mirror (and GENFAST_OFFLINE to 0)"
        )
    published = index(mirror).bundles.get(name)
    if published is None:
        raise AbsentError(f"{name} is neither here nor at {mirror}")
    path = folder / bundle.MANIFEST
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != published.manifest_sha256:
        shutil.rmtree(folder, ignore_errors=True)  # what is there belongs to another manifest
    download(f"{mirror}/{name}/{bundle.MANIFEST}", path, _LARGEST_TEXT, published.manifest_sha256)
    promised = bundle.read(folder)
    if promised.size != published.size:
        raise ModelError(f"{mirror}/{INDEX} announces {published.size} bytes of {name}, its manifest {promised.size}")
    files = {folder / file.path: file for file in promised.manifest.files}
    known = {path, *files, *map(part_of, files)}
    for stray in folder.rglob("*"):  # what pooch was at when its process was killed
        if stray.is_file() and stray not in known:
            stray.unlink()
    missing = sum(file.size for target, file in files.items() if not target.exists())
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ModelError(
            f"{name} takes {missing / 1e6:.1f} MB more, and {folder.parent} has {free / 1e6:.1f} MB free; "
            "make room there, or set GENFAST_CACHE"
        )
    with progress(f"fetching {name}", missing) as advance:
        for target, file in files.items():
            download(f"{mirror}/{name}/{quote(file.path)}", target, file.size, file.sha256, advance)
    bundle.load(folder)


def index(mirror: str) -> Index:
    """What a mirror holds. Raises ModelError where it cannot be reached, or sends something else."""
    url = f"{mirror}/{INDEX}"
    with TemporaryDirectory() as folder:
        path = Path(folder) / INDEX
        download(url, path, _LARGEST_TEXT)
        return bundle.parse(Index, path.read_bytes(), f"{url} is not an index")
