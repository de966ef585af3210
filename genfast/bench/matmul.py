"""Products of matrices as graphs: the least that a device must do, and the rate that speeds are measured by.

matmul-float32.onnx: x [N, K] f32, w [K, M] f32 -> y [N, M] f32. matmul-int8.onnx, for the CPU: x [N, K] u8,
w [K, M] i8 -> y [N, M] i32, by the kernel that graphs in int8 use.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from genfast.runtime.session import Session

Precision = Literal["float32", "int8"]


def product(
    precision: Precision, side: int, device: str = "cpu", threads: int | None = None
) -> Callable[[], npt.ArrayLike]:
    """A function that multiplies two matrices of side * side on a device: 2 * side**3 operations.

    In float32 it gives the identity, but for rounding. Raises what Session raises.
    """
    session = Session(Path(__file__).with_name(f"matmul-{precision}.onnx"), device, threads)
    rng = np.random.default_rng(0)
    if precision == "int8":
        x, w = rng.integers(0, 255, (side, side), np.uint8), rng.integers(-127, 127, (side, side), np.int8)
        return lambda: session.run(x=x, w=w)["y"]

    # Each product is a factor of the next, so that all but the first find theirs on the device. Those of a reflection
    # neither grow nor vanish.
    axis = rng.standard_normal(side, np.float32)
    factor: npt.ArrayLike = np.eye(side, dtype=np.float32) - 2 / (axis @ axis) * np.outer(axis, axis)
    run = session.bind()

    def multiply() -> npt.ArrayLike:
        nonlocal factor
        factor = run(x=factor, w=factor)["y"]
        return factor

    return multiply
