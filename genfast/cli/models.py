"""`genfast models`: the known models, and what of them is on this machine."""

from typing import Annotated

import typer

from genfast.cli.output import print_json


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """List the known models, one line for each set of weights."""
    from genfast import catalog, hub

    rows = []
    for entry in catalog.entries().values():
        for variant in entry.variants:
            folder = hub.locate(variant.bundle)
            rows.append(
                {
                    "name": entry.name,
                    "family": entry.family,
                    "steps": variant.steps,
                    "loss": variant.loss,
                    "megabytes": folder and round(sum(file.stat().st_size for file in folder.rglob("*")) / 1e6, 1),
                    "place": "missing" if folder is None else "shipped" if hub.is_shipped(folder) else "cached",
                    "licence": entry.licence,
                    "summary": entry.summary,
                }
            )
    if as_json:
        print_json({"models": rows})
        return
    lines = [list(rows[0])] + [["-" if cell is None else str(cell) for cell in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
