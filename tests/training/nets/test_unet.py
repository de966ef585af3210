"""The U-Net: shapes, what its output depends on, and a DDPM's weights in a generator."""

import pytest
import torch
from torch import Tensor, nn

from training.nets.unet import Mapping, UNet, UNetConfig

SMALL = {"widths": (8, 16), "groups": 4, "heads": 2, "embedding": 16}


def network(**fields: object) -> UNet:
    return UNet(UNetConfig(**{**SMALL, "latent": 8, **fields}))


def inputs(config: UNetConfig, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    x_t = torch.randn(batch, config.channels, config.size, config.size)
    return x_t, torch.linspace(-4, 4, batch), torch.randn(batch, config.latent)


def set_gain(mapping: Mapping, gain: float) -> None:
    """How much of z comes through; at 0 the generator is the regressor that it started from."""
    nn.init.normal_(mapping.layers[-1].weight, std=gain)
    nn.init.zeros_(mapping.layers[-1].bias)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 28},
        {"size": 8, "channels": 3},
        {"size": 16, "widths": (8,), "blocks": 2},
        {"size": 28, "widths": (8, 8, 16), "blocks": 2},
    ],
)
def test_an_image_comes_out_and_every_weight_learns(fields: dict[str, object]) -> None:
    unet = network(**fields)
    set_gain(unet.mapping, 1.0)
    x_t, log_snr, z = inputs(unet.config)
    x_0 = unet(x_t, log_snr, z=z)
    assert x_0.shape == x_t.shape
    x_0.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in unet.parameters())


def test_z_matters_as_far_as_its_mapping_lets_it() -> None:
    unet = network(size=8)
    x_t, log_snr, z = inputs(unet.config)
    set_gain(unet.mapping, 0.0)
    assert torch.equal(unet(x_t, log_snr, z=z), unet(x_t, log_snr, z=-z))
    set_gain(unet.mapping, 1.0)
    assert not torch.allclose(unet(x_t, log_snr, z=z), unet(x_t, log_snr, z=-z))


def test_a_label_matters_once_it_has_learned() -> None:
    unet = network(size=8, classes=2)
    x_t, log_snr, z = inputs(unet.config)
    labels = torch.tensor([[0, 1, 2], [2, 2, 2]])  # the last: no class
    one, none = (unet(x_t, log_snr, z=z, label=label) for label in labels)
    assert torch.equal(one, none)
    nn.init.normal_(unet.label.weight)
    one, none = (unet(x_t, log_snr, z=z, label=label) for label in labels)
    assert (one != none).flatten(1).any(1).tolist() == [True, True, False]


def test_where_a_step_leads_to_matters_once_it_has_learned() -> None:
    unet = network(size=8, told_target=True)
    x_t, log_snr, z = inputs(unet.config)
    targets = log_snr + 1, log_snr + 2
    assert torch.equal(*(unet(x_t, log_snr, target, z) for target in targets))
    nn.init.normal_(unet.target.layers[-1].weight)
    assert not torch.isclose(*(unet(x_t, log_snr, target, z) for target in targets)).all((1, 2, 3)).any()


def test_the_length_of_z_does_not_matter() -> None:
    mapping, z = Mapping(8, 16), torch.randn(3, 8)
    set_gain(mapping, 1.0)
    torch.testing.assert_close(mapping(5 * z), mapping(z))  # PixelNorm


def test_a_regressor_gives_a_generator_the_same_x_0() -> None:
    regressor, generator = network(size=8, latent=0), network(size=8)
    set_gain(generator.mapping, 0.0)
    for parameter in regressor.parameters():
        nn.init.normal_(parameter, std=0.2)
    missing, unexpected = generator.load_state_dict(regressor.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("mapping.") for name in missing)
    x_t, log_snr, z = inputs(generator.config)
    assert torch.equal(generator(x_t, log_snr, z=z), regressor(x_t, log_snr))


def test_the_level_matters_to_the_network_itself() -> None:
    """Not only to the sum of x_t and v, whose weights depend on it in any case."""
    unet = network(size=8)
    seen = []
    unet.head.register_forward_hook(lambda module, arguments, output: seen.append(output))
    x_t, _, z = inputs(unet.config)
    for level in (-2.0, 2.0):
        unet(x_t, torch.full((3,), level), z=z)
    assert not torch.allclose(*seen)


def test_x_0_is_read_off_v() -> None:
    """x_0 = signal x_t - noise v: with v = 0 the network shrinks, and without noise it returns what it got."""
    unet = network(size=8)
    x_t, _, z = inputs(unet.config)
    torch.testing.assert_close(unet(x_t, torch.full((3,), 40.0), z=z), x_t)
    for parameter in unet.head.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(unet(x_t, torch.zeros(3), z=z), x_t / 2**0.5)


def test_images_of_a_batch_do_not_mix() -> None:
    unet = network(size=8).eval()
    set_gain(unet.mapping, 1.0)
    x_t, log_snr, z = inputs(unet.config, 5)
    alone = torch.cat([unet(x_t[i : i + 1], log_snr[i : i + 1], z=z[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(unet(x_t, log_snr, z=z), alone, atol=1e-5, rtol=1e-5)


def test_a_batch_may_be_empty() -> None:
    unet = network(size=8)
    x_t, log_snr, z = inputs(unet.config)
    with torch.no_grad():
        assert unet(x_t[:0], log_snr[:0], z=z[:0]).shape == (0, *x_t.shape[1:])


def test_attention_reaches_every_pixel() -> None:
    unet = network(size=28)
    x_t, log_snr, z = inputs(unet.config, 2)
    x_t.requires_grad_()
    unet(x_t, log_snr, z=z)[0, 0, 0, 0].backward()
    assert (x_t.grad[0] != 0).all() and (x_t.grad[1] == 0).all()
