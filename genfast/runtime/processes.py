"""Several devices of one machine: a process for each but the first, which is this one's."""

import os
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

from genfast.errors import DeviceError
from genfast.models.base import Done, Item, Made, Model
from genfast.runtime.workers import Load, call

_AHEAD = 2  # items that each process has been given


@dataclass(frozen=True)
class Processes:
    """A pool of processes (see Pool): this one, with the model `first`, and one for each of `others`, which loads it.

    The others end with the iterator of `map`, and with this process, however it ends. Work goes round: each process
    gets as much of it as any other.
    """

    first: Model
    others: Sequence[Load]

    @property
    def size(self) -> int:
        return 1 + len(self.others)

    def map(
        self, work: Callable[[Model, Item], Made], items: Iterable[Item], finish: Callable[[Made], Done]
    ) -> Iterator[Done]:
        context = get_context("spawn")  # threads of onnxruntime do not survive a fork
        leash, ours = context.Pipe(duplex=False)
        with TemporaryDirectory(prefix="genfast-", ignore_cleanup_errors=True) as folder:
            loads = [(leash, load, Path(folder)) for load in self.others]
            pools = [ProcessPoolExecutor(1, context, _begin, given) for given in loads]
            try:
                with _uninterrupted():
                    loaded = [pool.submit(_load) for pool in pools]
                for future in loaded:  # before anything is drawn: a device that cannot be had is an error
                    _result(future)
                calls: deque[Callable[[], Made]] = deque()
                for number, item in enumerate(items):
                    place = number % self.size
                    calls.append(
                        partial(_receive, pools[place - 1].submit(_work, work, item))
                        if place
                        else partial(work, self.first, item)
                    )
                    if len(calls) == _AHEAD * self.size:
                        yield finish(calls.popleft()())
                while calls:
                    yield finish(calls.popleft()())
            finally:
                ours.close()
                for pool in pools:
                    pool.shutdown(cancel_futures=True)
                leash.close()


def _receive(future: Future[Path]) -> Any:  # what the work of the future makes
    path = _result(future)
    content = path.read_bytes()
    path.unlink()
    return ForkingPickler.loads(content)


def _result(future: Future[Path]) -> Path:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise DeviceError("a process on another device ended by itself; give a single device") from error


_state: tuple[Load, Path]  # of a process that `Processes` started: the model, and where results are left


def _begin(leash: Connection, load: Load, folder: Path) -> None:
    global _state
    _state = cache(load), folder
    threading.Thread(target=_end_with, args=[leash], daemon=True).start()


def _end_with(leash: Connection) -> None:
    """End this process when nobody holds the other end of the leash: work is done with, or the first process dead."""
    with suppress(EOFError, OSError):
        leash.recv_bytes()
    shutil.rmtree(_state[1], ignore_errors=True)
    os._exit(0)


def _load() -> Path:
    call(_state[0], _nothing, None)
    return _state[1]


def _nothing(model: Model, item: None) -> None:
    pass


def _work(work: Callable[[Model, Item], Made], item: Item) -> Path:
    """Leave what is made in a file: the pool's pipe would never tell of a process that dies when half is sent."""
    path = _state[1] / token_hex(8)
    path.write_bytes(ForkingPickler.dumps(call(_state[0], work, item)))
    return path


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that start meanwhile ignore Ctrl-C for good, which a terminal sends to all: this one ends them."""
    if threading.current_thread() is not threading.main_thread():  # no other may choose
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
