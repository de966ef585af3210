import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from genfast.bundles import bundle
from genfast.errors import ModelError


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


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


def test_no_link_leaves_the_bundle(copy: Path, tmp_path: Path) -> None:
    (copy / "step.onnx").rename(tmp_path / "outside.onnx")
    (copy / "step.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(ModelError, match="step.onnx is a link that leaves the bundle"):
        bundle.load(copy)


def test_a_manifest_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "manifest.json").write_bytes(b'{"format": 2, ')
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


@pytest.mark.parametrize("indent", [None, 2])
def test_a_bundle_of_the_format_before_is_refused_in_one_line_that_names_the_cure(
    copy: Path, indent: int | None
) -> None:
    """Though it would not fit in other ways, too."""
    manifest = json.loads((copy / "manifest.json").read_text()) | {"format": 1, "sampling": {"filling": {"growth": 2}}}
    (copy / "manifest.json").write_text(json.dumps(manifest, indent=indent))
    for reading in bundle.read, bundle.load:
        with pytest.raises(ModelError) as refused:
            reading(copy)
        assert str(refused.value) == (
            f"{copy}/manifest.json is of format 1, and this version reads 2; "
            "fetch the bundle again (genfast pull), or export its checkpoint anew"
        )


def test_an_array_is_read_as_float32(attribute_bundle: Path, tmp_path: Path) -> None:
    """From an .npy, or an .npz of it alone."""
    folder = shutil.copytree(attribute_bundle, tmp_path / "dolls")
    loaded = bundle.load(folder)
    for name, file, kind in ("draft_mean", "draft_mean.npy", np.float16), ("draft_basis", "draft_basis.npz", np.int8):
        kept = np.load(folder / file)
        kept = kept if file.endswith("y") else kept["arr_0"]
        found = loaded.array(name)
        assert kept.dtype == kind and found.dtype == np.float32 and np.array_equal(found, kept)


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(array: np.ndarray, **how: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)
    return file.getvalue()


@pytest.mark.parametrize("name", ["draft_mean.npy", "draft_basis.npz"])
def test_a_damaged_array_is_an_error(
    attribute_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = shutil.copytree(attribute_bundle, tmp_path / "dolls")
    loaded, path = bundle.load(folder), folder / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    rotten = [whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]] if path.suffix == ".npz" else []
    pickled = npy(np.array([{}], object), allow_pickle=True)
    monkeypatch.setattr(bundle, "_LARGEST_ARRAY", 9000)
    several, large = npz(a=np.zeros(2), b=np.zeros(2)), npz(a=np.zeros(1200))
    others = npz(), several, large, npy(np.array(["a"])), npy(np.ones(2) * 1j)
    for damaged in (b"", b"no array", whole[:-1], whole[:40], pickled, *rotten, *others):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=f"{name} is no array that can be read: ") as error:
            loaded.array(path.stem)
        assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(ModelError, match=f"{name} is no array that can be read: "):
        loaded.array(path.stem)


def test_integers_are_read_exactly(attribute_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(attribute_bundle, tmp_path / "dolls")
    loaded, path = bundle.load(folder), folder / "attributes.npy"
    for numbers in np.array([[2**62 + 1, 3]]), np.array([7, 255], np.uint8):
        for content in npy(numbers), npz(rows=numbers):
            path.write_bytes(content)
            found = loaded.integers("attributes")
            assert found.dtype == numbers.dtype and np.array_equal(found, numbers)
    path.write_bytes(npy(np.zeros((2, 2), np.float32)))
    with pytest.raises(ModelError, match="attributes.npy is no array that can be read: "):
        loaded.integers("attributes")
