"""One training step of the GAN: who learns from what, what is logged, and where it starts."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training.data.images import signed
from training.families.ddgan import DDGANTraining, Given
from training.loop import run
from training.losses import LOSSES
from training.nets.unet import UNet
from training.recipe import Recipe

MakeRecipe = Callable[..., Recipe]
Data = tuple[np.ndarray, np.ndarray]
NAMES = ("generator", "discriminator")


def as_batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def rng(step: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def weights(training: DDGANTraining, name: str) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in training.networks[name].state_dict().items()}


def unchanged(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if torch.equal(value, after[name])}


def set_learning_rates(training: DDGANTraining, **rates: float) -> None:
    for name, rate in rates.items():
        for group in training.optimizers[name].param_groups:
            group["lr"] = rate


@pytest.mark.parametrize("loss", LOSSES)
def test_one_step_moves_both_networks(recipe: MakeRecipe, fabric: Fabric, thumbnails: Data, loss: str) -> None:
    training = DDGANTraining(recipe("ddgan", loss=loss), fabric)
    before = {name: weights(training, name) for name in NAMES}
    figures = training.step(as_batch(thumbnails[0][:64]), None, rng(), 0)
    assert set(figures) == {"loss_d", "loss_g", "noise_error", "r1", "r2", "v_std", "gap_4"}
    assert all(value.isfinite() and value.shape == () for value in figures.values())
    # In the difference of two scores, the last bias cancels.
    assert unchanged(before["discriminator"], weights(training, "discriminator")) <= {"head.bias"}
    assert not unchanged(before["generator"], weights(training, "generator"))


@pytest.mark.parametrize(("still", "moving"), [NAMES, NAMES[::-1]])
def test_each_update_leaves_the_other_network_alone(
    recipe: MakeRecipe, fabric: Fabric, thumbnails: Data, still: str, moving: str
) -> None:
    training = DDGANTraining(recipe("ddgan"), fabric)
    set_learning_rates(training, **{still: 0.0, moving: 1e-3})
    before = {name: weights(training, name) for name in NAMES}
    training.step(as_batch(thumbnails[0][:16]), None, rng(), 0)
    assert unchanged(before[still], weights(training, still)) == set(before[still])
    assert unchanged(before[moving], weights(training, moving)) != set(before[moving])


def test_gradients_come_from_the_own_loss_alone(recipe: MakeRecipe, fabric: Fabric, thumbnails: Data) -> None:
    """The discriminator's are those of its loss, not what the generator's update adds on its way through it."""
    images = as_batch(thumbnails[0][:16])
    training = DDGANTraining(recipe("ddgan"), fabric)
    set_learning_rates(training, generator=0.0, discriminator=0.0)
    training.step(images, None, rng(), 0)
    both = [p.grad.clone() for p in training.networks["discriminator"].parameters()]
    training._update_generator = lambda *arguments: {}
    training.step(images, None, rng(), 0)
    for parameter, grad in zip(training.networks["discriminator"].parameters(), both, strict=True):
        assert parameter.requires_grad and torch.equal(parameter.grad, grad)


def test_classes_are_told_to_both_networks(recipe: MakeRecipe, fabric: Fabric, thumbnails: Data) -> None:
    """The same ones, but for one in ten that is told none."""
    unet = recipe("ddgan").unet
    training = DDGANTraining(recipe("ddgan", unet={**asdict(unet), "classes": 10}), fabric)
    seen = {name: [] for name in NAMES}
    for name, network in training.networks.items():
        network.label.register_forward_hook(lambda layer, given, out, seen=seen[name]: seen.append(given[0]))
    before = {name: weights(training, name) for name in NAMES}
    labels = torch.from_numpy(thumbnails[1][:2000])
    training.step(as_batch(thumbnails[0][:2000]), labels, rng(), 0)
    (told,) = seen["generator"]
    assert 0.05 < (told == 10).float().mean() < 0.15 and torch.equal(told[told < 10], labels[told < 10])
    assert all(torch.equal(each, told[: len(each)]) for each in seen["discriminator"])
    for name in NAMES:
        assert "label.weight" not in unchanged(before[name], weights(training, name))


def test_the_noise_error_is_that_of_the_noise(recipe: MakeRecipe, fabric: Fabric, thumbnails: Data) -> None:
    """Where x_0 is never clipped, SNR (x_0 - images)^2 is the error in the noise that makes x_t of x_0."""
    training = DDGANTraining(recipe("ddgan"), fabric)
    batch = as_batch(thumbnails[0][:64] // 2 + 64)
    schedule, images = training.schedule, signed(batch)
    guess = 0.9 * images
    training.reverse = lambda x_t, t, s, noise, *told: (schedule.posterior_sample(guess, x_t, t, s, noise), guess)
    training.networks["generator"].requires_grad_(False)
    training._update_generator = lambda real, fake, given, noise_error: {"t": given.t, "noise_error": noise_error}
    figures = training.step(batch, None, rng(), 0)
    t = figures["t"]
    x_t = schedule.q_sample(images, t, torch.zeros_like(images))
    signal = schedule.alpha_bar[t][:, None, None, None]
    noise = ((x_t - signal.sqrt() * guess) / (1 - signal).sqrt()).float()
    torch.testing.assert_close(figures["noise_error"], noise.square().mean(), rtol=1e-4, atol=0)


@pytest.mark.slow
def test_regression_brings_the_noise_error_down(recipe: MakeRecipe, fabric: Fabric, thumbnails: Data) -> None:
    errors = {}
    for weight in (0.0, 100.0):
        torch.manual_seed(0)
        training = DDGANTraining(recipe("ddgan", regression=weight), fabric)
        set_learning_rates(training, generator=1e-3, discriminator=0.0)
        last = [training.step(batch, None, rng(), 0)["noise_error"] for batch in as_batch(thumbnails[0]).split(64)][-8:]
        errors[weight] = torch.stack(last).mean().item()
    assert errors[100.0] < 0.5 * errors[0.0]


SEVERAL = {"log_snr": {4: [2.5, 0.0, -2.5, -6.0], 1: [-6.0], 2: [0.0, -6.0]}}


def test_candidates_have_unit_variance(recipe: MakeRecipe, fabric: Fabric) -> None:
    """Real ones, of images of +-1, whatever the levels; on the way to level 0 the candidate is the image."""
    training = DDGANTraining(recipe("ddgan", schedule=SEVERAL), fabric)
    schedule, x_0 = training.schedule, torch.randint(2, (5000, 1, 8, 8)) * 2.0 - 1
    for level in training.levels:
        s, t = level.unbind()
        at, to = t.expand(5000), s.expand(5000)
        x_s = schedule.q_sample(x_0, to, torch.randn_like(x_0))
        given = Given(schedule.q_step(x_s, at, to, torch.randn_like(x_0)), at, to, None)
        candidate = training._candidate(x_s, given)
        assert candidate.var().item() == pytest.approx(1, abs=0.01)
        if s == 0:
            assert torch.equal(candidate, x_0)


def test_steps_are_trained_for_as_often_as_the_recipe_says(
    recipe: MakeRecipe, fabric: Fabric, thumbnails: Data
) -> None:
    """Each number of steps in equal shares, but for the one told otherwise; its steps share that evenly."""
    training = DDGANTraining(recipe("ddgan", schedule=SEVERAL, shares={4: 2}), fabric)
    paths = {4: [0, 1, 2, 3, 4], 1: [0, 4], 2: [0, 2, 4]}
    assert training.schedule.paths == paths
    seen = []
    training._update_discriminator = lambda real, fake, given, which: seen.append((given, which)) or {}
    training._update_generator = lambda *arguments: {}
    training.step(as_batch(thumbnails[0]).repeat(4, 1, 1, 1), None, rng(), 0)
    ((given, which),) = seen
    found = Counter(zip(training.steps[which].tolist(), given.s.tolist(), given.t.tolist(), strict=True))
    for steps, path in paths.items():
        for pair in itertools.pairwise(path):
            wanted = {4: 2, 1: 1, 2: 1}[steps] / 4 / steps
            assert found[steps, *pair] / len(which) == pytest.approx(wanted, abs=4 * (wanted / len(which)) ** 0.5)


def test_gaps_are_means_over_each_number_of_steps(recipe: MakeRecipe, fabric: Fabric) -> None:
    training = DDGANTraining(recipe("ddgan", schedule=SEVERAL), fabric)
    real, fake, x_t = torch.randn(3, 16, 1, 8, 8)
    which = torch.tensor([0] * 4 + [2] * 10 + [4] * 2)  # of 4, 4, 4, 4, 1, 2, 2 steps
    s, t = training.levels[which].unbind(1)
    with torch.no_grad():
        network, levels = training.networks["discriminator"], [training.schedule.log_snr[each] for each in (t, s)]
        gap = network(real, x_t, *levels) - network(fake, x_t, *levels)
    figures = training._update_discriminator(real, fake, Given(x_t, t, s, None), which)
    wanted = {"gap_4": gap[:14].mean(), "gap_1": gap[14:].mean(), "gap_2": torch.tensor(0.0)}
    for name, value in wanted.items():
        torch.testing.assert_close(figures[name].detach(), value)


def test_a_batch_smaller_than_the_share_that_is_penalised(recipe: MakeRecipe, fabric: Fabric, thumbnails: Data) -> None:
    training = DDGANTraining(recipe("ddgan"), fabric)
    figures = training.step(as_batch(thumbnails[0][:4]), None, rng(), 0)
    assert all(value.isfinite() for value in figures.values())


@pytest.mark.slow
def test_a_warmup_of_the_discriminator_keeps_the_generator_fixed(
    recipe: MakeRecipe, fabric: Fabric, garments: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(DDGANTraining, "__init__", remember(DDGANTraining.__init__, made))
    chosen = recipe("ddgan", size=28, loop={"steps": 3, "warmup": 0}, discriminator_warmup=3, eval_images=100)
    run(DDGANTraining, chosen, *garments, tmp_path, fabric)
    ((training, before),) = made
    assert unchanged(before["generator"], weights(training, "generator")) == set(before["generator"])
    assert unchanged(before["discriminator"], weights(training, "discriminator")) <= {"head.bias"}


def remember(construct: Callable[..., None], made: list) -> Callable[..., None]:
    def init(self: DDGANTraining, *arguments: object) -> None:
        construct(self, *arguments)
        made.append((self, {name: weights(self, name) for name in NAMES}))

    return init


def test_a_ddpm_starts_the_generator(
    recipe: MakeRecipe, fabric: Fabric, save_ddpm: Callable[..., UNet], tmp_path: Path
) -> None:
    regression = save_ddpm()
    generator = DDGANTraining(recipe("ddgan", init_from=str(tmp_path)), fabric).networks["generator"]
    for parameter in generator.mapping.layers[-1].parameters():
        nn.init.zeros_(parameter)
    x_t, log_snr, z = torch.randn(3, 1, 8, 8), torch.tensor([-2.0, 0.0, 2.0]), torch.randn(3, 8)
    torch.testing.assert_close(generator(x_t, log_snr, z=z), regression(x_t, log_snr))


@pytest.mark.parametrize("unet", [{"widths": [8, 8]}, {"blocks": 2}])
def test_a_ddpm_of_another_shape_is_refused(
    recipe: MakeRecipe, fabric: Fabric, save_ddpm: Callable[..., UNet], tmp_path: Path, unet: dict[str, object]
) -> None:
    save_ddpm(unet={**vars(recipe("ddpm").unet), **unet})
    with pytest.raises(ValueError, match="holds a network of another shape"):
        DDGANTraining(recipe("ddgan", init_from=str(tmp_path)), fabric)


def test_going_on_from_a_run_needs_a_checkpoint(recipe: MakeRecipe, fabric: Fabric, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no checkpoint; train it first"):
        DDGANTraining(recipe("ddgan", init_from=str(tmp_path)), fabric)


@pytest.mark.slow
def test_evaluation_measures_each_number_of_steps(recipe: MakeRecipe, fabric: Fabric, garments: Data) -> None:
    training = DDGANTraining(recipe("ddgan", size=28, schedule=SEVERAL, eval_images=200), fabric)
    figures, pictures = training.evaluate(training.networks["generator"], garments[0])
    assert pictures.shape == (200, 28, 28, 1) and pictures.dtype == np.uint8
    assert list(figures) == ["fid_4", "fid_1", "fid_2"] and min(figures.values()) > 0


def test_classes_are_those_of_the_data(recipe: MakeRecipe, fabric: Fabric) -> None:
    plain = recipe("ddgan")
    with pytest.raises(ValueError, match="unet.classes is 9: garments have 10"):
        DDGANTraining(replace(plain, unet=replace(plain.unet, classes=9)), fabric)
