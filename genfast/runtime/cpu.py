"""The cores that this process really has: its affinity, bounded by the CPU quota of the control groups it is in."""

import math
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """How many threads can run at once: at least 1. `root` is where /proc and /sys lie."""
    limit = quota(root)
    return affinity() if limit is None else max(1, min(affinity(), math.ceil(limit)))


def affinity() -> int:
    """The cores that the scheduler may put this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quota(root: Path = _ROOT) -> float | None:
    """The cores' worth of time that control groups (cgroup 1 and 2) leave this process; None where they set no bound.

    A group is bound by those around it as well, so the least of them counts.
    """
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)  # such as 4:cpu,cpuacct:/jobs/7, or 0::/jobs/7 for cgroup 2
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mount / path.lstrip("/")
        # In a container, the group may go by a path outside of it: the mount, which is always looked at, is the group.
        for folder in (group, *group.parents):
            yield from _read(folder, legacy=bool(controllers))
            if folder == mount:
                break


def _read(group: Path, legacy: bool) -> Iterator[float]:
    """The quota of one group, if it has one."""
    try:
        if legacy:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        else:
            quota, period = (group / "cpu.max").read_text().split()
        if int(quota) > 0:  # -1 is none
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or a quota of "max"
        return


def processor(root: Path = _ROOT) -> str:
    """What the processor is called, as far as the system knows."""
    try:
        name = re.search(r"^model name\s*: (.+)$", (root / "proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        name = None
    return name[1] if name else platform.processor() or platform.machine()
