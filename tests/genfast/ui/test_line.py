"""Works wait for each other, tell how many are before them, and can be given up at any time."""

import asyncio
import threading
from contextlib import aclosing

import pytest

from genfast.errors import InputError
from genfast.ui.line import Event, Job, Line, in_thread


async def heard(line: Line, work) -> list[Event]:
    return [event async for event in line.run(work)]


def test_works_come_one_after_the_other() -> None:
    running: list[int] = []
    most = 0

    def work(job: Job) -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        for step in range(3):
            job.say(step=step)
        running.pop()

    async def all_of_them() -> list[list[Event]]:
        line = Line()
        return await asyncio.gather(*(heard(line, work) for _ in range(4)))

    for place, events in enumerate(asyncio.run(all_of_them())):
        waits = [{"waiting": before} for before in range(place, 0, -1)]
        assert events == [*waits, *({"step": step} for step in range(3))]
    assert most == 1


def test_who_leaves_cancels_and_the_next_one_starts() -> None:
    steps = threading.Semaphore(0)
    ended: list[str] = []

    def endless(job: Job) -> None:
        try:
            while True:
                job.say(step=1)
                steps.acquire(timeout=5)
        finally:
            ended.append("endless")

    def short(job: Job) -> None:
        ended.append("short")
        job.say(done=1)

    async def leave() -> list[Event]:
        line = Line()
        async with aclosing(line.run(endless)) as first:
            assert await anext(first) == {"step": 1}
            second = asyncio.create_task(heard(line, short))
            never = line.run(short)
            await asyncio.sleep(0)
            assert await anext(never) == {"waiting": 2}
            await never.aclose()  # while it waits
        assert not ended  # until its next step
        steps.release()
        return await second

    assert asyncio.run(leave()) == [{"waiting": 1}, {"done": 1}] and ended == ["endless", "short"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.png is no image"), "a.png is no image"),
        (MemoryError(), "out of memory; a smaller picture takes less"),
        (KeyError("x"), "this should not happen: KeyError: 'x'"),
    ],
)
def test_what_goes_wrong_is_told_and_ends_nothing_else(error: Exception, line: str) -> None:
    def fail(job: Job) -> None:
        raise error

    async def both() -> list[list[Event]]:
        one = Line()
        return [await heard(one, fail), await heard(one, lambda job: job.say(done=1))]

    assert asyncio.run(both()) == [[{"error": line}], [{"done": 1}]]


def test_too_many_are_sent_away() -> None:
    async def crowd() -> list[list[Event]]:
        line, gate = Line(), threading.Event()
        waiting = [asyncio.create_task(heard(line, lambda job: gate.wait(5))) for _ in range(33)]
        await asyncio.sleep(0.05)
        last = await heard(line, lambda job: None)
        gate.set()
        await asyncio.gather(*waiting)
        return [last]

    assert asyncio.run(crowd()) == [[{"error": "too many wait already; try again later"}]]


def test_a_slow_reader_misses_previews_alone() -> None:
    async def late() -> list[Event]:
        def work(job: Job) -> None:
            for step in range(100):
                job.say(done=step, preview="x")
            job.say(picture=1)

        job = Job(work)
        await in_thread(lambda: work(job))
        await asyncio.sleep(0)
        return [job.events.get_nowait() or {} for _ in range(job.events.qsize())]

    events = asyncio.run(late())
    assert [event.get("done") for event in events[:-1]] == list(range(100)) and events[-1] == {"picture": 1}


def test_threads_give_results_and_errors() -> None:
    async def both() -> tuple[int, BaseException | None]:
        failed = in_thread(lambda: 1 // 0)
        await asyncio.wait([failed])
        return await in_thread(lambda: 7), failed.exception()

    seven, error = asyncio.run(both())
    assert seven == 7 and isinstance(error, ZeroDivisionError)
