"""Denoising of tokens: what a step shows and learns from, refusals, and that it learns."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from genfast.attributes import Attribute, AttributeTable
from genfast.samplers.options import MaskGITOptions, RandomOrderOptions, SundaeOptions
from genfast.samplers.token_step import TokenBatch
from genfast.samplers.tokens import sample as sample_tokens
from training.checkpoint import load_average, newest_checkpoint
from training.codec import load_vqgan
from training.data import tokens
from training.drafts import folds
from training.families import sundae
from training.families.sundae import SundaeRecipe, SundaeTraining
from training.init.drafts import fit
from training.loop import run
from training.nets.hourglass import Hourglass
from training.recipe import Recipe
from training.registry import validate
from training.sampling import token_batch, token_network
from training.token_set import encode, redraw

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
    assert set(figures) == {"loss", *(f"loss_{i + 1}" for i in range(unroll))}
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
    """The second time the network sees what it drew itself, with labels as hidden as the first time.

    Of a quarter of the pictures it is never told what is noise.
    """
    training, seen, drawn = grey(unroll=2, label_dropout=0.5), [], []
    predict, draw = training.network.predict, training.network.token_head.draw

    def seen_predict(z: Tensor, labels: Tensor, draft: Tensor | None, known: Tensor) -> Tensor:
        seen.append((z, labels, draft, known))
        return predict(z, labels, draft, known)

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
    assert seen[0][2] is seen[1][2] is None
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
    with pytest.raises(ValueError, match="has no drafts of 3 numbers; python -m training drafts, with --channels 3"):
        SundaeTraining(prior(token_set, vqgan, draft=3), fabric)


@pytest.mark.parametrize(
    "change",
    [{"vqgan": "runs/x"}, {"data": {"name": "tokens"}}, {"hourglass": {"codes": 8}}],
    ids=lambda change: [*change][0],
)
def test_half_of_what_tokens_need_is_refused(table: Callable[..., Any], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="go together"):
        validate(table("sundae") | change)


def test_of_some_pictures_nothing_is_known_and_plain_areas_are_learned(
    grey: Callable[..., SundaeTraining], thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which more targets are taken: what is plain is drawn first."""
    training, seen, taken = grey(unroll=1, blank=0.4, target_cap=0.01, blank_target_cap=0.5), [], []
    predict, loss = training.network.predict, training._loss

    def seen_predict(z: Tensor, labels: Tensor, draft: Tensor | None, known: Tensor) -> Tensor:
        seen.append((z, known))
        return predict(z, labels, draft, known)

    def seen_loss(keys: Tensor, hidden: Tensor, z: Tensor, targets: Tensor, mine: Tensor, blank: Tensor) -> Tensor:
        taken.append((mine, targets, blank))
        return loss(keys, hidden, z, targets, mine, blank)

    monkeypatch.setattr(training.network, "predict", seen_predict)
    monkeypatch.setattr(training, "_loss", seen_loss)
    targets = as_batch(thumbnails[0][:200])
    training.step(targets, torch.zeros(200, dtype=torch.int64), rng(), 0)
    ((z, known),), ((mine, true, blank),) = seen, taken
    nothing = blank[:, 0]
    assert 60 < nothing.sum() < 100 and not known[nothing].any() and known[~nothing].any()
    assert (z == targets.flatten(1))[nothing].float().mean() < 0.02  # random, rather than what is there
    plain = true == 0
    assert mine[nothing][plain[nothing]].float().mean() > 10 * mine[~nothing][plain[~nothing]].float().mean()


def test_a_head_that_is_frozen_stays_as_it_is(grey: Callable[..., SundaeTraining], thumbnails: Thumbnails) -> None:
    training = grey(frozen_head=True)
    before = {name: value.clone() for name, value in training.network.named_parameters()}
    for step in range(2):
        training.step(as_batch(thumbnails[0][:16]), torch.from_numpy(thumbnails[1][:16]), rng(step), step)
    same = {name for name, value in training.network.named_parameters() if torch.equal(value, before[name])}
    assert same == {name for name in before if name.startswith("token_head.")}


def test_a_run_is_gone_on_from_by_another(token_set: Path, vqgan: Path, fabric: Fabric, tmp_path: Path) -> None:
    """With its averaged weights, drafts being new; logits are not set anew."""
    data = tokens.read(token_set, "train")
    run(SundaeTraining, prior(token_set, vqgan, 2, unigram_rank=2), *data, tmp_path / "first", fabric)
    recipe = dataclasses.replace(prior(token_set, vqgan, 2, unigram_rank=2), init_from=tmp_path / "first")
    again = SundaeTraining(recipe, fabric)
    averaged = load_average(newest_checkpoint(tmp_path / "first"), Hourglass(recipe.hourglass)).state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in again.network.state_dict().items())
    queries = again.network.unigram_queries.clone()
    assert queries.any()
    grids, labels = data
    again.step(torch.from_numpy(grids[:4].astype(np.int64)), torch.from_numpy(labels[:4]), rng(), 0)
    assert torch.equal(again.network.unigram_queries, queries)


@pytest.fixture
def attribute_set(token_set: Path, vqgan: Path) -> Path:
    """The same, with four attributes, each of which tells a row of a picture's tokens: it is one of three."""
    own, rng = tokens.read(token_set, "train")[0].copy(), np.random.default_rng(0)
    names = ("hat", "eyes", "mouth", "ink")
    attributes = tuple(
        Attribute(name=name, values=("#ff0000", "#00ff00", "#0000ff"), colour=name == "ink") for name in names
    )
    for split in ("train", "validation"):
        grids = np.load(token_set / f"{split}.npy")
        rows = rng.integers(1, 4, (len(grids), 4))
        grids[:] = own[rows, np.arange(4)]
        np.save(token_set / f"{split}.npy", grids)
        np.save(token_set / f"{split}-labels.npy", np.insert(rows, 0, 0, axis=1))
        if split == "train":
            table = AttributeTable(attributes, rows, np.zeros(len(rows), np.int64))
            flat = torch.from_numpy(grids.reshape(len(grids), -1).astype(np.int64))
            fit(table, flat, load_vqgan(vqgan)[0].codebook, rank=8, channels=6).save(token_set)
    return token_set


def test_attributes_are_told_by_drafts_without_the_fold_of_a_picture(
    attribute_set: Path, vqgan: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = SundaeTraining(prior(attribute_set, vqgan, draft=6), fabric)
    assert training.drafts is not None
    grids, told = tokens.read(attribute_set, "train")
    seen, asked, predict, of = [], [], training.network.predict, training.drafts.of

    def seen_predict(z: Tensor, labels: Tensor, draft: Tensor | None, known: Tensor) -> Tensor:
        seen.append(draft)
        return predict(z, labels, draft, known)

    def drafted(labels: Tensor, rows: Tensor, held_out: Tensor | None = None) -> Tensor:
        asked.append((labels, rows, held_out))
        return of(labels, rows, held_out)

    monkeypatch.setattr(training.network, "predict", seen_predict)
    monkeypatch.setattr(training, "drafts", SimpleNamespace(of=drafted, whole=training.drafts.whole))
    batch = torch.from_numpy(grids.astype(np.int64)), torch.from_numpy(told)
    figures = training.step(*batch, rng(), 0)
    ((_, rows, held_out),) = asked
    assert figures["loss"].isfinite() and torch.equal(held_out, folds(told[:, 1:]))  # of all that it shows
    assert ((rows == batch[1][:, 1:]) | (rows == 0)).all()
    assert 0.3 < (rows > 0).all(1).float().mean() < 0.9 and (rows == 0).all(1).any()
    assert all(torch.equal(draft, of(*asked[0])) for draft in seen)


@pytest.mark.slow
def test_told_attributes_are_learned(
    attribute_set: Path, vqgan: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(prior(attribute_set, vqgan, draft=6), lr=5e-3, unroll=1, eval_images=2)
    training = SundaeTraining(recipe, fabric)
    monkeypatch.setattr(training, "_sample", lambda *arguments: None)
    grids, told = tokens.read(attribute_set, "train")
    batch = torch.from_numpy(grids.astype(np.int64)), torch.from_numpy(told)
    for step in range(60):
        training.step(*batch, rng(step), step)
    figures, _ = training.evaluate(training.network, grids)
    hidden = (50, 75, 90, 100, "hole")
    assert set(figures) == {f"held_out_{kind}{each}" for kind in ("", "told_") for each in hidden}
    assert figures["held_out_told_100"] < figures["held_out_100"] - 0.3


def test_samples_of_the_log_are_of_attributes_as_often_as_they_are_met(
    attribute_set: Path, vqgan: Path, fabric: Fabric
) -> None:
    training = SundaeTraining(prior(attribute_set, vqgan, draft=6), fabric)
    assert training.drafts is not None
    whole = training.drafts.whole
    labels = np.zeros(5, np.int64)
    batch = token_batch(training.network, training.drafts.whole, [*range(5)], labels)
    rows = whole.table.choose(labels, seed=0, indices=range(5))
    assert np.array_equal(batch.draft, whole.of(labels, rows)) and batch.draft.shape == (5, 16, 6)
    assert token_batch(training.network, None, [3], labels[:1]).draft.shape == (1, 16, 0)


def test_a_prior_draws_its_training_pictures_anew(
    attribute_set: Path, vqgan: Path, fabric: Fabric, tmp_path: Path
) -> None:
    """By the labels and attributes of each; in one go, or in two."""
    recipe = prior(attribute_set, vqgan, draft=6)
    run(SundaeTraining, recipe, *tokens.read(attribute_set, "train"), tmp_path / "run", fabric)
    assert redraw(tmp_path / "run", tmp_path / "whole", 5) == 5
    assert redraw(tmp_path / "run", tmp_path / "parts", 2) == 2 and redraw(tmp_path / "run", tmp_path / "parts", 5) == 5
    drawn, told = tokens.read(tmp_path / "whole", "train")
    true, given = tokens.read(attribute_set, "train", 5)
    assert drawn.shape == true.shape and np.array_equal(told, given)
    assert np.array_equal(tokens.read(tmp_path / "parts", "train")[0], drawn)
    training = SundaeTraining(recipe, fabric)
    assert training.drafts is not None
    network = load_average(newest_checkpoint(tmp_path / "run"), training.network).eval()
    draft = training.drafts.whole.of(told[3:4, 0], told[3:4, 1:])
    with torch.no_grad():
        functions = token_network(network, network.token_head.keys(), fabric)
        again = sample_tokens(functions, TokenBatch(0, [3], (4, 4), told[3:4, 0], draft), recipe.sampling)
    assert np.array_equal(again.reshape(4, 4), drawn[3])


def test_a_run_without_drafts_knows_of_no_attributes(attribute_set: Path, vqgan: Path, fabric: Fabric) -> None:
    training = SundaeTraining(prior(attribute_set, vqgan), fabric)
    grids, told = tokens.read(attribute_set, "train")
    assert training.drafts is None
    training.step(torch.from_numpy(grids[:4].astype(np.int64)), torch.from_numpy(told[:4]), rng(), 0)
    figures, pictures = training.evaluate(training.network, grids)
    assert "held_out_90" in figures and pictures.shape[0] == 2
