"""export/sundae.py: a small VQ-GAN and its prior, exported on the real command line, and drawn with as users do."""

import copy
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import genfast
from export.prior import HIDDEN
from export.sundae import fits, sundae
from export.weights import Rounded
from genfast.bundles import bundle
from genfast.errors import UsageError
from genfast.runtime.session import Session
from tests.export.tiny import CODES, PRIOR_TABLE, SIDE, VQGAN_TABLE, random_vqgan, save_checkpoint
from training.checkpoint import saved
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN
from training.registry import validate

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training/recipes"
PROVIDERS = ("cpu", "cuda")


def test_the_manifest_says_what_it_is_and_that_it_is_right(exported: Path) -> None:
    manifest = bundle.load(exported).manifest
    assert (manifest.name, manifest.family) == ("tiny", "vq-sundae")
    assert (manifest.tokens.height, manifest.tokens.width, manifest.tokens.vocabulary) == (SIDE, SIDE, CODES)
    assert (manifest.image.height, manifest.image.width, manifest.image.channels) == (32 * SIDE, 32 * SIDE, 3)
    assert manifest.classes[-1] == "toon-head" and len(manifest.classes) == 5
    assert set(manifest.graphs) == {
        "encode",
        "decode",
        "pixel_likelihood",
        "predict",
        "draw",
        "draft",
        "draft_likelihood",
    }
    assert max(manifest.parity.max_abs_difference.values()) <= manifest.parity.tolerance == HIDDEN
    figures = {figure.name: figure.value for figure in manifest.figures}
    assert figures["parity, encode"] == 0 and figures["parity, decode"] <= 1 and figures["parity, draw"] <= 1e-4
    for role in "predict", "draw":
        by_provider = {name: [g.precision for g in manifest.graphs[role] if name in g.providers] for name in PROVIDERS}
        assert by_provider["cuda"] == ["fp16", "fp32"]
        assert by_provider["cpu"] in (["int8", "fp32"], ["fp32"])  # whichever is faster here
    provenance = manifest.provenance
    assert (provenance.recipe, provenance.images_seen, provenance.hours) == ("tiny-prior", 35, 0.12)
    assert "CC BY 4.0" in provenance.dataset_licence
    assert "tiny-vqgan, 35 images" in provenance.notes and provenance.notes.endswith("Odd.")


def test_users_draw_as_the_recipe_says(exported: Path, checkpoints: tuple[Path, Path]) -> None:
    recipe = validate(saved(checkpoints[0])["recipe"])
    sampling = bundle.load(exported).manifest.sampling
    assert (sampling.batch, sampling.options, sampling.inpainting) == (1, recipe.sampling, recipe.inpainting)


def test_weights_lie_in_one_place_the_codebook_once(exported: Path) -> None:
    places: dict[str, set[tuple[str, ...]]] = {}
    for path in exported.glob("*.onnx"):
        for weight in onnx.load(path, load_external_data=False).graph.initializer:
            if weight.dims[:] in ([4, CODES, 64], [4 * CODES, 64]):
                places.setdefault(path.stem, set()).add(tuple(entry.value for entry in weight.external_data))
    assert {"encode", "decode", "pixel_likelihood", "predict"} <= set(places)
    assert len(set.union(*places.values())) == 1
    assert {file.suffix for file in exported.iterdir()} == {".onnx", ".bin", ".npy", ".npz", ".json"}


def test_users_draw_pictures_of_the_tokens(exported: Path, networks: tuple[Hourglass, VQGAN]) -> None:
    model = genfast.load(str(exported), steps=4, device="cpu")
    drawn = model.sample(3, seed=1, batch=3)
    assert drawn.shape == (3, 32 * SIDE, 32 * SIDE, 3) and drawn.std(axis=0).mean() > 5
    for batch in (1, 2):
        np.testing.assert_array_equal(model.sample(3, seed=1, batch=batch), drawn)
    z = Session(bundle.load(exported).graph("encode"), "cpu").run(image=drawn)["tokens"]
    with torch.inference_mode():
        image = networks[1].decode(torch.from_numpy(z).unflatten(1, (SIDE, SIDE)))
        stored = copy.deepcopy(networks[1]).half().float()
        stored.codebook.copy_(torch.from_numpy(Rounded.of(networks[1].codebook.numpy()).values))
        again = stored.encode(torch.from_numpy(drawn).permute(0, 3, 1, 2) / 127.5 - 1)
    assert image.shape == (3, 3, 32 * SIDE, 32 * SIDE)
    assert (again.flatten(1).numpy() != z).mean() < 0.03


def test_a_prior_fits_its_own_codes_alone(networks: tuple[Hourglass, VQGAN]) -> None:
    network, codec = networks
    assert fits(network, codec) and not fits(network, random_vqgan(1))


def test_another_vqgan_is_refused(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", VQGAN_TABLE, random_vqgan(1))
    with pytest.raises(UsageError, match="is not a prior for the tokens of .*other"):
        sundae(checkpoints[0], tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_drafts_must_be_there(
    networks: tuple[Hourglass, VQGAN], checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    table = PRIOR_TABLE | {"data": {"name": "tokens", "folder": str(tmp_path)}}
    with pytest.raises(UsageError, match="has no drafts, which .*early reads"):
        sundae(save_checkpoint(tmp_path / "early", table, networks[0]), tmp_path / "out", checkpoints[1])


def test_checkpoints_of_other_families_are_refused(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    prior, vqgan = checkpoints
    with pytest.raises(UsageError, match="is of family vqgan, not sundae"):
        sundae(vqgan, tmp_path / "out", vqgan)
    with pytest.raises(UsageError, match="is of family sundae, not vqgan"):
        sundae(prior, tmp_path / "out", prior)


def test_an_existing_folder_stays(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists; remove it, or name another folder"):
        sundae(checkpoints[0], tmp_path, checkpoints[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.full_size
def test_the_full_models_of_the_paper_build_train_export_and_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One step each on random images; memory is reported."""
    (tmp_path / "images").mkdir()
    for i in range(960):  # a twentieth is for validation
        noise = np.random.default_rng(i).integers(256, size=(48, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{i:02}.png")

    def step(command: str) -> None:
        subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # kilobytes on Linux
        with capsys.disabled():
            print(f"\n{peak:.1f} GB at most by now: {command}")

    def recipe(name: str, **changes: str) -> Path:
        text = (RECIPES / f"{name}.toml").read_text()
        for key, value in ({"steps": "1", "batch": "1", "warmup": "0", "decay": "0"} | changes).items():
            text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
            assert found == 1, key
        (tmp_path / f"{name}.toml").write_text(text)
        return tmp_path / f"{name}.toml"

    runs, token_set = tmp_path / "runs", tmp_path / "tokens"
    vqgan, prior = runs / "ffhq1024-vqgan/checkpoint-00000001", runs / "ffhq1024-prior/checkpoint-00000001"
    vqgan_recipe = recipe("ffhq1024-vqgan", init_images="20", adversarial_from="0")
    step(f"training run {vqgan_recipe} --data {tmp_path / 'images'} --runs {runs}")
    for split in "train", "validation":
        step(f"training tokens {vqgan} {token_set} --data {tmp_path / 'images'} --split {split} --count 2")
    of_tokens = {"vqgan": f"{str(vqgan)!r}", "folder": f"{str(token_set)!r}"}
    step(f"training run {recipe('ffhq1024-prior', eval_images='2', **of_tokens)} --runs {runs}")
    step(f"export sundae {prior} {tmp_path / 'ffhq1024'} --vqgan {vqgan}")
    step(f"genfast sample --model {tmp_path / 'ffhq1024'} -n 1 --steps 2 --out {tmp_path}")
    with Image.open(tmp_path / "ffhq1024-0-0.png") as image:
        assert image.size == (1024, 1024)
    assert max(file.stat().st_size for file in (tmp_path / "ffhq1024").iterdir()) < 95e6
