"""The queue of the study: what its points are, what is skipped, and who trains what."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from lightning_fabric import Fabric

import training
from training.checkpoint import newest_checkpoint
from training.data import fashion_mnist
from training.study import queue

ROOT = Path(__file__).parents[3]
RECIPE = Path(training.__file__).parent / "recipes" / "study.toml"

UNET = "widths = [8, 16]\ngroups = 4\nheads = 2\nembedding = 16\n"
START = f"""
name = "start"
family = "ddpm"
loop.steps = 4
loop.batch = 8
schedule.steps = 2
[unet]
latent = 0
{UNET}
"""
STUDY = f"""
name = "tiny-study"
model = "tiny"
init_from = "start.toml"
baseline = {{ 2 = 20 }}
rows = [
    {{ losses = ["hellinger", "relativistic"], steps = [1] }},
    {{ losses = ["hellinger"], steps = [2], spacing = "log-snr" }},
]
[recipe]
eval_images = 20
discriminator = {{ widths = [8, 16], embedding = 16 }}
loop = {{ steps = 6, batch = 8, warmup = 2, checkpoint_every = 2 }}
[recipe.unet]
latent = 8
{UNET}
"""
POINTS = ["tiny-hellinger-t1", "tiny-relativistic-t1", "tiny-hellinger-even-t2"]


def test_the_project_s_study_is_one() -> None:
    plan, ddpm = queue.read(RECIPE)
    points = plan.points(Path("runs"))
    paper = {"non-saturating", "hellinger", "reverse-kl", "total-variation"}
    assert {(p.loss, p.schedule.steps) for p in points.values()} >= {(loss, t) for loss in paper for t in (1, 2, 4, 8)}
    assert ddpm.name == Path(plan.init_from).stem
    (loop,) = {point.loop for point in points.values()}
    assert loop.steps > loop.decay
    for name, point in points.items():
        assert point.name == name and point.init_from == Path("runs/fashion28-start")
        assert [*point.schedule.build().paths] == [int(name.rpartition("-t")[2])]
        assert plan.series(name) == point.loss + ("-even" if point.schedule.log_snr else "")
        assert bool(point.schedule.log_snr) == ("-even-" in name)


def test_levels_are_even_in_log_snr() -> None:
    assert queue.even_log_snr(1) == (-6,)
    assert queue.even_log_snr(4) == (3, 0, -3, -6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "start.toml").write_text(START)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


@pytest.fixture
def command(folder: Path, garments: object) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python -m training study` in a process of its own."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-W", "error", "-m", "training", "study", str(folder / "study.toml"), *arguments]
        line += ["--runs", str(folder / "runs"), "--data", str(fashion_mnist.DEBIAN), "--accelerator", "cpu"]
        return subprocess.Popen(
            line, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def said(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.endswith(("done", "in other hands"))]


@pytest.mark.slow
def test_what_is_done_is_skipped(command: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    """Killed after the first point, then given again; a claim ends with its process."""
    process = command()
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{POINTS[0]}: done"):
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = folder / "runs" / POINTS[0] / "checkpoint-00000006"
    weights = first.joinpath("state.ckpt").stat().st_mtime_ns

    again = command()
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    assert said(output) == [f"{name}: done" for name in ["start", *POINTS]]
    assert first.joinpath("state.ckpt").stat().st_mtime_ns == weights
    for name in POINTS:
        saved = json.loads((newest_checkpoint(folder / "runs" / name) / "recipe.json").read_text())
        assert (saved["step"], saved["images"]) == (6, 48)
        assert saved["recipe"]["init_from"] == str(folder / "runs" / "start")


@pytest.mark.slow
def test_some_points_by_name(command: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    process = command(POINTS[1])
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert said(output) == ["start: done", f"{POINTS[1]}: done"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["start", POINTS[1]]


@pytest.mark.slow
def test_a_point_that_is_none(command: Callable[..., subprocess.Popen[str]], folder: Path) -> None:
    process = command("tiny-hellinger-t7")
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "") and not (folder / "runs").exists()
    assert f"has no tiny-hellinger-t7; it has: {', '.join(POINTS)}\n" in errors and "Traceback" not in errors


def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is trained from now on; nothing really is."""
    names: list[str] = []
    monkeypatch.setattr(queue, "run", lambda make, recipe, images, labels, folder, fabric: names.append(recipe.name))
    return names


def test_what_others_are_at_is_left_to_them(
    garments: object, folder: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, runs = trained(monkeypatch), folder / "runs"
    (runs / POINTS[0]).mkdir(parents=True)
    with FileLock(runs / POINTS[0] / "lock"):
        queue.study(folder / "study.toml", (), None, runs, fabric)
    assert names == ["start", *POINTS[1:]]
    queue.study(folder / "study.toml", (), None, runs, fabric)
    assert names[3:] == ["start", *POINTS]


def test_a_run_of_another_recipe_is_refused(
    garments: object, folder: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.study(folder / "study.toml", POINTS[:1], None, folder / "runs", fabric)
    longer = (folder / "study.toml").read_text().replace("steps = 6", "steps = 8")
    (folder / "study.toml").write_text(longer)
    names = trained(monkeypatch)
    with pytest.raises(ValueError, match=f"{POINTS[0]} was begun with another recipe; move it away"):
        queue.study(folder / "study.toml", (), None, folder / "runs", fabric)
    assert names == []
