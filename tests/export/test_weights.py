"""export/weights.py: storage that changes no bit of weights that were rounded to it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.graph import export, parity
from export.weights import PAGE, Rounded, constants, read_starts, share_weights, store_half
from genfast.bundles.external_data import files
from genfast.runtime.session import Session


def randn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def test_half_storage_changes_no_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)).half().float()
    path = tmp_path / "net.onnx"
    images = {"image": torch.randn(2, 3, 8, 8)}
    export(module, images, path, ["y"])
    before, size = Session(path, device="cpu").run(image=images["image"].numpy()), path.stat().st_size
    store_half(path)
    after = Session(path, device="cpu").run(image=images["image"].numpy())
    assert path.stat().st_size < 0.55 * size
    np.testing.assert_array_equal(after["y"], before["y"])


def test_half_storage_keeps_what_half_cannot_hold(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = nn.Linear(32, 32), tmp_path / "net.onnx"
    make_inputs = lambda batch: {"x": torch.randn(batch, 32)}  # noqa: E731
    export(module, make_inputs(2), path, ["y"])
    store_half(path)
    assert max(parity(module, path, make_inputs).values()) < 1e-5


class Lookup(nn.Module):
    """Rows of a table by number, through a matrix."""

    def __init__(self, table: Tensor, width: int) -> None:
        super().__init__()
        self.table, self.out = nn.Parameter(table), nn.Linear(table.shape[2], width)

    def forward(self, row: Tensor) -> Tensor:
        return self.out(nn.functional.embedding(row, self.table.flatten(0, 1)))


def rows(batch: int) -> dict[str, Tensor]:
    return {"row": torch.randint(4096, (batch, 5))}


def test_codes_in_eight_bits_change_no_bit_once_they_are_rounded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = torch.randn(2, 2048, 32) * torch.linspace(0.1, 10, 32)
    codes = Rounded.of(table.numpy())
    assert np.abs(codes.values - table.numpy()).max(axis=(0, 1)) == pytest.approx(codes.scale / 2, rel=0.01)
    module, path = Lookup(torch.from_numpy(codes.values), 8), tmp_path / "net.onnx"
    export(module, rows(2), path, ["y"])
    before = Session(path, device="cpu").run(row=(row := rows(7)["row"].numpy()))
    store_half(path, [codes])
    assert path.stat().st_size < 4096 * 32 * 1.1
    np.testing.assert_array_equal(Session(path, device="cpu").run(row=row)["y"], before["y"])


def test_weights_near_others_are_kept_as_a_difference(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path, other = nn.Linear(32, 24), tmp_path / "net.onnx", tmp_path / "other.bin"
    weight = module.weight.detach().numpy()
    start = Rounded.filters(weight + np.float32(0.01) * randn(24, 32))
    rounded = Rounded.near(weight, start, 0.004)
    assert np.abs(rounded.values - weight).max() < 0.0021 and 5 < len(np.unique(rounded.levels)) < 30
    module.weight.data = torch.from_numpy(rounded.values)
    make_inputs = lambda batch: {"x": torch.randn(batch, 32)}  # noqa: E731
    export(module, make_inputs(2), path, ["y"])
    store_half(path, [rounded])
    assert max(parity(module, path, make_inputs).values()) < 1e-6
    torch.testing.assert_close(constants(path)["weight"], module.weight.detach(), rtol=0, atol=0)

    other.write_bytes(b"anything" + start.levels.tobytes() + b"else")
    size = path.stat().st_size
    read_starts(path, other)
    assert path.stat().st_size < size - 24 * 32 + 200 and files(path) == {"other.bin"}
    assert max(parity(module, path, make_inputs).values()) < 1e-6
    (wrong := tmp_path / "wrong.bin").write_bytes(b"anything else")
    with pytest.raises(ValueError, match="wrong.bin does not hold weight.start"):
        read_starts(path, wrong)


def test_of_a_table_in_half_storage_only_what_is_looked_up_is_cast(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, path = Lookup(torch.randn(2, 2048, 32), 8).half().float(), tmp_path / "net.onnx"
    export(module, rows(2), path, ["y"])
    store_half(path)
    graph = onnx.load(path).graph
    assert path.stat().st_size < 2 * 4096 * 32 * 1.1
    (cast,) = (node for node in graph.node if node.op_type == "Cast" and node.output[0] == "embedding")
    (gather,) = (node for node in graph.node if node.op_type == "Gather")
    assert list(cast.input) == list(gather.output)
    assert max(parity(module, path, rows).values()) < 1e-6


@pytest.mark.parametrize("largest", [10**9, 2**17])
def test_graphs_share_equal_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("export.weights.LARGEST", largest)
    table = torch.randn(2, 2048, 16)  # 256 KiB
    modules = {tmp_path / f"{width}.onnx": Lookup(table, width) for width in (8, 2048)}  # the second: 136 KiB more
    for path, module in modules.items():
        export(module, rows(2), path, ["y"])
    share_weights(list(modules))
    files = {file.name: file.stat().st_size for file in tmp_path.glob("*.bin")}
    assert sum(files.values()) == 2**18 + 2**17 + 2**13 and all(size % PAGE == 0 for size in files.values())
    assert len(files) == (2 if largest == 10**9 else 3)
    for path, module in modules.items():
        assert path.stat().st_size < 2**15
        assert max(parity(module, path, rows).values()) < 1e-6
