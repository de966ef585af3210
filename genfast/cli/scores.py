"""How `genfast fid` prints scores: those of a set by one extractor are a card, a column for each number of steps."""

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from genfast.cli.output import Json

_VARYING = {"fid": "FID", "kid": "KID", "precision": "precision", "recall": "recall"}  # from seed to seed


def cards(results: Iterable[Json]) -> list[list[Json]]:
    """Results that differ in steps and seeds alone."""
    return _grouped(results, "features", "model", "guidance", "attributes", "dataset")


def columns(card: Sequence[Json]) -> list[list[Json]]:
    """The results of each number of steps, one a seed."""
    return _grouped(card, "steps", "loss")


def _grouped(results: Iterable[Json], *names: str) -> list[list[Json]]:
    groups: dict[str, list[Json]] = {}
    for result in results:
        groups.setdefault(repr([result[name] for name in names]), []).append(result)
    return [*groups.values()]


def spread(column: Sequence[Json]) -> Json:
    """Mean and standard deviation over the seeds of one number of steps."""
    figures = {name: [result[name] for result in column] for name in _VARYING if column[0][name] is not None}
    return {
        **{name: column[0][name] for name in ("features", "model", "steps", "loss", "protocol")},
        "seeds": [result["seed"] for result in column],
        **{name: {"mean": fmean(values), "deviation": stdev(values)} for name, values in figures.items()},
    }


def text(card: Sequence[Json], named: bool = False) -> str:
    """A block of lines, a column for each number of steps: figures of different extractors are not set side by side.

    Where there are several sets, it is `named` after its own.
    """
    by_steps, first = columns(card), card[0]

    def cell(column: Sequence[Json], name: str, digits: int) -> str:
        values = [result[name] for result in column]
        around = f"±{stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{fmean(values):.{digits}f}{around}"

    rows: dict[str, list[str]] = {}
    if len(by_steps) > 1:
        rows["steps"] = [str(column[0]["steps"]) for column in by_steps]
        rows["loss"] = [str(column[0]["loss"] or "-") for column in by_steps]
    rows["FID"] = [cell(column, "fid", 3) for column in by_steps]
    for name, value in {"floor": first["floor"], **first["yardsticks"]}.items():
        rows[name] = ["-" if value is None else f"{value:.3f}"]
    for name in (name for name in ("kid", "precision", "recall") if first[name] is not None):
        rows[_VARYING[name]] = [cell(column, name, 5 if name == "kid" else 3) for column in by_steps]
    if first["seconds_per_image"] is not None:
        rows["s/image"] = [f"{fmean(r['seconds_per_image'] for r in column):.2g}" for column in by_steps]
    if first["guidance"] not in (None, 1):
        rows["guidance"] = [f"{first['guidance']:g}"]
    if first["attributes"]:
        rows["set"] = [", ".join(f"{name}={value}" for name, value in first["attributes"].items())]
    rows["n"] = [str(first["n"] or "-")]
    rows["seconds"] = [f"{sum(result['seconds'] for result in column):.1f}" for column in by_steps]
    rows["protocol"] = [first["protocol"]]
    width = max(len(text) for cells in rows.values() if len(cells) == len(by_steps) for text in cells) + 2
    lines = ("".join(text.ljust(width) for text in cells).rstrip() for cells in rows.values())
    heading = f"{first['features']}: {first['model'] or first['dataset']}" if named else first["features"]
    return "\n".join([heading, *(f"  {name:11}{line}" for name, line in zip(rows, lines, strict=True))])
