"""Import of inpainters that others exported to ONNX, such as LaMa (Suvorov et al. 2022), as bundles of one call.

They take a picture (1, 3, H, W), 0 .. 1, and a mask (1, 1, H, W), 1 where it is to be filled, under any names, and give
a picture, either 0 .. 1 or 0 .. 255: a probe tells which. The graph of the bundle takes and gives bytes instead.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.helper import make_node as node
from onnx.helper import make_tensor_value_info

from export.folder import new
from export.graph import BATCHES, Array
from export.provenance import imported, report
from export.weights import share_weights
from genfast.bundles import bundle, external_data
from genfast.errors import InputError, ModelError, first_line
from genfast.runtime.session import Session

SIDE = 512  # pixels of the windows, where the graph takes any
MULTIPLE = 8  # of such a side: the networks halve pictures three times
LARGEST = 2**30  # bytes of a file
OPSET = 13  # the operators that are put around the graph have meant the same since then
OUTSIDE = ("image", "mask", "filled")  # names in the bundle's graph
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")  # of operators that onnxruntime has


def lama(weights: Path, out: Path, name: str, licence: str, source: str) -> None:
    """Write an inpainter's graph to the new folder `out`, as a bundle of family inpainter.

    Raises:
        UsageError: `out` exists.
        InputError: the file is no such graph, needs other files or unknown operators, or gives no picture.
        ValueError: the bundle's graph does not compute what the file's does.
    """
    model = read(weights)
    image, mask = _inputs(model, weights)
    sides = [dim.dim_value or SIDE for dim in image.type.tensor_type.shape.dim[2:]]
    try:
        session = Session(weights, "cpu")
        scale = probe(session, image.name, mask.name, sides)
    except (ModelError, ValueError) as error:
        raise InputError(f"{weights} cannot be used: {error}") from error
    with new(out) as folder:
        path = folder / "fill.onnx"
        onnx.save(wrapped(model, image.name, mask.name, scale), path)
        share_weights([path])
        tolerance, found = 1.0, parity(session, image.name, mask.name, scale, path, sides)
        if max(found.values()) > tolerance:
            raise ValueError(f"{path} differs by more than {tolerance:g} level from {weights}: {found}")
        filled = bundle.write(
            folder,
            name=name,
            family="inpainter",
            summary="Fills holes of photographs in one call",
            licence=licence,
            image={"height": sides[0], "width": sides[1], "channels": 3},
            graphs={"fill": [{"path": path.name, "precision": "fp32", "providers": ["cpu", "cuda"]}]},
            sampling={"batch": 1},
            provenance=imported(weights, source, f"The file's output is 0 .. {255 / scale:.0f}."),
            parity={"tolerance": tolerance, "max_abs_difference": found},
        )
    report(out, filled.manifest)


def read(path: Path) -> ModelProto:
    """An ONNX file that needs nothing else. Raises InputError where it is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 2**20} MB, which no inpainter is that is known here")
        model = onnx.load(path, load_external_data=False)
        if not model.graph.node:
            raise ValueError("it has no nodes")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what protobuf raises is its own
        raise InputError(f"{path} is no ONNX model: {first_line(error)}") from error
    if external_data.files(path):
        raise InputError(f"{path} keeps weights in other files; give one file, as onnx.save writes it by default")
    version = max((each.version for each in model.opset_import if each.domain in DOMAINS[:2]), default=0)
    if version < OPSET:
        raise InputError(f"{path} is of opset {version}; export it anew with {OPSET} or later")
    known = {*DOMAINS, *(function.domain for function in model.functions)}
    strangers = {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in known}
    if strangers:
        raise InputError(f"{path} needs operators that onnxruntime does not have: {', '.join(sorted(strangers)[:3])}")
    try:
        onnx.checker.check_model(path)
    except Exception as error:
        raise InputError(f"{path} is no valid ONNX model: {first_line(error)}") from error
    return model


def _inputs(model: ModelProto, path: Path) -> tuple[ValueInfoProto, ValueInfoProto]:
    """The picture's and the mask's. Raises InputError where there are others."""
    constants = {weight.name for weight in model.graph.initializer}
    given = [each for each in model.graph.input if each.name not in constants]
    shapes = [[dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in given]
    by_channels = {shape[1]: each for each, shape in zip(given, shapes, strict=True) if len(shape) == 4}
    if (
        len(given) == 2
        and len(model.graph.output) == 1
        and by_channels.keys() == {3, 1}
        and shapes[0][2:] == shapes[1][2:]
        and all(side % MULTIPLE == 0 for side in shapes[0][2:])
        and all(each.type.tensor_type.elem_type == TensorProto.FLOAT for each in (*given, *model.graph.output))
    ):
        return by_channels[3], by_channels[1]
    took = [f"{each.name} {[size or '?' for size in shape]}" for each, shape in zip(given, shapes, strict=True)]
    raise InputError(
        f"{path} is no inpainter: it takes {', '.join(took) or 'nothing'}, not float32 [1, 3, H, W] and [1, 1, H, W] "
        f"of sides in multiples of {MULTIPLE}, for one picture"
    )


def probe(session: Session, image: str, mask: str, sides: list[int]) -> float:
    """What to multiply a graph's output by for levels of 255: 1 or 255. Raises ValueError where it is no picture."""
    picture, hole = _example(0, sides)
    (given,) = session.run(**{image: picture, mask: hole}).values()
    if given.shape != picture.shape or not np.isfinite(given).all():
        raise ValueError(
            f"it gives {list(given.shape)}, or no numbers, where a picture {list(picture.shape)} is wanted"
        )
    level = np.median(given[np.broadcast_to(hole == 0, given.shape)]) / np.median(picture)
    for scale, near in (255.0, 1.0), (1.0, 255.0):
        if 0.8 < level / near < 1.25 and given.min() > -0.1 * near:
            return scale
    raise ValueError(f"it gives values in {given.min():.3g} .. {given.max():.3g}, neither 0 .. 1 nor 0 .. 255")


def _example(seed: int, sides: list[int]) -> tuple[Array, Array]:
    """A smooth picture, rather bright, with a little noise, and a hole in its middle."""
    rng = np.random.default_rng(seed)
    y, x = (np.linspace(0, 1, side, dtype=np.float32) for side in sides)
    smooth = 0.6 + 0.1 * np.sin(3 * y[:, None] + np.arange(3)[:, None, None]) + 0.1 * x
    picture = np.rint((smooth + rng.normal(0, 0.01, smooth.shape)) * 255).clip(0, 255).astype(np.float32) / 255
    hole = np.zeros((1, 1, *sides), np.float32)
    hole[:, :, sides[0] // 3 : sides[0] // 2, sides[1] // 3 : sides[1] // 2] = 1
    return picture[None], hole


def parity(session: Session, image: str, mask: str, scale: float, path: Path, sides: list[int]) -> dict[str, float]:
    """How far the bundle's graph is from the file's, in levels of 255, for several pictures."""
    ours = Session(path, "cpu")
    found = {}
    for seed in BATCHES:
        picture, hole = _example(seed, sides)
        (wanted,) = session.run(**{image: picture, mask: hole}).values()
        pixels = np.rint(picture * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        got = ours.run(image=pixels, mask=hole.transpose(0, 2, 3, 1) > 0)["filled"]
        difference = got.transpose(0, 3, 1, 2) - (wanted * scale).clip(0, 255)
        found[f"picture {seed}"] = round(float(np.abs(difference).max()), 3)
    return found


def wrapped(model: ModelProto, image: str, mask: str, scale: float) -> ModelProto:
    """The graph with bytes outside: image u8 [B, H, W, 3] and mask bool [B, H, W, 1] to filled u8 [B, H, W, 3]."""
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    p = "genfast."  # begins the names of what is added
    for name, value in {"scale": scale, "levels": 255.0, "least": 0.0}.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), p + name))
    before = [
        node("Transpose", ["image"], [p + "image"], perm=[0, 3, 1, 2]),
        node("Cast", [p + "image"], [p + "image.f"], to=TensorProto.FLOAT),
        node("Div", [p + "image.f", p + "levels"], [p + "in.image"]),
        node("Cast", ["mask"], [p + "mask.f"], to=TensorProto.FLOAT),
        node("Transpose", [p + "mask.f"], [p + "in.mask"], perm=[0, 3, 1, 2]),
    ]
    after = [
        node("Mul", [p + "out", p + "scale"], [p + "scaled"]),
        node("Clip", [p + "scaled", p + "least", p + "levels"], [p + "clipped"]),
        node("Round", [p + "clipped"], [p + "rounded"]),
        node("Cast", [p + "rounded"], [p + "bytes"], to=TensorProto.UINT8),
        node("Transpose", [p + "bytes"], ["filled"], perm=[0, 2, 3, 1]),
    ]
    renamed = {name: f"{p}own.{name}" for name in OUTSIDE}  # names inside may be those that are wanted outside
    renamed |= {image: p + "in.image", mask: p + "in.mask", graph.output[0].name: p + "out"}
    for each in graph.node:
        for names in (each.input, each.output):
            names[:] = [renamed.get(name, name) for name in names]
    for weight in graph.initializer:
        weight.name = renamed.get(weight.name, weight.name)
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    del graph.input[:]
    del graph.output[:]
    graph.input.append(make_tensor_value_info("image", TensorProto.UINT8, ["B", "H", "W", 3]))
    graph.input.append(make_tensor_value_info("mask", TensorProto.BOOL, ["B", "H", "W", 1]))
    graph.output.append(make_tensor_value_info("filled", TensorProto.UINT8, ["B", "H", "W", 3]))
    return result
