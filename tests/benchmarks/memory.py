"""The memory that a command takes."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# A process counts what the one that started it held: a small one starts it.
STARTER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(command: Sequence[str], cwd: Path | None = None) -> float:
    """The most that a command holds at once, in MB, on Linux. Raises CalledProcessError where it fails."""
    starter = [sys.executable, "-c", STARTER, *command]
    done = subprocess.run(starter, cwd=cwd, check=True, capture_output=True, text=True)
    return int(done.stdout) / 1000  # kilobytes
