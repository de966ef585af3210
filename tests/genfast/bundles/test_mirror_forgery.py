"""Trees that a mirror should not hold: each is refused, and nothing of it stays."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genfast.bundles import hub
from genfast.errors import ModelError
from tests.genfast.bundles.conftest import NAME, same


def forge(**fields: Any) -> Callable[[Path], None]:
    """Change what the index says of the bundle."""

    def change(folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        index["bundles"][NAME] |= fields
        (folder / "index.json").write_text(json.dumps(index))

    return change


def replace_index(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "index.json").write_text(text)


def forge_manifest(*files: dict[str, Any], **fields: Any) -> Callable[[Path], None]:
    """Change the manifest, more files or fields, and let the index vouch for it."""

    def change(folder: Path) -> None:
        path = folder / NAME / "manifest.json"
        manifest = json.loads(path.read_text()) | fields
        manifest["files"] += files
        path.write_text(json.dumps(manifest))
        size = path.stat().st_size + sum(file["size"] for file in manifest["files"])
        forge(manifest_sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=size)(folder)

    return change


def file(path: str, content: bytes = b"<html>", size: int | None = None) -> dict[str, Any]:
    """A file as a manifest names it."""
    digest = hashlib.sha256(content).hexdigest()
    return {"path": path, "size": len(content) if size is None else size, "sha256": digest}


@pytest.mark.parametrize(
    ("forgery", "message"),
    [
        (replace_index(""), "index.json is not an index that this version reads: Invalid JSON"),
        (replace_index("[]"), "index.json is not an index that this version reads: "),
        (replace_index('{"format": 2, "bundles": {}}'), "index.json is not an index that this version reads: format: "),
        (replace_index('{"format": 1, "bundles": {}}'), f"^{NAME} is neither here nor at http://127.0.0.1:"),
        (
            replace_index('{"format": 1, "bundles": {"../up": {}}}'),
            "is not an index that this version reads: bundles: ",
        ),
        (
            forge(manifest_sha256="0" * 63),
            f"is not an index that this version reads: bundles: {NAME}: manifest_sha256: ",
        ),
        (
            forge(manifest_sha256="md5:" + "0" * 32),
            f"is not an index that this version reads: bundles: {NAME}: manifest_sha256: ",
        ),
        (forge(path="/etc"), f"is not an index that this version reads: bundles: {NAME}: path: Extra inputs"),
        (forge(size=0), f"is not an index that this version reads: bundles: {NAME}: size: "),
        (forge(manifest_sha256="0" * 64), "cannot fetch .*/manifest.json: SHA256 hash of downloaded file"),
        (forge(size=10), f"index.json announces 10 bytes of {NAME}, its manifest "),
        (forge_manifest(format=1), "manifest.json is of format 1, and this version reads 2; "),
        (forge_manifest(format=3), "manifest.json is not a manifest that this version reads: format: "),
        (forge_manifest(file("../up")), "is not a manifest that this version reads: files: 1: path: "),
        (forge_manifest(file("/tmp/up")), "is not a manifest that this version reads: files: 1: path: "),
        (forge_manifest(file("a/../../up")), "is not a manifest that this version reads: files: 1: path: "),
        (forge_manifest(file("..\\up")), "is not a manifest that this version reads: files: 1: path: "),
        (forge_manifest(file("big", size=-1)), "is not a manifest that this version reads: files: 1: size: "),
        (forge_manifest(file("big", size=2**62)), r"takes 4611686018427\.4 MB more, and .* MB free; make room there"),
        (forge_manifest(file("absent")), "cannot fetch http://.*/fashion28/absent: 404 Not Found"),
        (forge_manifest(file("manifest.json")), "cannot fetch .*/manifest.json: "),
        (forge_manifest(file("step.onnx/a")), "cannot write into .*: Not a directory; mend that"),
        (forge_manifest(file("step.onnx")), "cannot fetch .*/step.onnx: "),
    ],
)
def test_forged_trees_are_refused(
    server,
    tiny_bundle: Path,
    nothing_shipped: Path,
    impatient: None,
    tmp_path: Path,
    forgery: Callable[[Path], object],
    message: str,
) -> None:
    source = server.publish(tiny_bundle, NAME)
    honest = shutil.copytree(server.folder, tmp_path / "honest")
    before = {path for path in tmp_path.iterdir()} | {nothing_shipped}
    forgery(server.folder)
    with pytest.raises(ModelError, match=message):
        hub.find("fashion28")
    assert {path for path in tmp_path.iterdir()} == before
    assert {path.name for path in nothing_shipped.iterdir()} <= {f".{NAME}.lock", f".{NAME}.partial"}
    server.folder = honest
    assert same(hub.find("fashion28"), source)
