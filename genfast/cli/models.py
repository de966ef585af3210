"""`genfast models`: the known models, and what of them is on this machine."""

from typing import Annotated, Any

import typer

from genfast.cli.output import print_json, print_table
from genfast.errors import ModelError


def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, with all figures, instead of a table.")
    ] = False,
) -> None:
    """List the known models, one line for each set of weights."""
    from genfast import bundle, catalog, hub

    rows: list[dict[str, Any]] = []
    for entry in catalog.entries().values():
        for variant in entry.variants:
            folder = hub.locate(variant.bundle)
            place = "missing" if folder is None else "shipped" if hub.is_shipped(folder) else "cached"
            figures: list[dict[str, Any]] = []
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
    else:
        for row in rows:
            distances = [figure for figure in row["figures"] if figure["name"].startswith("FID")]
            row["figures"] = "; ".join("{name} {value:.3g}".format(**figure) for figure in distances) or None
        print_table(rows)
