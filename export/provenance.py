"""What a bundle says of where it comes from."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The commit of this checkout, with "+" behind it where tracked files differ; empty where there is none."""
    describe = "describe --always --abbrev=40 --exclude=* --dirty=+".split()
    git = subprocess.run(["git", *describe], cwd=Path(__file__).parent, capture_output=True, text=True)
    return git.stdout.strip()
