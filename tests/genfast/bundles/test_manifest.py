import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from genfast.bundles import bundle, hub
from genfast.bundles.manifest import BundlePath, Manifest, Sampling
from genfast.errors import ModelError
from genfast.samplers.options import SAMPLERS, MaskGITOptions, TokenOptions
from tests.graphs.bundles import ATTRIBUTES


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "tiny")


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


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
        accepted = TypeAdapter(BundlePath).validate_python(path)
    except ValidationError:
        return
    assert (Path("/srv/bundle") / accepted).resolve().parts[:3] == ("/", "srv", "bundle")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=3), "format: Input should be 2"),
        (lambda m: m.pop("format"), "format: Field required"),
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
        (
            lambda m: m["schedule"].update(trained=[{"levels": [1, 2]}]),
            "the levels of timesteps must start at 0 and rise",
        ),
        (lambda m: m["schedule"].update(trained=[{"levels": [0, 2, 2]}]), "timesteps must start at 0 and rise"),
        (lambda m: m["schedule"].update(trained=[{"levels": [0]}]), "schedule: trained: .*at least 2 items"),
        (
            lambda m: m["schedule"].update(trained=[{"levels": [0, 99]}]),
            "levels of timesteps must be among those of al",
        ),
        (
            lambda m: m["schedule"].update(trained=[{"levels": [0, 1]}, {"levels": [0, 2]}]),
            "two of trained have the same number of steps and the same loss",
        ),
        (
            lambda m: m["schedule"].update(trained=[{"levels": [0, 1], "graph": "walk"}]),
            "a bundle of family ddgan needs a graph for walk",
        ),
        (lambda m: m.update(attributes=[ATTRIBUTES[0]]), "a bundle of family ddgan has no attributes"),
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
        (lambda m: m["sampling"]["options"].pop("sampler"), "sampling: options: Unable to extract tag .*'sampler'"),
        (lambda m: m["sampling"]["options"].update(sampler="raster"), "sampling: options: Input tag 'raster' .*"),
        (lambda m: m["sampling"]["inpainting"].update(redraw_ratio=1), "sampling: inpainting: .*redraw_ratio: Unexp"),
        (lambda m: m["sampling"].update(filling={}), "sampling: filling: Extra inputs are not permitted"),
        (lambda m: m["arrays"].pop("attributes"), "a bundle with attributes needs an array of attributes"),
        (lambda m: m["arrays"].pop("draft_scale"), "a bundle with attributes needs an array of draft_scale"),
        (lambda m: m["arrays"].update(more="more.npy"), "more.npy is used but not listed in files"),
        (lambda m: m["arrays"].update(more="../more.npy"), "arrays: more: .*stay inside the bundle"),
        (lambda m: m.update(family="vq"), "a bundle of family vq needs an array of codebook"),
        (lambda m: m["attributes"][0].update(name="Glasses"), "two attributes have the same name"),
        (lambda m: m["attributes"][0].update(name="hair="), "attributes: 0: name: String should match pattern"),
        (lambda m: m["attributes"][0].update(values=[]), "attributes: 0: values: Tuple should have at least 1 item"),
        (lambda m: m["attributes"][0].update(values=["bun", "bun"]), "attributes: 0: .*hair has a value twice"),
        (lambda m: m["attributes"][0].update(values=["\x1b[2J"]), "attributes: 0: values: 0: String should match"),
        (lambda m: m["attributes"][1].update(values=["red"]), "attributes: 1: .*hair-colour is a colour, and red is"),
        (lambda m: m["attributes"][1].update(weight=1), "attributes: 1: weight: Extra inputs are not permitted"),
        (lambda m: m["sampling"]["options"].update(speed=9), "sampling: options: .*speed: Unexpected keyword argument"),
    ],
)
def test_a_manifest_of_tokens_that_does_not_fit_is_refused(
    attribute_bundle: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = shutil.copytree(attribute_bundle, tmp_path / "dolls")
    edit(folder, change)
    with pytest.raises(ModelError, match=f"manifest.json is not a manifest that this version reads: .*{message}"):
        bundle.load(folder)


def test_the_defaults_of_a_sampler_are_kept(token_bundle: Path) -> None:
    sampling = bundle.load(token_bundle).manifest.sampling
    assert (sampling.batch, sampling.options) == (5, MaskGITOptions(steps=7, temperature_end=0.5))
    assert sampling.inpainting == MaskGITOptions(steps=4)


@pytest.mark.parametrize("kind", SAMPLERS.values())
def test_options_are_read_as_they_were_written(token_bundle: Path, tmp_path: Path, kind: type[TokenOptions]) -> None:
    """With the name of their sampler, also where nothing else differs from the defaults."""
    folder = shutil.copytree(token_bundle, tmp_path / "squares")
    for options in kind(), kind(steps=5, guidance=2.0):
        fields = bundle.load(folder).manifest.model_dump(exclude={"format", "files", "sampling"})
        written = bundle.write(folder, **fields, sampling={"options": options, "inpainting": options})
        assert written.manifest.sampling == Sampling(options=options, inpainting=options)
        text = json.loads((folder / "manifest.json").read_text())["sampling"]["options"]
        assert text["sampler"] == kind.sampler and ("steps" in text) == (options.steps == 5)


def test_a_default_is_written_once(token_bundle: Path) -> None:
    """A manifest says what differs from the dataclass, which alone says what a field is by default."""
    schema = Manifest.model_json_schema(mode="validation")["$defs"]
    for kind in SAMPLERS.values():
        defaults = {name: field["default"] for name, field in schema[kind.__name__]["properties"].items()}
        assert defaults == asdict(kind())
    folder = hub.find("avatars1024")
    text = json.loads((folder / "manifest.json").read_text())["sampling"]
    for use in "options", "inpainting":
        kind = SAMPLERS[text[use].pop("sampler")]
        assert all(asdict(kind())[name] != value for name, value in text[use].items())
