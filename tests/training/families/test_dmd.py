"""Distribution matching: the way of the generator, the direction it is moved in, who learns, and that it does."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from tests.training.families.test_ddgan import SEVERAL
from training.families.dmd import SMALLEST, DMDTraining
from training.nets.unet import UNet
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
Data = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def teacher(recipe: MakeRecipe, save_ddpm: Callable[..., UNet], tmp_path: Path) -> Path:
    """The run of a DDPM that has learned nothing, told one of ten classes."""
    save_ddpm(unet=asdict(recipe("ddpm").unet) | {"classes": 10})
    return tmp_path


@pytest.fixture
def make(recipe: MakeRecipe, fabric: Fabric, teacher: Path) -> Callable[..., DMDTraining]:
    def make(**fields: object) -> DMDTraining:
        unet = asdict(recipe("dmd").unet) | {"classes": 10, "told_target": True}
        return DMDTraining(recipe("dmd", unet=unet, teacher=teacher, **{"schedule": SEVERAL, **fields}), fabric)

    return make


def rng(step: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def batch(thumbnails: Data, n: int) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(thumbnails[0][:n]).permute(0, 3, 1, 2), torch.from_numpy(thumbnails[1][:n])


def moved(training: DMDTraining, before: dict[str, dict[str, Tensor]]) -> set[str]:
    networks = {"teacher": training.teacher, **training.networks}
    return {
        name
        for name, network in networks.items()
        if any(not torch.equal(value, before[name][key]) for key, value in network.state_dict().items())
    }


def weights(training: DMDTraining) -> dict[str, dict[str, Tensor]]:
    networks = {"teacher": training.teacher, **training.networks}
    return {name: {key: x.clone() for key, x in each.state_dict().items()} for name, each in networks.items()}


def test_the_critic_learns_first_then_both_and_the_teacher_never(
    make: Callable[..., DMDTraining], thumbnails: Data
) -> None:
    training = make(critic_warmup=1)
    before = weights(training)
    figures = training.step(*batch(thumbnails, 16), rng(), 0)
    assert moved(training, before) == {"critic"} and set(figures) == {"loss_critic", "error_critic"}
    figures = training.step(*batch(thumbnails, 16), rng(), 1)
    assert moved(training, before) == {"critic", "generator"}
    assert set(figures) == {"loss_critic", "error_critic", "difference"}
    assert all(value.isfinite() and value.shape == () for value in figures.values())


def test_images_are_not_looked_at(make: Callable[..., DMDTraining], thumbnails: Data) -> None:
    """What the generator learns of data it has of its teacher, and of their classes."""
    images, labels = batch(thumbnails, 16)
    ends = []
    for given in (images, 255 - images):
        torch.manual_seed(0)
        training = make(critic_warmup=0)
        training.step(given, labels, rng(), 0)
        ends.append(weights(training))
    assert not moved(training, ends[0])


def test_steps_are_as_often_as_the_recipe_says_and_begin_where_the_generator_got(
    make: Callable[..., DMDTraining],
) -> None:
    """A generator that always draws one grey: its x_t are that grey with the noise of their level."""
    training = make(shares={4: 2})
    grey = 0.5
    taken = []

    def reverse(x_t: Tensor, t: Tensor, s: Tensor, noise: Tensor, *told: Tensor) -> tuple[Tensor, Tensor]:
        x_0 = torch.full_like(x_t, grey)
        return training.schedule.posterior_sample(x_0, x_t, t, s, noise), x_0

    training.reverse = reverse
    counts: Counter[tuple[int, int]] = Counter()
    for step in range(20):
        x_t, t, s = training._on_the_way(torch.Size([1000, 1, 8, 8]), None, rng(step))
        counts.update(zip(s.tolist(), t.tolist(), strict=True))
        taken.append((x_t, t))
    total = sum(counts.values())
    for steps, share in ((4, 2 / 4), (1, 1 / 4), (2, 1 / 4)):
        path = training.schedule.paths[steps]
        for s, t in zip(path[:-1], path[1:], strict=True):
            assert counts[s, t] / total == pytest.approx(share / steps, abs=0.01)
    x, t = (torch.cat(each) for each in zip(*taken, strict=True))
    for level in t.unique().tolist():
        signal = training.schedule.alpha_bar[level].item()
        top = level == max(training.schedule.paths[4])  # noise, of which it knows nothing yet
        assert x[t == level].mean().item() == pytest.approx(0 if top else grey * signal**0.5, abs=0.02)
        assert x[t == level].var().item() == pytest.approx(1 if top else 1 - signal, rel=0.03)


def test_pictures_move_to_what_the_teacher_sees_away_from_what_the_critic_sees(
    make: Callable[..., DMDTraining],
) -> None:
    training = make()
    x_0 = torch.rand(6, 1, 8, 8, requires_grad=True)
    wanted, drawn = torch.full_like(x_0, 0.9), torch.full_like(x_0, 0.2)
    training.teacher.forward = lambda x, log_snr, label: wanted.detach()
    training.critic.forward = lambda x, log_snr, target, label, start: drawn.detach()
    told = {"target": torch.zeros(6), "label": torch.zeros(6, dtype=torch.int64), "start": torch.zeros_like(x_0)}
    figures = training._update_generator(x_0, torch.randn_like(x_0), torch.linspace(-6, 5, 6), told)
    size = (x_0 - 0.9).abs().mean((1, 2, 3), keepdim=True).clamp(min=SMALLEST)
    torch.testing.assert_close(x_0.grad, ((0.2 - 0.9) / size / x_0.numel()).expand_as(x_0))
    assert figures["difference"].item() == pytest.approx(0.7)


def test_teacher_and_critic_are_asked_of_the_scales_that_a_step_is_for(
    make: Callable[..., DMDTraining], thumbnails: Data
) -> None:
    """Of pictures that are one grey, with the noise of the level that they are told; the critic, of which step.

    Of half of them they are asked given the picture that the step is from, which the critic is told.
    """
    training = make(critic_warmup=0, schedule={"log_snr": {4: SEVERAL["log_snr"][4]}})
    n, seen, weight = 2000, [], torch.ones((), requires_grad=True)  # losses have a gradient, and nothing learns
    grey = torch.full((n, 1, 8, 8), 0.5, requires_grad=True)
    told: list[tuple[Tensor, Tensor]] = []
    training._step = lambda x_t, t, s, label, rng: (grey, grey * 1)
    training.teacher.forward = lambda x, log_snr, label: seen.append((x, log_snr)) or x
    training.critic.forward = lambda x, log_snr, target, label, start: (
        seen.append((x, log_snr)) or told.append((target, start)) or x * weight
    )
    for level in (1, 2, 4):
        t = torch.full((n,), level)
        x_t = training.schedule.q_sample(grey.detach(), t, torch.randn(grey.shape, generator=rng()))
        training._on_the_way = lambda shape, label, rng, way=(x_t, t, t - 1): way
        training.step(torch.zeros(n, 1, 8, 8), torch.zeros(n, dtype=torch.int64), rng(level), 0)
        target, start = told[0]
        given = start.flatten(1).any(1)
        assert given.float().mean().item() == pytest.approx(0.5, abs=0.05)
        assert torch.equal(start[given], x_t[given]) and torch.equal(target, training.schedule.log_snr[t])
        assert len(seen) == 3 and all(torch.equal(start, again) for _, again in told)
        low = max(training.schedule.log_snr[level].item() - 3, -6.0)
        high = min(training.schedule.log_snr[level - 1].item(), 6.0)
        for x, log_snr in seen:
            added = torch.where(given, (log_snr.exp() - target.exp()).clamp(min=1e-9).log(), log_snr)
            assert low - 1e-2 <= added.min() < low + 0.1 and high - 0.1 < added.max() <= high + 1e-2
            signal = log_snr.sigmoid()[:, None, None, None]
            noise = (x - 0.5 * signal.sqrt()) / (1 - signal).sqrt()
            for part in (given, ~given):
                assert noise[part].std().item() == pytest.approx(1, abs=0.02)
        seen.clear()
        told.clear()


def test_guidance_leads_from_no_class_to_the_class(make: Callable[..., DMDTraining]) -> None:
    x, log_snr = torch.randn(3, 1, 8, 8), torch.tensor([-2.0, 0.0, 2.0])
    label, nobody = torch.tensor([1, 2, 10]), torch.full((3,), 10)
    plain, guided = make(guidance=1.0), make(guidance=2.5)
    told, untold = (plain.teacher(x, log_snr, label=each) for each in (label, nobody))
    torch.testing.assert_close(plain._taught(x, log_snr, label), told)
    torch.testing.assert_close(guided._taught(x, log_snr, label), untold + 2.5 * (told - untold))
    assert torch.equal(guided._taught(x, log_snr, label)[2], untold[2])
    partly = make(guidance=2.5, guidance_interval=(-3.0, -1.0))._taught(x, log_snr, label)
    torch.testing.assert_close(partly[0], (untold + 2.5 * (told - untold))[0])
    torch.testing.assert_close(partly[1:], told[1:])
    nowhere = make(guidance=2.5, guidance_interval=(5.0, 6.0))._taught(x, log_snr, label)
    torch.testing.assert_close(nowhere, told)


def test_few_pictures_need_not_all_be_on_their_way(make: Callable[..., DMDTraining]) -> None:
    """Of one picture at a time, none is stepped at most levels."""
    training = make()
    for step in range(20):
        x_t, t, s = training._on_the_way(torch.Size([1, 1, 8, 8]), torch.tensor([3]), rng(step))
        assert x_t.isfinite().all() and 0 <= s.item() < t.item()


@pytest.mark.slow
def test_a_generator_comes_to_draw_what_its_teacher_knows(make: Callable[..., DMDTraining], thumbnails: Data) -> None:
    """Of a teacher that knows one picture alone, whatever it is shown."""
    training = make(lr_generator=1e-3, lr_critic=3e-3, critic_warmup=20)
    known = torch.linspace(-0.8, 0.8, 8).expand(64, 1, 8, 8)
    training.teacher.forward = lambda x, log_snr, label: known[: len(x)]
    errors = []
    for step in range(150):
        training.step(*batch(thumbnails, 64), rng(step), step)
        with torch.no_grad():
            x_t, t, s = training._on_the_way(torch.Size([64, 1, 8, 8]), torch.arange(64) % 10, rng(step))
            _, x_0 = training._step(x_t, t, s, torch.arange(64) % 10, rng(step))
        errors.append((x_0 - known).square().mean().item())
    assert np.mean(errors[-10:]) < 0.5 * np.mean(errors[:3])


@pytest.mark.slow
def test_evaluation_measures_each_number_of_steps(
    recipe: MakeRecipe, fabric: Fabric, garments: Data, save_ddpm: Callable[..., UNet], tmp_path: Path
) -> None:
    save_ddpm(size=28)
    training = DMDTraining(recipe("dmd", size=28, schedule=SEVERAL, eval_images=200, teacher=tmp_path), fabric)
    figures, pictures = training.evaluate(training.networks["generator"], garments[0])
    assert pictures.shape == (200, 28, 28, 1) and pictures.dtype == np.uint8
    assert list(figures) == ["fid_4", "fid_1", "fid_2"] and min(figures.values()) > 0
