"""`python -m genfast` is `genfast`: the command line, and what it takes to get on with other programs."""

import codecs
import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. Ctrl-C and SIGTERM end it at any moment, in order and without a word: 130 and 143."""
    ended = 0
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, name) is None:  # closed: files that are opened later would get its number
            setattr(sys, name, open(os.devnull, mode))

    def end(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal ended
        ended = 128 + number
        again = threading.Timer(1, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
        sys.exit(ended)  # which unwinds as an error does: files that are being written go away

    for number in signal.SIGINT, signal.SIGTERM:
        if signal.getsignal(number) != signal.SIG_IGN:  # as it is for Ctrl-C where a shell runs us in the background
            signal.signal(number, end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path need not be text, nor within what Windows gives a pipe.
        utf_8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf_8 else "backslashreplace")
    try:
        from genfast.cli import main

        main()
    finally:
        if ended:
            # Whatever became of the exception: while a module in C is imported, it may turn into an ImportError, or be
            # lost, for which there is the timer.
            signal.signal(ended - 128, signal.SIG_IGN)
            sys.exit(ended)


if __name__ == "__main__":
    main()
