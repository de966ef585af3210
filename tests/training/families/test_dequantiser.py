"""A dequantiser learns to give latents back, and then at the pixels, while tokens stay."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from genfast.errors import UsageError
from genfast.token_set import TokenSetInfo, Writer
from training.codec import TrainedCodec, load_codec
from training.data import avatars
from training.data.images import signed
from training.families import dequantiser, vqgan
from training.families.dequantiser import DequantiserTraining
from training.families.vqgan import VQGANTraining
from training.loop import run
from training.nets.dequantiser import Dequantiser, DequantiserConfig
from training.registry import validate

FACES, SIDE = 12, 128
TOKENS = {"codes": 32, "latent": 8, "regions": 2, "encoder": [8, 8, 8], "decoder": [8, 8, 8, 8]}
READER = {"tokens": 4, "widths": [32, 32], "heads": [1, 1], "depths": [1, 1, 1], "head": 32}
READING = TOKENS | {"decoder": [], "decoder_blocks": [], "lapped": 16, "dequantiser": READER}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("avatars")


@pytest.fixture(scope="module")
def tokens(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a VQ-GAN, started from its data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vqgan, "EVAL_IMAGES", 2)
        out = tmp_path_factory.mktemp("runs") / "tokens"
        losses = {"perceptual": 0, "adversarial": 0}
        recipe = make(folder, "vqgan", 1, vqgan=TOKENS, init_images=FACES, losses=losses)
        run(VQGANTraining, recipe, *avatars.load("train", FACES, SIDE, folder), out, Fabric(accelerator="cpu"))
    return out


@pytest.fixture(scope="module")
def reader(folder: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a dequantiser of these tokens."""
    out = tmp_path_factory.mktemp("runs") / "reader"
    recipe = make(folder, "dequantiser", 2, vqgan=READING, frozen_from=tokens, eval_images=2)
    run(DequantiserTraining, recipe, *avatars.load("train", FACES, SIDE, folder), out, Fabric(accelerator="cpu"))
    return out


def make(folder: Path, family: str, steps: int, **fields: object):
    data = {"name": "avatars", "folder": folder, "size": SIDE, "count": FACES}
    loop = {"steps": steps, "batch": 4, "warmup": 1, "log_every": 1, "evaluate_every": steps, "ema": 0.5}
    return validate({"name": "tiny", "family": family, "loop": loop, "data": data, **fields})


def batch(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = avatars.load("train", FACES, SIDE, folder)
    return torch.from_numpy(images[:4]).permute(0, 3, 1, 2), torch.from_numpy(labels[:4])


def test_it_learns_at_latents(folder: Path, tokens: Path, fabric: Fabric) -> None:
    recipe = make(folder, "dequantiser", 40, vqgan=READING, frozen_from=tokens, eval_images=2, lr=3e-3, corrupted=0.0)
    training, rng = DequantiserTraining(recipe, fabric), torch.Generator().manual_seed(0)
    losses = [training.step(*batch(folder), rng, step)["loss"].item() for step in range(40)]
    assert losses[-1] < 0.8 * losses[0]
    figures, _ = training.evaluate(training.vqgan, training.held_out)
    assert figures.keys() == {"held_out_psnr_0%", "held_out_psnr_10%"}


def test_it_learns_on_at_pixels_and_tokens_stay(
    folder: Path, reader: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vqgan, "EVAL_IMAGES", 2)
    losses = {"perceptual": 0, "adversarial": 0}
    rates = {"lr_dequantiser": 2e-3, "lr_linear": 1e-3}
    from_reader = {"frozen_from": reader, "init_images": FACES}
    recipe = make(folder, "vqgan", 30, vqgan=READING, losses=losses, **rates, **from_reader)
    training, rng = VQGANTraining(recipe, fabric), torch.Generator().manual_seed(0)
    before = copy.deepcopy(training.vqgan)
    errors = [training.step(*batch(folder), rng, step)["reconstruction"].item() for step in range(30)]
    assert errors[-1] < 0.9 * errors[0]
    assert TrainedCodec(before).identity == TrainedCodec(training.vqgan).identity
    assert not torch.equal(before.dequantiser.leave.weight, training.vqgan.dequantiser.leave.weight)
    assert "held_out_blocks" in training.evaluate(training.vqgan, training.held_out)[0]


def test_it_stays_where_it_has_no_rate(folder: Path, reader: Path, fabric: Fabric) -> None:
    images, labels = avatars.load("train", FACES, SIDE, folder)
    losses = {"perceptual": 0, "adversarial": 0}
    recipe = make(folder, "vqgan", 1, vqgan=READING, frozen_from=reader, init_images=4, losses=losses)
    training = VQGANTraining(recipe, fabric)
    before = {name: value.clone() for name, value in training.vqgan.state_dict().items()}
    rng = torch.Generator().manual_seed(0)
    training.step(torch.from_numpy(images[:2]).permute(0, 3, 1, 2), torch.from_numpy(labels[:2]), rng, 0)
    moved = {name for name, value in training.vqgan.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("decoder.linear.") for name in moved)


def test_what_does_not_go_together_is_refused(folder: Path, tokens: Path, reader: Path, fabric: Fabric) -> None:
    for message, family, fields in (
        ("encoder or codes of another shape", "dequantiser", {"vqgan": READING | {"codes": 16}, "frozen_from": tokens}),
        ("is no run of a prior", "dequantiser", {"vqgan": READING, "frozen_from": tokens, "init_from": tokens}),
        ("another shape", "vqgan", {"vqgan": READING | {"codes": 16}, "frozen_from": reader}),
    ):
        recipe = make(folder, family, 1, **fields)
        with pytest.raises(ValueError, match=message):
            (VQGANTraining if family == "vqgan" else DequantiserTraining)(recipe, fabric)
    for message, fields in (
        ("set frozen_from", {"vqgan": READING}),
        ("set frozen_from", {"vqgan": TOKENS | {"lapped": 16}}),
        ("set vqgan.dequantiser", {"vqgan": TOKENS, "frozen_from": tokens, "redrawn": folder}),
        ("no larger than an image", {"vqgan": TOKENS, "window": 256}),
        ("multiples of 32", {"vqgan": TOKENS, "window": 48}),
        ("learns from pictures in colour", {"vqgan": TOKENS, "data": {"name": "fashion-mnist", "size": SIDE}}),
        ("adversarial_from must be discriminator_warmup", {"vqgan": TOKENS, "losses": {"adversarial_from": 5}}),
    ):
        with pytest.raises(ValueError, match=message):
            make(folder, "vqgan", 1, **fields)


def test_it_sees_what_a_prior_drew_in_place_of_images(
    folder: Path, reader: Path, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vqgan, "REDRAWN", 1.0)
    codec, _ = load_codec(reader)
    grids = np.random.default_rng(0).integers(0, 32, (3, 4, 4))
    about = {"vocabulary": 32, "data": "avatars"}
    Writer(tmp_path / "own", "train", TokenSetInfo(vqgan=codec.identity, **about), 3).add(grids, np.zeros(3, np.int64))
    Writer(tmp_path / "others", "train", TokenSetInfo(vqgan="another", **about), 3).add(grids, np.zeros(3, np.int64))
    recipe = make(folder, "vqgan", 1, vqgan=READING, frozen_from=reader, redrawn=tmp_path / "own")
    with pytest.raises(UsageError, match="holds the tokens of another VQ-GAN"):
        VQGANTraining(dataclasses.replace(recipe, redrawn=tmp_path / "others"), fabric)
    training, seen = VQGANTraining(recipe, fabric), []
    monkeypatch.setattr(training.vqgan, "embed", lambda tokens, regions: seen.append(tokens) or tokens)
    monkeypatch.setattr(training.vqgan, "dequantise", lambda codes: codes)
    images, _ = batch(folder)
    rng, true = torch.Generator(), training.vqgan.encode(signed(images))
    training._read(signed(images), rng, torch.tensor([2, 7, 0, 3]))  # of the first three there are such
    expected = torch.stack([torch.from_numpy(grids[2]), true[1], torch.from_numpy(grids[0]), true[3]])
    assert torch.equal(seen[-1], expected)
    training._read(signed(images), rng)
    assert torch.equal(seen[-1], true)


def test_a_dequantiser_is_needed(folder: Path) -> None:
    with pytest.raises(ValueError, match="needs .vqgan.dequantiser."):
        make(folder, "dequantiser", 1, vqgan=TOKENS, frozen_from=folder)


def test_it_starts_from_the_layers_of_a_prior() -> None:
    from training.nets.dequantiser import Dequantiser, DequantiserConfig
    from training.nets.hourglass import Hourglass, HourglassConfig

    shape = {"tokens": 8, "widths": (32, 64), "heads": (1, 1), "head": 32}
    prior = Hourglass(HourglassConfig(vocabulary=16, depths=(1, 3, 1), codes=6, **shape))
    network = Dequantiser(DequantiserConfig(depths=(1, 2, 1), **shape), 6)
    dequantiser.init_dequantiser(network, prior)
    first = prior.within.feed_forward[1][1].weight
    assert torch.equal(network.within.feed_forward[1][1].weight, first)
    torch.testing.assert_close(network.position, prior.position + prior.label.weight[-1])


def test_optimisers_take_parameters_in_an_order_that_lasts() -> None:
    """A checkpoint tells its states apart by that alone: in another order, a run could not go on."""
    orders = []
    for _ in range(5):
        network = Dequantiser(DequantiserConfig(**READER), 8)
        place = {parameter: i for i, parameter in enumerate(network.parameters())}
        groups = [each.param_groups for each in dequantiser.optimizers(network, 1e-3).values()]
        orders.append([place[p] for (group,) in groups for p in group["params"]])
    assert sorted(orders[0]) == list(range(len(place))) and orders == orders[:1] * 5
