"""Attributes of images for training: what each picture shows, where a data set knows it."""

import csv
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from genfast.attributes import Attribute, Rows
from genfast.errors import InputError

FILE = "attributes.csv"


def encode(
    told: Sequence[Mapping[str, str]], values: Mapping[str, Iterable[str]], colours: Container[str] = ()
) -> tuple[tuple[Attribute, ...], Rows]:
    """Attributes and rows [N, A] of pictures of which values are told by name.

    `values` has all values of each attribute, whether told or not; `colours` names those that are colours.
    """
    ordered = {name: sorted(set(each)) for name, each in values.items()}
    numbers = {name: {value: i for i, value in enumerate(each, 1)} for name, each in ordered.items()}
    rows = [[numbers[name].get(each.get(name, ""), 0) for name in ordered] for each in told]
    pairs = ordered.items()
    attributes = tuple(Attribute(name=name, values=tuple(each), colour=name in colours) for name, each in pairs)
    return attributes, np.array(rows, np.int64).reshape(len(told), len(ordered))


def read(folder: Path) -> dict[str, dict[str, str]]:
    """What `attributes.csv` tells of files, by their paths in the folder: values by attribute. Empty is unknown.

    Its columns are `file`, then one an attribute. Nothing is told where there is no such file.

    Raises:
        InputError: it is no such table.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="", strict=True)
            if not table.fieldnames or table.fieldnames[0] != "file":
                raise InputError(f"{path}: the first column must be `file`, and then one for each attribute")
            told = {}
            for row in table:
                if None in row:
                    raise InputError(f"{path}: line {table.line_num} has more columns than the first")
                file_name = row.pop("file")
                told[file_name] = {name: value for name, value in row.items() if value}
            return told
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no table in UTF-8: {error}") from error
