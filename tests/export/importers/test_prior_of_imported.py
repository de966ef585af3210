"""A prior that learns the tokens of an imported VQ-GAN: token set, training, export and drawing, as users do them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genfast
from export.importers.taming import read_config
from export.importers.taming_net import TamingVQGAN
from export.prior_vqgan import bundled
from genfast.bundles import bundle
from genfast.errors import ModelError, UsageError
from genfast.token_set import about, identity
from training.codec import load_codec
from training.data.avatars import draw
from training.data.tokens import read

ROOT = Path(__file__).parents[3]
FIXTURES = Path(__file__).with_name("fixtures")
FACES = 64


def run(*arguments: object) -> None:
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_bundle_is_a_codec(vq: Path, vq_network: TamingVQGAN) -> None:
    codec, data = load_codec(vq)
    assert (codec.regions, data.name, data.size) == (1, "folder", 32)
    assert torch.equal(codec.codebook[0], vq_network.quantize.codebook)
    assert codec.identity == identity(bundle.load(vq))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    grids = codec.encode(images)
    model = genfast.load(str(vq), device="cpu")
    np.testing.assert_array_equal(grids.reshape(2, -1), model.encode(images))
    assert grids.shape == (2, 16, 16) and codec.decode(grids).shape == images.shape


def test_bundles_that_are_none(tiny_bundle: Path, token_bundle: Path, vq_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="squares is a bundle of family vq-sundae, not vq"):
        load_codec(token_bundle)
    with pytest.raises(ValueError, match="palette encodes pictures that are not square"):
        load_codec(vq_bundle)
    with pytest.raises(UsageError, match="tiny is of family ddgan, not vq"):
        bundled(tiny_bundle)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="is not a manifest"):
        load_codec(tmp_path)
    with pytest.raises(UsageError, match=r"palette has 2x3 tokens, and the prior is for 2x2"):
        bundled(vq_bundle).side(2)


@pytest.mark.slow
def test_a_prior_of_faces_learns_is_exported_and_draws(tmp_path: Path, cli) -> None:
    """Of the checkpoint of tests/export/importers/fixtures, whose weights are random: what it draws is noise."""
    config = read_config(FIXTURES / "taming.yaml")
    size, side = config.net.resolution, config.net.resolution // config.net.factor
    faces = tmp_path / "faces"
    faces.mkdir()
    for i in range(FACES):
        Image.fromarray(draw(i, size)).save(faces / f"{i:02}.png")
    vqgan, tokens, runs, out = (tmp_path / name for name in ("vqgan", "tokens", "runs", "pair"))
    run("export", "import", "taming-vqgan", FIXTURES / "taming.ckpt", vqgan, "--config", FIXTURES / "taming.yaml")
    done = cli("tokenize", faces, tokens, "--model", vqgan, "--device", "cpu")
    assert (done.returncode, done.stdout) == (0, f"{tokens}: 58 train, 3 validation, 3 test images\n"), done.stderr
    # `python -m training tokens` makes the same of the same pictures.
    run("training", "tokens", vqgan, tmp_path / "others", "--data", faces, "--count", "5")
    assert about(tmp_path / "others").vqgan == about(tokens).vqgan
    np.testing.assert_array_equal(read(tmp_path / "others", "train")[0], read(tokens, "train", 5)[0])

    recipe = tmp_path / "faces-prior.toml"
    recipe.write_text(f"""
name = "faces-prior"
family = "sundae"
vqgan = "{vqgan}"
eval_images = 3

[loop]
steps = 6
batch = 8
warmup = 0
ema = 0.5
log_every = 3
checkpoint_every = 6
evaluate_every = 6

[data]
name = "tokens"
folder = "{tokens}"

[hourglass]
tokens = {side}
vocabulary = {config.codes}
codes = {config.length}
classes = 0
widths = [64, 64]
heads = [1, 1]
depths = [1, 1, 1]
""")
    run("training", "run", recipe, "--runs", runs)
    run("export", "sundae", runs / "faces-prior" / "checkpoint-00000006", out, "--vqgan", vqgan)
    manifest = bundle.load(out).manifest
    assert (manifest.name, manifest.provenance.dataset, manifest.classes) == ("faces", "faces", ())
    assert manifest.tokens == bundle.load(vqgan).manifest.tokens and "pixel_likelihood" not in manifest.graphs
    model = genfast.load(str(out), device="cpu", steps=2)
    picture = draw(0, size)
    np.testing.assert_array_equal(
        model.encode(picture[None]), genfast.load(str(vqgan), device="cpu").encode(picture[None])
    )

    drawn = cli("sample", "--model", out, "-n", 1, "--steps", 3, "--out", "drawn")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    mask = np.zeros((size, size), np.uint8)
    mask[100:160, 100:160] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    filled = cli("inpaint", faces / "00.png", tmp_path / "mask.png", "--model", out, "--steps", 3, "--out", "new.png")
    assert (filled.returncode, filled.stderr) == (0, "")
    found = np.asarray(Image.open(tmp_path / "cwd" / "new.png"))
    np.testing.assert_array_equal(found[mask == 0], picture[mask == 0])
    assert (found != picture).any()
