"""`genfast info`: where an image comes from, what a model is."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import Json, print_json
from genfast.errors import AbsentError, GenfastError, InputError, UsageError

if TYPE_CHECKING:
    from genfast.images.params import GenerationParams

_FIRST = ("name", "summary", "limits", "licence", "figures", "family", "steps", "image", "classes", "attributes")
_LAST = ("schedule", "latent", "feature_dim", "tokens", "graphs", "arrays", "statistics", "parity", "bytes")  # by --all
_EXPORT = ("parity", "int8", "fp32")  # begin the names of figures that say how near graphs are to their networks


def info(
    target: Annotated[str, typer.Argument(help="An image that genfast drew, a model by name, or a bundle's folder.")],
    every: Annotated[bool, typer.Option("--all", help="Show the graphs of a model and their parity as well.")] = False,
    attributes: Annotated[
        bool, typer.Option("--attributes", help="List instead what sample --set can ask a model for, class by class.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what drew an image, with the command that draws it again, or the card of a model."""
    from genfast.images.folder import SUFFIXES

    is_image = Path(target).is_file()
    if not is_image and Path(target).suffix.lower() in SUFFIXES and not Path(target).exists():
        raise InputError(f"{target} does not exist")
    if is_image and attributes:
        raise UsageError(f"--attributes lists those of a model, and {target} is an image; name a model")
    card = _image(Path(target)) if is_image else _attributes(target) if attributes else _model(target)
    if as_json:
        print_json(card)
    elif attributes:
        print(*_lists(card), sep="\n")
    else:
        print(*_lines(card if is_image or every else _essence(card)), sep="\n")


def _image(path: Path) -> Json:
    from genfast.images.params import read_params

    params = read_params(path)
    model = params.model if _is_known(params) else f"path/to/{params.model}"
    return {**params.model_dump(mode="json"), "command": params.command(model)}


def _is_known(params: "GenerationParams") -> bool:
    """Whether the catalogue's name of an image's model means the weights that drew: those that are here, if any are."""
    from genfast.bundles import bundle, catalog, hub

    if params.model not in catalog.entries():
        return False
    loss = params.options.get("loss")
    try:
        here = hub.here(params.model, params.steps, str(loss) if loss else None)
        return bundle.read(here).sha256 == params.bundle
    except AbsentError:
        return True
    except GenfastError:  # no such variant, or a damaged bundle
        return False


def _model(name: str) -> Json:
    """A card: what a model is and can, how good it is, where it comes from, and last what it is made of."""
    from genfast.bundles import bundle, catalog, hub

    found = bundle.load(hub.here(name))
    entry = catalog.entries().get(name)
    card = {
        **found.manifest.model_dump(mode="json", exclude={"format", "files"}, exclude_none=True),
        "limits": entry.limits if entry else "",
        "steps": found.manifest.steps,
        "bytes": sum(file.size for file in found.manifest.files),
        "bundle": found.sha256,
        "folder": str(found.directory),
    }
    middle = [key for key in card if key not in (*_FIRST, *_LAST)]
    return {key: card[key] for key in (*_FIRST, *middle, *_LAST) if key in card}


def _attributes(name: str) -> Json:
    """What pictures of each class of a model can have, the most frequent value first."""
    from genfast import colours
    from genfast.bundles import bundle, hub
    from genfast.models.drafts import read_table

    found = bundle.load(hub.here(name))
    if not found.manifest.attributes:
        raise UsageError(f"{found.manifest.name} has no attributes that pictures could be asked for by")
    table, listed = read_table(found), []
    for label, class_name in enumerate(table.classes or [None]):
        for place, attribute in enumerate(table.attributes):
            counts = table.counts(label, place)
            values = [
                {
                    "value": attribute.values[number - 1],
                    "name": colours.name(attribute.values[number - 1]) if attribute.colour else None,
                    "share": counts[number] / counts.sum(),
                }
                for number in sorted(table.values(label, place), key=lambda number: -counts[number])
            ]
            if values:
                listed.append({"class": class_name, "name": attribute.name, "values": values})
    return {"model": found.manifest.name, "attributes": listed}


def _lists(card: Json) -> Iterator[str]:
    """The attributes of each class, a line each: colours with their names."""
    for name, group in groupby(card["attributes"], key=lambda attribute: attribute["class"]):
        if name:
            yield f"{name}:"
        for attribute in group:
            values = ((each["value"], each["name"]) for each in attribute["values"])
            texts = (f"{value} ({colour})" if colour else value for value, colour in values)
            yield f"{'  ' if name else ''}{attribute['name']}: {', '.join(texts)}"


def _essence(card: Json) -> Json:
    """A card for people: without what only those ask for who export models."""
    figures = [figure for figure in card["figures"] if not figure["name"].startswith(_EXPORT)]
    shorter = {"figures": figures, "attributes": [attribute["name"] for attribute in card["attributes"]]}
    return {key: shorter.get(key, value) for key, value in card.items() if key not in _LAST}


def _lines(card: Json, indent: str = "") -> Iterator[str]:
    for key, value in card.items():
        if value in (None, "", [], {}):
            continue
        items = value if isinstance(value, list) else [value]
        if key == "figures":
            yield f"{indent}{key}:"
            for figure in items:
                yield f"{indent}  {figure['name']}: {figure['value']:.4g} ({figure['protocol']})"
        elif any(isinstance(item, dict) for item in items):
            for item in items:
                yield f"{indent}{key}:"
                yield from _lines(item, indent + "  ")
        else:
            yield f"{indent}{key}: {', '.join(map(str, items))}"
