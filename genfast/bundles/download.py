"""One file over http, https or file: it gets its name when it is whole and verified, and goes on where it stopped."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from genfast.bundles import huggingface
from genfast.errors import ModelError

_CHUNK = 2**16
_TIMEOUT = 20  # seconds of silence
_RETRIES = 4  # pooch waits 1, 2, 3 and 4 seconds before them
_HOPELESS = (401, 403, 404, 410)  # asking again, as pooch does, would not help


def download(
    url: str, target: Path, size: int, sha256: str | None = None, advance: Callable[[int], None] = lambda amount: None
) -> None:
    """Fetch a file of at most `size` bytes, unless it is there.

    What comes before a connection breaks stays in a hidden file beside `target`, if `sha256` says how it must end.
    `advance` is called with the bytes that came. Raises ModelError where the file cannot be had or is another one.
    """
    import pooch
    import requests

    part = part_of(target)

    def attempt(url: str, output_file: str, _: object) -> None:
        os.unlink(output_file)  # pooch made it, for this user's eyes only
        if sha256 is None:
            part.unlink(missing_ok=True)
        received = 0
        try:
            with open(part, "ab") as file, _open(url, file.tell()) as (start, chunks):
                file.truncate(start)
                received = start
                advance(start)
                for chunk in chunks:
                    received += len(chunk)
                    advance(len(chunk))
                    if received > size:
                        raise ValueError(f"more comes than the {size} bytes that were announced")
                    file.write(chunk)
            shutil.move(part, output_file)
        except BaseException as error:
            advance(-received)
            if isinstance(error, OSError | ValueError) and not isinstance(error, requests.RequestException):
                part.unlink(missing_ok=True)  # what came is of no use, or the disk is full
            raise

    pooch.get_logger().setLevel("WARNING")
    source = pooch.Pooch(target.parent, "", {target.name: sha256}, {target.name: url}, _RETRIES)
    try:
        source.fetch(target.name, downloader=attempt)
    except (requests.RequestException, URLError, ValueError) as error:
        raise ModelError(f"cannot fetch {url}: {_cause(error)}") from error


def part_of(target: Path) -> Path:
    """Where what has come of a file lies until it is whole."""
    return target.with_name(f".{target.name}.part")


@contextmanager
def _open(url: str, have: int) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The bytes behind an address, and where they begin: at `have`, which is there already, where the server can."""
    from urllib.request import urlopen

    import requests

    if url.startswith("file:"):
        with urlopen(url) as file:
            yield 0, iter(lambda: file.read(_CHUNK), b"")
        return
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    token = huggingface.authorisation(url)
    with requests.get(url, stream=True, timeout=_TIMEOUT, headers=headers, auth=token) as response:
        status = f"{response.status_code} {response.reason}"
        if response.status_code in _HOPELESS:
            raise ModelError(f"cannot fetch {url}: {status}{huggingface.advice(url, response.status_code)}")
        if response.status_code == 416:  # what is here is longer than what is there
            raise ValueError(status)
        if not response.ok:
            raise requests.HTTPError(status)
        goes_on = response.status_code == 206
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise ValueError("it sends another part than was asked for")
        yield have if goes_on else 0, response.iter_content(_CHUNK)


def _cause(error: BaseException) -> BaseException:
    """The first of a chain of exceptions, which says best what happened."""
    while error.__context__:
        error = error.__context__
    return error
