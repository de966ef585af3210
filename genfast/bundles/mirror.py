"""The mirror: a tree of plain files at $GENFAST_MIRROR that bundles are fetched from.

    index.json    what there is: each bundle with its size and the SHA-256 of its manifest
    NAME/...      the bundles, as they lie on disk

`python -m export publish` writes it, and any web server or object store can serve it. The index vouches for the
manifests and each manifest for its files. Nothing vouches for the index but the connection: whoever can change it
chooses the weights, though not where they are written and not what runs, since a bundle holds no code.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal
from urllib.error import URLError
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from genfast.bundles import bundle, manifest
from genfast.errors import AbsentError, ModelError, UsageError

INDEX = "index.json"

_LARGEST_TEXT = 2**20  # bytes of an index, or of a manifest
_CHUNK = 2**16
_TIMEOUT = 20  # seconds of silence
_RETRIES = 4  # pooch waits 1, 2, 3 and 4 seconds before them


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

    Raises UsageError where it is no address of http, https or file.
    """
    url = os.environ.get("GENFAST_MIRROR", "").rstrip("/")
    if not url or os.environ.get("GENFAST_OFFLINE", "0") not in ("", "0"):
        return None
    if not url.startswith(("http://", "https://", "file://")):
        raise UsageError(f"GENFAST_MIRROR is {url}; it must begin with http://, https:// or file://")
    return url


def fetch(name: str, folder: Path) -> None:
    """Make `folder` a verified bundle of the mirror, from what an earlier attempt left there and what is fetched now.

    Raises AbsentError where there is no mirror or it has no such bundle; ModelError where the mirror cannot be reached,
    sends what was not announced, or too much for the disk; OSError where the folder cannot be written.
    """
    from genfast.progress import progress

    mirror = address()
    if mirror is None:
        raise AbsentError(
            f"nothing to fetch {name} from; set GENFAST_MIRROR to the address of a mirror (and GENFAST_OFFLINE to 0)"
        )
    published = _index(mirror).bundles.get(name)
    if published is None:
        raise AbsentError(f"{name} is neither here nor at {mirror}")
    path = folder / bundle.MANIFEST
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != published.manifest_sha256:
        shutil.rmtree(folder, ignore_errors=True)  # what is there belongs to another manifest
    _download(f"{mirror}/{name}/{bundle.MANIFEST}", path, _LARGEST_TEXT, published.manifest_sha256)
    promised = bundle.read(folder)
    if promised.size != published.size:
        raise ModelError(f"{mirror}/{INDEX} announces {published.size} bytes of {name}, its manifest {promised.size}")
    files = {folder / file.path: file for file in promised.manifest.files}
    for stray in folder.rglob("*"):  # what pooch was at when its process was killed
        if stray.is_file() and stray != path and stray not in files:
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
            _download(f"{mirror}/{name}/{quote(file.path)}", target, file.size, file.sha256, advance)
    bundle.load(folder)


def _index(mirror: str) -> Index:
    url = f"{mirror}/{INDEX}"
    with TemporaryDirectory() as folder:
        path = Path(folder) / INDEX
        _download(url, path, _LARGEST_TEXT)
        return bundle.parse(Index, path.read_bytes(), f"{url} is not an index")


def _download(
    url: str, target: Path, size: int, sha256: str | None = None, advance: Callable[[int], None] = lambda amount: None
) -> None:
    """Fetch a file of at most `size` bytes, unless it is there; it gets its name when it is whole and verified."""
    import pooch
    import requests

    def download(url: str, output_file: str, _: object) -> None:
        os.unlink(output_file)  # pooch made it, for this user's eyes only
        received = 0
        try:
            with open(output_file, "xb") as file, _open(url) as chunks:
                for chunk in chunks:
                    received += len(chunk)
                    advance(len(chunk))
                    if received > size:
                        raise ValueError(f"more comes than the {size} bytes that were announced")
                    file.write(chunk)
        except BaseException:
            advance(-received)
            raise

    pooch.get_logger().setLevel("WARNING")
    source = pooch.Pooch(target.parent, "", {target.name: sha256}, {target.name: url}, _RETRIES)
    try:
        source.fetch(target.name, downloader=download)
    except (requests.RequestException, URLError, ValueError) as error:
        raise ModelError(f"cannot fetch {url}: {_cause(error)}") from error


@contextmanager
def _open(url: str) -> Iterator[Iterator[bytes]]:
    from urllib.request import urlopen

    import requests

    if url.startswith("file:"):
        with urlopen(url) as file:
            yield iter(lambda: file.read(_CHUNK), b"")
        return
    with requests.get(url, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as response:
        status = f"{response.status_code} {response.reason}"
        if response.status_code in (401, 403, 404, 410):  # asking again, as pooch does, would not help
            raise ModelError(f"cannot fetch {url}: {status}")
        if not response.ok:
            raise requests.HTTPError(status)
        yield response.iter_content(_CHUNK)


def _cause(error: BaseException) -> BaseException:
    """The first of a chain of exceptions, which says best what happened."""
    while error.__context__:
        error = error.__context__
    return error
