"""`genfast ui`: a page to paint masks on and to draw pictures."""

import os
import sys
import threading
import webbrowser
from typing import Annotated

import typer

from genfast.cli.options import Device, Threads
from genfast.errors import UsageError


def ui(
    model: Annotated[
        str | None, typer.Option(help="The model to begin with: by name (see genfast models), or a folder.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 is any that is free.")] = 0,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Paint masks and draw pictures on a page in the browser; print its address.

    Only someone who has the address can use the page. It saves the very files that the other commands write.
    """
    try:
        from genfast.ui import guard, server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UsageError("the page needs starlette and uvicorn; pip install 'genfast[ui]'") from error

    from genfast.bench.matmul import product

    def ready(address: str) -> None:
        print(address, flush=True)
        if not guard.is_local(host):
            print("genfast: whoever reaches this machine and knows the address can use the page", file=sys.stderr)
        # Where there is no screen, a browser would be one of the terminal.
        seen = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
        if seen and not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    if "," in device:
        raise UsageError("the page draws on one device; give --device a single one")
    product("float32", 8, device, threads)()  # what cannot be had is said now, rather than on the page
    server.serve(model=model, host=host, port=port, device=device, threads=threads, ready=ready)
