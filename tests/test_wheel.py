"""The wheel: what is in it, and that it draws."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
LIMIT = 95e6  # bytes: some indexes take wheels of up to 100 MB


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_is_small_and_draws_without_a_clone(wheel: Path, tmp_path: Path) -> None:
    assert wheel.stat().st_size < LIMIT
    ZipFile(wheel).extractall(tmp_path / "site")

    def genfast(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": str(tmp_path / "site"), "GENFAST_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-m", "genfast", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    for model in "fashion28", "avatars1024":
        done = genfast("sample", "--model", model, "-n", "1", "--out", "drawn")
        assert (done.returncode, (tmp_path / "drawn" / f"{model}-0-0.png").is_file()) == (0, True), done.stderr
    listed = [line.split()[:2] for line in genfast("models").stdout.splitlines()]
    assert ["fashion28", "shipped"] in listed and ["ffhq1024", "missing"] in listed
    refused = genfast("sample", "--loss", "pearson")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert refused.stderr.startswith("genfast: error: fashion28-study has no weights here; ")
