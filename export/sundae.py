"""A prior and its VQ-GAN as one bundle: pictures to tokens and back, what tokens should be, and their draw."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.draw import draw, quantise_keys
from export.folder import new
from export.fused import fused
from export.graph import Arrays, Rounded, export, parity, share_weights, store_half
from export.int8 import FLOAT32, HALF, INT8, round_linear, store_int8
from export.provenance import report, trained
from export.vqgan import ROLES, relative
from export.vqgan import vqgan as export_vqgan
from genfast import bundle
from genfast import sundae as sampler
from genfast.bundle import Figure
from genfast.errors import UsageError
from genfast.session import Session
from training.data import class_names
from training.data.avatars import credits
from training.loop import load_average
from training.nets.hourglass import Hourglass
from training.nets.vqgan import FACTOR, VQGAN

SAMPLING = sampler.Options(order="chance", temperature_end=0.4, settle=0.4)
# Of a hole, whose surroundings say much: fewer steps and less chance are nearer to what was there.
FILLING = sampler.Options(steps=7, temperature=0.6, temperature_end=0.3, growth=3.0, choice_temperature=1.0, settle=0.4)
HIDDEN = 1e-3  # what logits are made of may differ by, some of it being as large as 20: rounding
DIVERGENCE = 0.01  # nats a token that arithmetic in int8 may cost, beside what rounded weights do

PRODUCTS = {"int8": INT8, "fp16": HALF, "fp32": FLOAT32}  # how `predict` and `draw` multiply by their weights

PARITY = {
    "encode": "largest share of tokens that differ from PyTorch, batches of 1, 2, 7",
    "decode": "largest difference from PyTorch in levels of 255, batches of 1, 2, 7",
    "evidence": "largest difference from PyTorch, as a share of the largest value, batches of 1, 2, 7",
    "borders": "largest difference from PyTorch, as a share of the largest value",
    "seams": "largest difference from PyTorch, as a share of the largest value, batches of 1, 2, 7",
    "recognise": "largest difference from PyTorch, as a share of the largest value, batches of 1, 2, 7",
    "themes": "largest difference from PyTorch, as a share of the largest value",
    "draw": "largest difference of a probability from PyTorch, batches of 1, 2, 7",
}


class Predict(nn.Module):
    """Tokens (B, N), labels (B,), themes (B, K) and what is known (B, N) to what logits are made of (B, N, W + 1)."""

    def __init__(self, network: Hourglass) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, label: Tensor, theme: Tensor, known: Tensor) -> Tensor:
        return self.network.predict(tokens, label, theme, known)


class Recognise(nn.Module):
    """Tokens (B, N), known (B, N) in part, to the theme (B, K) of all, and logits of the label (B, classes + 1)."""

    def __init__(self, network: Hourglass) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.recognise(tokens, known)


class Themes(nn.Module):
    """The themes to draw with, by class (L, M, K)."""

    def __init__(self, network: Hourglass) -> None:
        super().__init__()
        self.register_buffer("kept", network.themes)

    def forward(self) -> Tensor:
        return self.kept + 0  # an output has to be computed


class Frozen(Hourglass):
    """A prior whose keys (R * R, V, W) are given, rather than computed from its codes."""

    def __init__(self, network: Hourglass, keys: Tensor) -> None:
        super().__init__(network.config)
        self.load_state_dict(network.state_dict())
        self.keys = keys

    def table(self) -> Tensor:
        return self.keys


@torch.no_grad()
def sundae(checkpoint: Path, out: Path, vqgan: Path, notes: str = "") -> None:
    """Write a prior's averaged weights, and those of its VQ-GAN, to the new folder `out` as a bundle.

    `notes` on the training go into its manifest.

    Raises:
        UsageError: a checkpoint is none of its family, the prior is not one of this VQ-GAN or keeps no themes yet, or
            `out` exists.
        ValueError: a graph does not compute what the network computes.
    """
    recipe, provenance = trained(checkpoint, "sundae")
    of_vqgan, provenance_of_vqgan = trained(vqgan, "vqgan")
    network = load_average(checkpoint, Hourglass(recipe.hourglass)).eval()
    codec = load_average(vqgan, VQGAN(of_vqgan.vqgan)).eval()
    if not fits(network, codec):
        raise UsageError(f"{checkpoint} is not a prior for the tokens of {vqgan}: its codes are others")
    if not network.themes.any():
        raise UsageError(
            f"{checkpoint} keeps no themes to draw with: they come when a run is watched; take a later one"
        )
    side, vocabulary, classes = recipe.hourglass.tokens, recipe.hourglass.vocabulary, class_names(of_vqgan.data)
    if recipe.hourglass.classes != len(classes):
        raise UsageError(f"{checkpoint} has {recipe.hourglass.classes} classes, and the data of {vqgan} {len(classes)}")
    size = side * FACTOR
    with new(out) as folder:
        codes = Rounded.of(codec.codebook.numpy())
        codec.half().float().codebook.copy_(torch.from_numpy(codes.values))
        frozen = freeze(network, codec)
        differences = export_vqgan(codec, side, folder, codes)
        differences["draw"] = export_draw(frozen, folder)
        differences |= export_themes(frozen, codes, folder)
        predicted = export_predict(frozen, codes, folder)
        graphs, figures = choose(network, frozen, folder)
        constant = *ROLES, "recognise", "themes"
        others = sorted(folder.glob("[dp]r*.onnx"), reverse=True)  # those in float32 give files of weights their names
        share_weights([*(folder / f"{role}.onnx" for role in constant), *others])
        manifest = bundle.write(
            folder,
            name=recipe.name.removesuffix("-prior"),
            family="vq-sundae",
            summary=f"{of_vqgan.data.name}, {size}x{size}, from {side}x{side} tokens of {vocabulary}",
            licence="Apache-2.0",
            image={"height": size, "width": size, "channels": 3},
            tokens={"height": side, "width": side, "vocabulary": vocabulary},
            classes=classes,
            graphs={role: [graph(role, "fp32", "cpu", "cuda")] for role in constant} | graphs,
            sampling={"batch": 1, "options": asdict(SAMPLING), "filling": asdict(FILLING)},
            parity={"tolerance": HIDDEN, "max_abs_difference": predicted},
            figures=[
                *(
                    Figure(name=f"parity, {role}", value=max(found.values()), protocol=PARITY[role])
                    for role, found in differences.items()
                ),
                *figures,
            ],
            provenance={
                **provenance,
                "dataset": of_vqgan.data.name,
                "dataset_licence": licence(of_vqgan.data.name),
                "notes": "Tokens: {recipe}, {images_seen} images, {hours} h. ".format(**provenance_of_vqgan)
                + f"The weights are exponential moving averages. {notes}".strip(),
            },
        ).manifest
    report(out, manifest)


def fits(network: Hourglass, codec: VQGAN) -> bool:
    """Whether a prior knows tokens by the codes of this VQ-GAN."""
    if network.codes.shape != codec.codebook.shape:
        return False
    own = copy.deepcopy(network)
    own.set_codes(codec.codebook)
    return torch.allclose(own.codes, network.codes, rtol=1e-3, atol=1e-3)


def freeze(network: Hourglass, codec: VQGAN) -> Frozen:
    """The prior as it is stored: its keys a table, its large weights rounded, and its codes those of the codebook.

    It shares the codebook with the VQ-GAN's graphs; the first layers undo what made its codes alike in size.
    """
    levels, scale = quantise_keys(network.table().numpy())
    frozen = Frozen(network, torch.from_numpy((levels * scale).swapaxes(1, 2))).eval()
    frozen.codes.copy_(codec.codebook)
    for layer in frozen.readers:
        layer.weight /= codec.codebook.square().mean().sqrt()
    frozen.recognition.half().float()
    frozen.themes.copy_(frozen.themes.half())
    # Not the layers that read codes: principal components differ so much in size that int8 would lose most of them.
    round_linear(frozen.before, frozen.down, frozen.within, frozen.up, frozen.after, frozen.out)
    return frozen


def export_predict(network: Hourglass, codes: Rounded, folder: Path) -> dict[str, float]:
    """Write predict.onnx, and one for each of the other PRODUCTS; returns the parity of the first, by batch size."""
    module, path = Predict(network), folder / "predict.onnx"
    with fused(network):
        export(module, tokens(network, 2), path, ["hidden"])
    store_half(path, [codes])
    for precision, product in PRODUCTS.items():
        store_int8(path, folder / file("predict", precision), product)
    return parity(module, path, lambda batch: tokens(network, batch), HIDDEN)


def export_themes(network: Hourglass, codes: Rounded, folder: Path) -> dict[str, dict[str, float]]:
    """Write recognise.onnx and themes.onnx; returns the parity of each, by batch size."""
    recognise, themes = Recognise(network), Themes(network)
    export(recognise, partly(network, 2), folder / "recognise.onnx", ["theme", "label"])
    export(themes, {}, folder / "themes.onnx", ["themes"])
    for role in ("recognise", "themes"):
        store_half(folder / f"{role}.onnx", [codes])
    return {
        "recognise": parity(
            recognise, folder / "recognise.onnx", lambda batch: partly(network, batch), compare=relative
        ),
        "themes": parity(themes, folder / "themes.onnx", lambda _: {}, compare=relative),
    }


def export_draw(network: Hourglass, folder: Path) -> dict[str, float]:
    """Write draw.onnx, and one for each of the other PRODUCTS.

    Returns how far the probabilities of the first are from those of the network, by batch size. Near ties make no
    difference: each number is to lie between the CDF before its token and the CDF after it.
    """
    path = folder / "draw.onnx"
    for precision, product in PRODUCTS.items():
        own = folder / file("draw", precision)
        draw(network.table().numpy(), network.bias.numpy(), network.config.tokens, own, product)

    def make_inputs(batch: int) -> dict[str, Tensor]:
        z = tokens(network, batch)
        drawn = {"hidden": network.predict(*z.values()), "tokens": z["tokens"], "update": z["known"]}
        drawn |= {"temperature": torch.rand(batch) + 0.5, "uniform": torch.rand(z["tokens"].shape)}
        drawn |= {"judge": torch.ones(batch, dtype=torch.bool)}
        return drawn | {"evidence": torch.randn(*z["tokens"].shape, network.config.vocabulary)}

    def distributions(
        hidden: Tensor, z: Tensor, update: Tensor, temperature: Tensor, uniform: Tensor, judge: Tensor, evidence: Tensor
    ) -> list[Tensor]:
        logits = network.logits(hidden, z) + evidence
        cdf = (logits.double() / temperature[:, None, None]).softmax(2).cumsum(2)
        return [cdf, logits.softmax(2), uniform, update, z]

    def compare(wanted: Arrays, got: Arrays) -> float:
        (cdf, chances, uniform, update, z), (drawn, probability) = wanted, got
        if ((drawn != z) & ~update).any():
            return np.inf
        after = np.take_along_axis(cdf, drawn[..., None], 2)[..., 0]
        before = np.where(drawn > 0, np.take_along_axis(cdf, drawn[..., None] - 1, 2)[..., 0], 0)
        difference = np.abs(np.take_along_axis(chances, drawn[..., None], 2)[..., 0] - probability)
        return float(np.max([x[update] for x in (before - uniform, uniform - after, difference)]))

    return parity(distributions, path, make_inputs, compare=compare)


def choose(
    network: Hourglass, frozen: Hourglass, folder: Path
) -> tuple[dict[str, list[dict[str, object]]], list[Figure]]:
    """Which graphs of `predict` and `draw` the bundle holds, and what arithmetic in int8 costs.

    For the CPU it is int8, where that is faster and loses next to nothing along samples that are drawn, one a class.
    For CUDA it is half precision, which keeps eight times as many levels.
    """
    roles = ("predict", "draw")
    paths = {role: {name: folder / file(role, name) for name in ("int8", "fp32")} for role in roles}
    sessions = {role: {precision: Session(path, "cpu") for precision, path in paths[role].items()} for role in roles}
    seconds: dict[str, dict[str, list[float]]] = {role: {precision: [] for precision in paths[role]} for role in roles}
    costs = copy.deepcopy(seconds)

    def run(role: str, cost: Callable[[dict[str, np.ndarray]], float], **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """What the graph in int8 gives; both are timed, and judged by `cost`."""
        outputs = {}
        for precision, session in sessions[role].items():
            began = time.perf_counter()
            outputs[precision] = session.run(**inputs)
            seconds[role][precision].append(time.perf_counter() - began)
            costs[role][precision].append(cost(outputs[precision]))
        return outputs["int8"]

    def predict(z: np.ndarray, label: np.ndarray, theme: np.ndarray, known: np.ndarray) -> np.ndarray:
        exact = network(*map(torch.from_numpy, (z, label, theme, known))).log_softmax(2)

        def divergence(outputs: dict[str, np.ndarray]) -> float:
            rounded = frozen.logits(torch.from_numpy(outputs["hidden"]), torch.from_numpy(z)).log_softmax(2)
            return float((exact.exp() * (exact - rounded)).sum(2).mean())

        return run("predict", divergence, tokens=z, label=label, theme=theme, known=known)["hidden"]

    def pick(
        hidden: np.ndarray,
        z: np.ndarray,
        update: np.ndarray,
        temperature: np.ndarray,
        uniform: np.ndarray,
        judge: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        exact = frozen.logits(torch.from_numpy(hidden), torch.from_numpy(z)).log_softmax(2).numpy()

        def divergence(outputs: dict[str, np.ndarray]) -> float:
            drawn, probability = (outputs[name] for name in ("drawn", "probability"))
            ratio = np.log(probability) - np.take_along_axis(exact, drawn[..., None], 2)[..., 0]
            return float((ratio[update] ** 2).mean() / 2)  # to second order

        given = {"hidden": hidden, "tokens": z, "update": update, "temperature": temperature, "uniform": uniform}
        given |= {"judge": np.ones_like(judge), "evidence": np.zeros((*z.shape, 1), np.float32)}
        outputs = run("draw", divergence, **given)
        return outputs["drawn"], outputs["probability"]

    config = network.config
    for label, themes in enumerate(network.themes.numpy()):
        sampler.sample(
            predict,
            pick,
            options=SAMPLING,
            shape=(config.tokens, config.tokens),
            vocabulary=config.vocabulary,
            labels=np.array([label]),
            themes=themes[:1],
            unlabelled=config.classes,
            seed=0,
            indices=[label],
        )
    graphs, figures = {}, []
    rivals = {"predict": "PyTorch, with weights that are not rounded", "draw": "PyTorch, to second order"}
    for role in roles:
        cost = {precision: statistics.mean(found) for precision, found in costs[role].items()}
        fp32, int8 = (statistics.median(seconds[role][precision]) for precision in ("fp32", "int8"))
        graphs[role] = [graph(role, "fp16", "cuda"), graph(role, "fp32", "cpu", "cuda")]
        if cost["int8"] > cost["fp32"] + DIVERGENCE or int8 > fp32:
            paths[role]["int8"].unlink()
            continue
        graphs[role].insert(0, graph(role, "int8", "cpu"))
        protocol = f"against {rivals[role]}, {len(costs[role]['int8'])} steps of samples"
        figures += [
            Figure(name=f"{precision}, {role}: divergence in nats a token", value=value, protocol=protocol)
            for precision, value in cost.items()
        ]
        name = f"int8, {role}: times as fast as fp32 on the CPU"
        figures.append(Figure(name=name, value=fp32 / int8, protocol="median step"))
    return graphs, figures


def partly(network: Hourglass, batch: int) -> dict[str, Tensor]:
    """Random tokens, most of them known."""
    z = torch.randint(network.config.vocabulary, (batch, network.config.tokens**2))
    return {"tokens": z, "known": torch.rand(z.shape) < 0.8}


def tokens(network: Hourglass, batch: int) -> dict[str, Tensor]:
    """Random tokens, labels and themes, and which tokens are known."""
    label, theme = torch.randint(network.config.classes + 1, (batch,)), 2 * torch.rand(batch, network.config.theme) - 1
    z, known = partly(network, batch).values()
    return {"tokens": z, "label": label, "theme": theme, "known": known}


def file(role: str, precision: str) -> str:
    """The name of a graph."""
    return f"{role}.onnx" if precision == "fp32" else f"{role}-{precision}.onnx"


def graph(role: str, precision: str, *providers: str) -> dict[str, object]:
    """What a manifest says of a graph."""
    return {"path": file(role, precision), "precision": precision, "providers": providers}


def licence(dataset: str) -> str:
    """The licence of a data set, as far as it is known."""
    if dataset == "avatars":
        return "; ".join(f"{credit.style} by {credit.creator}: {credit.licence}" for credit in credits())
    return "that of the images"
