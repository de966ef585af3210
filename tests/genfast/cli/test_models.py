import json
import shutil
from pathlib import Path

from genfast import catalog


def test_models_are_listed_with_what_is_here(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    environment = {"GENFAST_CACHE": str(tmp_path / "cache")}
    done = cli("models", "--json", env=environment, check=True)
    rows = json.loads(done.stdout)["models"]
    variants = [(entry, variant) for entry in catalog.entries().values() for variant in entry.variants]
    for row, (entry, variant) in zip(rows, variants, strict=True):
        assert (row["name"], row["family"]) == (entry.name, entry.family)
        assert (row["steps"], row["loss"]) == (variant.steps, variant.loss)
        assert row["place"] in ("shipped", "missing")
        assert (row["megabytes"] is None) == (row["place"] == "missing")

    missing = [variant.bundle for row, (_, variant) in zip(rows, variants, strict=True) if row["place"] == "missing"]
    for bundle in missing:
        shutil.copytree(tiny_bundle, tmp_path / "cache" / "bundles" / bundle)
    lines = cli("models", env=environment, check=True).stdout.splitlines()
    assert lines[0].split()[:6] == ["name", "family", "steps", "loss", "megabytes", "place"]
    assert [line.split()[0] for line in lines[1:]] == [row["name"] for row in rows]
    assert sum(" cached " in line for line in lines) == len(missing)
