"""A prior over tokens as graphs, `predict`, `draw` and `draft`, of weights that are rounded for small files."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from export.draw import draw, parity_of_draw, quantise_keys
from export.graph import export, parity
from export.int8 import PRODUCTS, round_linear, store_int8
from export.ort_ops import fused
from export.precision import graph_file
from export.weights import Rounded, store_half
from training.nets.hourglass import Hourglass, token_head
from training.nets.token_head import TokenHead

HIDDEN = 1e-3  # what logits are made of may differ by, some of it being as large as 20: rounding


class Predict(nn.Module):
    """Tokens, labels, what is known, and drafts where the network reads some, to what logits are linear in."""

    def __init__(self, network: Hourglass) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, label: Tensor, known: Tensor, draft: Tensor | None = None) -> Tensor:
        """Tokens (B, N), label (B,), known (B, N), draft (B, N, K) to `hidden` (B, N, W + 1)."""
        return self.network.predict(tokens, label, draft, known)


class Draft(nn.Module):
    """Tokens to what drafts would have them be: principal components of their codes."""

    components: Tensor  # (D, K)
    mean: Tensor  # (K,)

    def __init__(self, network: Hourglass) -> None:
        super().__init__()
        self.head = network.token_head
        size = self.head.codes.square().mean().sqrt()  # drafts are of codes of unit mean square
        self.register_buffer("components", (network.components[:-1] / size).half().float())  # as a bundle holds them
        self.register_buffer("mean", network.components[-1].half().float())

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N) to `draft` (B, N, K)."""
        return self.head.codes_of(tokens) @ self.components - self.mean


class Coded(Protocol):
    """A VQ-GAN, ours or another's, as a prior knows it."""

    @property
    def codebook(self) -> Tensor:
        """What tokens stand for, in each region (R * R, V, D)."""


class FrozenHead(TokenHead):
    """An output layer whose keys are given, rather than computed from its codes."""

    given: Tensor  # (R * R, V, W)

    def keys(self) -> Tensor:
        return self.given


class Frozen(Hourglass):
    """A prior whose keys (R * R, V, W) are given; its weights are copies."""

    def __init__(self, network: Hourglass, keys: Tensor) -> None:
        super().__init__(network.config)
        head = token_head(FrozenHead, network.config)
        head.given = keys
        self.token_head = head
        self.load_state_dict(network.state_dict())


def freeze(network: Hourglass, codec: Coded) -> Frozen:
    """The prior as it is stored: its keys a table, its large weights rounded, and its codes those of the codebook.

    It shares the codebook with the VQ-GAN's graphs; the first layer undoes what made its codes alike in size.
    """
    levels, scale = quantise_keys(network.token_head.keys().numpy())
    frozen = Frozen(network, torch.from_numpy((levels * scale).swapaxes(1, 2))).eval()
    frozen.token_head.codes.copy_(codec.codebook)
    frozen.token[0].get_parameter("weight").div_(codec.codebook.square().mean().sqrt())
    # Not the layers that read codes or drafts: principal components differ so in size that int8 loses most of them.
    round_linear(*frozen.trunk, frozen.out, *([] if frozen.draft is None else [frozen.draft.inner]))
    return frozen


def export_predict(network: Hourglass, codes: Rounded, folder: Path) -> dict[str, float]:
    """Write predict.onnx, and one for each of the other PRODUCTS; returns the parity of the first, by batch size."""
    module, path = Predict(network), folder / "predict.onnx"
    with fused(network):
        export(module, predict_inputs(network, 2), path, ["hidden"])
    store_half(path, [codes])
    for precision, product in PRODUCTS.items():
        store_int8(path, folder / graph_file("predict", precision), product)
    return parity(module, path, lambda batch: predict_inputs(network, batch), HIDDEN)


def export_draft(network: Hourglass, codes: Rounded, folder: Path) -> dict[str, float]:
    """Write draft.onnx; returns its parity, by batch size."""
    module, path = Draft(network), folder / "draft.onnx"

    def tokens(batch: int) -> dict[str, Tensor]:
        return {"tokens": predict_inputs(network, batch)["tokens"]}

    export(module, tokens(2), path, ["draft"])
    store_half(path, [codes])
    return parity(module, path, tokens, HIDDEN)


def export_draw(network: Hourglass, folder: Path) -> dict[str, float]:
    """Write draw.onnx, and one for each of the other PRODUCTS.

    Returns the parity of the first, by batch size.
    """
    path, head = folder / "draw.onnx", network.token_head
    for precision, product in PRODUCTS.items():
        own = folder / graph_file("draw", precision)
        draw(head.keys().numpy(), head.bias.numpy(), network.config.tokens, own, product)

    def make_inputs(batch: int) -> dict[str, Tensor]:
        z = predict_inputs(network, batch)
        drawn = {"hidden": Predict(network)(**z), "tokens": z["tokens"], "update": z["known"]}
        drawn |= {"temperature": torch.rand(batch) + 0.5, "uniform": torch.rand(z["tokens"].shape)}
        drawn |= {"return_prob": torch.ones(batch, dtype=torch.bool)}
        return drawn | {"logit_bias": torch.randn(*z["tokens"].shape, network.config.vocabulary)}

    return parity_of_draw(path, head.logits, make_inputs)


def predict_inputs(network: Hourglass, batch: int) -> dict[str, Tensor]:
    """Random tokens, most of them known, labels, and drafts where the network reads some."""
    config = network.config
    z = torch.randint(config.vocabulary, (batch, config.tokens**2))
    inputs = {"tokens": z, "label": torch.randint(config.classes + 1, (batch,)), "known": torch.rand(z.shape) < 0.8}
    return inputs | ({"draft": torch.randn(*z.shape, config.draft)} if config.draft else {})
