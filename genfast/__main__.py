"""`python -m genfast` is `genfast`: the command line, and what it takes to get on with other programs."""

import io
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. Ctrl-C and SIGTERM end it at any moment, in order and without a word."""
    signal.signal(signal.SIGTERM, _end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a path need not be text
    try:
        from genfast.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)  # which unwinds as an error does: files that are being written go away


if __name__ == "__main__":
    main()
