"""What the page costs: one fill through `genfast ui`, beside the same fill by `genfast inpaint`.

    python -m benchmarks.page [--model avatars1024] [-n 9] [--threads 2] [--json]

In turns, medians: the command, which loads the model each time; the page just started, which loads it as well, from the
request to the bytes of the fill; and the page again, beside genfast.inpaint and the encoding of its file in a process
that has the model.
"""

import base64
import json
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import genfast
from benchmarks import common
from genfast.inpainting.picture import Repaint, drawn_by

COMMAND, PYTHON = "genfast inpaint", "the same in Python"
FIRST, LATER = "the first fill of the page", "a later fill of the page"
EXAMPLES = Path(__file__).parents[1] / "assets" / "examples"


def main() -> None:
    given = common.parser(__doc__, "--model -n --threads --json", model="avatars1024", n=9, threads=2)
    options = given.parse_args()
    common.report(measured(options.model, options.n, options.threads), options.json)


def measured(name: str, n: int, threads: int) -> dict[str, float]:
    """Medians of n turns: seconds, and ratios of two that came one after the other."""
    picture, mask = EXAMPLES / "stroke.png", EXAMPLES / "stroke-mask.png"
    model = genfast.load(name, device="cpu", threads=threads)
    told = ["--model", name, "--device", "cpu", "--threads", str(threads)]
    times: dict[str, list[float]] = {}

    def took(what: str, began: float) -> None:
        times.setdefault(what, []).append(time.perf_counter() - began)

    for _ in range(n):
        with tempfile.TemporaryDirectory() as out:
            began = time.perf_counter()
            subprocess.run(
                [*common.GENFAST, "inpaint", picture, mask, *told, "--out", out], check=True, capture_output=True
            )
            took(COMMAND, began)
        with page(told) as address:
            for kind in FIRST, LATER:
                began = time.perf_counter()
                filled(address, name, picture, mask)
                took(kind, began)
        began = time.perf_counter()
        task = Repaint(drawn_by=drawn_by(model))
        shown, hole, found = task.fills(model, BytesIO(picture.read_bytes()), mask, say=print)
        task.file(picture, shown, hole, found[0], (picture.name, mask.name), say=print)
        took(PYTHON, began)
    figures = {f"{what}, seconds": statistics.median(each) for what, each in times.items()}
    for one, other in (FIRST, COMMAND), (LATER, PYTHON):
        ratios = (a / b for a, b in zip(times[one], times[other], strict=True))
        figures[f"{one} over {other}"] = statistics.median(ratios)
    return figures


@contextmanager
def page(told: list[str]) -> Iterator[str]:
    """The address of a page that runs for a while."""
    command = [*common.GENFAST, "ui", "--no-browser", *told]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


def filled(address: str, model: str, picture: Path, mask: Path) -> bytes:
    """Upload a picture, have it filled, and get the file."""
    with urllib.request.urlopen(f"{address}pictures?name={picture.name}", picture.read_bytes()) as answer:
        id = json.load(answer)["id"]
    order = {"model": model, "picture": id, "mask": base64.b64encode(mask.read_bytes()).decode()}
    with urllib.request.urlopen(f"{address}repaint", json.dumps(order).encode()) as answer:
        events = [json.loads(line[6:]) for line in answer if line.startswith(b"data: ")]
    (made,) = (event["picture"]["id"] for event in events if "picture" in event)
    with urllib.request.urlopen(f"{address}pictures/{made}") as answer:
        content: bytes = answer.read()
    return content


if __name__ == "__main__":
    main()
