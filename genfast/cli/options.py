"""Options that several commands take."""

from typing import Annotated

import typer

Device = Annotated[
    str,
    typer.Option(
        envvar="GENFAST_DEVICE", help="auto, cpu, cuda or cuda:N; to draw on several at once, as in cuda:0,cuda:1."
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads on the CPU; by default one a core.")]
