"""`genfast pull`: fetch weights before they are needed."""

from typing import Annotated

import typer

from genfast.cli.options import AsJson
from genfast.cli.output import print_json


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Models by name (see genfast models), or hf://OWNER/REPO, with @REVISION if wanted.",
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Fetch all weights of models into the cache, and print their folders.

    They come from the mirror, whose address (http, https, file or hf) is GENFAST_MIRROR; of inception, from those who
    publish it; of a repository of the Hugging Face hub, from there. Weights that are whole on this machine stay;
    corrupt ones of the cache are fetched again.
    """
    from genfast.bundles import catalog, hub, huggingface

    known = {
        name: [*dict.fromkeys(variant.bundle for variant in catalog.entry(name).variants)]
        for name in names
        if not name.startswith(huggingface.SCHEME)
    }
    pulled = []
    for name in names:
        if name in known:
            found = [(name, hub.pull(each)) for each in known[name]]
        else:
            found = list(hub.pull_repository(name).items())
        pulled += [{"name": each, "folder": str(folder)} for each, folder in found]
    if as_json:
        print_json({"models": pulled})
    else:
        print(*(row["folder"] for row in pulled), sep="\n")
