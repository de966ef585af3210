import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import genfast
from genfast.cli import app

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1])}
GENFAST = [sys.executable, "-m", "genfast"]
COMMANDS = [*typer.main.get_command(app).commands]


def test_help_names_every_command(cli) -> None:
    for arguments in (), ("--help",), ("-h",):
        done = cli(*arguments, check=True)
        assert all(f" {command} " in done.stdout for command in COMMANDS)
        assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_ends_with_an_example(cli, command: str) -> None:
    done = cli(command, "--help", check=True)
    assert done.stdout.rstrip().splitlines()[-1].startswith(f" Example: genfast {command}") and done.stderr == ""


def test_version(cli) -> None:
    assert cli("--version").stdout == f"genfast {genfast.__version__}\n"


def test_an_unknown_command_is_one_line(cli) -> None:
    done = cli("knit")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "genfast: error: No such command 'knit'.\n")


def test_a_traceback_comes_when_asked_for(cli) -> None:
    done = cli("info", "nothing", env={"GENFAST_DEBUG": "1"})
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "ModelError: unknown model 'nothing'" in done.stderr


@pytest.mark.parametrize("arguments", [["models"], ["info", "nothing", "--json"]])
def test_a_reader_that_leaves_is_no_error(arguments: list[str]) -> None:
    with subprocess.Popen(
        [*GENFAST, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert [line[:14] for line in process.stderr] == ["genfast: error"] * ("nothing" in arguments)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", ["models", "models --json", "--version", "info avatars1024", "sample --out {}"])
def test_a_full_stdout_is_one_line(tmp_path: Path, command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*GENFAST, *command.format(tmp_path).split()],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "genfast: error: cannot write to standard output: No space left on device\n"


def test_completion_knows_the_commands() -> None:
    environment = {**ENVIRONMENT, "_GENFAST_COMPLETE": "complete_bash", "COMP_WORDS": "genfast mo", "COMP_CWORD": "1"}
    done = subprocess.run(GENFAST, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["models"]


@pytest.mark.parametrize(
    "command", ["info {}", "sample --model {}", "sample --out {}", "fid {} {}", "inpaint {} m.png"]
)
def test_a_path_that_the_system_refuses_is_one_line_and_one_document(cli, command: str) -> None:
    done = cli(*command.format("x" * 300, "x" * 300).split(), "--json")
    assert done.returncode in (2, 3) and len(done.stderr.splitlines()) == 1 and "too long" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == done.returncode


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(tiny_bundle: Path, tmp_path: Path, closed: str) -> None:
    command = shlex.join([*GENFAST, "sample", "--model", str(tiny_bundle), "-n", "1", "--out", str(tmp_path)])
    subprocess.run(f"{command} {closed}", shell=True, env=ENVIRONMENT, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-0-0.png"]


def test_without_standard_input_there_is_no_image_in_it(cli, tmp_path: Path, tiny_bundle: Path) -> None:
    command = shlex.join([*GENFAST, "inpaint", "-", "mask.png", "--model", str(tiny_bundle)])
    done = subprocess.run(f"{command} <&-", shell=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1


def test_paths_beyond_the_encoding_of_stdout(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", tiny_bundle, "-n", 1, "--out", tmp_path / "写真")
    done = cli(*run, env={"PYTHONIOENCODING": "cp1252"}, check=True)
    assert done.stdout == f"{tmp_path}/\\u5199\\u771f/tiny-0-0.png\n" and done.stderr == ""


@pytest.mark.parametrize("columns", ["0", "00", ""])
def test_a_terminal_of_no_width_is_as_any_other(cli, columns: str) -> None:
    for arguments in ("--help",), ("inpaint", "--help"), ("models",):
        expected = cli(*arguments, check=True).stdout
        assert cli(*arguments, check=True, env={"COLUMNS": columns}).stdout == expected and len(expected) > 300


def test_standard_input_that_cannot_be_read_is_named(cli, tmp_path: Path, tiny_bundle: Path) -> None:
    command = shlex.join([*GENFAST, "inpaint", "-", "mask.png", "--model", str(tiny_bundle)])
    done = subprocess.run(f"{command} 0> {tmp_path}/file", shell=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "genfast: error: standard input cannot be read: Bad file descriptor\n"


def test_help_says_which_figure_to_quote(cli) -> None:
    said = " ".join(cli("fid", "--help", check=True).stdout.replace("│", " ").split())
    assert "Quote FID with n beside its floor" in said and "those of --features inception alone" in said
    assert "a little below as often as above" in said
