"""The steps of a VQ-GAN: its losses at known pictures, its codes, its start, and that it learns."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file

from training.checkpoint import load_average, newest_checkpoint
from training.codec import TrainedCodec
from training.data import avatars
from training.data.images import signed
from training.families import vqgan
from training.families.vqgan import VQGANRecipe, VQGANTraining
from training.loop import run
from training.nets.vqgan import VQGAN, region_map
from training.pixel_losses import contrast_error, psnr
from training.registry import read, validate
from training.windows import windows, windows_of

FACES, SIDE = 24, 128


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vqgan, "EVAL_IMAGES", 3)
    monkeypatch.setattr(vqgan, "SHOWN", 2)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatars")


def make(folder: Path, steps: int = 4, **fields: object) -> VQGANRecipe:
    network = {"codes": 32, "latent": 8, "regions": 2, "encoder": [8, 8, 8], "decoder": [8, 8, 8, 8]}
    data = {"name": "avatars", "folder": folder, "size": SIDE, "count": FACES}
    loop = {"steps": steps, "batch": 4, "warmup": 1, "log_every": 1, "evaluate_every": steps}
    fields = {"window": 64, "init_images": FACES, **fields}
    return validate({"name": "tiny", "family": "vqgan", "loop": loop, "data": data, "vqgan": network, **fields})


def faces(folder: Path) -> torch.Tensor:
    images, _ = avatars.load("train", FACES, SIDE, folder)
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_psnr_is_that_of_bytes() -> None:
    a, b = np.full((1, 3, 4, 4), 100), np.full((1, 3, 4, 4), 110)
    expected = 10 * np.log10(255**2 / 10**2)
    found = psnr(*(torch.from_numpy(x).float() / 127.5 - 1 for x in (a, b)))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_an_error_counts_more_where_contrast_is_low() -> None:
    images = torch.zeros(1, 3, 256, 256)
    images[..., 128:] = torch.randint(2, (256, 128)) * 2.0 - 1
    flat, busy = images.clone(), images.clone()
    flat[..., 32, 32] += 0.1
    busy[..., 32, 224] += 0.1
    assert contrast_error(images, images, 1.0) == 0
    assert contrast_error(flat, images, 1.0) > 4 * contrast_error(busy, images, 1.0)


def test_without_contrast_it_is_the_mean_absolute_error() -> None:
    images = torch.zeros(1, 3, 64, 64)
    assert contrast_error(images + 0.25, images, 1.0).item() == pytest.approx(0.25)


@pytest.mark.slow
def test_one_step_starts_from_the_data_and_moves_every_weight(folder: Path, fabric: Fabric) -> None:
    training = VQGANTraining(make(folder, losses={"adversarial_from": 0, "discriminator_warmup": 0}), fabric)
    before = {name: value.clone() for name, value in training.networks.state_dict().items()}
    for step in range(2):  # the last layers start at zero: what is before them moves a step later
        figures = training.step(faces(folder)[:4], None, rng(), step)
    assert all(value.isfinite() and value.shape == () for value in figures.values())
    assert {"perceptual", "loss_d", "loss_g"} < set(figures) and figures["psnr"] > 12
    after = training.networks.state_dict()
    assert not [name for name, value in after.items() if torch.equal(value, before[name])]


@pytest.mark.slow
def test_terms_begin_late(folder: Path, fabric: Fabric) -> None:
    training = VQGANTraining(
        make(folder, losses={"perceptual_from": 1, "adversarial_from": 3, "discriminator_warmup": 1}), fabric
    )
    late = {"perceptual", "loss_d", "loss_g"}
    seen = [late & set(training.step(faces(folder)[:4], None, rng(), step)) for step in range(4)]
    assert seen == [set(), {"perceptual"}, {"perceptual", "loss_d"}, late]


def test_codes_become_the_means_of_their_latents(folder: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vqgan, "DECAY", 0.0)
    monkeypatch.setattr(vqgan, "RESTARTS", 2)
    training = VQGANTraining(make(folder), fabric)
    latents = torch.randn(1, 8, 16, 16)
    tokens = torch.randint(4, (1, 16, 16))
    regions = torch.randint(2, (1, 16, 16))  # of four
    training._update_codes(latents, tokens, regions, rng())
    for region in (0, 1):
        points = latents.permute(0, 2, 3, 1)[(tokens == 3) & (regions == region)]
        torch.testing.assert_close(training.vqgan.codebook[region, 3], points.mean(0))
        assert training.usage[region, 3] == len(points)
    # Two codes, unused, moved to latents of their region; the others wait for their turn.
    moved = (training.usage[:, 4:] > 0).nonzero()
    assert len(moved) == 2 and (training.usage[:, 4:].sum() == 2 * vqgan.NEW)
    for region, code in moved.tolist():
        places = latents.permute(0, 2, 3, 1)[regions == region]
        assert torch.isclose(places, training.vqgan.codebook[region, 4 + code]).all(1).any()


def test_windows_know_their_regions() -> None:
    rows = torch.arange(4)[:, None].expand(4, 4).repeat_interleave(32, 0).repeat_interleave(32, 1)
    images = torch.stack([rows, rows.T]).expand(5, 2, 128, 128)  # each pixel knows the place of its token
    crops, regions = windows(images, 64, 2, rng())
    assert crops.shape == (5, 2, 64, 64) and regions.shape == (5, 2, 2)
    places = crops[:, :, ::32, ::32]
    assert torch.equal(regions, places[:, 0] // 2 * 2 + places[:, 1] // 2)
    assert len(places.flatten(1).unique(dim=0)) > 1
    whole, regions = windows(images, 0, 2, rng())
    assert whole is images and regions[4].tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 3, 3]] * 2


def test_windows_of_what_is_read_are_those_of_the_images() -> None:
    rows = torch.arange(4)[:, None].expand(4, 4)
    read = torch.stack([rows, rows.T]).expand(5, 2, 4, 4)  # each place knows itself
    images = read.repeat_interleave(32, 2).repeat_interleave(32, 3)
    pixels, parts = windows_of(64, rng(), images, read)
    assert parts.shape == (5, 2, 2, 2) and torch.equal(pixels[:, :, ::32, ::32], parts)
    assert len(parts.flatten(1).unique(dim=0)) > 1
    assert windows_of(0, rng(), images, read) == [images, read]


def test_it_learns(folder: Path, fabric: Fabric) -> None:
    training = VQGANTraining(make(folder, lr=5e-3, losses={"perceptual": 0, "adversarial": 0}), fabric)
    images = faces(folder)[:2]
    figures = [training.step(images, None, rng(), step) for step in range(60)]
    assert figures[-1]["reconstruction"] < 0.9 * figures[0]["reconstruction"]


@pytest.mark.slow
def test_a_run_is_evaluated_and_goes_on_where_it_stopped(folder: Path, fabric: Fabric, tmp_path: Path) -> None:
    images, labels = avatars.load("train", FACES, SIDE, folder)
    whole, half = (make(folder, steps, losses={"adversarial_from": 0, "discriminator_warmup": 0}) for steps in (4, 2))
    run(VQGANTraining, whole, images, labels, tmp_path / "whole", fabric)
    for part in (half, whole):
        run(VQGANTraining, part, images, labels, tmp_path / "parts", fabric)
    weights = [(newest_checkpoint(tmp_path / name) / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    log = (tmp_path / "whole" / "figures.csv").read_text()
    assert all(name in log for name in ("held_out_psnr", "held_out_perceptual", "held_out_usage", "perplexity"))
    assert (tmp_path / "whole" / "grid-00000004.png").exists()


@pytest.mark.slow
def test_a_decoder_learns_on_and_tokens_stay(folder: Path, fabric: Fabric, tmp_path: Path) -> None:
    images, labels = avatars.load("train", FACES, SIDE, folder)
    run(VQGANTraining, make(folder, 2), images, labels, tmp_path / "tokens", fabric)
    decoder = make(
        folder, 3, frozen_from=tmp_path / "tokens", losses={"adversarial_from": 0, "discriminator_warmup": 0}
    )
    run(VQGANTraining, decoder, images, labels, tmp_path / "decoder", fabric)
    first, second = (
        load_average(newest_checkpoint(tmp_path / name), VQGAN(make(folder).vqgan)) for name in ("tokens", "decoder")
    )
    assert TrainedCodec(first).identity == TrainedCodec(second).identity
    assert not torch.equal(first.decoder.linear.weight, second.decoder.linear.weight)
    second.codebook[0, 0, 0] += 1
    assert TrainedCodec(first).identity != TrainedCodec(second).identity


def test_a_refiner_learns_of_windows_and_all_else_stays(folder: Path, fabric: Fabric, tmp_path: Path) -> None:
    network = asdict(make(folder).vqgan) | {
        "decoder": (),
        "decoder_blocks": (),
        "lapped": 16,
        "dequantiser": {"tokens": 4, "widths": [32, 32], "heads": [1, 1], "head": 32},
    }
    drawn = VQGAN(make(folder, vqgan=network, frozen_from=tmp_path).vqgan)
    checkpoint = tmp_path / "checkpoint-00000001"
    checkpoint.mkdir()
    save_file(drawn.state_dict(), checkpoint / "model.safetensors")
    (checkpoint / "recipe.json").write_text(json.dumps({"recipe": {"family": "vqgan"}}))
    mending = make(folder, vqgan=network | {"refiner": (8, 8, 8, 8)}, frozen_from=tmp_path, lr_linear=0)
    training = VQGANTraining(mending, fabric)
    training.usage.fill_(1)
    for step in range(3):  # its last layer starts at zero
        training.step(faces(folder)[:4], None, rng(), step)
    before, after = drawn.state_dict(), training.vqgan.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert after["decoder.refiner.enter.weight"].isfinite().all() and after["decoder.refiner.leave.weight"].any()
    with pytest.raises(ValueError, match="another shape"):
        VQGANTraining(make(folder, frozen_from=tmp_path), fabric)


def test_the_recipe_is_the_megapixel_one() -> None:
    found = read(Path(__file__).parents[3] / "training" / "recipes" / "avatars1024-vqgan.toml")
    assert (found.vqgan.codes, found.data.size, found.window % 32) == (8192, 1024, 0)


def test_usage_counts_the_codes_of_each_region(folder: Path, fabric: Fabric) -> None:
    training = VQGANTraining(make(folder), fabric)
    figures, _ = training.evaluate(training.vqgan, training.held_out)
    pixels = torch.from_numpy(np.stack([training.held_out[i] for i in range(3)])).permute(0, 3, 1, 2)
    places, tokens = region_map(4, 4, 2).flatten().tolist(), training.vqgan.encode(signed(pixels)).flatten(1).tolist()
    met = {pair for grid in tokens for pair in zip(places, grid, strict=True)}
    assert len(met) > len({token for grid in tokens for token in grid})
    assert figures["held_out_usage"] == pytest.approx(len(met) / (4 * 32))
