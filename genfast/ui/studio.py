"""The works of the page: pictures are opened, holes are filled, pictures are drawn. It runs in threads."""

import logging
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from io import BytesIO
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Annotated, NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from genfast import api
from genfast.cli.options import Given, chosen, said, said_of
from genfast.errors import InputError, UsageError
from genfast.images import io, photo
from genfast.inpainting import masks
from genfast.inpainting.picture import Repaint, drawn_by
from genfast.models.base import Model
from genfast.shards import chunks
from genfast.tasks.made_by import made_by
from genfast.types import Frame, Levels
from genfast.ui.controls import SET, Described, Task, Value, described
from genfast.ui.line import Event, Job
from genfast.ui.store import Kept, Store

MOST_PIXELS = 50_000_000  # of a picture: browsers hold no larger mask
_SHARE = 0.08  # of the time, at most, that is spent on showing how a picture comes about, unless all of it is asked for
_GUESS = 3  # steps: what the first of these pictures takes, as long as none has been made
_PREVIEW, _SHOWN = 640, 1600  # pixels along the longer side
_LOADED = 3  # models that are kept


class Order(BaseModel):
    """What the page asks for: `values` by the names of the model's controls, and whether to show every step."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    model: str = Field(max_length=200)
    values: dict[str, int | float | Annotated[str, Field(max_length=200)]] = Field(default={}, max_length=64)
    watch: bool = False


class RepaintOrder(Order):
    """Also the id of a picture, and its mask as PNG in base64."""

    picture: str = Field(max_length=64)
    mask: str

    @cached_property
    def png(self) -> bytes:
        """The file of the mask. Raises UsageError where it is not sent in base64."""
        try:
            return b64decode(self.mask, validate=True)
        except ValueError as error:
            raise UsageError("the mask is no base64") from error


class Asked(NamedTuple):
    """An order that was checked; `values` come with the page's own defaults."""

    known: Described
    model: Model
    given: Given  # for its sampler
    attributes: dict[str, str]
    values: Mapping[str, Value]


class Studio:
    """Models, and the files that they are given and make."""

    def __init__(self, store: Store, model: str | None, device: str, threads: int | None) -> None:
        self.store, self.models = store, described(model)
        self.chosen = model and (model if model in self.models else next(reversed(self.models)))

        @lru_cache(_LOADED)
        def load(target: str, steps: int | None) -> Model:
            return api.load(target, steps=steps, device=device, threads=threads)

        self._load = load

    def open(self, content: bytes, name: str) -> Event:
        """Keep a picture that can be repainted. Raises InputError as photo.read does, and for one that is too large."""
        file = BytesIO(content)
        file.name = name
        with io.opened(file) as image:
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.width}x{image.height}"
                raise InputError(f"{name} has {size} pixels, and the page takes {MOST_PIXELS / 1e6:.0f} million")
        return _card(self.store.put(content, name, photo.read(file).colours.shape[:2]))

    def shown(self, kept: Kept) -> bytes:
        """A picture as a browser can show it, as WebP: of any depth and format, but smaller."""
        return _encoded(photo.read(kept.open()).colours, "webp", _SHOWN)

    def mask(self, kept: Kept, content: bytes, name: str) -> Event:
        """The mask in a file, made to fit a picture as the command line does it, as PNG. Raises as masks.read."""
        file = BytesIO(content)
        file.name = name
        with told() as notes:
            mask = masks.read(file, kept.shape)
        return {"mask": _address(_encoded(mask[..., None] * np.uint8(255), "png"), "png"), "notes": notes}

    def check(self, task: Task, order: Order) -> None:
        """Raises UsageError for a model that is not here, and for values that it does not take."""
        if order.model not in self.models:
            raise UsageError(f"there is no model {order.model!r} here")
        self.models[order.model].checked(task, order.values)

    def repaint(self, job: Job, order: RepaintOrder, kept: Kept) -> None:
        """Fill a hole, as an order that was checked asks for it, and tell of each fill. Raises what Repaint does."""
        known, model, given, asked, values = self._model(job, "repaint", order)
        stem = Path(kept.name).stem
        hole, source = BytesIO(order.png), kept.open()
        hole.name = f"{stem}-mask.png"
        task = Repaint(
            drawn_by=drawn_by(model, int(values.get("n", 1)), int(values.get("seed", 0))),
            label=_text(values.get("class")),
            attributes=asked,
            grow=int(values.get("grow", 0)),
            feather=int(values["feather"]) if "feather" in values else None,
            context=int(values.get("context", 0)),
            options=chosen(model, model.fill_options, given),
            said={**said_of(asked), **said(given, model.fill_options)},
        )
        with told() as notes:
            callback = Previews(job, order.watch)
            picture, grown, found = task.fills(model, source, hole, say=notes.append, callback=callback)
        for note in notes:
            job.say(note=note)
        names = kept.name, hole.name
        for place, one in enumerate(found, 1):
            content = task.file(source, picture, grown, one, names, say=notes.append)
            number = "" if len(found) == 1 else f"-{place}"
            made = self.store.put(content, f"{stem}.inpainted{number}.png", kept.shape)
            about = {"score": one.score, "command": task.params(one.index, names).command(known.target)}
            job.say(picture=_card(made) | about)

    def draw(self, job: Job, order: Order) -> None:
        """Draw pictures, as an order that was checked asks for them, and tell of each. Raises UsageError."""
        known, model, given, asked, values = self._model(job, "draw", order)
        options = chosen(model, model.options, given)
        n, seed, start, label = int(values["n"]), int(values["seed"]), int(values["start"]), _text(values.get("class"))
        previews = Previews(job, order.watch)
        for chunk in chunks(range(start, start + n), model.batch_size(None)):
            steps = count()

            def watch(frame: Frame, chunk: list[int] = chunk, steps: Iterator[int] = steps) -> None:
                taken = min(1.0, next(steps) / model.steps)
                previews((chunk[0] - start + taken * len(chunk)) / n, lambda: frame()[0])

            images = model.watched(chunk, watch, seed=seed, label=label, attributes=asked, options=options)
            for index, image in zip(chunk, images, strict=True):
                name = model.label(index, label, asked)
                known_options = {**said(given, model.options), **said_of(asked)}
                known_options |= {} if name is None else {"class": name}
                params = made_by(model, steps=model.steps, seed=seed, index=index, options=known_options)
                content = io.encoded(image, "png", params.comment())
                made = self.store.put(content, f"{model.name}-{seed}-{index}.png", image.shape[:2])
                job.say(picture=_card(made) | {"class": name, "command": params.command(known.target)})

    def _model(self, job: Job, task: Task, order: Order) -> Asked:
        """What an order is about."""
        known = self.models[order.model]
        values = known.checked(task, order.values)
        steps = values.get("steps")
        job.say(state="loading")
        model = self._load(known.target, None if steps is None else int(steps))
        job.say(state="running")
        given = {name.replace("-", "_"): values[name] for name in known.knobs(task) if name in values}
        asked = {name.removeprefix(SET): str(value) for name, value in values.items() if name.startswith(SET)}
        with_defaults = {**known.defaults(task, "n", "seed", "start"), **values}
        return Asked(known, model, given, dict(sorted(asked.items())), with_defaults)


class Previews:
    """Tells how far a work is and, as often as that costs little, or `always`, shows what comes about."""

    def __init__(self, job: Job, always: bool) -> None:
        self._job, self._always = job, always
        self._began = self._last = perf_counter()
        self._spent = self._cost = 0.0  # seconds: so far, and of the last one
        self._done = 0.0

    def __call__(self, done: float, frame: Frame) -> None:
        now = perf_counter()
        cost = self._cost or _GUESS * (now - self._last)
        begins, self._last, self._done = done <= self._done, now, done  # of the next picture, there is but noise
        if begins or not (self._always or self._spent + cost <= _SHARE * (now - self._began)):
            self._job.say(done=done)
            return
        address = _address(_encoded(frame(), "jpeg", _PREVIEW), "jpeg")
        self._last = perf_counter()
        self._cost = self._last - now
        self._spent += self._cost
        self._job.say(done=done, preview=address)


class _Notes(logging.Handler):
    """What is said on the log by the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage().removeprefix("genfast: "))


@contextmanager
def told() -> Iterator[list[str]]:
    """The lines that are said on the log meanwhile, by this thread."""
    handler, log = _Notes(), logging.getLogger("genfast")
    log.addHandler(handler)
    try:
        yield handler.lines
    finally:
        log.removeHandler(handler)


def _card(kept: Kept) -> Event:
    return {"id": kept.id, "name": kept.name, "width": kept.shape[1], "height": kept.shape[0]}


def _text(value: Value | None) -> str | None:
    return None if value is None else str(value)


def _encoded(image: Levels, format: str, most: int | None = None) -> bytes:
    """An image [H, W, C] of 8 or 16 bits as a file, no side longer than `most`."""
    picture, file = io.to_pillow(io.eight_bits(image)), BytesIO()
    if most:
        picture.thumbnail((most, most), Image.Resampling.BOX)
    picture.save(file, format)
    return file.getvalue()


def _address(content: bytes, format: str) -> str:
    return f"data:image/{format};base64,{b64encode(content).decode()}"
