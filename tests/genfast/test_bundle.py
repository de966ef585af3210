import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from genfast import bundle
from genfast.errors import ModelError
from genfast.sundae import Options


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_written_bundle_loads_as_what_was_written(tiny_bundle: Path) -> None:
    loaded = bundle.load(tiny_bundle)
    assert loaded.directory == tiny_bundle
    assert loaded.sha256 == hashlib.sha256((tiny_bundle / "manifest.json").read_bytes()).hexdigest()
    assert loaded.manifest.steps == 3
    assert loaded.manifest.sampling.batch == 64
    (file,) = loaded.manifest.files
    content = (tiny_bundle / "step.onnx").read_bytes()
    assert (file.path, file.size, file.sha256) == ("step.onnx", len(content), hashlib.sha256(content).hexdigest())


def test_a_graph_is_chosen_by_provider(copy: Path) -> None:
    for name in "half.onnx", "int8.onnx":
        shutil.copy(copy / "step.onnx", copy / name)
    fields = bundle.load(copy).manifest.model_dump(exclude={"format", "files"})
    fields["graphs"] = {
        "step": [
            {"path": "half.onnx", "precision": "fp16", "providers": ["cuda"]},
            {"path": "int8.onnx", "precision": "int8", "providers": ["cpu"]},
            {"path": "step.onnx", "precision": "fp32", "providers": ["cpu", "cuda"]},
        ]
    }
    written = bundle.write(copy, **fields)
    assert written.graph("step", "cpu") == written.graph("step") == copy / "int8.onnx"
    assert written.graph("step", "cuda") == copy / "half.onnx"
    with pytest.raises(ModelError, match="tiny has no graph for decode on cpu"):
        written.graph("decode", "cpu")


@pytest.mark.parametrize(
    "path",
    ["../x.onnx", "/x.onnx", "a/../../x.onnx", "a\\x.onnx", "C:/x.onnx", "C:x.onnx", "//host/x.onnx", "./x.onnx", ""],
)
def test_no_path_leaves_the_bundle(copy: Path, path: str) -> None:
    edit(copy, lambda manifest: manifest["files"][0].update(path=path))
    with pytest.raises(ModelError, match="files: 0: path: .*stay inside the bundle"):
        bundle.load(copy)


@given(st.text(alphabet="a./\\:", max_size=8))
def test_an_accepted_path_stays_inside(path: str) -> None:
    try:
        accepted = TypeAdapter(bundle.BundlePath).validate_python(path)
    except ValidationError:
        return
    assert (Path("/srv/bundle") / accepted).resolve().parts[:3] == ("/", "srv", "bundle")


def test_no_link_leaves_the_bundle(copy: Path, tmp_path: Path) -> None:
    (copy / "step.onnx").rename(tmp_path / "outside.onnx")
    (copy / "step.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(ModelError, match="step.onnx is a link that leaves the bundle"):
        bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "format: Input should be 1"),
        (lambda m: m.update(colour="red"), "colour: Extra inputs are not permitted"),
        (lambda m: m["image"].update(depth=8), "image: depth: Extra inputs are not permitted"),
        (lambda m: m.pop("licence"), "licence: Field required"),
        (lambda m: m.update(name="../tiny"), "name: String should match pattern"),
        (lambda m: m.update(family="gan"), "family: Input should be"),
        (lambda m: m.pop("latent"), "a bundle of family ddgan needs latent"),
        (lambda m: m.pop("schedule"), "a bundle of family ddgan needs schedule"),
        (lambda m: m.update(family="features"), "a bundle of family features needs feature_dim"),
        (lambda m: m.update(graphs={"decode": m["graphs"]["step"]}), "a bundle of family ddgan needs a graph for step"),
        (lambda m: m["graphs"]["step"][0].update(path="a.py"), "graphs: step: 0: path: String should match pattern"),
        (lambda m: m["graphs"]["step"][0].update(path="other.onnx"), "other.onnx is used but not listed in files"),
        (lambda m: m.update(statistics={"test": "test.npz"}), "test.npz is used but not listed in files"),
        (lambda m: m["schedule"].update(alpha_bar=[1, 0.5, 0.6]), "schedule: .*alpha_bar must start at 1 and fall"),
        (lambda m: m["schedule"].update(alpha_bar=[0.9, 0.5]), "schedule: .*alpha_bar must start at 1 and fall"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(copy, change)
    with pytest.raises(ModelError, match=f"manifest.json is not a manifest that this version reads: .*{message}"):
        bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("tokens"), "a bundle of family vq-sundae needs tokens"),
        (lambda m: m.pop("image"), "a bundle of family vq-sundae needs image"),
        (lambda m: m["graphs"].pop("encode"), "a bundle of family vq-sundae needs a graph for encode"),
        (lambda m: m["tokens"].update(vocabulary=1), "tokens: vocabulary: Input should be greater than 1"),
        (lambda m: m["tokens"].update(depth=1), "tokens: depth: Extra inputs are not permitted"),
        (lambda m: m.update(classes=["red", "\x1b[2J"]), "classes: 1: String should match pattern"),
        (lambda m: m["sampling"]["options"].update(steps=0), "sampling: options: .*steps must lie in 1 .. 1000, not 0"),
        (lambda m: m["sampling"]["options"].update(order="raster"), "sampling: options: order: "),
        (lambda m: m["sampling"]["options"].update(speed=9), "sampling: options: speed: Unexpected keyword argument"),
    ],
)
def test_a_manifest_of_tokens_that_does_not_fit_is_refused(
    token_bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = shutil.copytree(token_bundle, tmp_path / "squares")
    edit(folder, change)
    with pytest.raises(ModelError, match=f"manifest.json is not a manifest that this version reads: .*{message}"):
        bundle.load(folder)


def test_the_defaults_of_a_sampler_are_kept(token_bundle: Path) -> None:
    sampling = bundle.load(token_bundle).manifest.sampling
    assert (sampling.batch, sampling.options) == (5, Options(steps=7, temperature_end=0.5))
    assert sampling.filling == Options(steps=4)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b'{"format": 1, ')
    with pytest.raises(ModelError, match="not a manifest that this version reads: Invalid JSON"):
        bundle.load(copy)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no bundle: cannot read manifest.json \(No such file or directory\)"):
        bundle.load(tmp_path)


def test_a_file_that_changed_is_noticed(copy: Path) -> None:
    graph = copy / "step.onnx"
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=f"has {len(content) - 1} bytes instead of {len(content)}"):
        bundle.load(copy)
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match="SHA-256 differs"):
        bundle.load(copy)
    graph.unlink()
    with pytest.raises(ModelError, match="step.onnx cannot be read"):
        bundle.load(copy)
