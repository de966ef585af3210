"""One work at a time, in the order of coming: each keeps all cores busy, so two at once would take twice the time."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from genfast.errors import GenfastError

Event = dict[str, Any]  # what the page is told, as JSON
_Result = TypeVar("_Result")
_LONGEST = 32  # works that wait
_BEHIND = 16  # events that a slow reader may be behind before it misses pictures of what comes about


class Cancelled(Exception):
    """Nobody waits for the work any more."""


class Job:
    """A work that waits or is under way."""

    def __init__(self, work: Callable[["Job"], None]) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()
        self.work, self.started, self.cancelled = work, False, threading.Event()
        self.waiting = 0  # how many are before it, as it was told
        self._loop = asyncio.get_running_loop()

    def say(self, **event: object) -> None:
        """Tell the page, from the thread of the work. Raises Cancelled where nobody listens any more."""
        if self.cancelled.is_set():
            raise Cancelled
        if self.events.qsize() > _BEHIND:
            event.pop("preview", None)
        with suppress(RuntimeError):  # the program ends
            self._loop.call_soon_threadsafe(self.events.put_nowait, event)


class Line:
    """The works that wait, of which the first is under way."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    async def run(self, work: Callable[[Job], None]) -> AsyncGenerator[Event, None]:
        """What a work says, once those before it are done. Who stops listening cancels it at its next step."""
        if len(self._jobs) > _LONGEST:
            yield {"error": "too many wait already; try again later"}
            return
        job = Job(work)
        self._jobs.append(job)
        try:
            self._go_on()
            while (event := await job.events.get()) is not None:
                yield event
        finally:
            job.cancelled.set()
            if not job.started:
                self._leave(job)

    def _go_on(self) -> None:
        """Start the first, and tell the others how many are before them."""
        for place, job in enumerate(self._jobs):
            if place and place != job.waiting:
                job.waiting = place
                job.events.put_nowait({"waiting": place})
            elif not place and not job.started:
                job.started = True
                in_thread(partial(_do, job)).add_done_callback(partial(self._ended, job))

    def _ended(self, job: Job, _: "asyncio.Future[None]") -> None:
        self._leave(job)

    def _leave(self, job: Job) -> None:
        job.events.put_nowait(None)
        self._jobs.remove(job)
        self._go_on()


def _do(job: Job) -> None:
    """The work of a job. What goes wrong is told, and ends nothing else."""
    with suppress(Cancelled):
        try:
            job.work(job)
        except Cancelled:
            raise
        except Exception as error:
            job.say(error=explained(error))


def explained(error: Exception) -> str:
    """An error as one line for people."""
    if isinstance(error, MemoryError):
        return "out of memory; a smaller picture takes less"
    known = isinstance(error, GenfastError) or (isinstance(error, OSError) and error.strerror)
    return " ".join(str(error).split()) if known else f"this should not happen: {type(error).__name__}: {error}"


def in_thread(work: Callable[[], _Result]) -> "asyncio.Future[_Result]":
    """The result of work in a thread that does not keep the program from ending, as those of a pool would."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: Exception | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the program ends
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return future
