"""`genfast models`: the known models, and what of them is on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import Json, print_json, print_table
from genfast.errors import ModelError

if TYPE_CHECKING:
    from genfast.bundles.catalog import Variant


def models(
    every: Annotated[bool, typer.Option("--all", help="List every set of weights, with its size and figures.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the known models."""
    from genfast.bundles import bundle, catalog, hub

    rows: list[Json] = []
    for entry in catalog.entries().values():
        for variant in entry.variants:
            folder = hub.locate(variant.bundle)
            place = "missing" if folder is None else "shipped" if hub.is_shipped(folder) else "cached"
            figures: list[Json] = []
            if folder:
                try:
                    found = bundle.read(folder).manifest.figures
                    figures = [figure.model_dump() for figure in found if _is_of(figure.name, variant)]
                except ModelError:
                    place = "corrupt"
            rows.append(
                {
                    "name": entry.name,
                    "family": entry.family,
                    "steps": variant.steps,
                    "loss": variant.loss,
                    "megabytes": folder and round(hub.size(folder) / 1e6, 1),
                    "place": place,
                    "licence": entry.licence,
                    "summary": entry.summary,
                    "figures": figures,
                }
            )
    if as_json:
        print_json({"models": rows})
    elif every:
        for row in rows:
            distances = [figure for figure in row["figures"] if figure["name"].startswith("FID")]
            row["figures"] = "; ".join("{name} {value:.3g}".format(**figure) for figure in distances) or None
        print_table(rows)
    else:
        print_table([_row(name, [row for row in rows if row["name"] == name]) for name in catalog.entries()])


def _is_of(figure: str, variant: "Variant") -> bool:
    """Whether a figure is of a variant: of any, if its name does not end in a number of steps."""
    own = ", ".join(filter(None, [variant.loss, f"{variant.steps} steps"]))
    return variant.steps is None or not figure.endswith(" steps") or figure.endswith(f", {own}")


def _row(name: str, variants: list[Json]) -> Json:
    """A model in a line of 80 columns; its place is that of the weights that it draws with by default, the first."""
    from genfast.bundles.catalog import span

    steps = sorted({variant["steps"] for variant in variants if variant["steps"]})
    return {
        "name": name,
        "place": variants[0]["place"],
        "steps": span(steps) or ("-" if variants[0]["family"] == "features" else "any"),
        "summary": variants[0]["summary"],
    }
