"""A prior and its VQ-GAN as one bundle: pictures to tokens and back, what tokens should be, and their draw."""

import copy
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.draw import draw, quantise_keys
from export.folder import new
from export.graph import Arrays, Rounded, export, parity, share_weights, store_half
from export.int8 import FLOAT32, INT8, round_linear, store_int8
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
DIVERGENCE = 0.01  # nats a token that arithmetic in int8 may cost

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
        UsageError: a checkpoint is none of its family, the prior is not one of this VQ-GAN, or `out` exists.
        ValueError: a graph does not compute what the network computes.
    """
    recipe, provenance = trained(checkpoint, "sundae")
    of_vqgan, provenance_of_vqgan = trained(vqgan, "vqgan")
    network = load_average(checkpoint, Hourglass(recipe.hourglass)).eval()
    codec = load_average(vqgan, VQGAN(of_vqgan.vqgan)).eval()
    if not fits(network, codec):
        raise UsageError(f"{checkpoint} is not a prior for the tokens of {vqgan}: its codes are others")
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
        share_weights([*(folder / f"{role}.onnx" for role in constant), *sorted(folder.glob("[dp]r*.onnx"))])
        manifest = bundle.write(
            folder,
            name=recipe.name.removesuffix("-prior"),
            family="vq-sundae",
            summary=f"{of_vqgan.data.name}, {size}x{size}, from {side}x{side} tokens of {vocabulary}",
            licence="Apache-2.0",
            image={"height": size, "width": size, "channels": 3},
            tokens={"height": side, "width": side, "vocabulary": vocabulary},
            classes=classes,
            graphs={role: [graph(f"{role}.onnx", "cpu", "cuda")] for role in constant} | graphs,
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
    """Write predict.onnx, and predict-int8.onnx for the CPU; returns the parity of the first, by batch size."""
    module, path = Predict(network), folder / "predict.onnx"
    export(module, tokens(network, 2), path, ["hidden"])
    store_half(path, codes)
    store_int8(path, folder / "predict-int8.onnx", INT8)
    store_int8(path, path, FLOAT32)
    return parity(module, path, lambda batch: tokens(network, batch), HIDDEN)


def export_themes(network: Hourglass, codes: Rounded, folder: Path) -> dict[str, dict[str, float]]:
    """Write recognise.onnx and themes.onnx; returns the parity of each, by batch size."""
    recognise, themes = Recognise(network), Themes(network)
    export(recognise, partly(network, 2), folder / "recognise.onnx", ["theme", "label"])
    export(themes, {}, folder / "themes.onnx", ["themes"])
    for role in ("recognise", "themes"):
        store_half(folder / f"{role}.onnx", codes)
    return {
        "recognise": parity(
            recognise, folder / "recognise.onnx", lambda batch: partly(network, batch), compare=relative
        ),
        "themes": parity(themes, folder / "themes.onnx", lambda _: {}, compare=relative),
    }


def export_draw(network: Hourglass, folder: Path) -> dict[str, float]:
    """Write draw.onnx, and draw-int8.onnx for the CPU.

    Returns how far the probabilities of the first are from those of the network, by batch size. Near ties make no
    difference: each number is to lie between the CDF before its token and the CDF after it.
    """
    path = folder / "draw.onnx"
    for graph, product in {path: FLOAT32, folder / "draw-int8.onnx": INT8}.items():
        draw(network.table().numpy(), network.bias.numpy(), network.config.tokens, graph, product)

    def make_inputs(batch: int) -> dict[str, Tensor]:
        z = tokens(network, batch)
        drawn = {"hidden": network.predict(*z.values()), "tokens": z["tokens"], "update": z["known"]}
        drawn |= {"temperature": torch.rand(batch) + 0.5, "uniform": torch.rand(z["tokens"].shape)}
        return drawn | {"evidence": torch.randn(*z["tokens"].shape, network.config.vocabulary)}

    def distributions(
        hidden: Tensor, z: Tensor, update: Tensor, temperature: Tensor, uniform: Tensor, evidence: Tensor
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

    It is kept, for the CPU, where it is faster and loses next to nothing along samples that are drawn, one a class.
    """
    roles = ("predict", "draw")
    paths = {role: {"fp32": folder / f"{role}.onnx", "int8": folder / f"{role}-int8.onnx"} for role in roles}
    sessions = {role: {precision: Session(path, "cpu") for precision, path in paths[role].items()} for role in roles}
    seconds: dict[str, dict[str, list[float]]] = {role: {precision: [] for precision in paths[role]} for role in roles}
    costs: dict[str, list[float]] = {role: [] for role in roles}

    def run(role: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """What the graph in int8 gives; both are timed."""
        outputs = {}
        for precision, session in sessions[role].items():
            began = time.perf_counter()
            outputs[precision] = session.run(**inputs)
            seconds[role][precision].append(time.perf_counter() - began)
        return outputs["int8"]

    def predict(z: np.ndarray, label: np.ndarray, theme: np.ndarray, known: np.ndarray) -> np.ndarray:
        hidden = run("predict", tokens=z, label=label, theme=theme, known=known)["hidden"]
        exact = network(*map(torch.from_numpy, (z, label, theme, known))).log_softmax(2)
        rounded = frozen.logits(torch.from_numpy(hidden), torch.from_numpy(z)).log_softmax(2)
        costs["predict"].append(float((exact.exp() * (exact - rounded)).sum(2).mean()))
        return hidden

    def pick(
        hidden: np.ndarray, z: np.ndarray, update: np.ndarray, temperature: np.ndarray, uniform: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        given = {"hidden": hidden, "tokens": z, "update": update, "temperature": temperature, "uniform": uniform}
        outputs = run("draw", **given, evidence=np.zeros((*z.shape, 1), np.float32))
        drawn, probability = (outputs[name] for name in ("drawn", "probability"))
        exact = frozen.logits(torch.from_numpy(hidden), torch.from_numpy(z)).log_softmax(2).numpy()
        ratio = np.log(probability) - np.take_along_axis(exact, drawn[..., None], 2)[..., 0]
        costs["draw"].append(float((ratio[update] ** 2).mean() / 2))  # to second order, the divergence
        return drawn, probability

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
    for role in roles:
        cost = statistics.mean(costs[role])
        fp32, int8 = (statistics.median(seconds[role][precision]) for precision in ("fp32", "int8"))
        if cost > DIVERGENCE or int8 > fp32:
            paths[role]["int8"].unlink()
            graphs[role] = [graph(paths[role]["fp32"].name, "cpu", "cuda")]
            continue
        graphs[role] = [graph(paths[role]["int8"].name, "cpu"), graph(paths[role]["fp32"].name, "cuda")]
        protocol = f"arithmetic in int8 against float32, {len(costs[role])} steps of samples"
        figures += [
            Figure(name=f"int8, {role}: divergence in nats a token", value=cost, protocol=protocol),
            Figure(name=f"int8, {role}: times as fast as fp32 on the CPU", value=fp32 / int8, protocol="median step"),
        ]
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


def graph(path: str, *providers: str) -> dict[str, object]:
    """What a manifest says of a graph."""
    return {"path": path, "precision": "int8" if "int8" in path else "fp32", "providers": providers}


def licence(dataset: str) -> str:
    """The licence of a data set, as far as it is known."""
    if dataset == "avatars":
        return "; ".join(f"{credit.style} by {credit.creator}: {credit.licence}" for credit in credits())
    return "that of the images"
