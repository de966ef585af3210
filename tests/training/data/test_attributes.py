"""Attributes of images: numbered, and read from attributes.csv."""

from pathlib import Path

import numpy as np
import pytest

from genfast.errors import InputError
from genfast.images import io
from training.data.attributes import encode, read
from training.data.folder import Folder


def test_values_are_numbered_in_alphabetical_order() -> None:
    """Also those that no picture has: so numbers are those of other splits."""
    told = [{"hat": "none", "ink": "#ff0000"}, {"ink": "#0000ff", "eyes": "wink"}, {"hat": "cap"}]
    values = {"hat": ["none", "cap", "beret", "cap"], "ink": ["#ff0000", "#0000ff"], "eyes": ["wink"]}
    attributes, rows = encode(told, values, {"ink"})
    assert [(each.name, each.values, each.colour) for each in attributes] == [
        ("hat", ("beret", "cap", "none"), False),
        ("ink", ("#0000ff", "#ff0000"), True),
        ("eyes", ("wink",), False),
    ]
    assert rows.tolist() == [[3, 2, 0], [0, 1, 1], [2, 0, 0]]
    for row, each in zip(rows, told, strict=True):
        named = {a.name: a.values[number - 1] for a, number in zip(attributes, row, strict=True) if number}
        assert named == each


def test_of_pictures_that_nothing_is_told_of_there_are_no_attributes() -> None:
    attributes, rows = encode([{}, {}], {})
    assert attributes == () and rows.shape == (2, 0)


def test_a_table_beside_images_tells_of_them(tmp_path: Path) -> None:
    """Like CelebA's: an empty field is unknown."""
    text = "\ufefffile,Smiling,5_o_Clock_Shadow,hair-colour\r\nb/2.png,1,-1,\r\n1.png,,1,light brown\r\n"
    (tmp_path / "attributes.csv").write_text(text, "utf-8", newline="")
    assert read(tmp_path) == {
        "b/2.png": {"Smiling": "1", "5_o_Clock_Shadow": "-1"},
        "1.png": {"5_o_Clock_Shadow": "1", "hair-colour": "light brown"},
    }


def test_attributes_of_a_folder_are_numbered_alike_in_all_splits(tmp_path: Path) -> None:
    """A file that is not listed is one of which nothing is known."""
    (tmp_path / "faces").mkdir()
    for i in range(40):
        io.write(tmp_path / "faces" / f"{i:02d}.png", np.zeros((4, 4, 3), np.uint8))
    lines = [f"{i:02d}.png,{'yes' if i % 3 else 'no'}" for i in range(40) if i != 5]
    (tmp_path / "faces" / "attributes.csv").write_text("\n".join(["file,Smiling", *lines]))
    found = {}
    for split, first, count in ("train", 0, 36), ("validation", 36, 2), ("test", 38, 2):
        attributes, rows = Folder(tmp_path / "faces", 4, split).attributes()
        assert [(each.name, each.values) for each in attributes] == [("Smiling", ("no", "yes"))]
        assert rows.ravel().tolist() == [0 if i == 5 else 2 if i % 3 else 1 for i in range(first, first + count)]
        found[split] = attributes
    assert found["train"] == found["validation"] == found["test"]
    (tmp_path / "faces" / "attributes.csv").unlink()
    attributes, rows = Folder(tmp_path / "faces", 4, "test").attributes()
    assert attributes == () and rows.shape == (2, 0)


def test_a_folder_without_a_table(tmp_path: Path) -> None:
    assert read(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the first column must be `file`"),
        (b"name,Smiling\n1.png,1\n", "the first column must be `file`"),
        (b"file,Smiling\n1.png,\xff\xfe\n", "is no table in UTF-8: "),
        (b"file,Smiling\n1.png,1\n2.png,1,1\n", "line 3 has more columns than the first"),
        (b'file,Smiling\n1.png,"1"1\n', "is no table in UTF-8: "),
    ],
)
def test_another_table_is_refused_in_a_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "attributes.csv").write_bytes(content)
    with pytest.raises(InputError, match="attributes.csv") as refused:
        read(tmp_path)
    assert message in str(refused.value) and "\n" not in str(refused.value)
