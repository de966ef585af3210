"""Addresses of the Hugging Face hub, hf://OWNER/REPO[@REVISION], and the token that private and gated files want.

The usual variables hold: HF_ENDPOINT, HF_TOKEN, HF_HOME.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from genfast.errors import UsageError

if TYPE_CHECKING:
    from requests import PreparedRequest

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?/?")


def endpoint() -> str:
    """The hub: $HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def resolve(address: str) -> str:
    """The URL under which the files of hf://OWNER/REPO[@REVISION] lie. Raises UsageError for another address."""
    repository, revision = _parse(address)
    return f"{endpoint()}/{repository}/resolve/{quote(revision, safe='')}"


def folder_name(address: str) -> str:
    """What the folders of a repository's bundles begin with, in the cache. Raises UsageError as `resolve` does."""
    return _parse(address)[0].replace("/", "--")


def _parse(address: str) -> tuple[str, str]:
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in address or "--" in address:
        raise UsageError(f"{address} is no address of the hub; give hf://OWNER/REPO or hf://OWNER/REPO@REVISION")
    return match[1], match[2] or "main"


def token() -> str | None:
    """The user's: $HF_TOKEN, or what `hf auth login` wrote into $HF_HOME."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    try:
        saved = (Path(home).expanduser() / "token").read_text("utf-8")
    except (OSError, UnicodeError):
        saved = ""
    return (os.environ.get("HF_TOKEN") or saved).strip() or None


class Bearer:
    """Authorises a request by a token. requests leaves it away where a redirect leads to another host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: "PreparedRequest") -> "PreparedRequest":
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def authorisation(url: str) -> Bearer | None:
    """What a request for a file of the hub is to be authorised by; None for all other addresses."""
    held = token() if url.startswith(f"{endpoint()}/") else None
    return None if held is None else Bearer(held)


def advice(url: str, status: int) -> str:
    """What to do where the hub refuses a file, as the end of a message; empty for other addresses."""
    if not url.startswith(f"{endpoint()}/") or "/resolve/" not in url:
        return ""
    if status == 403:
        return "; its terms are to be accepted on its page, by the account of your token, which must be allowed to read"
    if token() is None:
        return "; if it is private or gated, set HF_TOKEN (or run hf auth login)"
    return "; the token (HF_TOKEN, or that of hf auth login) is not valid" if status == 401 else ""
