"""The page in a real browser: what people do on it, and that what it saves is what the command line writes."""

import json
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genfast.images import io, params
from tests.genfast.ui.conftest import Served, served


def picture(path: Path, width: int, height: int) -> Path:
    """A picture of soft colours, no two rows or columns of which are alike."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    Image.fromarray(np.dstack([x, y, (x + y) / 2]).astype(np.uint8)).save(path)
    return path


def open_picture(page, path: Path) -> None:
    page.set_input_files("#picture-file", path)
    shows(page, path.name)


def shows(page, name: str) -> None:
    """Wait until a picture can be painted on."""
    page.wait_for_function("name => document.querySelector('#picture').alt === name", arg=name)
    page.wait_for_selector("#frame:not([hidden])")


def drag(page, *shares: tuple[float, float]) -> None:
    """Press the mouse at the first of these places, given in shares of the picture, and move it over the others."""
    box = page.locator("#view").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()


def save(page, selector: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(selector)
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def mask_of(page, folder: Path) -> np.ndarray:
    return np.asarray(Image.open(save(page, "#save-mask", folder)).convert("L")) >= 128


def run(page, task: str = "repaint") -> None:
    done = int(page.get_attribute(f"#{task}-form", "data-done") or 0)
    page.click(f"#{task}-form .go")
    page.wait_for_selector(f"#{task}-form[data-done='{done + 1}']")


def copied(page) -> str:
    """The command that the page copies."""
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.click("#fill-copy")
    return page.evaluate("window.copied")


def again(cli, command: str, out: Path, folder: Path):
    """Run a command that the page showed, in a folder."""
    program, *words = shlex.split(command)
    assert program == "genfast"
    done = cli(*words, "--out", out, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


def test_a_stroke_is_filled_as_the_command_line_fills_it(tab, cli, tmp_path: Path) -> None:
    page = tab()
    source = picture(tmp_path / "a photo.png", 60, 40)
    open_picture(page, source)
    assert page.locator("#repaint-form .go").is_disabled()
    drag(page, (0.3, 0.4), (0.6, 0.5))
    for name, value in {"n": 3, "seed": 5, "grow": 2, "feather": 3}.items():
        page.fill(f"#repaint-{name}", str(value))
    page.click("#repaint-form summary >> text=Sampler")
    page.select_option("#repaint-sampler", "random-order")
    for name, value in {"temperature": 1.5, "refine": 0.25, "power": 3, "guidance": 1.2}.items():
        page.fill(f"#repaint-{name}", str(value))
    page.select_option("#repaint-class", "green")
    run(page)
    assert page.locator(".fill").count() == 3
    command = copied(page)
    mask = save(page, "#save-mask", tmp_path)
    assert mask.name == "a photo-mask.png"
    saved = []
    for place in range(3):
        page.click(f".fill >> nth={place}")
        saved.append(save(page, "#fill-save", tmp_path))
    again(cli, command, tmp_path / "out", tmp_path)
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in saved] == [path.name for path in written]
    assert [path.read_bytes() for path in saved] == [path.read_bytes() for path in written]
    told = params.read_params(saved[0])
    knobs = {"sampler": "random-order", "temperature": 1.5, "guidance": 1.2, "power": 3.0, "refine": 0.25}
    assert told.options == {"grow": 2, "feather": 3, "class": "green", **knobs} and told.seed == 5
    hole = np.asarray(Image.open(mask).convert("L")) >= 128
    far = ~hole.copy()
    for y, x in np.argwhere(hole):
        far[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = False
    assert 0 < hole.sum() < hole.size and np.array_equal(io.read(saved[0])[far], io.read(source)[far])


def test_a_picture_is_asked_for_by_attributes(tab, cli, tmp_path: Path, attribute_bundle: Path) -> None:
    with served(tmp_path / "page", "--model", attribute_bundle) as server:
        page = tab(server)
        page.click("#tab-draw")
        page.fill("#draw-n", "1")
        page.click("#draw-form summary >> text=Attributes")
        page.select_option("#draw-class", "green")
        page.select_option("[id='draw-set.hair']", "bun")
        page.select_option("[id='draw-set.glasses']", "round")
        page.select_option("#draw-class", "light blue")  # of which none has a bun, or glasses
        offered = page.locator("[id='draw-set.hair'] option:not([hidden])").all_inner_texts()
        assert offered == ["any", "curls", "long"] and page.locator("[id='draw-set.glasses']").is_hidden()
        page.select_option("[id='draw-set.hair']", "long")
        page.select_option("[id='draw-set.hair-colour']", label="#000000 (black)")
        run(page, "draw")
        page.click("button.tile >> nth=0")
        saved, command = save(page, "#viewer-save", tmp_path), page.inner_text("#viewer-command")
        again(cli, command, tmp_path / "out", tmp_path)
    words = shlex.split(command)
    assert [words[i + 1] for i, word in enumerate(words) if word == "--set"] == ["hair=long", "hair-colour=#000000"]
    assert words[words.index("--class") + 1] == "light blue"
    assert saved.read_bytes() == (tmp_path / "out" / saved.name).read_bytes()


def test_four_are_drawn_and_one_of_them_is_repainted(tab, cli, tmp_path: Path) -> None:
    page = tab()
    page.click("#tab-draw")
    page.fill("#draw-n", "4")
    page.fill("#draw-seed", "3")
    run(page, "draw")
    assert page.locator("button.tile").count() == 4
    page.click("button.tile >> nth=0")
    titles = [page.inner_text("#viewer-title")]
    saved = [save(page, "#viewer-save", tmp_path)]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        titles.append(page.inner_text("#viewer-title"))
        saved.append(save(page, "#viewer-save", tmp_path))
    command = page.inner_text("#viewer-command")
    assert " --seed 3 --start 3 -n 1 --class red" in command
    again(cli, command, tmp_path / "out", tmp_path)
    command = command.replace("--start 3 -n 1 --class red", "-n 3 --no-grid")
    again(cli, command, tmp_path / "out", tmp_path)
    assert [title.split(" · ")[1] for title in titles] == ["red", "light blue", "green", "red"]
    assert [path.name for path in saved] == [f"squares-3-{index}.png" for index in range(4)]
    assert all(path.read_bytes() == (tmp_path / "out" / path.name).read_bytes() for path in saved)
    page.click("#viewer-repaint")
    shows(page, "squares-3-3.png")
    page.keyboard.press("i")
    run(page)
    filled = save(page, "#fill-save", tmp_path)
    assert filled.name == "squares-3-3.inpainted.png" and io.read(filled).shape == (4, 6, 3)


def test_what_was_painted_can_be_taken_back(tab, tmp_path: Path) -> None:
    page = tab()
    open_picture(page, picture(tmp_path / "photo.png", 90, 60))
    drag(page, (0.2, 0.5), (0.4, 0.5))
    first = mask_of(page, tmp_path)
    drag(page, (0.6, 0.2), (0.8, 0.8))
    second = mask_of(page, tmp_path)
    assert (second & first == first).all() and second.sum() > first.sum() > 0
    page.click("#undo")
    assert np.array_equal(mask_of(page, tmp_path), first)
    page.keyboard.press("Control+Shift+Z")
    assert np.array_equal(mask_of(page, tmp_path), second)
    page.click("#invert")
    assert np.array_equal(mask_of(page, tmp_path), ~second)
    page.keyboard.press("Delete")
    assert page.locator("#save-mask").is_disabled() and page.locator("#repaint-form .go").is_disabled()
    for _ in range(2):
        page.keyboard.press("Control+z")
    assert np.array_equal(mask_of(page, tmp_path), second)
    page.click("[data-tool=eraser]")
    drag(page, (0, 0.5), (1, 0.5))
    assert mask_of(page, tmp_path).sum() < second.sum()
    for _ in range(3):
        page.click("#undo")
    assert page.locator("#undo").is_disabled()


def test_areas_are_filled_to_the_pixel(tab, tmp_path: Path) -> None:
    page = tab()
    open_picture(page, picture(tmp_path / "photo.png", 100, 50))
    page.keyboard.press("r")
    drag(page, (0.1, 0.2), (0.6, 0.8))
    found = mask_of(page, tmp_path)
    wanted = np.zeros((50, 100), bool)
    wanted[10:40, 10:60] = True
    assert (found != wanted).sum() <= 2 * (30 + 50)  # a pixel of its rim, as a mouse has no finer place
    page.keyboard.press("Delete")
    page.keyboard.press("l")
    drag(page, (0.5, 0.1), (0.9, 0.9), (0.1, 0.9), (0.5, 0.1))
    found = mask_of(page, tmp_path)
    assert abs(found.sum() - 0.5 * 80 * 40) < 100 and found[30, 50] and not found[10, 20]


def test_the_keyboard_alone_paints_and_fills(tab, tmp_path: Path) -> None:
    page = tab()
    open_picture(page, picture(tmp_path / "photo.png", 60, 40))
    page.focus("#view")
    page.keyboard.press("]")
    for key in ["ArrowLeft", "ArrowUp", " ", *["ArrowRight"] * 4, "ArrowDown", " "]:
        page.keyboard.press(key)
    assert mask_of(page, tmp_path).any()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#fills:not([hidden])")
    page.focus("#compare")
    before = page.input_value("#compare")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#compare") != before


def test_a_mask_is_read_as_the_command_line_reads_it(tab, tmp_path: Path) -> None:
    page = tab()
    open_picture(page, picture(tmp_path / "photo.png", 60, 40))
    mask = np.random.default_rng(0).random((20, 30)) < 0.3
    Image.fromarray(mask).save(tmp_path / "half.png")
    page.set_input_files("#mask-file", tmp_path / "half.png")
    page.wait_for_selector("text=half.png is scaled from 30x20 to 60x40")
    assert np.array_equal(mask_of(page, tmp_path), mask.repeat(2, 0).repeat(2, 1))
    page.set_input_files("#mask-file", picture(tmp_path / "other.png", 61, 40))
    page.wait_for_selector("text=other.png is a picture, and no mask")


def test_pictures_that_a_browser_does_not_know(tab, cli, tmp_path: Path) -> None:
    """Greys of 16 bits in a TIFF, and a photograph that is turned by its EXIF, are shown the right way up."""
    page = tab()
    grey = np.linspace(0, 65535, 40 * 60).astype(np.uint16).reshape(40, 60)
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    for name, shape in {"deep.tif": (40, 60), "turned.jpg": (60, 40)}.items():
        open_picture(page, tmp_path / name)
        natural = page.evaluate(
            "[document.querySelector('#picture').naturalHeight, document.querySelector('#picture').naturalWidth]"
        )
        assert tuple(natural) == shape
        page.keyboard.press("r")
        drag(page, (0.4, 0.4), (0.5, 0.5))
        assert mask_of(page, tmp_path).shape == shape
        run(page)
        saved = save(page, "#fill-save", tmp_path)
    again(cli, copied(page), tmp_path / "out", tmp_path)
    assert saved.read_bytes() == (tmp_path / "out" / saved.name).read_bytes()


def test_a_work_can_be_cancelled_and_others_wait(tab, page_server: Served) -> None:
    first, second = tab(), tab()
    for page in first, second:
        page.click("#tab-draw")
        page.select_option("#draw-model", "fashion28-ddpm")
        page.fill("#draw-n", "64")
    first.click("#draw-form .go")
    first.wait_for_selector("text=/Drawing [1-9]/")
    second.click("#draw-form .go")
    second.wait_for_selector("text=Waiting: one is before this")
    assert second.locator(".tile.waiting").count() == 64
    first.click("#draw-form >> text=Cancel")
    second.wait_for_selector("text=/Drawing [1-9]/")
    first.wait_for_selector("#draw-form .go")
    assert first.locator(".tile").count() == 0 and first.is_visible("text=A seed is an endless row")
    second.close()  # which cancels as well
    third = tab()
    third.click("#tab-draw")
    run(third, "draw")
    assert third.locator("button.tile").count() == 4


def test_fields_are_what_a_model_takes(tab) -> None:
    page = tab()
    page.click("#tab-draw")
    page.select_option("#draw-model", "fashion28")
    assert page.locator("#draw-class option").count() == 11
    assert page.locator("#draw-steps option").count() == 8
    page.select_option("#draw-model", "avatars1024")
    page.click("#draw-form summary >> text=Sampler")
    assert page.locator("#draw-redraw-ratio").is_hidden()
    page.select_option("#draw-sampler", "sundae")
    assert page.locator("#draw-redraw-ratio").is_visible() and page.locator("#draw-power").is_hidden()


def test_what_another_model_has_not_is_forgotten(tab) -> None:
    page = tab()
    page.click("#tab-draw")
    page.select_option("#draw-model", "avatars1024")
    page.select_option("#draw-class", "micah")
    page.fill("#draw-steps", "50")
    page.select_option("#draw-model", "fashion28")
    assert page.input_value("#draw-class") == "" and page.input_value("#draw-steps") == "4"
    page.fill("#draw-n", "1")
    run(page, "draw")
    assert page.locator("button.tile").count() == 1


def test_a_hostile_upload_is_a_line_on_the_page(tab, tmp_path: Path) -> None:
    page = tab()
    hostile = tmp_path / "<img src=x onerror=alert(1)>.svg"
    hostile.write_text("<svg onload='alert(1)'/>")
    page.set_input_files("#picture-file", hostile)
    page.wait_for_selector("text=is no image; known are")
    assert page.locator("#toasts img").count() == 0 and page.is_visible("#empty")


NAMELESS = """[...document.querySelectorAll("button, a, input, select, [role]:not([role=status])")]
    .filter((each) => each.checkVisibility() && !(each.ariaLabel || each.labels?.length || each.innerText
        || each.getAttribute("aria-labelledby")))
    .map((each) => each.outerHTML)"""


@pytest.mark.parametrize("phone", [False, True])
def test_everything_has_a_name_and_fits(tab, phone: bool, tmp_path: Path) -> None:
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True} if phone else {}
    page = tab(**options)
    open_picture(page, picture(tmp_path / "photo.png", 60, 40))
    page.focus("#view")
    page.keyboard.press("i")
    run(page)
    for task in "draw", "repaint":
        page.click(f"#tab-{task}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        nameless = page.evaluate(NAMELESS)
        assert not nameless


def test_the_page_is_small_soon_there_and_asks_nobody_else(browser, page_server: Served) -> None:
    page = browser.new_page()
    sizes: dict[str, int] = {}
    page.on("response", lambda answer: sizes.setdefault(answer.url, int(answer.headers.get("content-length", 0))))
    page.goto(page_server.address)
    page.wait_for_selector("body[data-ready]")
    began = time.perf_counter()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert time.perf_counter() - began < 1
    assert len(sizes) == 4 and sum(sizes.values()) < 150_000, sizes
    assert all(url.startswith(page_server.address) for url in sizes)
    page.close()


FRAMES = """async () => {
    window.frames_ = [];
    const tick = (now) => { frames_.push(now); window.ticking = requestAnimationFrame(tick); };
    window.ticking = requestAnimationFrame(tick);
}"""


def test_strokes_keep_up_on_12_megapixels(tab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tab()
    source = picture(tmp_path / "large.jpg", 4000, 3000)
    open_picture(page, source)
    page.evaluate(FRAMES)
    for row in range(8):
        drag(page, (0.1, 0.1 + row / 10), (0.5, 0.15 + row / 10), (0.9, 0.1 + row / 10))
    times = np.diff(page.evaluate("frames_"))
    with capsys.disabled():
        middle, late = np.median(times), np.quantile(times, 0.95)
        print(f"\n{len(times)} frames at 4000x3000: median {middle:.0f} ms, of twenty the slowest {late:.0f} ms")
    assert np.median(times) < 60
    for _ in range(7):
        page.keyboard.press("Control+z")
    mask = mask_of(page, tmp_path)
    assert mask.shape == (3000, 4000) and mask[300:450, 600:3400].any(0).all() and not mask[700:].any()


@pytest.mark.slow
def test_a_photo_of_12_megapixels(tab, cli, tmp_path: Path) -> None:
    page = tab()
    open_picture(page, picture(tmp_path / "large.jpg", 4000, 3000))
    page.fill("#repaint-feather", "0")
    page.focus("#view")
    for key in [*["["] * 60, " ", " "]:  # a dab of a pixel or two
        page.keyboard.press(key)
    page.click("#repaint-form .go")
    page.wait_for_selector("#fills:not([hidden])", timeout=200_000)
    saved = save(page, "#fill-save", tmp_path)
    assert saved.name == "large.inpainted.png" and mask_of(page, tmp_path).shape == (3000, 4000)
    again(cli, copied(page), tmp_path / "out", tmp_path)
    assert saved.read_bytes() == (tmp_path / "out" / saved.name).read_bytes()


@pytest.mark.slow
def test_faces_are_filled_and_drawn_as_the_command_line_does(tab, cli, tmp_path: Path) -> None:
    with served(tmp_path / "served") as server:
        page = tab(server)
        page.click("#example")
        page.wait_for_selector("#frame:not([hidden])")
        page.check("#repaint-watch")
        page.click("#repaint-form .go")
        page.wait_for_selector("#coming:not([hidden])")
        page.wait_for_selector("#fills:not([hidden])", timeout=120_000)
        saved, mask = save(page, "#fill-save", tmp_path), save(page, "#save-mask", tmp_path)
        assert mask.name == "example-mask.png"
        (tmp_path / "example.webp").write_bytes((Path(io.__file__).parents[1] / "ui" / "example.webp").read_bytes())
        again(cli, copied(page), tmp_path / "out", tmp_path)
        assert saved.read_bytes() == (tmp_path / "out" / saved.name).read_bytes()
        page.click("#tab-draw")
        run(page, "draw")
        page.click("button.tile >> nth=1")
        saved = save(page, "#viewer-save", tmp_path)
        again(cli, page.inner_text("#viewer-command"), tmp_path / "out", tmp_path)
        assert saved.read_bytes() == (tmp_path / "out" / saved.name).read_bytes()
        assert re.fullmatch(r"fashion28-0-1\.png", saved.name) and json.loads(params.read_params(saved).comment())
