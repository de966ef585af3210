"""FID's Inception: the skeleton that ships, and its import from the file that pytorch-fid published."""

import hashlib
from pathlib import Path

import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from export.folder import new
from export.graph import export, parity
from export.importers import reading, state
from export.importers.inception_net import Inception, PytorchFID, TorchFidelity
from export.provenance import imported, report
from genfast.bundles import bundle, skeleton
from genfast.bundles.skeleton import INDEX, WEIGHTS, Skeleton, Source, Unit
from genfast.errors import InputError
from genfast.files import atomic

NAME = "inception"
RELEASE = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"
FILE = "pt_inception-2015-12-05-6726825d.pth"
PUBLIC = Source(
    url=f"{RELEASE}/{FILE}",
    size=95_628_359,
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
TOLERANCE = 1e-3  # of features of about 0.6; kernels of one library differ by a tenth of it
PROTOCOLS = {
    "inception-pytorch-fid": ("embed", "pytorch-fid.onnx", PytorchFID),
    "inception-torch-fidelity": ("embed_torch_fidelity", "torch-fidelity.onnx", TorchFidelity),
}


def make_inputs(batch: int) -> dict[str, Tensor]:
    """Pictures smaller and larger than what the network sees."""
    sides = {1: (28, 28), 2: (200, 340), 7: (40, 64)}[batch]
    return {"image": torch.randint(256, (batch, *sides, 3), dtype=torch.uint8)}


def write_skeleton(out: Path) -> None:
    """Write the graphs of both protocols, without weights, and how to fill them, to the new folder `out`.

    Raises UsageError where `out` exists.
    """
    network = Inception().eval()
    for values in network.state_dict().values():
        if values.is_floating_point():
            values.uniform_(0.5, 1)  # else export would drop what is zero, and keep one of what is equal
    units = []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            width, inputs, high, wide = module.weight.shape
            units.append(Unit(name=name.removesuffix(".conv"), shape=(width, inputs, high, wide)))
    with new(out) as folder:
        for _, path, protocol in PROTOCOLS.values():
            export(protocol(network), make_inputs(2), folder / path, ["features"], ("batch", "height", "width"))
            _strip(folder / path, [unit.name for unit in units])
        index = Skeleton(
            format=1,
            name=NAME,
            source=PUBLIC,
            epsilon=network.Conv2d_1a_3x3.bn.eps,
            units=tuple(units),
            manifest=_manifest(),
        )
        with atomic(folder / INDEX) as file:
            file.write(index.model_dump_json(indent=1).encode() + b"\n")


def _strip(path: Path, units: list[str]) -> None:
    """Take the weights of convolutions out of a graph, to be read from WEIGHTS, unit by unit."""
    model = onnx.load(path)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    of_unit: dict[str, list[TensorProto]] = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight, bias = (held[name] for name in node.input[1:])
            of_unit[weight.name.removeprefix("network.").removesuffix(".conv.weight")] = [weight, bias]
    offset = 0
    for unit in units:
        for tensor in of_unit.pop(unit):
            length = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": WEIGHTS, "offset": offset, "length": length}.items():
                tensor.external_data.add(key=key, value=str(value))
            offset += length
    assert not of_unit
    path.write_bytes(model.SerializeToString())


def _manifest() -> dict[str, object]:
    return {
        "name": NAME,
        "family": "features",
        "summary": "The Inception that FID is defined by: 2048 pooled features of images of any size",
        "licence": "Apache-2.0",
        "feature_dim": 2048,
        "graphs": {
            role: [{"path": path, "precision": "fp32", "providers": ["cpu", "cuda"]}]
            for role, path, _ in PROTOCOLS.values()
        },
        "protocols": {name: role for name, (role, _, _) in PROTOCOLS.items()},
        "sampling": {"batch": 16},
        "provenance": {
            "source": PUBLIC.url,
            "weights_sha256": PUBLIC.sha256,
            "dataset": "imagenet-1k",
            "dataset_licence": "non-commercial research; the weights are Apache-2.0",
            "commit": "",
            "notes": "TensorFlow's inception-2015-12-05 in the port of pytorch-fid. Resized inside the graphs to "
            "299x299, bilinear without antialiasing: with half-pixel centres (inception-pytorch-fid), or as TensorFlow "
            "1 did (inception-torch-fidelity). Batch normalisation is folded into the convolutions.",
        },
    }


def inception(weights: Path, out: Path, source: str | None, licence: str | None, any_weights: bool = False) -> None:
    """Write the public file's network to the new folder `out`, as a bundle of family features with both protocols.

    Raises UsageError where `out` exists, InputError where the file is another one (of the same network, with
    `any_weights`), ValueError where a graph does not compute what the network computes.
    """
    here = skeleton.locate(NAME)
    assert here
    if not any_weights:
        _check(weights)
    network = Inception()
    state.load(network, state.tensors(reading.read(weights), weights), weights, "FID's Inception")
    network.eval()
    fields = skeleton.read(here).manifest
    about = fields["provenance"]
    about |= imported(weights, source or ("" if any_weights else PUBLIC.url), about["notes"])
    fields |= {"licence": licence} if licence else {}
    with new(out) as folder:
        skeleton.fill(here, weights, folder)
        found = {
            f"{batch} {name}": difference
            for name, (_, path, protocol) in PROTOCOLS.items()
            for batch, difference in parity(protocol(network), folder / path, make_inputs, TOLERANCE).items()
        }
        written = bundle.write(folder, **fields, parity={"tolerance": TOLERANCE, "max_abs_difference": found})
    report(out, written.manifest)


def _check(weights: Path) -> None:
    """Raises InputError where a file is not the public one."""
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{weights} cannot be read: {error.strerror}") from error
    if digest != PUBLIC.sha256:
        raise InputError(
            f"{weights} is not {FILE}: its SHA-256 begins with {digest[:8]}, not {PUBLIC.sha256[:8]}; get it from "
            f"{RELEASE}, or give --any-weights"
        )
