import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genfast.runtime.cpu import affinity, cores, processor, quota

TASKSET = shutil.which("taskset")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
        ("0::/", {"cpu.max": "100000 0"}, None),
        ("0::/", {}, None),
        ("0::/jobs/7", {"jobs/7/cpu.max": "max 100000", "jobs/cpu.max": "50000 100000", "cpu.max": "max 100000"}, 0.5),
        ("0::/jobs/7", {"jobs/7/cpu.max": "200000 100000", "jobs/cpu.max": "400000 100000"}, 2.0),
        ("0::/../outside", {"cpu.max": "300000 100000"}, 3.0),
        ("0::/outside", {"cpu.max": "300000 100000"}, 3.0),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 2.5),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, 0.5),
        ("5:cpuset:/\n1:name=systemd:/", {"cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"}, None),
    ],
)
def test_the_quota_is_the_least_of_the_groups_around(
    tmp_path: Path, membership: str, files: dict[str, str], expected: float | None
) -> None:
    written = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": membership, **written}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert quota(tmp_path) == expected
    assert cores(tmp_path) == min(affinity(), {None: 99, 0.5: 1, 1.5: 2, 2.0: 2, 2.5: 3, 3.0: 3}[expected])


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path) is None and cores(tmp_path) == affinity()


@pytest.mark.skipif(TASKSET is None, reason="this system has no taskset")
def test_threads_follow_the_cores_that_the_process_may_use() -> None:
    """All of them, and one of them."""
    program = [sys.executable, "-c", "from genfast.runtime.cpu import affinity, cores; print(affinity(), cores())"]
    allowed = sorted(os.sched_getaffinity(0))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for chosen in allowed, allowed[:1]:
        pinned = [TASKSET, "-c", ",".join(map(str, chosen)), *program]
        done = subprocess.run(pinned, env=environment, capture_output=True, text=True, check=True)
        found, used = map(int, done.stdout.split())
        assert found == len(chosen) and 1 <= used <= found


def test_a_processor_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast 9000 @ 9 GHz\nflags\t: fpu\n")
    assert processor(tmp_path) == "Fast 9000 @ 9 GHz"
    assert processor(tmp_path / "missing")
