"""What an NVIDIA GPU computes, beside what the CPU does."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genfast
from genfast.bundles import bundle, hub
from genfast.errors import DeviceError, ModelError
from genfast.models import drafts
from genfast.models.diffusion import DiffusionModel
from genfast.models.tokens import TokenModel
from genfast.runtime.session import Session
from genfast.runtime.workers import Workers
from genfast.samplers.options import MaskGITOptions
from tests.graphs.bundles import BOTH

pytestmark = pytest.mark.cuda

LEVELS = 1  # that a pixel of another device may be off, of 255: sums are rounded in another order


@pytest.fixture(scope="module")
def prior() -> bundle.Bundle:
    return bundle.load(hub.find("avatars1024"))


@pytest.fixture
def both_devices(token_bundle: Path, tmp_path: Path) -> Path:
    """`token_bundle` with a `predict` for CUDA too."""
    folder = shutil.copytree(token_bundle, tmp_path / "both")
    fields = bundle.load(folder).manifest.model_dump(exclude={"format", "files"})
    fields["graphs"]["predict"] = [{"path": "predict.onnx", **BOTH}]
    bundle.write(folder, **fields)
    return folder


def inputs(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {
        "t": rng.integers(1, 4, n),
        "z": rng.standard_normal((n, 2), np.float32),
        "noise": rng.standard_normal((n, 3, 6, 8), np.float32),
    }


def test_a_session_runs_on_the_device_and_prints_nothing(
    tiny_bundle: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    given = {"x_t": rng.standard_normal((4, 3, 6, 8), np.float32), **inputs(rng, 4)}
    expected = Session(tiny_bundle / "step.onnx", "cpu").run(**given)
    for device in "cuda", "cuda:0", "auto":
        session = Session(tiny_bundle / "step.onnx", device)
        assert session.device == "cuda:0"
        found = session.run(**given)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], atol=1e-5)
        assert session.seconds > 0
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_a_loop_keeps_its_state_on_the_device(tiny_bundle: Path) -> None:
    """Outputs are on the GPU, in two sets of buffers that take turns, and go in again as they are."""
    rng = np.random.default_rng(0)
    cpu, run = Session(tiny_bundle / "step.onnx", "cpu"), Session(tiny_bundle / "step.onnx", "cuda").bind()
    for size in 3, 5, 1:
        state: Any = rng.standard_normal((size, 3, 6, 8), np.float32)
        expected, places = state, []
        for _ in range(4):
            given = inputs(rng, size)
            state = run(x_t=state, **given)["x_prev"]
            assert type(state).__name__ == "OrtValue" and state.device_name() == "cuda"
            places.append(state.data_ptr())
            expected = cpu.run(x_t=expected, **given)["x_prev"]
            np.testing.assert_allclose(np.asarray(state), expected, atol=1e-5)
        assert len({*places}) == 2 and places[:2] == places[2:]


def test_float32_has_all_its_bits(conv_bundle: Path) -> None:
    """TensorFloat-32, which has 10 of 23, would be off by a thousandth."""
    rng = np.random.default_rng(0)
    given = {
        "x_t": rng.standard_normal((4, 1, 28, 28), np.float32),
        "t": np.array([4, 3, 2, 1]),
        "z": rng.standard_normal((4, 100), np.float32),
        "noise": rng.standard_normal((4, 1, 28, 28), np.float32),
    }
    cpu, cuda = (Session(conv_bundle / "step.onnx", device).run(**given) for device in ("cpu", "cuda"))
    for name in cpu:
        np.testing.assert_allclose(cuda[name], cpu[name], atol=5e-5)


def test_every_batch_has_one_size_and_an_image_is_the_same_in_each(
    conv_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = genfast.load(str(conv_bundle), device="cuda")
    assert isinstance(model, DiffusionModel) and model.session.device == "cuda:0"
    sizes: list[int] = []
    bind = model.session.bind

    def watched() -> Any:
        run = bind()
        return lambda **given: [sizes.append(len(given["t"])), run(**given)][1]

    monkeypatch.setattr(model.session, "bind", watched)
    images = model.sample(13, seed=3, batch=8)
    assert {*sizes} == {8}
    assert np.array_equal(model.sample(3, seed=3, start=7, batch=8), images[7:10])
    assert np.array_equal(np.concatenate(list(model.batches([12, 0, 5], seed=3, batch=8))), images[[12, 0, 5]])
    assert {*sizes} == {8}
    expected = genfast.load(str(conv_bundle), device="cpu").sample(13, seed=3)
    assert np.abs(images.astype(int) - expected).max() <= LEVELS


def test_a_gpu_that_is_not_there_is_an_error(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match="^cuda:99 cannot be used: .*; or give --device cpu$"):
        Session(tiny_bundle / "step.onnx", "cuda:99")
    assert capfd.readouterr() == ("", "")


def test_inputs_that_do_not_fit_are_an_error_that_names_the_device(tiny_bundle: Path) -> None:
    session = Session(tiny_bundle / "step.onnx", "cuda")
    for work in session.run, session.bind():
        with pytest.raises(DeviceError, match="step.onnx failed on cuda:0: .*; try a smaller batch$"):
            work(x_t=np.zeros((1, 3, 6, 8), np.float32))


def test_without_a_graph_for_it_the_gpu_stays_idle(token_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError, match="^squares has no graph for predict on cuda$"):
        genfast.load(str(token_bundle), device="cuda")
    model = genfast.load(str(token_bundle), device="auto")
    assert isinstance(model, TokenModel)
    assert {model.predict.device, model.draw.device, model.decoder.device} == {"cpu"}


def test_tokens_are_drawn_in_batches(both_devices: Path) -> None:
    """As on the CPU, but for a token here and there whose lot is all but a tie."""
    cuda, cpu = (genfast.load(str(both_devices), device=device) for device in ("cuda", "cpu"))
    assert isinstance(cuda, TokenModel) and cuda.predict.device == cuda.draw.device == "cuda:0"
    drawn = cuda.sample(30, seed=2, batch=1)
    assert (drawn == cpu.sample(30, seed=2)).all((1, 2, 3)).mean() > 0.8
    assert cuda.sample(30, seed=2, batch=10).shape == drawn.shape


def some_tokens(prior: bundle.Bundle, n: int = 2) -> dict[str, np.ndarray]:
    """What `predict` takes: half of the tokens of n images."""
    rng, grid = np.random.default_rng(0), prior.manifest.tokens
    assert grid is not None
    cells = grid.height * grid.width
    told = {"draft": drafts.read(prior).mean[:n]} if prior.manifest.attributes else {}
    return {
        "tokens": rng.integers(0, grid.vocabulary, (n, cells)),
        "label": np.arange(n),
        **told,
        "known": rng.random((n, cells)) < 0.5,
    }


def test_predict_in_half_precision_is_near_that_in_float32(prior: bundle.Bundle) -> None:
    path = prior.graph("predict", "cuda")
    assert path.name == "predict-fp16.onnx"
    given = some_tokens(prior)
    exact = Session(prior.directory / "predict.onnx", "cpu").run(**given)["hidden"]
    for file, share in ("predict-fp16.onnx", 0.02), ("predict.onnx", 1e-3):
        found = Session(prior.directory / file, "cuda").run(**given)["hidden"]
        assert found.dtype == np.float32 and np.isfinite(found).all()
        error = np.sqrt(np.square(found - exact).mean() / np.square(exact).mean())
        assert error < share, file


def test_draw_in_half_precision_is_near_that_in_float32(prior: bundle.Bundle) -> None:
    """Most tokens are the same ones, and the probability of a token that is drawn by both is about the same."""
    path = prior.graph("draw", "cuda")
    assert path.name == "draw-fp16.onnx"
    given = some_tokens(prior)
    n, cells = given["tokens"].shape
    hidden = Session(prior.directory / "predict.onnx", "cpu").run(**given)["hidden"]
    rng = np.random.default_rng(1)
    asked = {
        "hidden": hidden,
        "tokens": given["tokens"],
        "update": rng.random((n, cells)) < 0.9,
        "temperature": np.ones(n, np.float32),
        "uniform": rng.random((n, cells), np.float32),
        "return_prob": np.ones(n, bool),
        "logit_bias": np.zeros((n, cells, 1), np.float32),
    }
    exact = Session(prior.directory / "draw.onnx", "cpu").run(**asked)
    for file, alike, share in ("draw-fp16.onnx", 0.9, 0.05), ("draw.onnx", 0.99, 5e-3):
        found = Session(prior.directory / file, "cuda").run(**asked)
        kept = ~asked["update"]
        assert np.array_equal(found["drawn"][kept], given["tokens"][kept]) and (found["probability"][kept] == 1).all()
        same = (found["drawn"] == exact["drawn"]) & asked["update"]
        assert same.sum() / asked["update"].sum() > alike, file
        ratio = np.log(found["probability"][same] / exact["probability"][same])
        assert np.abs(ratio).mean() < share, file


def test_megapixels_are_drawn_and_filled(prior: bundle.Bundle) -> None:
    model = genfast.load("avatars1024", device="cuda")
    assert isinstance(model, TokenModel)
    assert (model.predict.path.name, model.draw.path.name) == ("predict-fp16.onnx", "draw-fp16.onnx")
    (image,) = model.sample(1, seed=1)
    assert image.shape == (1024, 1024, 3) and image.std() > 20
    assert np.array_equal(model.sample(1, seed=1)[0], image)
    hole = np.zeros((1024, 1024), bool)
    hole[400:600, 400:600] = True
    (fill,) = genfast.inpaint(model, image, hole, options=MaskGITOptions(steps=4))
    assert np.array_equal(fill.image[~hole], image[~hole])


def test_processes_draw_what_one_draws(conv_bundle: Path) -> None:
    """Here two on one GPU, and one on the CPU."""
    expected = genfast.load(str(conv_bundle), device="cuda:0").sample(20, seed=1, batch=4)
    same = genfast.load(str(conv_bundle), device="cuda:0,cuda:0")
    assert isinstance(same, Workers)
    assert np.array_equal(same.sample(20, seed=1, batch=4), expected)
    mixed = genfast.load(str(conv_bundle), device="cuda:0,cpu").sample(20, seed=1, batch=4)
    assert np.abs(mixed.astype(int) - expected).max() <= LEVELS


def gpus() -> int:
    """How many there are."""
    if shutil.which("nvidia-smi") is None:
        return 0
    done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


@pytest.mark.skipif(gpus() < 2, reason="this machine has one NVIDIA GPU at most")
def test_two_gpus_draw_what_one_draws(conv_bundle: Path, cli, tmp_path: Path) -> None:
    expected = genfast.load(str(conv_bundle), device="cuda:0").sample(20, seed=1, batch=4)
    both = genfast.load(str(conv_bundle), device="cuda:0,cuda:1").sample(20, seed=1, batch=4)
    assert np.abs(both.astype(int) - expected).max() <= LEVELS  # the two may be of different kinds
    run = ("sample", "--model", conv_bundle, "-n", 20, "--batch", 4, "--out", tmp_path / "out")
    done = cli(*run, "--device", "cuda:0,cuda:1")
    assert (done.returncode, done.stderr) == (0, "") and len(list((tmp_path / "out").glob("conv-0-*.png"))) == 20
