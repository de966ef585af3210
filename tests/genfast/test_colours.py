import numpy as np
import pytest

from genfast import colours


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("#a1B2c3", [161, 178, 195]),
        ("#f0A", [255, 0, 170]),
        ("Light Blue", [173, 216, 230]),
        ("light-blue", [173, 216, 230]),
        ("black", [0, 0, 0]),
        ("brown", [107, 68, 35]),  # rather than the red that CSS calls so
    ],
)
def test_colours_as_people_say_them(said: str, expected: list[int]) -> None:
    found = colours.rgb(said)
    assert found is not None and found.dtype == np.float32 and found.tolist() == expected


@pytest.mark.parametrize("said", ["", "none", "bun", "#12", "#12345", "#12345678", "rgb(1, 2, 3)", "123456", "#ggg"])
def test_what_is_no_colour(said: str) -> None:
    assert colours.rgb(said) is None and colours.name(said) is None


@pytest.mark.parametrize(
    ("said", "name"), [("#6a4e35", "brown"), ("#0e0e0e", "black"), ("#3eac2c", "forestgreen"), ("white", "white")]
)
def test_the_nearest_name(said: str, name: str) -> None:
    assert colours.name(said) == name


def test_distances_are_those_of_oklab() -> None:
    """Against values of Ottosson's table for CSS's red and blue; chroma and hue count twice."""
    red, blue = np.array([0.6280, 2 * 0.2249, 2 * 0.1258]), np.array([0.4520, 2 * -0.0324, 2 * -0.3115])
    rgb = np.array([[255, 0, 0], [0, 0, 255], [0, 0, 0]], np.float32)
    found = colours.distances(rgb, rgb[1])
    assert found == pytest.approx([np.linalg.norm(red - blue), 0, np.linalg.norm(blue)], abs=2e-3)
