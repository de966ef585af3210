"""The arrays that pass between modules. B images, N tokens an image, H rows, W columns, C channels."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [H, W, C] or [B, H, W, C], C being 1 (grey) or 3 (RGB)
Levels = npt.NDArray[np.uint8 | np.uint16]  # likewise, of 8 or 16 bits
Mask = npt.NDArray[np.bool_]  # [H, W] or [B, N]
Tokens = npt.NDArray[np.int64]  # [B, N]; also labels [B]
Floats = npt.NDArray[np.float32]

Split = Literal["train", "validation", "test"]  # of a data set
Frame = Callable[[], Pixels]  # makes the picture so far, which takes a model of tokens as long as a step or two

Format = Literal["png", "webp", "jpeg"]  # of image files that are written
