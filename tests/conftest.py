"""Small bundles with real graphs (tests/graphs), the real command line, and tests that need an NVIDIA GPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genfast.runtime.session import has_driver
from tests.graphs.bundles import convolution_weights, parse, write_bundle, write_token_bundle, write_vq_bundle

ROOT = Path(__file__).parents[1]
COLOUR = {
    "image": {"height": 6, "width": 8, "channels": 3},
    "schedule": {"alpha_bar": [1, 0.7, 0.3, 0.05]},
    "latent": 2,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not has_driver():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="this machine has no NVIDIA GPU"))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the bundles of a session lie."""
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="session")
def tiny_bundle(bundles: Path) -> Path:
    """A DDGAN of 3 steps that draws 8x6 RGB images of a closed form."""
    return write_bundle(bundles / "tiny", parse("closed_form"), name="tiny", **COLOUR)


@pytest.fixture(scope="session")
def shaded_bundle(bundles: Path) -> Path:
    """The same with two classes and none, each lighter than the one before."""
    return write_bundle(bundles / "shades", parse("shades"), name="shades", classes=("dark", "light"), **COLOUR)


@pytest.fixture(scope="session")
def conv_bundle(bundles: Path) -> Path:
    """A DDGAN of 4 steps that draws 28x28 grey images by convolutions and matrix products of random weights."""
    return write_bundle(
        bundles / "conv",
        parse("convolutions", convolution_weights()),
        name="conv",
        image={"height": 28, "width": 28, "channels": 1},
        schedule={"alpha_bar": [1, 0.9, 0.6, 0.2, 0.02]},
        latent=100,
    )


@pytest.fixture(scope="session")
def ddpm_bundle(bundles: Path) -> Path:
    """A DDPM of 1 to 8 steps that draws 28x28 grey images of a closed form."""
    return write_bundle(
        bundles / "strides",
        parse("strides"),
        family="ddpm",
        name="strides",
        image={"height": 28, "width": 28, "channels": 1},
        schedule={"alpha_bar": [1, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3, 0.2, 0.05]},
    )


@pytest.fixture(scope="session")
def token_bundle(bundles: Path) -> Path:
    """Family vq-sundae: six tokens of 32, three classes, 6x4 RGB images; no `predict` for CUDA."""
    return write_token_bundle(bundles / "squares")


@pytest.fixture(scope="session")
def vq_bundle(bundles: Path) -> Path:
    """Family vq: six tokens of 32 for 6x4 RGB images; a token is a square of one colour, its red divided by 8."""
    return write_vq_bundle(bundles / "palette")


@pytest.fixture(scope="session")
def inception_file(bundles: Path) -> Path:
    """A file such as the public one of FID's Inception, with other weights."""
    from tests.inception import write_file  # which takes seconds to import

    return write_file(bundles / "inception.pth")


@pytest.fixture(scope="session")
def inception(bundles: Path, inception_file: Path) -> Path:
    """Its bundle, in the place of a cache: bundles / "inception-cache" / "bundles" / "inception"."""
    from genfast.bundles import skeleton

    folder = bundles / "inception-cache" / "bundles" / "inception"
    folder.mkdir(parents=True)
    here = skeleton.locate("inception")
    assert here
    skeleton.fill(here, inception_file, folder)
    return folder


@pytest.fixture(scope="session")
def attribute_bundle(bundles: Path) -> Path:
    """The same with attributes (tests.graphs.bundles.ATTRIBUTES)."""
    return write_token_bundle(bundles / "dolls", attributes=True)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `genfast ARGUMENTS` in a process of its own, in tmp_path / "cwd"."""
    folder = tmp_path / "cwd"
    folder.mkdir()

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "genfast", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        options = {"cwd": folder, **options}
        return subprocess.run(command, env=environment, capture_output=True, text=True, **options)

    return run
