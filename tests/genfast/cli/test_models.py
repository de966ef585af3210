import json
import shutil
from pathlib import Path

from genfast import catalog


def test_models_are_listed_with_what_is_here(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    environment = {"GENFAST_CACHE": str(tmp_path / "cache")}
    done = cli("models", "--json", env=environment, check=True)
    rows = {row["name"]: row for row in json.loads(done.stdout)["models"]}
    assert list(rows) == list(catalog.entries())
    assert rows["fashion28"]["family"] == "ddgan" and rows["fashion28"]["steps"] == 4
    for row in rows.values():
        assert row["place"] in ("shipped", "missing")
        assert (row["megabytes"] is None) == (row["place"] == "missing")

    missing = [name for name, row in rows.items() if row["place"] == "missing"]
    for name in missing:
        shutil.copytree(tiny_bundle, tmp_path / "cache" / "bundles" / catalog.entry(name).variant().bundle)
    lines = cli("models", env=environment, check=True).stdout.splitlines()
    assert lines[0].split()[:5] == ["name", "family", "steps", "megabytes", "place"]
    assert [line.split()[0] for line in lines[1:]] == list(rows)
    assert sum(" cached " in line for line in lines) == len(missing)
