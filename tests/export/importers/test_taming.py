"""export/importers/taming.py against the original's own outputs, and what it refuses.

fixtures/taming.* are a checkpoint of random weights in the form that people hold, and what the original made of it.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import Tensor, nn

import genfast
from export.graph import export
from export.importers.taming import Encode, farther, load, read_config
from export.importers.taming_net import TamingVQGAN
from genfast.bundles import bundle
from genfast.errors import InputError
from genfast.runtime.session import Session
from tests.export.importers.reference import whole
from tests.export.importers.tiny_vqgan import NET, save, write_config

ROOT = Path(__file__).parents[3]
FIXTURES = Path(__file__).with_name("fixtures")
CHECKPOINT, YAML = FIXTURES / "taming.ckpt", FIXTURES / "taming.yaml"


@pytest.fixture(scope="module")
def network() -> TamingVQGAN:
    return load(CHECKPOINT, read_config(YAML))


@pytest.fixture(scope="module")
def original() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "taming.npz") as file:
        return dict(file)


def signed(image: np.ndarray) -> Tensor:
    return torch.from_numpy((image / 127.5 - 1).astype(np.float32))


@torch.inference_mode()
def test_latents_tokens_and_pictures_are_the_originals(network: TamingVQGAN, original: dict[str, np.ndarray]) -> None:
    image = signed(original["image"])  # (1, 3, 64, 96): attention stays where the nominal size puts it
    np.testing.assert_allclose(network.latents(image), original["prequant"], atol=1e-4)
    tokens = network.encode(image)
    np.testing.assert_array_equal(tokens, original["indices"])
    np.testing.assert_allclose(network.decode(tokens.view(1, 4, 6)), original["decoded"], atol=1e-4)


@torch.inference_mode()
def test_so_are_those_of_the_nominal_size(network: TamingVQGAN, original: dict[str, np.ndarray]) -> None:
    tokens = network.encode(signed(original["big_image"]))
    np.testing.assert_array_equal(tokens, original["big_indices"])
    decoded = network.decode(tokens.view(1, 16, 16))[:, :, ::16, ::16]
    np.testing.assert_allclose(decoded, original["big_decoded_every4"], atol=1e-4)


def test_the_checkpoint_of_a_transformer_holds_the_same(network: TamingVQGAN, tmp_path: Path) -> None:
    state = {f"first_stage_model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state | {"transformer.head.weight": torch.zeros(3, 2)}}, tmp_path / "last.ckpt")
    table = yaml.safe_load(YAML.read_text())
    params = {"first_stage_config": table["model"], "transformer_config": {"target": "mingpt.GPT"}}
    model = {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params}
    (tmp_path / "project.yaml").write_text(yaml.safe_dump({"model": model}))
    again = load(tmp_path / "last.ckpt", read_config(tmp_path / "project.yaml"))
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["taming-ffhq", "taming-ffhq-gpt"])
@torch.inference_mode()
def test_whole_files_give_all_that_the_original_gave(name: str) -> None:
    folder = whole(name)
    network = load(folder / "last.ckpt", read_config(folder / "project.yaml"))
    with np.load(whole("taming-ffhq") / "io.npz") as io:
        image = torch.from_numpy(io["image"])  # (2, 3, 64, 96)
        np.testing.assert_allclose(network.latents(image), io["prequant"], atol=1e-4)
        tokens = network.encode(image)
        np.testing.assert_array_equal(tokens, io["indices"])
        np.testing.assert_allclose(network.decode(tokens.view(2, 4, 6)), io["decoded"], atol=1e-4)


@torch.inference_mode()
def test_one_of_gumbel_takes_the_likeliest_code(tmp_path: Path) -> None:
    config = write_config(tmp_path, target="taming.models.vqgan.GumbelVQ", kl_weight=1e-8, remap=None)
    network = load(save(tmp_path / "last.ckpt", gumbel=True), read_config(config))
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    h = network.latents(images)  # (2, 32, 8, 8)
    proj = network.quantize.proj
    logits = torch.einsum("bdhw,vd->bvhw", h, proj.weight[:, :, 0, 0]) + proj.bias[:, None, None]
    tokens = network.encode(images)
    np.testing.assert_array_equal(tokens, logits.argmax(1).flatten(1))
    decoded = network.decoder(network.post_quant_conv(network.quantize.embed.weight[tokens].mT.view(2, 32, 8, 8)))
    np.testing.assert_allclose(network.decode(tokens.view(2, 8, 8)), decoded, atol=1e-6)


@pytest.mark.parametrize("gumbel", [False, True])
@torch.inference_mode()
def test_a_table_of_codes_in_use_leaves_these_alone(tmp_path: Path, gumbel: bool) -> None:
    """Tokens are places in the table, as the original's remap numbers them."""
    used = torch.tensor([3, 4, 17, 63])
    config = read_config(write_config(tmp_path, target="GumbelVQ" if gumbel else "VQModel"))
    whole = load(save(tmp_path / "whole.ckpt", gumbel), config)
    part = load(save(tmp_path / "part.ckpt", gumbel, **{"quantize.used": used}), config)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    np.testing.assert_array_equal(part.encode(images), whole.distances(images)[:, used].argmin(1))
    tokens = torch.randint(4, (1, 8, 8))
    np.testing.assert_allclose(part.decode(tokens), whole.decode(used[tokens]), atol=1e-6)


def test_near_ties_make_no_difference() -> None:
    distances = np.array([[[0.0, 5.0], [1e-9, 4.0], [8.0, 10.0]]])  # (1, 3, 2)
    assert farther([distances], [np.array([[1, 1]])]) == pytest.approx(1e-10)
    assert farther([distances], [np.array([[0, 0]])]) == pytest.approx(0.1)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("encoder.conv_in.bias"),
            "does not fit the vqgan-f2-64 of its configuration: it lacks encoder",
        ),
        (without("quantize.embedding.weight"), "it lacks quantize.embedding.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "it holds the unknown extra"),
        (
            lambda s: s.update({"quant_conv.bias": torch.zeros(7)}),
            r"shape of quant_conv.bias \(7 instead of 32\)",
        ),
        (
            lambda s: s.update({"quant_conv.bias": torch.zeros(32, dtype=torch.int64)}),
            "type of quant_conv.bias",
        ),
        (lambda s: s.update({"quant_conv.bias": "text"}), "holds a str as quant_conv.bias, where a dense tensor"),
        (lambda s: s.update({"quantize.used": torch.tensor([64])}), "damaged quantize.used: not all .* below 64"),
        (lambda s: s.update({"quantize.used": torch.zeros(2, 2)}), "damaged quantize.used"),
        (lambda s: s.update({"quantize.used": torch.tensor([], dtype=torch.int64)}), "damaged quantize.used"),
        (lambda s: s.clear(), "holds no tensors"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = save(tmp_path / "last.ckpt")
    held = torch.load(path, weights_only=True)
    change(held["state_dict"])
    torch.save(held, path)
    with pytest.raises(InputError, match=message) as caught:
        load(path, read_config(write_config(tmp_path)))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def net(**fields: object) -> dict[str, object]:
    return {"model": {"target": "VQModel", "params": {"embed_dim": 32, "n_embed": 64, "ddconfig": {**NET, **fields}}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is no YAML: "),
        ("a: !!python/object/apply:os.system [date]", "is no YAML: could not determine a constructor"),
        ("\x00", "is no YAML"),
        ("- 1", "is no configuration: it holds a list, not a table"),
        ("", "is no configuration: it holds a NoneType"),
        ("<html>", "is no configuration: it holds a str"),
        ("colour: red", "is no configuration of taming-transformers: it has no model.params"),
        ("model: {target: VQModel}", "it has no model.params"),
        (
            {"model": {"target": "a.VQSegmentationModel", "params": {}}},
            "is of a.VQSegmentationModel; VQ-GANs that are",
        ),
        ({"model": {"target": "a.GPT", "params": {"first_stage_config": None}}}, "it has no model.params"),
        ({"model": {"target": "VQModel", "params": {"n_embed": 64}}}, "embed_dim: Field required"),
        (net(double_z=True), "ddconfig: double_z: Input should be False"),
        (net(attn_type="linear"), "ddconfig: attn_type: Extra inputs are not permitted"),
        (net(ch=16), "ddconfig: ch: Input should be a multiple of 32"),
        (net(ch=10**9), "ddconfig: ch: Input should be less than or equal to 1024"),
        (net(ch_mult=[1]), "ddconfig: ch_mult: Tuple should have at least 2 items"),
        (net(resolution=33), "ddconfig: Value error, a resolution of 33 cannot be halved 1 times"),
        (net(in_channels=4), "ddconfig: in_channels: Input should be 3"),
        (net(num_res_blocks="many"), "ddconfig: num_res_blocks: Input should be a valid integer"),
    ],
)
def test_a_configuration_that_is_none(tmp_path: Path, text: object, message: str) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    with pytest.raises(InputError, match=f"project.yaml {message}|project.yaml is .*{message}") as caught:
        read_config(path)
    assert "\n" not in str(caught.value)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export", "import", "taming-vqgan", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_line_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "page.ckpt").write_text("<!DOCTYPE html>")
    done = run(tmp_path / "page.ckpt", tmp_path / "out", "--config", write_config(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert done.stderr.startswith("export: error: ") and "is a web page, not a checkpoint" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_imported_vqgan_is_a_bundle(vq: Path, vq_network: TamingVQGAN) -> None:
    loaded = bundle.load(vq)
    manifest = loaded.manifest
    assert (manifest.name, manifest.family, manifest.licence) == ("noise", "vq", "CC0-1.0")
    assert (manifest.image.height, manifest.tokens.width, manifest.tokens.vocabulary) == (32, 16, 64)
    assert manifest.provenance.source == "made here" and len(manifest.provenance.weights_sha256) == 64
    figures = {figure.name: figure.value for figure in manifest.figures}
    assert figures["parity, encode"] <= 1e-4 and figures["parity, decode"] <= 1
    np.testing.assert_array_equal(loaded.array("codebook"), vq_network.quantize.codebook)
    assert max(file.size for file in manifest.files) < 95_000_000
    places = {
        tuple(entry.value for entry in weight.external_data)
        for role in ("encode", "decode")
        for weight in onnx.load(vq / f"{role}.onnx", load_external_data=False).graph.initializer
        if weight.dims[:] == [64, 32]
    }
    assert len(places) == 1  # the codebook is stored once for both graphs


def test_it_encodes_and_decodes_as_the_network(vq: Path, vq_network: TamingVQGAN) -> None:
    model = genfast.load(str(vq), device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    tokens = model.encode(images)
    with torch.inference_mode():
        np.testing.assert_array_equal(tokens, vq_network.encode(signed(images.transpose(0, 3, 1, 2))))
        wanted = vq_network.decode(torch.from_numpy(tokens).view(3, 16, 16)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(model.decode(tokens), (wanted.clip(-1, 1) + 1) * 127.5, atol=0.51)


class Decoded(nn.Module):
    """Tokens (B, 24) to pictures (B, 3, 64, 96), not rounded."""

    def __init__(self, network: TamingVQGAN) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Tensor:
        return self.network.decode(tokens.unflatten(1, (4, 6)))


@pytest.mark.slow
def test_graphs_make_the_originals_tokens_and_pictures(
    network: TamingVQGAN, original: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(CHECKPOINT, out, "--config", YAML)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith(f"{out}: parity ") and "parity, encode 0.0000 (" in done.stdout
    model = genfast.load(str(out), device="cpu")
    tokens = model.encode(original["big_image"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(tokens, original["big_indices"])
    wanted = (original["big_decoded_every4"].clip(-1, 1) + 1) * 127.5  # (1, 3, 16, 16)
    np.testing.assert_allclose(model.decode(tokens)[:, ::16, ::16].transpose(0, 3, 1, 2), wanted, atol=0.51)

    image = torch.from_numpy(original["image"].transpose(0, 2, 3, 1).copy())
    indices = torch.from_numpy(original["indices"])
    export(Encode(network), {"image": image.repeat(2, 1, 1, 1)}, tmp_path / "encode.onnx", ["tokens"])
    export(Decoded(network), {"tokens": indices.repeat(2, 1)}, tmp_path / "decode.onnx", ["image"])
    found = Session(tmp_path / "encode.onnx", "cpu").run(image=image.numpy())["tokens"]
    np.testing.assert_array_equal(found, original["indices"])
    decoded = Session(tmp_path / "decode.onnx", "cpu").run(tokens=found)["image"]
    np.testing.assert_allclose(decoded, original["decoded"], atol=1e-4)
