import json
import shutil
from pathlib import Path

import pytest

from genfast.bundles import catalog

VARIANTS = [(entry, variant) for entry in catalog.entries().values() for variant in entry.variants]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A cache of its own, which is still empty."""
    return {"GENFAST_CACHE": str(tmp_path / "cache")}


def rows(cli, environment: dict[str, str]) -> list[dict[str, object]]:
    return json.loads(cli("models", "--json", env=environment, check=True).stdout)["models"]


def missing(cli, environment: dict[str, str]) -> list[str]:
    """The bundles that are not here."""
    listed = zip(rows(cli, environment), VARIANTS, strict=True)
    return [variant.bundle for row, (_, variant) in listed if row["place"] == "missing"]


def fetch(bundle: Path, name: str, environment: dict[str, str]) -> Path:
    return shutil.copytree(bundle, Path(environment["GENFAST_CACHE"]) / "bundles" / name)


def test_every_set_of_weights_is_listed_with_what_is_here(cli, environment: dict[str, str]) -> None:
    for row, (entry, variant) in zip(rows(cli, environment), VARIANTS, strict=True):
        assert (row["name"], row["family"]) == (entry.name, entry.family)
        assert (row["steps"], row["loss"]) == (variant.steps, variant.loss)
        assert row["place"] in ("shipped", "missing")
        assert (row["megabytes"] is None) == (row["place"] == "missing")
        assert not row["figures"] or row["place"] == "shipped"
        assert row["figures"] or row["place"] == "missing" or row["steps"] in (3, 5, 6, 7)  # which were not measured
        for figure in row["figures"]:
            assert row["steps"] is None or figure["name"].endswith(f" {row['steps']} steps")
            assert row["loss"] is None or f", {row['loss']}, " in figure["name"]


def test_all_is_a_row_for_each_set_of_weights(cli, tiny_bundle: Path, environment: dict[str, str]) -> None:
    absent = missing(cli, environment)
    for bundle in absent:
        fetch(tiny_bundle, bundle, environment)
    lines = cli("models", "--all", env=environment, check=True).stdout.splitlines()
    assert lines[0].split()[:6] == ["name", "family", "steps", "loss", "megabytes", "place"]
    assert [line.split()[0] for line in lines[1:]] == [entry.name for entry, _ in VARIANTS]
    assert sum(" cached " in line for line in lines) == len(absent)


def test_a_model_is_one_row_that_a_terminal_holds(cli, environment: dict[str, str]) -> None:
    lines = cli("models", env=environment, check=True).stdout.splitlines()
    assert lines[0].split() == ["name", "place", "steps", "summary"]
    assert [line.split()[0] for line in lines[1:]] == [*catalog.entries()]
    assert not [line for line in lines if len(line) > 80]
    start = lines[0].index("summary")
    for line, entry in zip(lines[1:], catalog.entries().values(), strict=True):
        assert line[start:] == entry.summary
    steps = {line.split()[0]: line[lines[0].index("steps") : start].strip() for line in lines[1:]}
    assert steps["fashion28"] == "1 to 8" and steps["fashion"] == "-" and steps["avatars1024"] == "any"


def test_where_the_weights_of_a_model_lie(cli, tiny_bundle: Path, environment: dict[str, str]) -> None:
    def place(name: str) -> str:
        lines = cli("models", env=environment, check=True).stdout.splitlines()
        start, end = lines[0].index("place"), lines[0].index("steps")
        (line,) = (line for line in lines if line.split()[0] == name)
        return line[start:end].strip()

    assert (place("fashion"), place("ffhq1024")) == ("shipped", "missing")
    folder = fetch(tiny_bundle, "ffhq1024", environment)
    assert place("ffhq1024") == "cached"
    (folder / "manifest.json").write_text("{")
    assert place("ffhq1024") == "corrupt"
