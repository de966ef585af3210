import json
import shutil
from pathlib import Path

import pytest


def test_the_cache_is_listed_verified_and_pruned(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    environment = {"GENFAST_CACHE": str(tmp_path)}
    bundles = tmp_path / "bundles"
    assert cli("cache", env=environment, check=True).stdout == f"{bundles}\n"
    for name in "fashion28-ddpm", "ffhq1024":
        shutil.copytree(tiny_bundle, bundles / name)
    (bundles / ".fashion28.partial").mkdir()
    assert cli("cache", "--verify", env=environment).returncode == 0
    (bundles / "ffhq1024" / "step.onnx").write_bytes(b"")

    lines = cli("cache", env=environment, check=True).stdout.splitlines()
    assert lines[0] == str(bundles) and lines[1].split() == ["name", "state", "megabytes", "fault"]
    assert [line.split()[:2] for line in lines[2:]] == [
        ["fashion28", "unfinished"],
        ["fashion28-ddpm", "cached"],
        ["ffhq1024", "cached"],
    ]

    found = cli("cache", "--verify", "--json", env=environment)
    assert found.returncode == 4
    assert found.stderr == (
        "genfast: error: corrupt: ffhq1024; genfast pull fetches again, genfast cache --prune removes\n"
    )
    document = json.loads(found.stdout)
    assert (document["schema"], document["folder"]) == (2, str(bundles))
    assert [row["state"] for row in document["bundles"]] == ["unfinished", "verified", "corrupt"]
    assert "step.onnx has 0 bytes instead of" in document["bundles"][2]["fault"]

    pruned = json.loads(cli("cache", "--prune", "--json", env=environment, check=True).stdout)["bundles"]
    assert [(row["name"], row["state"]) for row in pruned] == [
        ("fashion28", "removed"),
        ("ffhq1024", "removed"),
        ("fashion28-ddpm", "cached"),
    ]
    assert [path.name for path in bundles.iterdir() if path.is_dir()] == ["fashion28-ddpm"]


@pytest.mark.parametrize("under", ["", "/below"])
def test_a_cache_that_is_a_file_is_told(cli, tmp_path: Path, under: str) -> None:
    (tmp_path / "file").touch()
    cache = {"GENFAST_CACHE": f"{tmp_path}/file{under}"}
    done = cli("cache", "--json", env=cache)
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 2
    assert done.stderr == f"genfast: error: {tmp_path}/file is no folder; set GENFAST_CACHE to one\n"
    assert cli("models", env=cache).returncode == 0  # what ships is there


def test_nothing_is_fetched_into_a_file(cli, server, tiny_bundle: Path, tmp_path: Path) -> None:
    server.publish(tiny_bundle, "ffhq1024")
    (tmp_path / "file").touch()
    done = cli("pull", "ffhq1024", env={"GENFAST_CACHE": f"{tmp_path}/file"})
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"genfast: error: cannot write into {tmp_path}/file/bundles: ")
    assert done.stderr.endswith("; mend that, or set GENFAST_CACHE\n")
