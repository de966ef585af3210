"""How a picture comes about is shown as often as that costs little."""

import asyncio

import numpy as np
import pytest

from genfast.ui import studio
from genfast.ui.line import Job


@pytest.mark.parametrize(("cost", "shown"), [(0.001, range(200, 300)), (1, range(3, 10)), (300, range(0, 2))])
def test_previews_take_a_share_of_the_time(cost: float, shown: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 steps of a third of a second, whose pictures cost so many seconds."""
    clock = [0.0]
    monkeypatch.setattr(studio, "perf_counter", lambda: clock[0])
    spent = []

    def frame() -> np.ndarray:
        clock[0] += cost
        spent.append(cost)
        return np.zeros((4, 6, 3), np.uint8)

    async def run() -> None:
        previews = studio.Previews(Job(lambda job: None), always=False)
        for step in range(300):
            previews(step / 300, frame)
            clock[0] += 1 / 3

    asyncio.run(run())
    assert len(spent) in shown and sum(spent[:-1]) <= 0.08 * clock[0]  # of the first, the cost is a guess


def test_all_are_shown_where_that_is_asked_for_but_for_noise() -> None:
    shown = []

    def frame() -> np.ndarray:
        shown.append(1)
        return np.zeros((4, 6, 3), np.uint16)

    async def run() -> list[dict[str, object] | None]:
        job = Job(lambda job: None)
        previews = studio.Previews(job, always=True)
        for share in 0, 0.25, 0.5, 0.5, 0.75, 1:  # of two pictures, each of which begins with noise
            previews(share, frame)
        await asyncio.sleep(0)
        return [job.events.get_nowait() for _ in range(job.events.qsize())]

    events = asyncio.run(run())
    assert ["preview" in (event or {}) for event in events] == [False, True, True, False, True, True] and len(
        shown
    ) == 4


def test_lines_of_the_log_are_those_of_the_thread() -> None:
    import logging
    import threading

    with studio.told() as lines:
        logging.getLogger("genfast").warning("genfast: a mask is scaled")
        other = threading.Thread(target=logging.getLogger("genfast").warning, args=("of another work",))
        other.start()
        other.join()
    assert lines == ["a mask is scaled"]
