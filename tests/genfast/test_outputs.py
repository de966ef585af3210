"""The files that commands write: which, and what becomes of those that exist."""

import os
import re
import sys
import time
from pathlib import Path

import pytest

from genfast.errors import InputError, UsageError
from genfast.outputs import STDIN, InpaintFiles, SampleFiles, existing, prepare

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
not_text = os.fsdecode(b"\xff\xfe")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def accept(index: int, path: Path) -> None:
    """Whatever is there may stay."""


def test_of_two_ways_to_treat_what_exists_one_is_chosen() -> None:
    assert (existing(False, False), existing(True, False), existing(False, True)) == ("refuse", "overwrite", "skip")
    with pytest.raises(UsageError, match="exclude each other"):
        existing(True, True)


def test_a_folder_is_made_and_what_a_killed_run_left_is_swept(tmp_path: Path) -> None:
    prepare(tmp_path / "new" / "folder")
    abandoned, fresh = (tmp_path / f".{'0' * 15}{i}.part" for i in (1, 2))
    touch(tmp_path, abandoned.name, fresh.name, ".mine.part")
    os.utime(abandoned, (time.time() - 7200,) * 2)
    prepare(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"new", fresh.name, ".mine.part"}
    with pytest.raises(UsageError, match=r"cannot write into .*mine.part: .*; choose another folder with --out"):
        prepare(tmp_path / ".mine.part")


# ---- sample


def test_the_names_of_drawn_images() -> None:
    files = SampleFiles(Path("out"), "tiny", 7, range(5, 8), "webp", history=True)
    assert files.paths(6) == [Path(f"out/tiny-7-6{rest}") for rest in (".webp", "-history.png", "-strip.webp")]
    assert files.sheet == Path("out/tiny-7-grid-5-7.webp")
    plain = SampleFiles(Path("."), "tiny", 0, range(3), "jpeg", grid=False)
    assert plain.paths(2) == [Path("tiny-0-2.jpeg")] and plain.sheet is None
    assert SampleFiles(Path("."), "tiny", 0, range(9, 10), "png").sheet is None
    many = SampleFiles(Path("."), "tiny", 0, range(10, 10**9), "png")
    assert many.shown == range(10, 410) and many.sheet == Path("tiny-0-grid-10-409.png")


def test_only_the_files_of_these_images_are_in_the_way(tmp_path: Path) -> None:
    files = SampleFiles(tmp_path, "a.b", 1, range(2, 5), "png", history=True)
    wanted = ["a.b-1-2.png", "a.b-1-3-history.png", "a.b-1-4-strip.png", "a.b-1-grid-2-4.png"]
    others = [
        "a.b-1-5.png",
        "a.b-1-1.png",
        "a.b-1-2.webp",
        "a.b-2-2.png",
        "axb-1-2.png",
        "a.b-1-02.png",
        "z-a.b-1-2.png",
    ]
    touch(tmp_path, *wanted, *others, ".a.b-1-2.png", "a.b-1-2.png.part", "a.b-1-99999999999999999999.png")
    assert {path.name for _, path in files.found()} == {*wanted}
    assert {(index, path.name) for index, path in files.found()} >= {(3, wanted[1]), (4, wanted[2])}
    with pytest.raises(UsageError, match=r"/a\.b-1-2\.png exists \(files in the way: 4\); give --overwrite, --skip-"):
        files.prepare(accept)
    for name in wanted:
        (tmp_path / name).unlink()
    files.prepare(accept)
    assert not [*files.found()] and [*files.missing()] == [2, 3, 4]


def test_what_is_kept_is_looked_at(tmp_path: Path) -> None:
    touch(tmp_path, "tiny-0-1.png", "tiny-0-2.png", "tiny-0-2-history.png", "tiny-0-grid-0-3.png")
    seen: list[tuple[int, Path]] = []
    files = SampleFiles(tmp_path, "tiny", 0, range(4), "png", existing="skip")
    files.prepare(lambda index, path: seen.append((index, path)))
    assert sorted(seen) == [(i, tmp_path / f"tiny-0-{i}.png") for i in (1, 2)]
    assert [*files.missing()] == [0, 3] and files.keeps(tmp_path / "tiny-0-1.png")
    with_history = SampleFiles(tmp_path, "tiny", 0, range(4), "png", history=True, existing="skip")
    assert [*with_history.missing()] == [0, 1, 2, 3]  # of the third, the strip is missing


def test_what_is_replaced_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "tiny-0-1.png")
    files = SampleFiles(tmp_path, "tiny", 0, range(4), "png", existing="overwrite")
    files.prepare(lambda index, path: pytest.fail("looked at"))
    assert [*files.missing()] == [0, 1, 2, 3] and not files.keeps(tmp_path / "tiny-0-1.png")


@only_linux
def test_drawn_images_may_lie_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    files = SampleFiles(tmp_path / not_text, "tiny", 0, range(4), "png")
    files.prepare(accept)
    touch(tmp_path / not_text, "tiny-0-1.png", not_text)
    assert [index for index, _ in files.found()] == [1]


# ---- inpaint


def outputs(*arguments: Path | None, **options: object) -> list[list[str]]:
    """The files of each job, as text."""
    return [[*map(str, job.files)] for job in InpaintFiles(*arguments, **options)]


def test_a_single_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "a/img.png", "m.png"))
    image, mask = Path("a/img.png"), Path("m.png")
    assert outputs(image, mask, None) == [["a/img.inpainted.png"]]
    assert outputs(image, mask, Path("new")) == [["new/img.inpainted.png"]]
    assert outputs(image, mask, Path("X.PNG"), n=2) == [["X-1.PNG", "X-2.PNG"]]
    assert outputs(image, mask, None, format="webp", history=True, n=2) == [
        [f"a/img.inpainted-{i}{rest}" for i in (1, 2) for rest in (".webp", "-history.png", "-strip.webp")]
    ]
    assert outputs(image, mask, Path("b.webp"), history=True) == [["b.webp", "b-history.png", "b-strip.webp"]]
    assert outputs(STDIN, mask, Path("new")) == [["new/stdin.inpainted.png"]]
    (job,) = InpaintFiles(image, mask, None)
    assert (job.image, job.mask, len(InpaintFiles(image, mask, None))) == (image, mask, 1)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("x.png", {"format": "webp"}, "x.png and --format webp contradict each other"),
        ("x.jpg", {"format": "png"}, "x.jpg and --format png contradict each other"),
        ("x.TIFF", {}, "x.TIFF is of a format that is not written; give a name that ends in .png, .webp or .jpg"),
    ],
)
def test_names_that_cannot_be_meant(tmp_path: Path, out: str, options: dict[str, str], message: str) -> None:
    touch(tmp_path, "img.png")
    with pytest.raises(UsageError, match=message):
        InpaintFiles(tmp_path / "img.png", tmp_path / "m.png", tmp_path / out, **options)
    with pytest.raises(InputError, match="other.png does not exist"):
        InpaintFiles(tmp_path / "other.png", tmp_path / "m.png", None)


def test_a_folder_whose_name_ends_as_a_file_s(tmp_path: Path) -> None:
    touch(tmp_path, "img.png", "x.jpg/y", "x.png/y")
    for name in "x.jpg", "x.png":
        assert outputs(tmp_path / "img.png", tmp_path / "m.png", tmp_path / name, format="webp") == [
            [f"{tmp_path}/{name}/img.inpainted.webp"]
        ]


def test_masks_have_the_stems_of_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden files, masks and what was written before are no images."""
    images = ["photos/a.png", "photos/b/a.jpg", "photos/c.webp"]
    others = ["photos/.d.png", "photos/.e/f.png", "photos/notes.txt", "photos/old.inpainted-3.png"]
    masks = ["photos/masks/a.gif", "photos/masks/b/a.png", "photos/masks/c.x.png", "photos/masks/.c.png"]
    monkeypatch.chdir(touch(tmp_path, *images, *others, *masks))
    files = InpaintFiles(Path("photos"), Path("photos/masks"), Path("out"))
    assert len(files) == 3
    assert [(str(job.image), job.mask and str(job.mask)) for job in files] == [
        ("photos/a.png", "photos/masks/a.gif"),
        ("photos/b/a.jpg", "photos/masks/b/a.png"),
        ("photos/c.webp", None),
    ]
    assert [[*map(str, job.files)] for job in files] == [
        ["out/a.inpainted.png"],
        ["out/b/a.inpainted.png"],
        ["out/c.inpainted.png"],
    ]
    touch(Path("photos"), "m.png")
    one_mask = [*InpaintFiles(Path("photos"), Path("photos/m.png"), None)]  # which is none of the images
    assert {job.mask for job in one_mask} == {Path("photos/m.png")}
    assert "photos/m.png" not in {str(job.image) for job in one_mask} and len(one_mask) == 6


def test_twins_are_refused_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "in/b/x.png", "in/b/x.jpg", "in/a.png", "masks/a.png", "masks/a.gif"))
    expected = "in/b/x.jpg and in/b/x.png would both become out/b/x.inpainted.webp; rename one of them"
    with pytest.raises(UsageError, match=re.escape(expected)):
        InpaintFiles(Path("in"), Path("m.png"), Path("out"), format="webp")
    Path("in/b/x.jpg").unlink()
    with pytest.raises(UsageError, match=r"a\.gif and a\.png in masks are masks of one image"):
        InpaintFiles(Path("in"), Path("masks"), Path("out"))
    Path("masks/a.gif").rename("masks/other.gif")
    Path("masks/other.png").touch()  # masks of no image may be twins
    assert [job.mask for job in InpaintFiles(Path("in"), Path("masks"), Path("out"))] == [Path("masks/a.png"), None]


def test_folders_that_hold_nothing_to_do(tmp_path: Path) -> None:
    touch(tmp_path, "pair/a.png", "done/a.inpainted.png", "masks/m.png", "none/notes.txt")
    with pytest.raises(UsageError, match="pair cannot hold both the images and their masks"):
        InpaintFiles(tmp_path / "pair", tmp_path / "pair" / ".." / "pair", None)
    with pytest.raises(InputError, match="done holds nothing to be inpainted"):
        InpaintFiles(tmp_path / "done", tmp_path / "masks", None)
    for pair in ("none", "masks"), ("pair", "none"):
        with pytest.raises(InputError, match="none holds no images"):
            InpaintFiles(*(tmp_path / name for name in pair), None)


def test_existing_fills_are_refused_skipped_or_replaced(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/b.png", "in/c/d.png", "m.png")
    touch(tmp_path, "out/a.inpainted-1.png", "out/b.inpainted-1.png", "out/b.inpainted-2.png", "out/c/other.png")
    given = (tmp_path / "in", tmp_path / "m.png", tmp_path / "out")
    with pytest.raises(UsageError, match=r"out/a\.inpainted-1\.png exists \(files in the way: 3\); give --overwrite"):
        InpaintFiles(*given, n=2).prepare()
    left = {}
    for way in "overwrite", "skip":
        files = InpaintFiles(*given, n=2, existing=way)
        files.prepare()
        left[way] = [job.image.name for job in files]
    assert left == {"overwrite": ["a.png", "b.png", "d.png"], "skip": ["a.png", "d.png"]}
    assert (tmp_path / "out" / "c").is_dir()


def test_an_image_and_its_mask_are_never_written_over(tmp_path: Path) -> None:
    touch(tmp_path, "img.png", "m.png")
    (tmp_path / "link.png").hardlink_to(tmp_path / "m.png")
    for name in "img.png", "m.png", "link.png":
        for way in "overwrite", "skip", "refuse":
            files = InpaintFiles(tmp_path / "img.png", tmp_path / "m.png", tmp_path / name, existing=way)
            with pytest.raises(UsageError, match=f"{name} is not to be written over; give another --out"):
                files.prepare()


@only_linux
def test_names_in_folders_that_are_no_text(tmp_path: Path) -> None:
    touch(tmp_path, f"in/{not_text}/{not_text}.png", f"masks/{not_text}/{not_text}.gif")
    files = InpaintFiles(tmp_path / "in", tmp_path / "masks", tmp_path / "out")
    files.prepare()
    (job,) = files
    assert job.image.exists() and job.mask and job.mask.exists()
    assert [*job.files] == [tmp_path / "out" / not_text / f"{not_text}.inpainted.png"]
    assert (tmp_path / "out" / not_text).is_dir()
