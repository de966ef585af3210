"""`genfast info`: where an image comes from, what a model is."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genfast.cli.output import print_json
from genfast.errors import AbsentError, GenfastError

if TYPE_CHECKING:
    from genfast.images import Recipe


def info(
    target: Annotated[str, typer.Argument(help="An image that genfast drew, a model by name, or a bundle's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Show the recipe of an image, with the command that draws it again, or the card of a model."""
    card = _image(Path(target)) if Path(target).is_file() else _model(target)
    if as_json:
        print_json(card)
    else:
        print(*_lines(card), sep="\n")


def _image(path: Path) -> dict[str, Any]:
    from genfast import images

    recipe = images.read_recipe(path)
    model = recipe.model if _is_known(recipe) else f"path/to/{recipe.model}"
    verb = f"inpaint {shlex.join(recipe.inpainted)}" if recipe.inpainted else "sample"
    command = f"genfast {verb} --model {model} --steps {recipe.steps} --seed {recipe.seed}"
    command += f" -n {recipe.n}" if recipe.inpainted else f" --start {recipe.index} -n {recipe.n}"
    for name, value in recipe.options.items():
        command += f" --{name}" if value is True else f" --{name} {shlex.quote(str(value))}"
    return {**recipe.model_dump(mode="json"), "command": command}


def _is_known(recipe: "Recipe") -> bool:
    """Whether the catalogue's name of a recipe's model means the weights that drew: those that are here, if any are."""
    from genfast import bundle, catalog, hub

    if recipe.model not in catalog.entries():
        return False
    loss = recipe.options.get("loss")
    try:
        here = hub.here(recipe.model, recipe.steps, str(loss) if loss else None)
    except AbsentError:
        return True
    except GenfastError:  # no such variant
        return False
    return bundle.read(here).sha256 == recipe.bundle


def _model(name: str) -> dict[str, Any]:
    from genfast import bundle, catalog, hub

    found = bundle.load(hub.here(name))
    entry = catalog.entries().get(name)
    return {
        **found.manifest.model_dump(mode="json", exclude={"format", "files"}, exclude_none=True),
        "limits": entry.limits if entry else "",
        "steps": found.manifest.steps,
        "bytes": sum(file.size for file in found.manifest.files),
        "bundle": found.sha256,
        "folder": str(found.directory),
    }


def _lines(card: dict[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in card.items():
        if value in (None, "", [], {}):
            continue
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, dict) for item in items):
            for item in items:
                yield f"{indent}{key}:"
                yield from _lines(item, indent + "  ")
        else:
            yield f"{indent}{key}: {', '.join(map(str, items))}"
