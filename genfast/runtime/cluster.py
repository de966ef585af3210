"""A Ray cluster: actors, each with a model of its own. Ray places and replaces them."""

import logging
import os
import re
import signal
import socket
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NoReturn

from genfast.errors import DeviceError, GenfastError, ModelError, UsageError, first_line
from genfast.models.base import Done, Item, Made, Model
from genfast.runtime.cpu import cores
from genfast.runtime.workers import call

Load = Callable[..., Model]  # takes device and threads
Handle = Any  # of an actor: Ray makes its type

_AHEAD = 2  # items that each actor has been given
_RESTARTS = 16  # of an actor, however often it was lost: what ends each actor that it meets is to end the run at last
_PATIENCE = 10  # seconds, until a cluster answers


class Cluster:
    """A pool of actors (see Pool) in the Ray cluster at an address, or in one of this machine's cores: "local".

    Each actor loads the model that is `first` in this process, by `load`: on a GPU of its own where the device is
    "cuda", or "auto" and the cluster has GPUs; else on so many `threads`, and cores. An actor that is lost with its
    node, or by itself, is made anew where there is room, and its items are worked on again; at the latest when others
    have nothing left to do and make room. Raises UsageError where Ray is not installed or the device is another,
    DeviceError where the cluster cannot be had or has nothing to work on.
    """

    def __init__(self, address: str, first: Model, load: Load, device: str, threads: int) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--ray gives each actor a device itself; give auto, cpu or cuda, not {device!r}")
        self._ray = _connect(address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        if device == "auto":
            device = "cuda" if gpus else "cpu"
        self.size = gpus if device == "cuda" else sum(int(node.get("CPU", 0)) // threads for node in nodes)
        if not self.size:
            wanted = "GPU" if device == "cuda" else f"machine of {threads} free cores"
            raise DeviceError(f"the Ray cluster has no {wanted}; give another --device or --threads")
        self._needs = {"num_gpus": 1} if device == "cuda" else {"num_cpus": threads}
        self._load = partial(_load, load, device, threads, first.bundle.sha256)

    def map(
        self, work: Callable[[Model, Item], Made], items: Iterable[Item], finish: Callable[[Made], Done]
    ) -> Iterator[Done]:
        """As Model.map. What is done before its turn is held: let it be small."""
        ray = self._ray
        create = ray.remote(_Actor).options(**self._needs, max_restarts=_RESTARTS, max_task_retries=-1).remote
        free: deque[Handle | None] = deque([None] * self.size)  # None: an actor that has yet to be made
        flying: dict[Any, tuple[int, Handle]] = {}

        def give(number: int, item: Item) -> None:
            if (actor := free.popleft()) is None:
                actor = create(self._load)
                free.extend([actor] * (_AHEAD - 1))
            flying[actor.call.remote(work, item)] = number, actor

        def take() -> tuple[int, Done]:
            (ready, *_), _ = ray.wait([*flying])
            number, actor = flying.pop(ready)
            free.append(actor)
            return number, finish(_made(ray, ready))

        todo, done, told = enumerate(items), dict[int, Done](), 0
        left = True
        while left or flying:
            while left and free:
                if left := (given := next(todo, None)) is not None:
                    give(*given)
            if not left:
                free.clear()  # an actor that nobody holds any more makes room
            if flying:
                number, made = take()
                done[number] = made
            while told in done:
                yield done.pop(told)
                told += 1


class _Actor:
    """A process of the cluster that holds a model."""

    def __init__(self, load: Callable[[], Model]) -> None:
        self._load = cache(load)  # when it is first needed, so that what goes wrong then is told as it is

    def call(self, work: Callable[[Model, Item], Made], item: Item) -> Made:
        return call(self._load, work, item)


def _load(load: Load, device: str, threads: int, sha256: str) -> Model:
    """The model of an actor. Raises ModelError where it is not the one of the first process."""
    model = load(device=device, threads=threads)
    if model.bundle.sha256 != sha256:
        raise ModelError(f"a machine of the cluster has other weights of {model.name}; fetch the same on all")
    return model


def _made(ray: Any, reference: object) -> Any:
    """What a call of an actor gives. Raises GenfastError as the call does, and where it is lost for good."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GenfastError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    if "No module named 'genfast'" in str(error):
        raise DeviceError("a machine of the cluster has no genfast; install genfast[ray] on all") from error
    raise DeviceError(f"the Ray cluster cannot do the work: {first_line(error)}") from error


def _connect(address: str) -> Any:
    """Ray, connected to a cluster until this process ends. It prints nothing, and reports to nobody."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a cluster that is started here: actors yield to nobody
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    how |= {"num_cpus": cores(), "include_dashboard": False} if address == "local" else {}
    with _own_signals(), warnings.catch_warnings(action="ignore"):
        try:
            import ray
        except ImportError as error:
            raise UsageError("--ray needs Ray; install genfast[ray]") from error
        if not ray.is_initialized():
            ray._private.worker._worker_logs_enabled = False  # on stdout, of a node that dies, whatever is said above
            try:
                if match := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
                    socket.create_connection((match[1], int(match[2])), _PATIENCE).close()  # Ray would wait for minutes
                ray.init(address, **how)
            except (OSError, RuntimeError, ValueError, OverflowError) as error:
                raise DeviceError(f"no Ray cluster can be reached at {address}: {first_line(error)}") from error
    return ray


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what Ctrl-C and SIGTERM do, which Ray would choose anew."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
