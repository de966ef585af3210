import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from genfast.errors import InputError
from genfast.images import io
from genfast.images.params import GenerationParams, read_params

PARAMS = GenerationParams(model="tiny", bundle="0" * 64, steps=4, seed=7, index=50, version="0.1.0")
FORGED = [
    *({"options": {"class": "\x1b[2J"}}, {"options": {"class; rm": 1}}, {"options": {"class": "; rm -rf"}}),
    *(
        {"options": {"set": [setting]}}
        for setting in ("hair", "=bun", "hair=", "hair=\x1b[2J", "h;rm=1", "hair=;rm", 1)
    ),
]


@pytest.mark.parametrize("comment", [b"ASCII\0\0\0hello", b"ASCII\0\0\0{}", b"", "text", (1, 2)])
def test_the_comment_of_another_program_says_nothing(tmp_path: Path, comment: object) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    Image.new("L", (2, 2)).save(tmp_path / "a.jpeg", exif=exif)
    with pytest.raises(
        InputError,
        match="a.jpeg (does not say|says) what drew it(;| in a way that this version cannot)",
    ):
        read_params(tmp_path / "a.jpeg")


def test_an_image_that_says_nothing(tmp_path: Path) -> None:
    io.write(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(InputError, match="a.png does not say what drew it; only images written by genfast do"):
        read_params(tmp_path / "a.png")


@pytest.mark.parametrize("change", [{"seed": -1}, {"model": "\x1b[2J"}, {"bundle": "abc"}, {"steps": None}, *FORGED])
def test_forged_parameters_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    text = PngInfo()
    text.add_text("genfast", json.dumps({**PARAMS.model_dump(), **change}))
    Image.new("L", (2, 2)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(InputError, match="says what drew it in a way that this version cannot read"):
        read_params(tmp_path / "a.png")


def test_options_keep_their_types(tmp_path: Path) -> None:
    params = PARAMS.model_copy(
        update={
            "options": {
                **{"class": "light blue", "temperature": 0.5, "min-steps": 3, "history": True},
                "set": ("hair=bun", "hair-colour=#a1b2c3", "5_o_clock=-1"),
            }
        }
    )
    io.write(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8), params.comment())
    read = read_params(tmp_path / "a.png")
    assert read == params
    assert [type(value) for value in read.options.values()] == [str, float, int, bool, tuple]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.jpeg"])
def test_every_format_holds_all(tmp_path: Path, name: str) -> None:
    params = PARAMS.model_copy(update={"inpainted": ("é.png", "mask.png"), "options": {"class": "light blue"}, "n": 3})
    assert params.comment().isascii()
    io.write(tmp_path / name, np.zeros((6, 8, 3), np.uint8), params.comment())
    assert read_params(tmp_path / name) == params


def test_the_same_image_is_drawn_by_what_differs_in_version_or_loss_alone() -> None:
    """The loss of a model is told by its bundle."""
    for same in {"version": "9"}, {"options": {"loss": "hellinger"}}:
        assert PARAMS.draws_as(PARAMS.model_copy(update=same))
    others = {"bundle": "1" * 64}, {"steps": 5}, {"seed": 8}, {"index": 51}, {"n": 2}, {"options": {"power": 1.0}}
    for other in others:
        assert not PARAMS.draws_as(PARAMS.model_copy(update=other))


def test_what_shows_several_images() -> None:
    assert not PARAMS.shows_several()
    for update in {"n": 9}, {"options": {"history": True}}:
        assert PARAMS.model_copy(update=update).shows_several()
        assert not PARAMS.model_copy(update={**update, "inpainted": ("a.png", "b.png")}).shows_several()


def test_a_file_whose_name_begins_with_a_dash_is_no_option() -> None:
    params = PARAMS.model_copy(update={"inpainted": ("-a.png", "m.png")})
    assert params.command("m").startswith("genfast inpaint ./-a.png m.png ")
