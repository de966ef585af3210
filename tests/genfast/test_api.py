"""The public face: what `import genfast` gives."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast import api
from genfast.bundles import hub
from genfast.errors import InputError, ModelError, UsageError
from genfast.metrics.evaluate import evaluate, references
from genfast.metrics.folders import between
from genfast.models.tokens import TokenModel


def test_the_public_face(tiny_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle))
    assert isinstance(model, genfast.Model)
    assert (model.name, model.steps) == ("tiny", 3)
    images = model.sample(5, seed=1)
    assert images.shape == (5, 6, 8, 3) and images.dtype == np.uint8
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = genfast.nonsense


def test_what_there_is_can_be_listed() -> None:
    """Before anything is used, and without importing it."""
    program = "import sys, genfast; print(*dir(genfast)); assert 'genfast.api' not in sys.modules"
    root = Path(genfast.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert {"load", "sample", "inpaint", "fid", "Model", "__version__", "MaskGITOptions"} <= {*done.stdout.split()}
    for name in genfast.__all__:
        assert name in dir(genfast) and getattr(genfast, name) is not None
    assert {*api.__all__} == {*genfast.__all__} - {"__version__"}
    assert all(getattr(genfast, name).__doc__ for name in api.__all__)


def test_a_model_of_the_catalogue_goes_by_its_name_there(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_SHIPPED", ())
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path))
    shutil.copytree(tiny_bundle, tmp_path / "bundles" / "fashion28")
    assert genfast.load().name == "fashion28"


def test_a_stand_in_draws_under_its_own_name_until_the_weights_are_here(
    token_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub, "_SHIPPED", ())
    monkeypatch.setenv("GENFAST_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="avatars1024 has no weights here"):
        genfast.load("ffhq1024")
    assert not caplog.messages
    shutil.copytree(token_bundle, tmp_path / "bundles" / "avatars1024")
    assert genfast.load("ffhq1024", steps=3).name == "avatars1024"
    (line,) = caplog.messages
    assert line.startswith(
        "genfast: ffhq1024's weights are not published: train them (training/recipes/ffhq1024-*.toml"
    )
    assert line.endswith(f"{tmp_path}/bundles/ffhq1024; drawing with avatars1024 instead")
    with pytest.raises(ModelError, match="^ffhq1024's weights are not published"):
        genfast.load("ffhq1024", stand_in=False)
    shutil.copytree(token_bundle, tmp_path / "bundles" / "ffhq1024")
    assert genfast.load("ffhq1024").name == genfast.load("ffhq1024", stand_in=False).name == "ffhq1024"
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "options",
    [
        genfast.MaskGITOptions(steps=3, choice_temperature=2.0),
        genfast.RandomOrderOptions(steps=3),
        genfast.SundaeOptions(steps=3, redraw_ratio=0.9),
    ],
    ids=lambda options: options.sampler,
)
def test_options_reach_the_loop(
    token_bundle: Path, options: genfast.MaskGITOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = genfast.load(str(token_bundle), device="cpu")
    assert isinstance(model, TokenModel)
    temperatures: list[float] = []
    bind = model.draw.bind

    def watched() -> Callable[..., object]:
        run = bind()  # anew for each batch, whose tokens lie in its buffers
        return lambda **inputs: [temperatures.extend(inputs["temperature"]), run(**inputs)][1]

    monkeypatch.setattr(model.draw, "bind", watched)
    given = replace(options, temperature=2.0, temperature_end=1.0)
    images = model.sample(8, seed=1, options=given)
    assert temperatures == [2.0, 1.5, 1.0] * 8  # one image after the other
    assert images.shape == (8, 4, 6, 3)
    assert not np.array_equal(images, model.sample(8, seed=1))
    monkeypatch.undo()
    assert np.array_equal(genfast.sample(model, 8, seed=1, options=given), images)
    assert np.array_equal(genfast.sample(token_bundle, 8, seed=1, options=given, device="cpu"), images)


def test_options_of_another_class_are_refused(tiny_bundle: Path, token_bundle: Path) -> None:
    for path, options in (
        (tiny_bundle, genfast.MaskGITOptions()),
        (tiny_bundle, genfast.RePaintOptions()),
        (token_bundle, genfast.RePaintOptions()),
    ):
        with pytest.raises(UsageError, match=f"which takes no options of sampler {options.sampler}$"):
            genfast.load(str(path), device="cpu").sample(8, seed=1, options=options)
        with pytest.raises(UsageError, match=f"which takes no options of sampler {options.sampler}$"):
            genfast.sample(str(path), 8, options=options, device="cpu")
    with pytest.raises(UsageError, match="which takes no options of sampler sundae$"):
        picture, hole = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), bool)
        genfast.inpaint(genfast.load(str(tiny_bundle), device="cpu"), picture, hole, options=genfast.SundaeOptions())


def test_images_are_drawn_in_one_line(tiny_bundle: Path, ddpm_bundle: Path, token_bundle: Path) -> None:
    model = genfast.load(str(tiny_bundle), device="cpu")
    drawn = genfast.sample(str(tiny_bundle), 4, seed=3, start=2, device="cpu")
    assert np.array_equal(drawn, model.sample(4, seed=3, start=2))
    assert np.array_equal(genfast.sample(model, 4, seed=3, start=2), drawn)
    assert genfast.sample(model).shape == (1, 6, 8, 3)
    three = genfast.load(str(ddpm_bundle), steps=3, device="cpu").sample(2)
    assert np.array_equal(genfast.sample(str(ddpm_bundle), 2, steps=3, device="cpu"), three)
    green = genfast.load(str(token_bundle), device="cpu").sample(2, label="green")
    assert np.array_equal(genfast.sample(str(token_bundle), 2, label="green", device="cpu"), green)
    with pytest.raises(UsageError, match="the number of images must be at least 1, not 0"):
        genfast.sample(model, 0)
    with pytest.raises(UsageError, match="a loaded model has its steps and its device"):
        genfast.sample(model, steps=2)
    with pytest.raises(UsageError, match="between two folders nothing is drawn"):
        genfast.fid("a", "b", steps=2)


def test_folders_are_measured_in_one_line(folder: Callable[..., Path], means: Path) -> None:
    a, b = folder("a", 60), folder("b", 80, high=200)
    (score,) = genfast.fid(a, b, features=str(means), device="cpu")
    (expected,) = between(a, b, str(means), device="cpu")
    assert score.fid == expected.fid > 0 and score.n == 60 and score.protocol == expected.protocol
    assert genfast.fid(str(a), str(b), features=str(means), device="cpu")[0].fid == score.fid
    with pytest.raises(InputError, match="is no folder"):
        genfast.fid(a.with_name("gone"), b, features=str(means), device="cpu")


def test_a_model_is_measured_in_one_line(tiny_bundle: Path, means: Path, halves: Path) -> None:
    """Against the test images of its data set, of which the extractor holds the statistics."""
    (score,) = genfast.fid(str(tiny_bundle), samples=70, seed=5, features=str(means), device="cpu")
    images = genfast.load(str(tiny_bundle), device="cpu").batches(range(70), seed=5)
    (expected,) = evaluate(images, references("none-test", str(means), device="cpu"))
    assert replace(score, seconds=0) == replace(expected, seconds=0) and score.n == 70
    assert genfast.fid(tiny_bundle, samples=70, seed=6, features=str(means), device="cpu")[0].fid != score.fid
    with pytest.raises(InputError, match="halves takes images of 28x28"):
        genfast.fid(tiny_bundle, samples=70, features=str(halves), device="cpu")
    with pytest.raises(UsageError, match="has no weights for 4 steps"):
        genfast.fid(tiny_bundle, samples=70, steps=4, features=str(means), device="cpu")


def test_an_extractor_draws_nothing(means: Path) -> None:
    with pytest.raises(UsageError, match="^means is of family features and draws nothing$"):
        genfast.load(str(means))
