"""Threads of PyTorch: training takes one a process, but what one process does for all may take every core."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from genfast.runtime.cpu import cores


@contextmanager
def every_core() -> Iterator[None]:
    """Let PyTorch compute on every core that this process may use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
