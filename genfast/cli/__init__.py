"""The command line. One module a command; each imports what is heavy when it runs, so that `--help` answers at once."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from genfast import __version__
from genfast.cli.bench import bench
from genfast.cli.cache import cache
from genfast.cli.doctor import doctor
from genfast.cli.fid import fid
from genfast.cli.info import info
from genfast.cli.inpaint import inpaint
from genfast.cli.models import models
from genfast.cli.options import SharedCommand
from genfast.cli.output import one_line, print_json
from genfast.cli.pull import pull
from genfast.cli.reconstruct import reconstruct
from genfast.cli.sample import sample
from genfast.cli.tokenize import tokenize
from genfast.cli.ui import ui
from genfast.errors import GenfastError, InputError

_DEBUG = ("GENFAST_DEBUG", "1")  # in the environment: known errors have their traceback

app = typer.Typer(
    help="Draw and repaint pictures in a handful of steps, on your own machine: start with genfast sample.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_EXAMPLES: dict[Callable[..., None], str] = {  # in the order of --help
    sample: "genfast sample --model avatars1024 -n 4 --seed 7 --out faces",
    inpaint: "genfast inpaint face.png mask.png -n 4",
    ui: "genfast ui",
    fid: "genfast fid --steps 4 --samples 1000",
    models: "genfast models --all",
    info: "genfast info avatars1024",
    pull: "genfast pull ffhq1024",
    cache: "genfast cache --verify",
    doctor: "genfast doctor",
    reconstruct: "genfast reconstruct face.png",
    tokenize: "genfast tokenize faces tokens",
    bench: "genfast bench avatars1024 --steps 4,8,16",
}
for command, example in _EXAMPLES.items():
    app.command(epilog=f"Example: {example}", cls=SharedCommand)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"genfast {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before the command."""


def main() -> NoReturn:
    """Run the command line; the one place that turns an error into a line on stderr and an exit code.

    With --json, stdout gets a document that says the same.
    """
    if not os.environ.get("COLUMNS", "1").strip("0"):  # a terminal of no width is one that does not say
        del os.environ["COLUMNS"]
    try:
        code = _run()
        print(end="", flush=True)
    except OSError as error:
        if _DEBUG in os.environ.items():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would try to write the rest once more, and complain
        if not isinstance(error, BrokenPipeError):  # the reader has seen enough
            print("genfast: error: cannot write to standard output:", error.strerror or error, file=sys.stderr)
        code = 1
    sys.exit(code)


def _run() -> int | None:
    try:
        code: int | None = app(sys.argv[1:] or ["--help"], prog_name="genfast", standalone_mode=False)
        return code
    except (GenfastError, typer.TyperException, MemoryError, OSError) as error:
        if _DEBUG in os.environ.items() or (isinstance(error, OSError) and not error.filename):  # stdout has no name
            raise
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if isinstance(error, MemoryError):
            message = "out of memory; a smaller batch or image takes less" + (f" ({error})" if str(error) else "")
        message = one_line(message)
        code = getattr(error, "exit_code", InputError.exit_code if isinstance(error, OSError) else 1)
        print("genfast: error:", message, file=sys.stderr)
        if "--json" in sys.argv:
            print_json({"error": message, "exit_code": code})
        return code
