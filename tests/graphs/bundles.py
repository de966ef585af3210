"""Small bundles of real graphs, which lie beside this file in the language of onnx.parser."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
from onnx import ModelProto, numpy_helper

from genfast.bundles import bundle
from genfast.samplers.options import MaskGITOptions

PROVENANCE = dict(recipe="", dataset="none", dataset_licence="CC0-1.0", images_seen=0, hours=0, commit="")
ABOUT: dict[str, Any] = {"summary": "for tests", "licence": "Apache-2.0", "provenance": PROVENANCE}
BOTH = {"precision": "fp32", "providers": ["cpu", "cuda"]}
ROLES = ("predict", "draw", "decode", "encode", "pixel_likelihood")
CLASSES = ("red", "light blue", "green")
ATTRIBUTES = (
    {"name": "hair", "values": ["bun", "curls", "long"]},
    {"name": "hair-colour", "values": ["#000000", "#6b4423", "#e3c482"], "colour": True},
    {"name": "glasses", "values": ["none", "round"]},
)
HAVING = (  # the numbers of values that pictures of each class have
    ((1, 2), (1, 2, 3), (0,)),
    ((2, 3), (1, 3), (0,)),
    ((1, 2, 3), (1, 2), (1, 1, 2)),
)


def parse(name: str, weights: Mapping[str, np.ndarray] = {}) -> ModelProto:
    """The graph NAME.txt, with those of the weights that it names."""
    model = onnx.parser.parse_model(Path(__file__).with_name(f"{name}.txt").read_text())
    used = {name for node in model.graph.node for name in node.input} & weights.keys()
    model.graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in sorted(used))
    onnx.checker.check_model(model)
    return model


def write_bundle(folder: Path, model: ModelProto, family: str = "ddgan", role: str = "step", **fields: object) -> Path:
    """A bundle of one graph, of a diffusion model unless another family is named, in a new folder."""
    folder.mkdir(parents=True)
    onnx.save(model, folder / f"{role}.onnx")
    bundle.write(folder, family=family, graphs={role: [{"path": f"{role}.onnx", **BOTH}]}, **ABOUT, **fields)
    return folder


def convolution_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "w_in": (32, 1, 3, 3),
        "w_mid": (32, 32, 3, 3),
        "w_out": (1, 32, 3, 3),
        "w_style": (100, 32),
        "w_all": (784, 784),
    }
    fans = {name: shape[0] if len(shape) == 2 else np.prod(shape[1:]) for name, shape in shapes.items()}
    return {
        name: rng.standard_normal(shape, dtype=np.float32) / np.sqrt(fans[name], dtype=np.float32)
        for name, shape in shapes.items()
    }


def attribute_rows() -> np.ndarray:
    """Labels and attributes of 120 pictures [M, 1 + A]."""
    rng = np.random.default_rng(1)
    return np.array([[i % 3, *(rng.choice(numbers) for numbers in HAVING[i % 3])] for i in range(120)])


def write_drafts(folder: Path) -> dict[str, str]:
    """The arrays of a bundle with ATTRIBUTES, of six tokens and drafts of two numbers; where they lie."""
    rng = np.random.default_rng(2)
    arrays = {
        "attributes": attribute_rows().astype(np.uint8),
        "draft_mean": rng.standard_normal((3, 6, 2)).astype(np.float16),
        "draft_projection": rng.standard_normal((3, 40, 4), np.float32),
        "draft_basis": rng.integers(-127, 128, (3, 4, 6, 2), np.int8),
        "draft_scale": rng.uniform(0.002, 0.02, (3, 4)).astype(np.float32),
    }
    for name, array in arrays.items():
        if name == "draft_basis":
            np.savez_compressed(folder / f"{name}.npz", array)
        else:
            np.save(folder / f"{name}.npy", array)
    return {name: f"{name}.npz" if name == "draft_basis" else f"{name}.npy" for name in arrays}


def write_token_bundle(folder: Path, attributes: bool = False, marks: np.ndarray | None = None) -> Path:
    """Family vq-sundae: six tokens of 32, three classes, 6x4 RGB images; no `predict` for CUDA.

    With `attributes`, pictures can be asked for by ATTRIBUTES; with `marks` [32, 2], which are what drafts take tokens
    for, these are recognised.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    palette = rng.integers(0, 256, (32, 3), np.uint8)
    palette[:, 0] = 8 * np.arange(32)
    weights = {
        "embedding": rng.standard_normal((32, 8), np.float32),
        "classes": rng.standard_normal((4, 8), np.float32),
        "motifs": rng.standard_normal((2, 8), np.float32),
        "positions": rng.standard_normal((6, 8), np.float32),
        "keys": rng.standard_normal((7, 32), np.float32),
        "palette": palette,
        "marks": marks,
    }
    roles = ROLES if marks is None else (*ROLES, "draft")
    for role in roles:
        graph = "predict_draft" if attributes and role == "predict" else role
        onnx.save(parse(graph, weights), folder / f"{role}.onnx")
    told = {"attributes": ATTRIBUTES, "arrays": write_drafts(folder)} if attributes else {}
    bundle.write(
        folder,
        name=folder.name,
        family="vq-sundae",
        image={"height": 4, "width": 6, "channels": 3},
        classes=CLASSES,
        tokens={"height": 2, "width": 3, "vocabulary": 32},
        graphs={
            "predict": [{"path": "predict.onnx", "precision": "int8", "providers": ["cpu"]}],
            **{role: [{"path": f"{role}.onnx", **BOTH}] for role in roles[1:]},
        },
        sampling={
            "batch": 5,
            "options": MaskGITOptions(steps=7, temperature_end=0.5),
            "inpainting": MaskGITOptions(steps=4),
        },
        **told,
        **ABOUT,
    )
    return folder


def write_vq_bundle(folder: Path) -> Path:
    """Family vq: the encoder and the decoder of `write_token_bundle`."""
    folder.mkdir(parents=True)
    palette = np.random.default_rng(1).integers(0, 256, (32, 3), np.uint8)
    palette[:, 0] = 8 * np.arange(32)
    for role in "encode", "decode":
        onnx.save(parse(role, {"palette": palette}), folder / f"{role}.onnx")
    np.save(folder / "codebook.npy", palette.astype(np.float32))
    bundle.write(
        folder,
        name="palette",
        family="vq",
        image={"height": 4, "width": 6, "channels": 3},
        tokens={"height": 2, "width": 3, "vocabulary": 32},
        graphs={role: [{"path": f"{role}.onnx", **BOTH}] for role in ("encode", "decode")},
        arrays={"codebook": "codebook.npy"},
        **ABOUT,
    )
    return folder
