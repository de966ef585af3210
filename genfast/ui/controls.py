"""What can be told to each model, as the page shows it and as the server checks it: one description serves both.

A control bears the name of an option of the command line. The page builds its fields from these, so a model that takes
something more needs a control here, a place in studio.py where it is given to the model, and nothing in the page.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from genfast.bundles import bundle, catalog, hub
from genfast.bundles.bundle import Bundle
from genfast.errors import GenfastError, UsageError
from genfast.models.drafts import read_table
from genfast.samplers.options import SAMPLERS, MaskGITOptions, Options, RePaintOptions, TokenOptions, flag

Value = int | float | str
When = Mapping[str, tuple[Value | None, ...]]
Here = Mapping[int | None, Bundle]  # weights, by their number of steps
Task = Literal["draw", "repaint"]
MOST: dict[Task, int] = {"draw": 64, "repaint": 16}  # pictures of one request
SET = "set."  # begins the names of attributes, which the command line sets
_KNOBS = "Sampler"  # the group of what needs no turning
_DRAWING_NOTHING = ("features", "vq")  # families that draw nothing
_GROWN = 200  # pixels that the page offers to grow and feather by, at most


@dataclass(frozen=True, kw_only=True)
class Control:
    """A number in `low` .. `high`, or one of some `choices`.

    `when` names other controls, and the values of theirs that this one is there for. The page sends what differs from
    `default`; None is a choice of its own, for which nothing is sent. `texts` are how choices read, if not as
    themselves. `of_class` says which of them each class has, where they differ.
    """

    name: str
    label: str
    help: str = ""
    default: Value | None = None
    low: float | None = None
    high: float | None = None
    whole: bool = True  # numbers alone
    choices: tuple[Value, ...] = ()
    texts: tuple[str, ...] = ()
    of_class: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    unit: str = ""
    group: str = ""
    when: When = field(default_factory=dict)

    def checked(self, value: Value) -> Value:
        """A value as the command line reads it. Raises UsageError for one that this control cannot have."""
        if self.choices:
            if value not in self.choices or isinstance(value, bool):
                raise UsageError(f"{self.name} is one of: {', '.join(map(str, self.choices))}; not {value!r}")
            return value
        assert self.low is not None and self.high is not None
        if isinstance(value, str | bool) or (self.whole and not isinstance(value, int)):
            raise UsageError(f"{self.name} is a {'whole ' if self.whole else ''}number, not {value!r}")
        if not self.low <= value <= self.high:  # false for NaN
            raise UsageError(f"{self.name} must lie in {self.low:.16g} .. {self.high:.16g}, not {value}")
        return value if self.whole else float(value)


@dataclass(frozen=True, kw_only=True)
class Described:
    """A model that draws, or repaints alone: what the page says of it, and what each task that it can do takes."""

    name: str
    target: str  # what to load: the name in the catalogue, or the folder that the command line named
    summary: str
    limits: str
    width: int
    height: int
    controls: Mapping[Task, tuple[Control, ...]]

    def checked(self, task: Task, values: Mapping[str, Value]) -> dict[str, Value]:
        """Values by the names of controls, in their order. Raises UsageError for those that the task does not take.

        Likewise for a task that the model cannot do.
        """
        if task not in self.controls:
            raise UsageError(f"{self.name} does not {task}")
        if strangers := values.keys() - {each.name for each in self.controls[task]}:
            raise UsageError(f"{self.name} takes no {', '.join(map(repr, sorted(strangers)))}")
        own = (each for each in self.controls[task] if each.name in values)
        return {each.name: each.checked(values[each.name]) for each in own}

    def defaults(self, task: Task, *names: str) -> dict[str, Value]:
        """Those of the named controls that are there."""
        own = self.controls[task]
        return {each.name: each.default for each in own if each.name in names and each.default is not None}

    def knobs(self, task: Task) -> list[str]:
        """The names of what is for the sampler, in the order of the command line, which files keep."""
        return [each.name for each in self.controls[task] if each.group == _KNOBS]

    def json(self) -> dict[str, object]:
        """As the page reads it: the place of the weights is none of its business."""
        return {key: value for key, value in asdict(self).items() if key != "target"}


def described(more: str | None = None) -> dict[str, Described]:
    """The models that draw and whose weights are here, by name, and one `more`, by name or in a folder.

    Raises ModelError and UsageError for that one, where it is not here or does not draw.
    """
    found: dict[str, Described] = {}
    for name, entry in catalog.entries().items():
        if entry.family not in _DRAWING_NOTHING and (one := _known(entry)):
            found[name] = one
    if more is not None and more not in found:
        loaded = bundle.read(hub.here(more))
        manifest = loaded.manifest
        if manifest.family in _DRAWING_NOTHING:
            raise UsageError(f"{more} is of family {manifest.family} and draws nothing")
        found.pop(manifest.name, None)  # so that it is the last
        counts = [timesteps.steps for timesteps in manifest.schedule.all()] if manifest.schedule else [manifest.steps]
        found[manifest.name] = _described(manifest.name, str(Path(more).resolve()), dict.fromkeys(counts, loaded))
    return found


def _known(entry: catalog.Entry) -> Described | None:
    """A model of the catalogue, with the weights of it that are here, of each number of steps the first; else None."""
    here: dict[int | None, Bundle] = {}
    for steps in dict.fromkeys((entry.default_steps, *(variant.steps for variant in entry.variants))):
        try:
            here[steps] = bundle.read(hub.here(entry.name, steps))
        except GenfastError:  # not here, or damaged: genfast models says so
            continue
    return _described(entry.name, entry.name, here, entry.summary, entry.limits) if here else None


def _described(name: str, target: str, here: Here, summary: str = "", limits: str = "") -> Described:
    first = next(iter(here.values())).manifest
    assert first.image
    controls: dict[Task, tuple[Control, ...]] = {"repaint": tuple(_repaint(here))}
    if first.family != "inpainter":
        controls["draw"] = tuple(_draw(here))
    return Described(
        name=name,
        target=target,
        summary=summary or first.summary,
        limits=limits,
        width=first.image.width,
        height=first.image.height,
        controls=controls,
    )


def _draw(here: Here) -> Iterator[Control]:
    first = next(iter(here.values())).manifest
    default = first.sampling.options or MaskGITOptions()
    yield _count("draw", 8 if first.family != "vq-sundae" else 4)
    yield from _classes(here, "By default, classes take turns.")
    yield _seed()
    yield Control(name="start", label="From picture", default=0, low=0, high=10**9, help="Its place in the row.")
    yield _steps(here, default)
    if first.family == "vq-sundae":
        yield from _attributes(here, "What is not set is drawn.")
        yield from _sampler(default)


def _repaint(here: Here) -> Iterator[Control]:
    first = next(iter(here.values())).manifest
    assert first.image
    if first.family == "inpainter":
        yield from _edge(first.image.height)
        return
    default = first.sampling.inpainting or first.sampling.options or MaskGITOptions()
    yield _count("repaint", 1)
    yield from _classes(here, "By default, the surroundings tell.")
    yield _seed()
    yield _steps(here, default)
    yield from _edge(first.image.height)
    if first.family == "vq-sundae":
        yield from _attributes(here, "What is not set, the picture tells.")
        yield from _sampler(default)
    else:
        yield from (_option(RePaintOptions(), each.name, {}) for each in RePaintOptions.settings())


def _count(task: Task, default: int) -> Control:
    help = "Fills, the likeliest first." if task == "repaint" else "Pictures in a row."
    return Control(name="n", label="How many", default=default, low=1, high=MOST[task], help=help)


def _edge(height: int) -> Iterator[Control]:
    """What is told of a hole, to fill it by a model of images of that height."""
    yield _pixels("grow", 0, _GROWN, "Repaint so much around the mask, too.")
    yield _pixels("feather", height // 256, _GROWN, "Fade in so softly from the mask's edge on.")
    yield _pixels("context", 0, 4096, "Let the model see so much around the mask, even if smaller.")


def _pixels(name: str, default: int, most: int, help: str) -> Control:
    return Control(
        name=name, label=name.capitalize(), help=help, default=default, low=0, high=most, unit="px", group="Edge"
    )


def _seed() -> Control:
    return Control(name="seed", label="Seed", default=0, low=0, high=2**53 - 1, help="Each is a row of its own.")


def _classes(here: Here, help: str) -> Iterator[Control]:
    """The choice of a class, for the numbers of steps whose weights know classes."""
    knowing = {steps: each.manifest.classes for steps, each in here.items() if each.manifest.classes}
    if knowing:
        when: When = {} if len(knowing) == len(here) else {"steps": tuple(steps for steps in knowing if steps)}
        classes = tuple(dict.fromkeys(name for names in knowing.values() for name in names))
        yield Control(name="class", label="Class", choices=classes, help=help, when=when)


def _attributes(here: Here, help: str) -> Iterator[Control]:
    """The choice of a value for each attribute that pictures can be asked for."""
    first = next(iter(here.values()))
    if not first.manifest.attributes:
        return
    table = read_table(first)
    for place, attribute in enumerate(table.attributes):
        held = {name: table.values(label, place) for label, name in enumerate(table.classes)}
        having = {name: tuple(attribute.values[i - 1] for i in numbers) for name, numbers in held.items() if numbers}
        yield Control(
            name=f"{SET}{attribute.name}",
            label=attribute.name.replace("-", " ").capitalize(),
            choices=attribute.values,
            texts=tuple(attribute.described(number) for number in range(1, 1 + len(attribute.values))),
            of_class=having,
            help=help,
            group="Attributes",
            when={"class": (None, *having)} if len(having) < len(table.classes) else {},
        )


def _steps(here: Here, options: TokenOptions) -> Control:
    first = next(iter(here.values())).manifest
    help = "Fewer are faster."
    if first.family == "ddgan":  # a number of steps is trained in: each has weights of its own
        known = sorted(steps for steps in here if steps)
        return Control(name="steps", label="Steps", default=first.steps, choices=tuple(known), help=help)
    default, most = (options.steps, 1000) if first.steps is None else (first.steps, first.steps)
    return Control(name="steps", label="Steps", default=default, low=1, high=most, help=help)


def _sampler(default: TokenOptions) -> Iterator[Control]:
    """The choice of a sampler of tokens, and what each of them takes, in the order of the command line."""
    yield Control(name="sampler", label="Sampler", default=default.sampler, choices=tuple(SAMPLERS), group=_KNOBS)
    takers: dict[str, dict[str, Options]] = {}  # by field, then by sampler
    for name, kind in SAMPLERS.items():
        options = default if name == default.sampler else default.switched(kind)
        for each in options.settings():
            takers.setdefault(each.name, {})[name] = options
    del takers["steps"]
    for name, by_sampler in takers.items():
        when: When = {} if len(by_sampler) == len(SAMPLERS) else {"sampler": tuple(by_sampler)}
        yield _option(by_sampler.get(default.sampler) or next(iter(by_sampler.values())), name, when)


def _option(options: Options, name: str, when: When) -> Control:
    """The control of a field of a sampler's options, which says itself what it means and where it must lie."""
    (field,) = (each for each in options.settings() if each.name == name)
    default: int | float = getattr(options, name)
    said = field.metadata
    whole = isinstance(default, int)
    label = flag(name).replace("-", " ").capitalize()
    bounds = {"low": said["low"], "high": said["high"], "whole": whole}
    return Control(name=flag(name), label=label, help=said["help"], default=default, group=_KNOBS, when=when, **bounds)
