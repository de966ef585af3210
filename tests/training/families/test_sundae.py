"""Denoising of tokens: what a step shows and learns from, refusals, and that it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from genfast.samplers.options import MaskGITOptions, RandomOrderOptions, SundaeOptions
from training.checkpoint import newest_checkpoint
from training.data import tokens
from training.families import sundae
from training.families.sundae import SundaeRecipe, SundaeTraining
from training.loop import run
from training.recipe import Recipe
from training.registry import validate
from training.token_set import encode

Thumbnails = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def grey(
    recipe: Callable[..., Recipe], thumbnails: Thumbnails, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SundaeTraining]:
    """Makes a training on 8x8 grey levels."""

    def load(data: object, split: str, count: int | None = None) -> Thumbnails:
        images, labels = thumbnails
        return (images[:4000], labels[:4000]) if split == "train" else (images[4000:], labels[4000:])

    monkeypatch.setattr(sundae, "load", load)
    return lambda **fields: SundaeTraining(recipe("sundae", **fields), fabric)


def rng(step: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def as_batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def test_it_starts_from_how_often_tokens_are_met(grey: Callable[..., SundaeTraining], thumbnails: Thumbnails) -> None:
    training = grey()
    figures, pictures = training.evaluate(training.network, thumbnails[0])
    counts, held_out = (np.bincount(x.ravel(), minlength=256) for x in (thumbnails[0][:4000], thumbnails[0][4000:]))
    shares = (counts + 0.5) / (counts + 0.5).sum()
    unigram = -(held_out / held_out.sum() * np.log(shares)).sum()
    in_holes = figures.pop("held_out_hole")  # which lie rather where garments are, or rather where they are not
    assert abs(in_holes - unigram) < 0.5
    assert figures == pytest.approx({f"held_out_{percent}": unigram for percent in (50, 75, 90, 100)}, rel=1e-4)
    assert pictures.shape == (96, 8, 8, 1) and pictures.dtype == np.uint8  # no more than are held out
    assert (pictures == 0).mean() > shares[0]  # the likeliest, the colder it is drawn


@pytest.mark.slow
def test_the_log_s_samples_are_drawn_as_users_draw(
    grey: Callable[..., SundaeTraining], thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the recipe's options, which export writes into the manifest; a recipe may name others."""
    seen, draw = [], sundae.sample_tokens
    monkeypatch.setattr(sundae, "sample_tokens", lambda *given: seen.append(given[2]) or draw(*given))
    own = {"sampler": "sundae", "steps": 3}
    for fields in ({}, {"sampling": own}):
        training = grey(**fields)
        training.evaluate(training.network, thumbnails[0])
    assert seen == [RandomOrderOptions(temperature_end=0.4, refine=0.4), SundaeOptions(steps=3)]
    assert isinstance(training.config.inpainting, MaskGITOptions)


@pytest.mark.parametrize("unroll", [1, 2, 3])
def test_steps_move_every_weight(grey: Callable[..., SundaeTraining], thumbnails: Thumbnails, unroll: int) -> None:
    training = grey(unroll=unroll, target_cap=0.1)
    before = {name: value.clone() for name, value in training.network.named_parameters()}
    for step in range(2):  # the output starts at zero: what is before it moves a step later
        figures = training.step(as_batch(thumbnails[0][:16]), torch.from_numpy(thumbnails[1][:16]), rng(step), step)
    assert all(value.isfinite() and value.shape == () for value in figures.values())
    assert set(figures) == {"loss", "loss_label", *(f"loss_{i + 1}" for i in range(unroll))}
    assert not [name for name, value in training.network.named_parameters() if torch.equal(value, before[name])]


def test_muon_updates_the_hidden_matrices_and_adamw_all_else(grey: Callable[..., SundaeTraining]) -> None:
    training = grey(lr=3e-4)
    names = {parameter: name for name, parameter in training.network.named_parameters()}
    (muon,), (decaying, free) = (training.optimizers[name].param_groups for name in ("muon", "optimizer"))
    hidden, linear, rest = ([names[p] for p in group["params"]] for group in (muon, decaying, free))
    assert {name.split(".")[0] for name in hidden} == {"before", "down", "within", "up", "after"}
    assert sorted(hidden + linear + rest) == sorted(names.values())
    assert "out.weight" in linear and "position" in rest and {name.split(".")[-1] for name in hidden} == {"weight"}
    assert muon["lr"] == pytest.approx(6e-4) and muon["weight_decay"] == decaying["weight_decay"] > free["weight_decay"]


def test_guesses_are_made_late(grey: Callable[..., SundaeTraining], thumbnails: Thumbnails) -> None:
    training = grey(unroll=3, unroll_from=2)
    batch = as_batch(thumbnails[0][:4]), torch.from_numpy(thumbnails[1][:4])
    guesses = [sum(name[-1].isdigit() for name in training.step(*batch, rng(), step)) for step in range(4)]
    assert guesses == [1, 1, 3, 3]


def test_guesses_are_learnt_from(
    grey: Callable[..., SundaeTraining], thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time the network sees what it drew itself, with labels and embeddings as hidden as the first time.

    Of a quarter of the pictures it is never told what is noise.
    """
    training, seen, drawn = grey(unroll=2, label_dropout=0.5), [], []
    predict, draw = training.network.predict, training.network.token_head.draw

    def seen_predict(z: Tensor, labels: Tensor, embedding: Tensor, known: Tensor) -> Tensor:
        seen.append((z, labels, embedding, known))
        return predict(z, labels, embedding, known)

    def seen_draw(*arguments: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        drawn.append(draw(*arguments, keys=keys))
        return drawn[-1]

    monkeypatch.setattr(training.network, "predict", seen_predict)
    monkeypatch.setattr(training.network.token_head, "draw", seen_draw)
    labels = torch.arange(64) % 10
    targets = as_batch(thumbnails[0][:64])
    training.step(targets, labels, rng(), 0)
    assert len(seen) == 2 and len(drawn) == 1 and torch.equal(seen[1][0], drawn[0][0])
    shown = seen[0][1]
    assert torch.equal(shown, seen[1][1]) and 20 < (shown == 10).sum() < 44
    assert torch.equal(shown[shown < 10], labels[shown < 10])
    embedding = seen[0][2]
    none = (embedding == 0).all(1)
    assert torch.equal(embedding, seen[1][2]) and 20 < none.sum() < 44 and not torch.equal(none, shown == 10)
    same, first, second = seen[0][0] == targets.flatten(1), seen[0][3], seen[1][3]
    told = ~first.all(1)
    assert 35 < told.sum() < 58 and torch.equal(first[told], same[told])
    assert second[~told & ~same.all(1)].all() and 0.4 < second[told].float().mean() < 0.9


@pytest.mark.slow
def test_it_learns_grey_levels(
    grey: Callable[..., SundaeTraining], thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To guess a garment's pixels, half of them hidden, far better than from how often grey levels are met."""
    training = grey(lr=4e-3)
    monkeypatch.setattr(training, "_sample", lambda *arguments: None)
    images, labels = thumbnails
    unigram = training.evaluate(training.network, images)[0]["held_out_50"]
    for step in range(100):
        rows = slice(step * 32, step * 32 + 32)
        training.step(as_batch(images[rows]), torch.from_numpy(labels[rows]), rng(step), step)
    assert training.evaluate(training.network, images)[0]["held_out_50"] < unigram - 0.4


def test_data_of_another_kind_are_refused(grey: Callable[..., SundaeTraining], table: Callable[..., Any]) -> None:
    hourglass = table("sundae")["hourglass"]
    for fields, message in [
        ({"tokens": 4}, "wants 16 tokens below 256; the data have 64"),
        ({"vocabulary": 100}, "wants 64 tokens below 100"),
        ({"classes": 4}, "classes is 4, and the data have labels up to 9"),
    ]:
        with pytest.raises(ValueError, match=message):
            grey(hourglass=hourglass | fields)


def prior(folder: Path, vqgan: Path, steps: int = 4, **hourglass: Any) -> SundaeRecipe:
    network = {"tokens": 4, "vocabulary": 32, "classes": 0, "widths": [16, 16], "heads": [2, 2], "depths": [1, 1, 1]}
    network |= {"head": 8, "features": 8, "regions": 2, "codes": 8}
    loop = {"steps": steps, "batch": 4, "warmup": 1, "log_every": 1, "evaluate_every": 100, "checkpoint_every": 100}
    data = {"name": "tokens", "folder": folder}
    fields = {"loop": loop, "data": data, "hourglass": network | hourglass, "vqgan": vqgan, "eval_images": 2}
    return validate({"name": "tiny", "family": "sundae", **fields})


@pytest.fixture
def token_set(vqgan: Path, tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        encode(vqgan, tmp_path / "tokens", split)
    return tmp_path / "tokens"


def test_a_prior_of_tokens_is_trained_and_goes_on_where_it_stopped(
    token_set: Path, vqgan: Path, fabric: Fabric, tmp_path: Path
) -> None:
    data = tokens.read(token_set, "train")
    for steps, folder in ((4, "whole"), (2, "parts"), (4, "parts")):
        run(SundaeTraining, prior(token_set, vqgan, steps), *data, tmp_path / folder, fabric)
    ends = [newest_checkpoint(tmp_path / folder) / "model.safetensors" for folder in ("whole", "parts")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert (tmp_path / "whole" / "grid-00000004.png").exists()
    assert "held_out_50" in (tmp_path / "whole" / "figures.csv").read_text()


def test_tokens_of_another_vqgan_are_refused(
    token_set: Path, vqgan: Path, make_vqgan: Callable[[int], Path], fabric: Fabric
) -> None:
    with pytest.raises(ValueError, match="holds the tokens of another VQ-GAN"):
        SundaeTraining(prior(token_set, make_vqgan(1)), fabric)
    with pytest.raises(ValueError, match="made for codes"):
        SundaeTraining(prior(token_set, vqgan, regions=1), fabric)


@pytest.mark.parametrize(
    "change",
    [{"vqgan": "runs/x"}, {"data": {"name": "tokens"}}, {"hourglass": {"codes": 8}}],
    ids=lambda change: [*change][0],
)
def test_half_of_what_tokens_need_is_refused(table: Callable[..., Any], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="go together"):
        validate(table("sundae") | change)
