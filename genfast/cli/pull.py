"""`genfast pull`: fetch weights before they are needed."""

from typing import Annotated

import typer

from genfast.cli.output import print_json


def pull(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models by name; see genfast models.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of paths.")] = False,
) -> None:
    """Fetch all weights of models from the mirror into the cache, and print their folders.

    Weights that are whole on this machine stay; corrupt ones of the cache are fetched again. The address of the mirror
    (http, https or file) is GENFAST_MIRROR.
    """
    from genfast.bundles import catalog, hub

    variants = [(name, variant.bundle) for name in names for variant in catalog.entry(name).variants]
    pulled = [{"name": name, "folder": str(hub.pull(bundle))} for name, bundle in variants]
    if as_json:
        print_json({"models": pulled})
    else:
        print(*(row["folder"] for row in pulled), sep="\n")
