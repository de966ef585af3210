"""One model on several devices: a process for each but the first, which is this one's."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from typing import NoReturn, TypedDict

from genfast.errors import DeviceError, GenfastError, UsageError
from genfast.models.base import Model, State, chunks
from genfast.samplers.options import Options
from genfast.types import Pixels

Load = Callable[[], Model]  # in another process, so that it has to be pickled: a function of a module, or a partial


class _Settings(TypedDict):
    """Those of Model.batches."""

    seed: int
    batch: int
    label: str | None
    options: Options | None


@dataclass(frozen=True)
class Workers(Model):
    """A model that `sample` and `batches` draw on several devices with; whole images alone.

    `first` is in this process; each of `others` loads the same model on another device. They end with the iterator of
    `batches`, or with this process.
    """

    first: Model
    others: Sequence[Load]

    @classmethod
    def of(cls, first: Model, others: Sequence[Load]) -> "Workers":
        """A model on its own device and those of the others."""
        return cls(first.bundle, first.name, first.steps, first.options, first.fill_options, first, others)

    def batches(
        self,
        indices: Iterable[int],
        *,
        seed: int = 0,
        batch: int | None = None,
        label: str | None = None,
        options: Options | None = None,
    ) -> Iterator[Pixels]:
        """As Model.batches. Raises what the others raise of GenfastError, and DeviceError where one ends by itself."""
        size = self.batch_size(batch)
        self.check(seed, indices, label, options)
        share = size
        if isinstance(indices, Sequence):  # so that no device is idle
            share = min(size, -(-len(indices) // (1 + len(self.others)))) or 1
        return self._batches(chunks(indices, share), _Settings(seed=seed, batch=size, label=label, options=options))

    def _batches(self, todo: Iterator[list[int]], settings: _Settings) -> Iterator[Pixels]:
        """Chunks in rounds: of each, this process draws the first, and the others one of those that follow."""
        started: list[tuple[SpawnProcess, Connection]] = []
        try:
            with _uninterrupted():
                for load in self.others:
                    started.append(_start(load, settings))
            waiting, coming = started, self._send(todo, started)
            while current := coming:
                coming = self._send(todo, started)  # so that no other process waits for this one
                images = next(self.first.batches(current[0], **settings))
                for each in waiting:
                    _receive(*each)  # that it has loaded the model, also if it has nothing to draw
                waiting = []
                yield images
                for each, _ in zip(started, current[1:], strict=False):
                    yield _receive(*each)
        finally:
            for process, _ in started:
                process.terminate()
                process.join()

    def _send(self, todo: Iterator[list[int]], started: Sequence[tuple[SpawnProcess, Connection]]) -> list[list[int]]:
        """The chunks of the next round, of which each of the other processes is sent its own."""
        chunks = list(islice(todo, 1 + len(started)))
        for (_, pipe), chunk in zip(started, chunks[1:], strict=False):
            with suppress(ConnectionError):  # it has ended, which `_receive` tells
                pipe.send(chunk)
        return chunks

    def history(
        self, index: int, *, seed: int = 0, label: str | None = None, options: Options | None = None
    ) -> NoReturn:
        raise self._alone()

    def fill(self, *_: object, **__: object) -> NoReturn:
        raise self._alone()

    def take(self, options: Options | None) -> Options | None:
        return self.first.take(options)

    def take_fill(self, options: Options | None) -> NoReturn:
        raise self._alone()

    def _alone(self) -> UsageError:
        return UsageError("only whole images are drawn on several devices; give a single --device")

    def _draw(self, *_: object, **__: object) -> NoReturn:
        raise self._alone()

    def _pixels(self, state: State) -> NoReturn:
        raise self._alone()


def _start(load: Load, settings: _Settings) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # threads of onnxruntime do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, load, settings), daemon=True)
    process.start()
    theirs.close()  # so that ours ends when the process does
    return process, ours


def _receive(process: SpawnProcess, pipe: Connection) -> Pixels:
    """What a process sends next. Raises it where it is a GenfastError."""
    try:
        result: Pixels | GenfastError = pipe.recv()
    except (EOFError, ConnectionError) as error:
        process.join()
        raise DeviceError(f"a process ended by itself, with {process.exitcode}; give a single --device") from error
    if isinstance(result, GenfastError):
        raise result
    return result


def _work(pipe: Connection, load: Load, settings: _Settings) -> None:
    """Load a model, say so, and draw each chunk that comes."""
    todo: SimpleQueue[list[int] | None] = SimpleQueue()

    def receive() -> None:
        with suppress(EOFError, ConnectionError):
            while True:
                todo.put(pipe.recv())
        todo.put(None)

    # At once: else this process and the first could each wait for the other to take what it sends.
    threading.Thread(target=receive, daemon=True).start()
    try:
        model = load()
        pipe.send(None)
        while (chunk := todo.get()) is not None:
            pipe.send(next(model.batches(chunk, **settings)))
    except GenfastError as error:
        pipe.send(error)
    except ConnectionError:  # nobody asks any more
        pass
    except (MemoryError, OSError) as error:
        pipe.send(GenfastError(f"a process on another device failed: {str(error) or 'out of memory'}"))


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
