"""Files are kept by ids that the server makes up, up to a bound, and go at the end."""

from pathlib import Path

import pytest

from genfast.errors import GenfastError
from genfast.ui.store import Store, plain


def test_files_come_and_go() -> None:
    with Store(most=10) as store:
        first, second = store.put(b"12345", "a.png", (3, 4, 1)), store.put(b"54321", "b.png", (1, 2))
        assert store.get(first.id) is first and first.path.read_bytes() == b"12345" and first.shape == (3, 4)
        assert first.open().name == "a.png"
        third = store.put(b"x", "c.png", (1, 1))
        assert store.get(first.id) is None and not first.path.exists() and store.get(second.id) and store.get(third.id)
        assert store.get("../" + second.id) is None
        folder = third.path.parent
    assert not folder.exists() and store.get(second.id) is None
    with pytest.raises(GenfastError, match="has ended"):
        store.put(b"x", "c.png", (1, 1))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("face.png", "face.png"),
        ("my face (2).jpeg", "my face (2).jpeg"),
        ("gesicht-ä.png", "gesicht-ä.png"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("../..", "picture.png"),
        ("", "picture.png"),
        (".hidden.png", "hidden.png"),
        ("--out", "out"),
        ("a\r\nb\0.png", "ab.png"),
        ("<b>:|?*.png", "b.png"),
        ("x" * 300 + ".png", "x" * 116 + ".png"),
    ],
)
def test_names_are_those_of_files(name: str, expected: str) -> None:
    assert plain(name) == expected
    assert Path("folder", plain(name)).parent == Path("folder")
