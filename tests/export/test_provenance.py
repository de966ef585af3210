import subprocess
from pathlib import Path

from export.provenance import commit


def test_the_commit_of_this_checkout() -> None:
    git = subprocess.run(
        ["git", "rev-parse", "-q", "--verify", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert commit().rstrip("+") == git.stdout.strip()
