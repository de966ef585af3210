"""A Ray cluster of two nodes of one core each, both on this machine: what actors draw is what one process draws."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genfast.images import io
from tests.genfast.cli.test_interruptions import ENVIRONMENT, start, wait_for, whole

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of a core each; actors have the priority of everybody else."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    with warnings.catch_warnings(action="ignore"):
        from ray.cluster_utils import Cluster

        nodes = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 2**27}
        cluster = Cluster(initialize_head=True, head_node_args=nodes)
        cluster.add_node(num_cpus=1, object_store_memory=2**27)
        yield cluster
        cluster.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def equal(one: CompletedProcess[str], other: CompletedProcess[str], folder: Path) -> bool:
    """Whether two runs said the same, but for the folder that they wrote to."""
    words = [(run.stdout.replace(str(folder / name), ""), run.stderr) for run, name in ((one, "one"), (other, "many"))]
    return words[0] == words[1]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "more",
    ["", pytest.param("--collect", marks=slow), pytest.param("--history --json --class green --collect", marks=slow)],
)
def test_actors_draw_what_one_process_draws(cli, cluster: Any, token_bundle: Path, tmp_path: Path, more: str) -> None:
    run = f"sample --model {token_bundle} -n 9 --seed 5 --batch 2 --device cpu {more}"
    one = cli(*run.replace("--collect", "").split(), "--out", tmp_path / "one", check=True)
    many = cli(*run.split(), "--out", tmp_path / "many", "--ray", cluster.address)
    assert many.returncode == 0, many.stderr
    assert equal(one, many, tmp_path) and len(contents(tmp_path / "one")) >= 10
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


@slow
def test_without_an_address_there_is_a_cluster_of_this_machine(cli, token_bundle: Path, tmp_path: Path) -> None:
    """In a folder that is given as it lies to the working directory; what is there is left alone."""
    run = ("sample", "--model", token_bundle, "-n", 5, "--batch", 2)
    cli(*run, "--out", "one", check=True)
    cli(*run, "--out", "many", "--start", 1, "-n", 1, check=True)
    environment = {"RAY_ADDRESS": ""}
    many = cli(*run, "--out", "many", "--ray", "--skip-existing", env=environment)
    assert (many.returncode, many.stderr) == (0, "")
    assert many.stdout.splitlines() == [*(f"many/squares-0-{i}.png" for i in range(5)), "many/squares-0-grid-0-4.png"]
    assert contents(tmp_path / "cwd" / "one") == contents(tmp_path / "cwd" / "many")


def test_actors_inpaint_what_one_process_does(cli, cluster: Any, token_bundle: Path, tmp_path: Path) -> None:
    """What cannot be read, or what should be known, is told in the same words but for the folder."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (10, 14, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "3.png").write_text("no image")
    Image.fromarray(np.eye(10, 14) > 0).save(tmp_path / "mask.png")
    run = ("inpaint", tmp_path / "photos", tmp_path / "mask.png", "--model", token_bundle, "-n", 2, "--json")
    one = cli(*run, "--out", tmp_path / "one")
    many = cli(*run, "--out", tmp_path / "many", "--ray", cluster.address, "--collect")
    assert one.returncode == many.returncode == 1 and equal(one, many, tmp_path)
    assert len(contents(tmp_path / "one")) == 8 and contents(tmp_path / "one") == contents(tmp_path / "many")


def test_actors_see_what_one_process_sees(cli, cluster: Any, ddpm_bundle: Path, halves: Path) -> None:
    run = ("fid", "--model", ddpm_bundle, "--samples", 150, "--steps", 2, "--features", halves, "--json")
    one, many = (json.loads(cli(*run, *more, check=True).stdout) for more in ((), ("--ray", cluster.address)))
    for (result,) in one["results"], many["results"]:
        assert result.pop("seconds") > 0 and result.pop("seconds_per_image") > 0
    assert one["results"][0].pop("fid") == pytest.approx(many["results"][0].pop("fid"), rel=1e-9)
    assert one == many


def test_what_goes_wrong_in_an_actor_is_one_line(cli, cluster: Any, token_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run = ("sample", "--model", token_bundle, "--threads", 1, "--out", tmp_path / "out", "-n", 1, "--ray")
    lost = cli(*run, cluster.address, "--device", "cuda")
    assert lost.returncode == 5 and lost.stderr.startswith("genfast: error: the Ray cluster has no GPU; give another")
    wrong = cli(*run, "127.0.0.1:1")
    assert wrong.returncode == 5 and wrong.stderr.startswith(
        "genfast: error: no Ray cluster can be reached at 127.0.0.1:1"
    )
    assert wrong.stderr.count("\n") == lost.stderr.count("\n") == 1


CHANGE = """
import json, sys
from pathlib import Path
import genfast
from genfast.errors import ModelError

folder, address = sys.argv[1:]
model = genfast.load(folder, ray=address)
assert model.places == 2 and (model.sample(9, seed=3, batch=2) == model.first.sample(9, seed=3)).all()
path = Path(folder, "manifest.json")
path.write_text(json.dumps(json.loads(path.read_text()) | {"summary": "others"}))
try:
    model.sample(1)
except ModelError as error:
    print(error)
"""


def test_an_actor_whose_weights_are_others_draws_nothing(cluster: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    command = [sys.executable, "-c", CHANGE, folder, cluster.address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    expected = "a machine of the cluster has other weights of tiny; fetch the same on all\n"
    assert (done.stdout, done.stderr) == (expected, "")


@slow
def test_a_node_that_is_killed_costs_nothing(cli, cluster: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    """What it had taken on is drawn by others; no picture is missing, damaged or there twice."""
    n = 2_000
    run = ("sample", "--model", tiny_bundle, "-n", n, "--batch", 4, "--no-grid", "--device", "cpu")
    cli(*run, "--out", tmp_path / "one", check=True)
    with start(*run, "--out", tmp_path / "many", "--ray", cluster.address) as process:
        (tmp_path / "many").mkdir()
        wait_for(process, lambda: len(list((tmp_path / "many").glob("*.png"))) > n // 4)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
        written = len(list((tmp_path / "many").glob("*.png")))
        stdout, stderr = process.communicate()
    cluster.add_node(num_cpus=1, object_store_memory=2**27)
    assert (process.returncode, stderr) == (0, b"") and n // 4 < written < n
    told = stdout.decode().splitlines()
    assert told == [f"{tmp_path}/many/tiny-0-{i}.png" for i in range(n)]
    found = {name: content for name, content in contents(tmp_path / "many").items() if not name.endswith(".part")}
    assert found == contents(tmp_path / "one")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=slow)])
def test_a_run_that_is_ended_leaves_whole_files(
    cluster: Any, tiny_bundle: Path, tmp_path: Path, number: int, code: int
) -> None:
    run = ("sample", "--model", tiny_bundle, "-n", 10**6, "--batch", 8, "--device", "cpu", "--json", "--out", tmp_path)
    with start(*run, "--ray", cluster.address) as process:
        wait_for(process, lambda: len(list(tmp_path.glob("*.png"))) > 40)
        process.send_signal(number)
        assert process.communicate() == (b"", b"")
    assert process.returncode == code
    time.sleep(1)
    before = whole(tmp_path)
    time.sleep(1)
    assert before == whole(tmp_path) and all(io.read(path).any() for path in before)
    assert not list(tmp_path.glob(".*.shared"))
