"""One model on several devices: a process for each but the first, which is this one's."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from genfast.errors import DeviceError, GenfastError

if TYPE_CHECKING:
    from genfast.models import Model, Pixels

Load = Callable[[], "Model"]  # in another process, so that it has to be pickled: a function of a module, or a partial
Chunks = Sequence[Sequence[int]]


def batches(
    draw: Callable[[Sequence[int]], "Pixels"], helpers: Sequence[Load], chunks: Chunks, **settings: Any
) -> Iterator["Pixels"]:
    """The images of each chunk of indices, in order: uint8 [B, H, W, C].

    This process draws the first chunk, each helper one of those that follow, and so on in turn. `settings` are those of
    Model.batches. No helper is ahead by more than a chunk. They end with this iterator, or with this process. Raises
    what they raise of GenfastError, and DeviceError where one ends by itself.
    """
    turns = len(helpers) + 1
    started: list[tuple[SpawnProcess, Connection]] = []
    try:
        with _uninterrupted():
            for turn, load in enumerate(helpers, 1):
                started.append(_start(load, chunks[turn::turns], settings))
        for number, chunk in enumerate(chunks):
            images = _receive(*started[number % turns - 1]) if number % turns else draw(chunk)
            if number == 0:
                for each in started:
                    _receive(*each)  # that it has loaded the model, also if it has nothing to draw
            yield images
    finally:
        for process, _ in started:
            process.terminate()
            process.join()


def _start(load: Load, chunks: Chunks, settings: dict[str, Any]) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # threads of onnxruntime do not survive a fork
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, load, chunks, settings), daemon=True)
    process.start()
    theirs.close()  # so that ours ends when the process does
    return process, ours


def _receive(process: SpawnProcess, results: Connection) -> Any:
    """What a helper sends next. Raises it where it is a GenfastError."""
    try:
        result = results.recv()
    except (EOFError, ConnectionError) as error:
        process.join()
        raise DeviceError(f"a process ended by itself, with {process.exitcode}; give a single --device") from error
    if isinstance(result, GenfastError):
        raise result
    return result


def _work(results: Connection, load: Load, chunks: Chunks, settings: dict[str, Any]) -> None:
    try:
        model = load()
        results.send(None)
        for chunk in chunks:
            for images in model.batches(chunk, **settings):
                results.send(images)
    except GenfastError as error:
        results.send(error)
    except ConnectionError:  # nobody reads any more
        pass
    except (MemoryError, OSError) as error:
        results.send(GenfastError(f"a process on another device failed: {str(error) or 'out of memory'}"))


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
