"""What the page offers is what the models take, and the command line's own names of it."""

import inspect
from pathlib import Path

import pytest
import typer

import genfast
from genfast.bundles import hub
from genfast.cli import app
from genfast.cli.options import chosen
from genfast.errors import UsageError
from genfast.ui.controls import Control, Task, described
from tests.graphs.bundles import parse, write_bundle

TASKS: dict[Task, str] = {"draw": "sample", "repaint": "inpaint"}


def controls(model: str, task: Task, more: Path | None = None) -> dict[str, Control]:
    return {each.name: each for each in described(more and str(more))[model].controls[task]}


def test_models_that_draw_and_are_here() -> None:
    assert list(described()) == ["fashion28", "fashion28-ddpm", "avatars1024"]
    assert [(model.width, model.height) for model in described().values()] == [(28, 28), (28, 28), (1024, 1024)]


@pytest.mark.parametrize("task", TASKS)
def test_names_are_options_of_the_command(task: Task) -> None:
    options = {name for each in typer.main.get_command(app).commands[TASKS[task]].params for name in each.opts}
    for model in described().values():
        for control in model.controls[task]:
            assert ("-n" if control.name == "n" else f"--{control.name.split('.')[0]}") in options, control.name


@pytest.mark.parametrize("model", ["fashion28", "fashion28-ddpm", "avatars1024"])
@pytest.mark.parametrize("task", TASKS)
def test_defaults_are_those_of_the_model(model: str, task: Task) -> None:
    loaded = genfast.load(model, device="cpu")
    options = loaded.options if task == "draw" else loaded.fill_options
    shown = controls(model, task)
    assert shown["steps"].default == (loaded.steps if task == "draw" else loaded.fill_steps)
    for control in described()[model].knobs(task):
        when = shown[control].when
        if control != "sampler" and (not when or (options and options.sampler in when["sampler"])):
            assert shown[control].default == getattr(options, control.replace("-", "_")), control
    if task == "repaint":
        default = inspect.signature(genfast.inpaint).parameters
        assert (
            shown["grow"].default == default["grow"].default and shown["context"].default == default["context"].default
        )
        assert shown["feather"].default == loaded.image.height // 256


def test_knobs_come_in_the_order_of_the_command_line() -> None:
    """In which what was said is kept in a file."""
    options = [each.name for each in typer.main.get_command(app).commands["inpaint"].params]
    for model in described().values():
        knobs = [name.replace("-", "_") for name in model.knobs("repaint")]
        assert knobs == sorted(knobs, key=options.index)


def test_every_value_that_is_offered_is_taken() -> None:
    loaded = genfast.load("avatars1024", device="cpu")
    for control in described()["avatars1024"].controls["repaint"]:
        if control.group == "Sampler" and control.name != "sampler":
            sampler = control.when.get("sampler", ("maskgit",))[0]
            for value in control.low, control.high, control.default:
                given = {"sampler": str(sampler), control.name.replace("-", "_"): value}
                assert chosen(loaded, loaded.fill_options, given) is not None


def test_weights_that_know_classes() -> None:
    shown = controls("fashion28", "draw")
    assert not shown["class"].when and shown["steps"].choices == tuple(range(1, 9))
    assert not controls("avatars1024", "draw")["class"].when
    assert "class" not in controls("fashion28-study", "draw", hub.here("fashion28", 4, "pearson"))


@pytest.mark.parametrize("task", TASKS)
def test_attributes_and_what_of_them_each_class_has(task: Task, attribute_bundle: Path) -> None:
    shown = controls("dolls", task, attribute_bundle)
    hair, colour, glasses = (shown[f"set.{name}"] for name in ("hair", "hair-colour", "glasses"))
    assert hair.of_class == {"red": ("bun", "curls"), "light blue": ("curls", "long"), "green": hair.choices}
    assert colour.choices == ("#000000", "#6b4423", "#e3c482") and colour.texts[0] == "#000000 (black)"
    assert not hair.when and glasses.when == {"class": (None, "green")}
    assert {each.group for each in (hair, colour, glasses)} == {"Attributes"}


def test_an_inpainter_repaints_alone(tmp_path: Path) -> None:
    size = {"height": 16, "width": 16, "channels": 3}
    folder = write_bundle(tmp_path / "patch", parse("masked_blur"), "inpainter", "fill", name="patch", image=size)
    model = described(str(folder))["patch"]
    assert [each.name for each in model.controls["repaint"]] == ["grow", "feather", "context"]
    with pytest.raises(UsageError, match="patch does not draw"):
        model.checked("draw", {})


def test_a_folder_is_described_as_a_model_by_name(tiny_bundle: Path, means: Path, vq_bundle: Path) -> None:
    shown = controls("tiny", "draw", tiny_bundle)
    assert shown["steps"].choices == (3,) and "class" not in shown
    model = described(str(tiny_bundle))["tiny"]
    assert model.target == str(tiny_bundle) and "target" not in model.json()
    folder = str(hub.here("fashion28"))  # of a bundle that has a name of its own
    assert list(described(folder))[-1] == "fashion28"
    again = described(str(hub.here("fashion28-ddpm")))  # and of one that the catalogue calls the same
    assert list(again)[-1] == "fashion28-ddpm" and again["fashion28-ddpm"].target == str(hub.here("fashion28-ddpm"))
    for blind in means, vq_bundle:
        with pytest.raises(UsageError, match="draws nothing"):
            described(str(blind))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"n": 65}, "n must lie in 1 .. 64, not 65"),
        ({"n": 1.0}, "n is a whole number, not 1.0"),
        ({"n": True}, "n is a whole number, not True"),
        ({"steps": 9}, "steps is one of: 1, 2, 3, 4, 5, 6, 7, 8; not 9"),
        ({"steps": "4"}, "steps is one of"),
        ({"steps": True}, "steps is one of"),
        ({"class": "hat"}, "class is one of: t-shirt"),
        ({"temperature": 1.0}, "fashion28 takes no 'temperature'"),
    ],
)
def test_values_are_checked(values: dict[str, int | float | str], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        described()["fashion28"].checked("draw", values)
    well = {"n": 64, "class": "coat", "seed": 2**53 - 1, "steps": 8}
    assert described()["fashion28"].checked("draw", dict(reversed(well.items()))) == well


def test_numbers_have_bounds() -> None:
    control = controls("avatars1024", "draw")["temperature"]
    for value in 0.001, 101.0, float("nan"), "1":
        with pytest.raises(UsageError):
            control.checked(value)
    assert isinstance(control.checked(1), float)  # as it is read on the command line, and kept in a file
