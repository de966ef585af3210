"""Options that several commands take."""

import inspect
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperCommand

from genfast.errors import UsageError
from genfast.samplers.options import SAMPLERS, Options, TokenOptions, flag
from genfast.shards import Shard

if TYPE_CHECKING:
    from typer._click import Context

    from genfast.models.base import Model
    from genfast.tasks.delivery import Delivery

OUTPUT, DEVICES, WEIGHTS, MACHINES = "Output", "Devices", "Weights", "Many machines"  # panels of --help
SAMPLING = "Samplers, for whoever wants to turn knobs"

ModelName = Annotated[str, typer.Option(help="A model by name (see genfast models), or a folder.")]
Device = Annotated[
    str, typer.Option(envvar="GENFAST_DEVICE", help="auto, cpu, cuda or cuda:N.", rich_help_panel=DEVICES)
]
Devices = Annotated[
    str,
    typer.Option(
        envvar="GENFAST_DEVICE",
        help="auto, cpu, cuda or cuda:N; to draw on several at once, as in cuda:0,cuda:1.",
        rich_help_panel=DEVICES,
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads on the CPU; by default one a core.", rich_help_panel=DEVICES)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.", rich_help_panel=OUTPUT)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=OUTPUT)]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Keep files that exist, and draw the others.", rich_help_panel=OUTPUT)
]
History = Annotated[
    bool,
    typer.Option(
        "--history", help="Write how each image comes about, as an animated PNG and as a strip.", rich_help_panel=OUTPUT
    ),
]

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Share the work out among the machines of a Ray cluster; without an address, that of RAY_ADDRESS, "
        "or the cores of this machine.",
        rich_help_panel=MACHINES,
    ),
]
Collect = Annotated[
    bool,
    typer.Option("--collect", help="With --ray: what the machines make is sent here.", rich_help_panel=MACHINES),
]
Share = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="[K/N]",
        help="Do share K of N alone, counted from 0; without K/N, that of a Slurm array. In a Kubernetes job: auto/N.",
        rich_help_panel=MACHINES,
    ),
]
_LEFT_OUT = {
    "--ray": (os.environ.get("RAY_ADDRESS") or "local", r"local|auto|ray://.+|[^/]+:\d+"),
    "--shard": ("auto", r"[\d/]+|auto.*"),
}
"""Options that may stand alone: what they mean then, and what a value looks like."""
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Ask for an attribute, as in hair=bun; several times for several. What is not set varies, or is what the "
        "surroundings of a hole show. genfast info MODEL --attributes lists them.",
    ),
]

Given = dict[str, int | float | str]
"""What was given of the options of samplers, by the names of their fields, and "sampler"."""


class SharedCommand(TyperCommand):
    """A command whose options --ray and --shard may stand without a value, which typer does not know."""

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        spelled = list(args)
        for place, (word, following) in enumerate(zip(args, [*args[1:], ""], strict=False)):
            default, pattern = _LEFT_OUT.get(word, ("", ""))
            if default and not re.fullmatch(pattern, following):
                spelled[place] = f"{word}={default}"
        return super().parse_args(ctx, spelled)


def shard(text: str | None, ray: str | None) -> Shard | None:
    """What --shard says. Raises UsageError for what is no share, and beside --ray."""
    if text and ray:
        raise UsageError("--ray and --shard exclude each other: Ray shares the work out itself")
    return Shard.parse(text) if text else None


def delivery(folder: Path, ray: str | None, collect: bool) -> "AbstractContextManager[Delivery]":
    """How files come into a folder. Raises UsageError for --collect without --ray."""
    from genfast.tasks.delivery import Delivery, shared

    if collect and ray is None:
        raise UsageError("--collect is about --ray; omit it, or give both")
    return shared(folder.absolute()) if ray and not collect else nullcontext(Delivery(collect))


def numbers(option: str, text: str | None) -> list[int]:
    """Those that an option lists, each once; none where it is not given. Raises UsageError for what is no number."""
    try:
        return [] if text is None else list(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError as error:
        raise UsageError(f"{option} takes a number, or several as in 1,2,4,8; not {text!r}") from error


def settings(given: list[str] | None) -> dict[str, str]:
    """What --set says, by name in alphabetical order. Raises UsageError for what is no NAME=VALUE, or a name twice."""
    pairs: dict[str, str] = {}
    for text in given or []:
        name, equals, value = map(str.strip, text.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--set takes a name and a value, as in hair=bun; not {text!r}")
        if name.lower() in map(str.lower, pairs):
            raise UsageError(f"--set {name} is given twice; omit one of them")
        pairs[name] = value
    return dict(sorted(pairs.items()))


def said_of(settings: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The settings by the name of the command line."""
    return {"set": tuple(f"{name}={value}" for name, value in settings.items())} if settings else {}


def sampler_options(*more: type[Options]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of the samplers of tokens, and of `more` samplers.

    The command takes what was given as its argument `given`. --steps is the command's own, since it picks weights too.
    """
    kinds = [*SAMPLERS.values(), *more]
    takers: dict[str, list[str]] = {}
    settings = {}
    for kind in kinds:
        for each in kind.settings():
            takers.setdefault(each.name, []).append(kind.sampler)
            settings[each.name] = each
    del settings["steps"]

    def parameter(name: str, kind: object, help: str) -> inspect.Parameter:
        option = Annotated[kind | None, typer.Option(f"--{flag(name)}", help=help, rich_help_panel=SAMPLING)]  # type: ignore[valid-type]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)

    added = [parameter("sampler", Literal[tuple(SAMPLERS)], "Sampler of tokens; the default is in the model's card.")]
    for name, each in settings.items():
        whose = "" if len(takers[name]) == len(SAMPLERS) else f" ({', '.join(takers[name])})"
        added.append(parameter(name, each.type, each.metadata["help"] + whose))

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values() if each.name != "given"]

        @wraps(command)
        def run(**values: object) -> None:
            given = {each.name: values.pop(each.name) for each in added}
            command(**values, given={name: value for name, value in given.items() if value is not None})

        run.__signature__ = inspect.Signature([*kept, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*kept, *added)}
        return run

    return decorate


def chosen(model: "Model", default: Options | None, given: Given) -> Options | None:
    """The options that a command gives a model, beginning with its `default`; None where none are given.

    Raises UsageError for what the sampler, or the model, does not take.
    """
    if not given:
        return None
    classes = model.bundle.manifest.classes
    unguided = UsageError(f"these weights of {model.name} know no classes to be guided to; omit --guidance")
    if default is None and given.keys() == {"guidance"} and not classes:
        raise unguided
    sampler = str(given.get("sampler") or (default and default.sampler))
    if default is None or not (sampler == default.sampler or isinstance(default, TokenOptions)):
        family = model.bundle.manifest.family
        raise UsageError(f"{model.name} is of family {family}, which takes no {', '.join(map(flag, sorted(given)))}")
    if sampler != default.sampler:
        default = default.switched(SAMPLERS[sampler])
    taken = default.adjusted({name: value for name, value in given.items() if not isinstance(value, str)})
    if getattr(taken, "guidance", 1) != 1 and not classes:
        raise unguided
    return taken


def said(given: Given, default: Options | None) -> Given:
    """What was given and is not the `default`, by the names of the command line."""
    sampler = given.get("sampler")
    same = default if default and sampler in (None, default.sampler) else None  # another has other defaults
    return {flag(name): value for name, value in given.items() if getattr(same, name, None) != value}
