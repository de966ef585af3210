"""FID's Inception with weights by a rule, in the file form that is published, and what the original makes of images.

inception_io.npz holds what pytorch-fid (b9c1811) and torch-fidelity (0.4.0) computed with these weights: image1..3
u8 [H, W, 3], features64, features192 and features2048 of the one and tfid_2048 of the other; and two pairs of sets with
their FID, the second of singular covariance.
"""

import zlib
from pathlib import Path

import numpy as np
import torch

from export.importers.inception_net import Inception

IO = Path(__file__).with_name("inception_io.npz")


def write_file(path: Path) -> Path:
    """A state dict of 566 tensors as PyTorch saved it before it used zip files."""
    state = Inception().state_dict()
    for key, values in state.items():
        if values.is_floating_point():
            values.copy_(torch.from_numpy(_rule(key, tuple(values.shape))))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


def _rule(key: str, shape: tuple[int, ...]) -> np.ndarray:
    raw = np.random.Philox(key=zlib.crc32(key.encode())).random_raw(int(np.prod(shape)))
    u = (raw >> np.uint64(40)).astype(np.float64) / 2**23 - 1
    if key.endswith("conv.weight"):
        u = u.reshape(shape[0], -1)
        rest = u.shape[1]
        u = (u - u.sum(1, keepdims=True) / rest) * np.sqrt(6 / rest)
    elif key == "fc.weight":
        u *= np.sqrt(3 / 2048)
    elif key.endswith("running_var"):
        u = 0.55 + 0.2 * np.abs(u)
    elif key.endswith("bn.weight"):
        u = 1 + 0.2 * u
    else:
        u *= 0.1
    return u.reshape(shape).astype(np.float32)
