"""`genfast models`: the known models, and what of them is on this machine."""

from typing import Annotated

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import Json, print_json, print_table
from genfast.errors import ModelError


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
                    figures = [figure.model_dump() for figure in bundle.read(folder).manifest.figures]
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


def _row(name: str, variants: list[Json]) -> Json:
    """A model in a line of 80 columns."""
    steps = sorted({variant["steps"] for variant in variants if variant["steps"]})
    places = {variant["place"] for variant in variants}
    return {
        "name": name,
        "place": places.pop() if len(places) == 1 else "in part",
        "steps": ",".join(map(str, steps)) or ("-" if variants[0]["family"] == "features" else "any"),
        "summary": variants[0]["summary"],
    }
