import os
from pathlib import Path

import numpy as np
import pytest

from training.data import avatars


def test_licences_allow_sharing_and_adapting() -> None:
    found = avatars.credits()
    assert [credit.style for credit in found] == list(avatars.CLASSES)
    for credit in found:
        assert credit.licence in {"CC0 1.0", "CC BY 4.0"}
        assert credit.licence_url.startswith("https://creativecommons.org/")
        assert credit.creator and credit.source.startswith("https://")


def test_a_face_is_the_same_whenever_drawn_and_at_any_size() -> None:
    small, large = avatars.draw(7, 64), avatars.draw(7, 256)
    assert small.shape == (64, 64, 3) and large.shape == (256, 256, 3)
    assert (small == avatars.draw(7, 64)).all()
    shrunk = large.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(shrunk - small).mean() < 3


def test_faces_differ_within_a_style_and_between_splits() -> None:
    style = len(avatars.CLASSES)
    indices = [0, style, avatars.FIRST["validation"], avatars.FIRST["test"]]
    assert {avatars.label(i) for i in indices} == {0}
    assert len({avatars.draw(i, 32).tobytes() for i in indices}) == len(indices)


@pytest.mark.parametrize("style", range(len(avatars.CLASSES)), ids=avatars.CLASSES)
def test_backgrounds_and_skins_vary(style: int) -> None:
    """The corner shows the background, the middle of the face its skin, more often than not."""
    faces = np.stack([avatars.draw(style + i * len(avatars.CLASSES), 32) for i in range(60)])
    assert len(np.unique(faces[:, 0, 0], axis=0)) >= 10
    middle = faces[:, 18:24, 12:20].reshape(60, -1, 3)
    brightness = np.median(middle, axis=1).mean(1)
    assert brightness.min() < 110 and brightness.max() > 180


@pytest.mark.slow
def test_a_killed_drawing_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avatars, "CHUNK", 2)
    images, labels = avatars.load("validation", 4, 16, tmp_path)
    assert images.shape == (4, 16, 16, 3) and labels.tolist() == [0, 1, 2, 3]
    first = avatars.FIRST["validation"]
    assert all((images[i] == avatars.draw(first + i, 16)).all() for i in range(4))

    (done,) = tmp_path.glob("*.done")
    (pixels,) = tmp_path.glob("*.u8")
    with done.open("r+b") as file:  # as if killed while it drew face 1
        file.seek(1)
        file.write(b"\0")
    with pixels.open("r+b") as file:
        file.write(bytes(2 * images[0].nbytes))  # both 0 and 1, but only 1 counts as missing
    again, _ = avatars.load("validation", 6, 16, tmp_path)
    assert not again[0].any()
    assert all((again[i] == avatars.draw(first + i, 16)).all() for i in range(1, 6))

    before = os.stat(pixels).st_mtime_ns
    again[:] = 0  # a private copy
    assert avatars.load("validation", 6, 16, tmp_path)[0][5].any()
    assert os.stat(pixels).st_mtime_ns == before


@pytest.mark.parametrize("style", range(len(avatars.CLASSES)), ids=avatars.CLASSES)
def test_what_a_face_shows_draws_it_again(style: int) -> None:
    """So that nothing of a face is left out of its attributes."""
    for index in range(style, style + 8 * len(avatars.CLASSES), len(avatars.CLASSES)):
        told = avatars.told(index)
        assert told.keys() == avatars.options(avatars.CLASSES[style]).keys()
        assert np.array_equal(avatars.picture(avatars.CLASSES[style], told, 64), avatars.draw(index, 64))


def test_an_attribute_that_is_changed_is_seen_where_the_face_has_it() -> None:
    told = avatars.told(4)  # of toon-head
    plain = avatars.picture("toon-head", told, 64)
    for name, value in {"background": "#a7d8d0", "skin": "#5c3829", "hair": "bun"}.items():
        assert told[name] != value
        assert not np.array_equal(avatars.picture("toon-head", told | {name: value}, 64), plain), name
    assert not np.array_equal(
        *(
            avatars.picture("adventurer", avatars.told(0) | {"glasses": glasses}, 64)
            for glasses in ("none", "variant01")
        )
    )


def test_attributes_are_named_as_people_say() -> None:
    attributes, rows = avatars.attributes("train", 200)
    by_name = {attribute.name: (place, attribute) for place, attribute in enumerate(attributes)}
    assert {"hair", "hair-colour", "glasses", "mouth", "skin", "background", "beard"} <= by_name.keys()
    assert {name for name, (_, each) in by_name.items() if each.colour} == {
        name for name in by_name if name.endswith("-colour") or name in ("skin", "background", "eye-shadow")
    }
    assert rows.shape == (200, len(attributes))
    for index in 0, 7, 123:
        told = {a.name: a.values[number - 1] for a, number in zip(attributes, rows[index], strict=True) if number}
        assert told == avatars.told(index)
    place, background = by_name["background"]
    assert background.values == tuple(sorted(avatars.BACKGROUNDS)) and rows[:, place].all()
    assert "none" in by_name["glasses"][1].values


def test_a_colour_that_nothing_has_is_any_of_its_style() -> None:
    """Rather than unknown: it would have been true as well."""
    style = avatars.CLASSES.index("toon-head")
    told = [avatars.told(style + i * len(avatars.CLASSES)) for i in range(60)]
    palette = set(avatars._palette("toon-head", "hairColor"))
    assert {each["hair-colour"] for each in told} <= palette and len({each["hair-colour"] for each in told}) > 3
