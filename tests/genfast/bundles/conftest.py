"""A client that gives up soon, and how two bundles compare."""

from pathlib import Path

import pytest

from genfast.bundles import download

NAME = "fashion28"  # what the catalogue's fashion28 is by default


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One attempt at each file, and a short one."""
    monkeypatch.setattr(download, "_RETRIES", 0)
    monkeypatch.setattr(download, "_TIMEOUT", 0.2)


def same(folder: Path, source: Path) -> bool:
    """Whether two bundles have the same files."""
    contents = ({path.name: path.read_bytes() for path in place.iterdir()} for place in (folder, source))
    return next(contents) == next(contents)
