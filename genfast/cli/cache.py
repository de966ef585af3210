"""`genfast cache`: the weights that were fetched."""

import sys
from typing import Annotated

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import Json, print_json, print_table
from genfast.errors import ModelError


def cache(
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its SHA-256.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove unfinished downloads and, having verified all, corrupt bundles.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the bundles of the cache, whose folder is GENFAST_CACHE or the user's own."""
    from genfast.bundles import hub

    found = [*(hub.prune() if prune else ()), *hub.cached(verify)]
    rows: list[Json] = [
        {"name": each.name, "state": each.state, "megabytes": round(each.size / 1e6, 1), "fault": each.fault}
        for each in found
    ]
    if as_json:
        print_json({"folder": str(hub.bundles()), "bundles": rows})
    else:
        print(hub.bundles())
        if rows:
            print_table(rows)
    if corrupt := [each.name for each in found if each.state == "corrupt"]:
        cure = "genfast pull fetches again, genfast cache --prune removes"
        print(f"genfast: error: corrupt: {', '.join(corrupt)}; {cure}", file=sys.stderr)
        raise typer.Exit(ModelError.exit_code)
