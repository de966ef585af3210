"""What a data set is: images, or their tokens, and labels."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from genfast.types import Split as Split

Labels = npt.NDArray[np.int64]  # [N], or [N, 1 + A]: label, then attributes as genfast.attributes numbers them


class Images(Protocol):
    """Images of one shape, or grids of tokens, in memory or not.

    An array is one: [N, H, W, C] uint8, or [N, h, w] uint16.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8 | np.uint16]:
        """One image [H, W, C] uint8, or one grid [h, w] uint16."""


def signed(images: Tensor) -> Tensor:
    """Images (..., C, H, W) float in [-1, 1] of uint8 ones."""
    return images.float() / 127.5 - 1
