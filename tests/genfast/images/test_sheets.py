from pathlib import Path

import numpy as np
import pytest

from genfast.images import folder, io, sheets


@pytest.mark.parametrize(
    ("n", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (6, 3, 2), (7, 3, 3), (8, 4, 2), (10, 5, 2), (64, 8, 8)]
)
def test_a_contact_sheet(n: int, columns: int, rows: int) -> None:
    tiles = np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, 30, 40, 3), np.uint8)
    sheet = sheets.contact_sheet(tiles)
    assert sheet.shape == (rows * 60, columns * 80, 3)  # twice as large: 40 fits into 96 twice
    seen = sheet[30::60, 40::80, 0].ravel()
    assert seen.tolist() == [*range(1, n + 1)] + [0] * (rows * columns - n)
    assert np.array_equal(sheet[:60, :80], np.ones((60, 80, 3)))


def test_a_strip_goes_from_the_first_to_the_last() -> None:
    frames = [np.full((6, 12, 3), 10 * i, np.uint8) for i in range(15)]
    strip = sheets.strip(frames)
    assert strip.shape == (48, 8 * 96, 3)
    assert strip[0, ::96, 0].tolist() == [0, 20, 40, 60, 80, 100, 120, 140]
    assert sheets.strip(frames[:3]).shape == (48, 3 * 96, 3)
    large = sheets.strip([np.zeros((512, 1024, 1), np.uint8)] * 2)
    assert large.shape == (128, 512, 1)


def test_large_images_are_shrunk_by_averages(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    small = sheets.shrink(image, 4)
    assert small.shape == (3, 4, 3)
    assert np.abs(small - image.reshape(3, 3, 4, 3, 3).mean((1, 3))).max() < 1
    assert np.array_equal(sheets.shrink(image, 12), image)
    io.write(tmp_path / "a.png", image)
    assert np.array_equal(folder.read_all([tmp_path / "a.png"] * 2, side=4), [small, small])
