"""Options that several commands take."""

from typing import Annotated

import typer

from genfast.errors import UsageError

Device = Annotated[
    str,
    typer.Option(
        envvar="GENFAST_DEVICE", help="auto, cpu, cuda or cuda:N; to draw on several at once, as in cuda:0,cuda:1."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads on the CPU; by default one a core.")]


def numbers(option: str, text: str | None) -> list[int]:
    """Those that an option lists, each once; none where it is not given. Raises UsageError for what is no number."""
    try:
        return [] if text is None else list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError as error:
        raise UsageError(f"{option} takes a number, or several as in 1,2,4,8; not {text!r}") from error
