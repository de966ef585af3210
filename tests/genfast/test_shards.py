from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfast.errors import UsageError
from genfast.shards import Shard


@given(st.integers(0, 10**15), st.integers(0, 1000), st.integers(1, 200))
def test_shards_are_blocks_of_nearly_equal_length_that_hold_every_index_once(start: int, n: int, count: int) -> None:
    indices = range(start, start + n)
    blocks = [Shard(index, count).of(indices) for index in range(count)]
    assert [index for block in blocks for index in block] == [*indices]
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


def slurm(task: int, first: int, last: int, count: int, step: int = 1) -> Mapping[str, str]:
    names = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/1", {}, Shard(0, 1)),
        ("3/16", slurm(5, 0, 9, 10), Shard(3, 16)),  # what is said counts
        ("auto", slurm(0, 0, 15, 16), Shard(0, 16)),
        ("auto", slurm(15, 0, 15, 16), Shard(15, 16)),
        ("auto", slurm(1, 1, 16, 16), Shard(0, 16)),  # --array=1-16
        ("auto", slurm(30, 10, 40, 4, 10), Shard(2, 4)),  # --array=10-40:10
        ("auto", slurm(7, 7, 7, 1), Shard(0, 1)),
        ("auto/16", slurm(3, 0, 15, 16), Shard(3, 16)),
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, Shard(7, 8)),
    ],
)
def test_a_scheduler_says_which(text: str, environment: Mapping[str, str], expected: Shard) -> None:
    assert Shard.parse(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("", {}, "takes K/N"),
        ("3", {}, "takes K/N"),
        ("1/0", {}, "not 1/0"),
        ("4/4", {}, "K in 0 .. N - 1, not 4/4"),
        ("-1/4", {}, "takes K/N"),
        ("1/4/2", {}, "takes K/N"),
        ("auto", {}, "no task of a Slurm array"),
        ("auto", {"JOB_COMPLETION_INDEX": "7"}, "give --shard auto/N"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "7"}, "not 7/4"),
        ("auto/4", {"JOB_COMPLETION_INDEX": "x"}, "is no number"),
        ("auto/8", slurm(3, 0, 15, 16), "does not fit the Slurm array, which has 16 tasks"),
        ("auto", slurm(7, 3, 7, 3), "leave gaps"),  # --array=3,4,7
        ("auto", slurm(7, 3, 7, 5, 0), "make no sense"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "make no sense"),
    ],
)
def test_what_is_no_share(text: str, environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Shard.parse(text, environment)
