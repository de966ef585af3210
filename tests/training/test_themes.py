"""Themes of pictures that have a colour each: learned, read off a part, and kept to draw with."""

import numpy as np
import pytest
import torch

from training import themes
from training.nets.hourglass import THEMES, Hourglass, HourglassConfig

CONFIG = HourglassConfig(
    tokens=4, vocabulary=8, classes=2, widths=(16, 16), heads=(1, 1), depths=(1, 1, 1), head=16, features=8,
    regions=2, codes=3, marginals=2, theme=4,
)  # fmt: skip
LABELS = np.arange(400) % 2


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Grids [400, 4, 4] of the four tokens of a colour, and the colours [400]: tokens 0 to 3, or 4 to 7."""
    rng = np.random.default_rng(0)
    colours = rng.integers(2, size=400)
    return (4 * colours[:, None, None] + rng.integers(4, size=(400, 4, 4))).astype(np.uint16), colours


@pytest.fixture
def network() -> Hourglass:
    network = Hourglass(CONFIG)
    network.set_codes(torch.randn_like(network.codes))
    return network


def start(network: Hourglass, grids: np.ndarray) -> None:
    kept = torch.ones_like(network.bias)
    themes.start(network, grids, LABELS, kept, torch.Generator().manual_seed(0))


def test_a_theme_tells_which_tokens_are_drawn_everywhere(network: Hourglass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(themes, "ROUNDS", 900)
    monkeypatch.setattr(themes, "RATE", 5e-3)
    grids, colours = pictures()
    before = {name: value.clone() for name, value in network.named_parameters()}
    start(network, grids)
    changed = {name.split(".")[0] for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"tint", "recognition"}

    half = torch.arange(16) < 8
    z = torch.from_numpy(grids.reshape(400, 16).astype(np.int64))
    with torch.no_grad():
        theme, _ = network.recognise(z, half.expand(400, -1))
        noise, label = torch.randint(8, z.shape), torch.from_numpy(LABELS)
        with_theme, without = (network(noise, label, given).softmax(2) for given in (theme, None))
    own = torch.arange(8)[None] // 4 == torch.from_numpy(colours)[:, None]  # tokens of the picture's colour
    assert ((with_theme * own[:, None]).sum(2) > 0.8).float().mean() > 0.9
    torch.testing.assert_close((without * own[:, None]).sum(2), torch.full((400, 16), 0.5), atol=0.1, rtol=0)


def test_what_is_recognised_has_noise(network: Hourglass) -> None:
    z, known = torch.zeros(500, 16, dtype=torch.int64), torch.ones(500, 16, dtype=torch.bool)
    theme, loss = themes.recognised(network, z, known, torch.zeros(500, dtype=torch.int64), torch.Generator())
    plain, _ = network.recognise(z, known)
    assert theme.shape == (500, 4) and loss > 0
    assert abs((theme - plain).std() / themes.NOISE - 1) < 0.1


def test_themes_are_kept_by_class_and_repeated_where_there_are_few(network: Hourglass) -> None:
    grids, _ = pictures()
    grids[LABELS == 0] = 3
    themes.keep(network, grids, LABELS)
    same, others = network.themes
    assert (same == same[0]).all() and len(others.unique(dim=0)) == 200
    assert torch.equal(others[:200], others[200:400]) and len(others) == THEMES
    z = torch.from_numpy(grids[1].reshape(1, 16).astype(np.int64))
    torch.testing.assert_close(others[:1], network.recognise(z, torch.ones(1, 16, dtype=torch.bool))[0])
