"""What docs/ says is what the command line does."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATE = ["typer", "genfast.cli", "utils", "docs", "--name", "genfast"]


def test_the_reference_of_commands_is_current() -> None:
    done = subprocess.run([sys.executable, "-m", *GENERATE], cwd=ROOT, capture_output=True, text=True, check=True)
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert done.stdout.rstrip() == written.rstrip(), f"run: python -m {' '.join(GENERATE)} --output docs/cli.md"


def test_every_link_between_documents_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), (document.name, target)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(cli, shell: str) -> None:
    done = cli("--show-completion", shell, env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}, check=True)
    assert done.stderr == "" and f"_GENFAST_COMPLETE=complete_{shell} " in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True)
