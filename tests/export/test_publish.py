import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.publish import publish
from genfast.bundles import bundle
from genfast.errors import ModelError, UsageError

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_bundles_lie_beside_an_index(tiny_bundle: Path, token_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "export", "publish", "mirror"]
    environment = {"PYTHONPATH": str(ROOT)}
    for added, listed in (token_bundle, "squares\n"), (tiny_bundle, "squares\ntiny\n"):
        done = subprocess.run([*command, added], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, listed, "")
    mirror = tmp_path / "mirror"
    expected = {f"{folder.name}/{name}" for folder in (tiny_bundle, token_bundle) for name in names(folder)}
    assert names(mirror) == expected | {"index.json", "README.md"}
    index = json.loads((mirror / "index.json").read_text())
    assert index["format"] == 1 and set(index["bundles"]) == {"squares", "tiny"}
    size = sum(path.stat().st_size for path in tiny_bundle.iterdir())
    assert index["bundles"]["tiny"] == {"manifest_sha256": bundle.load(tiny_bundle).sha256, "size": size}


def test_what_is_published_stays_as_it_is(tiny_bundle: Path, tmp_path: Path) -> None:
    index = publish(tmp_path / "mirror", [tiny_bundle])
    assert publish(tmp_path / "mirror", [tiny_bundle]) == index
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text().replace("for tests", "for other tests"))
    with pytest.raises(UsageError, match="mirror/tiny is another bundle; give .*/other another name, or remove"):
        publish(tmp_path / "mirror", [other])
    assert bundle.load(tmp_path / "mirror" / "tiny").sha256 == bundle.load(tiny_bundle).sha256


def test_a_corrupt_bundle_is_not_published(tiny_bundle: Path, tmp_path: Path) -> None:
    rotten = shutil.copytree(tiny_bundle, tmp_path / "rotten")
    (rotten / "step.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="step.onnx has 0 bytes"):
        publish(tmp_path / "mirror", [rotten])
    assert not (tmp_path / "mirror").exists()
    publish(tmp_path / "mirror", [tiny_bundle])
    (tmp_path / "mirror" / "tiny" / "step.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="mirror/tiny/step.onnx has 0 bytes"):
        publish(tmp_path / "mirror", [tiny_bundle])


def test_a_page_says_what_there_is_and_how_to_run_it(tiny_bundle: Path, token_bundle: Path, tmp_path: Path) -> None:
    readme = tmp_path / "mirror" / "README.md"
    publish(tmp_path / "mirror", [tiny_bundle])
    assert readme.read_text().startswith('---\nlicense: "apache-2.0"\nlibrary_name: "genfast"\ntags: ')
    other = shutil.copytree(token_bundle, tmp_path / "other")
    manifest = other / "manifest.json"
    odd = '"licence": "NVIDIA: \\"research\\" # only"'
    manifest.write_text(manifest.read_text().replace('"licence": "Apache-2.0"', odd))
    publish(tmp_path / "mirror", [other])
    head, body = readme.read_text().removeprefix("---\n").split("\n---\n")
    assert {key: json.loads(value) for key, _, value in (line.partition(": ") for line in head.splitlines())} == {
        "license": "other",
        "license_name": 'Apache-2.0, NVIDIA: "research" # only',
        "library_name": "genfast",
        "tags": ["onnx", "genfast", "ddgan", "vq-sundae"],
    }
    assert "## tiny\n\nfor tests.\n\n```sh\ngenfast sample --model FOLDER\n```" in body
    assert "- trained on: none (CC0-1.0)" in body and "## squares" in body
    readme.write_text("My own words")
    publish(tmp_path / "mirror", [tiny_bundle])
    assert readme.read_text() == "My own words"
