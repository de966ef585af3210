"""Shares of the work for schedulers that start a command many times: arithmetic on indices, and nothing else."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Self

from genfast.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, counted from 0 as Kubernetes does."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] = os.environ) -> Self:
        """The share that K/N names, or, of `auto` and auto/N, the environment of a task of Slurm or Kubernetes.

        Slurm says how many tasks there are; Kubernetes does not. Raises UsageError for what is no share.

        >>> Shard.parse("3/16")
        Shard(index=3, count=16)
        """
        match = re.fullmatch(r"(auto|\d{1,9})(?:/(\d{1,9}))?", text)
        if match is None or (match[1] != "auto" and match[2] is None):
            raise UsageError(f"--shard takes K/N, with K in 0 .. N - 1, or auto, or auto/N; not {text!r}")
        count = None if match[2] is None else int(match[2])
        index, counted = _scheduled(environment) if match[1] == "auto" else (int(match[1]), None)
        if counted is not None and count not in (None, counted):
            raise UsageError(f"--shard {text} does not fit the Slurm array, which has {counted} tasks")
        total = counted if count is None else count
        if total is None:
            raise UsageError("--shard auto: Kubernetes does not say how many shards there are; give --shard auto/N")
        if not index < total:
            raise UsageError(f"--shard takes K/N with K in 0 .. N - 1, not {index}/{total}")
        return cls(index, total)

    def of(self, indices: range) -> range:
        """The indices of this share: a block of a length that differs by at most one from share to share."""
        n = len(indices)
        return indices[n * self.index // self.count : n * (self.index + 1) // self.count]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def chunks(indices: Iterable[int], size: int) -> Iterator[list[int]]:
    """So many of them at a time."""
    left = iter(indices)
    return iter(lambda: list(islice(left, size)), [])


def _scheduled(environment: Mapping[str, str]) -> tuple[int, int | None]:
    """The place of this task in its row, and the length of the row where the scheduler says it."""
    if "SLURM_ARRAY_TASK_ID" in environment:
        names = ("ID", "MIN", "MAX", "COUNT", "STEP")
        try:
            task, first, last, count, step = (int(environment[f"SLURM_ARRAY_TASK_{name}"]) for name in names)
            place, rest = divmod(task - first, step)
        except (KeyError, ValueError, ZeroDivisionError) as error:
            raise UsageError("--shard auto: the variables SLURM_ARRAY_TASK_* make no sense; give K/N") from error
        if rest or first + (count - 1) * step != last:
            raise UsageError("--shard auto: the ids of the Slurm array leave gaps; submit a row (0-15), or give K/N")
        return place, count
    if "JOB_COMPLETION_INDEX" in environment:
        try:
            return int(environment["JOB_COMPLETION_INDEX"]), None
        except ValueError as error:
            raise UsageError("--shard auto: JOB_COMPLETION_INDEX is no number; give K/N") from error
    raise UsageError(
        "--shard auto: no task of a Slurm array (SLURM_ARRAY_TASK_ID) or an indexed Kubernetes job "
        "(JOB_COMPLETION_INDEX); give K/N"
    )
