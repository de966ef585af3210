"""`genfast info`: where an image comes from, what a model is."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import Json, print_json
from genfast.errors import AbsentError, GenfastError, InputError

if TYPE_CHECKING:
    from genfast.images.params import GenerationParams

_FIRST = ("name", "summary", "limits", "licence", "figures", "family", "steps", "image", "classes", "sampling")
_LAST = ("schedule", "latent", "feature_dim", "tokens", "graphs", "arrays", "statistics", "parity", "bytes")  # by --all
_EXPORT = ("parity", "int8", "fp32")  # begin the names of figures that say how near graphs are to their networks


def info(
    target: Annotated[str, typer.Argument(help="An image that genfast drew, a model by name, or a bundle's folder.")],
    every: Annotated[bool, typer.Option("--all", help="Show the graphs of a model and their parity as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what drew an image, with the command that draws it again, or the card of a model."""
    from genfast.images.folder import SUFFIXES

    is_image = Path(target).is_file()
    if not is_image and Path(target).suffix.lower() in SUFFIXES and not Path(target).exists():
        raise InputError(f"{target} does not exist")
    card = _image(Path(target)) if is_image else _model(target)
    if as_json:
        print_json(card)
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
    except AbsentError:
        return True
    except GenfastError:  # no such variant
        return False
    return bundle.read(here).sha256 == params.bundle


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


def _essence(card: Json) -> Json:
    """A card for people: without what only those ask for who export models."""
    figures = [figure for figure in card["figures"] if not figure["name"].startswith(_EXPORT)]
    return {key: figures if key == "figures" else value for key, value in card.items() if key not in _LAST}


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
