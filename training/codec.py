"""What a token set and a prior want of a VQ-GAN: one that was trained here, or the bundle of another project's."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter
from torch import Tensor

from genfast import api, token_set
from genfast.bundles.bundle import MANIFEST
from genfast.models.vq import VQModel
from genfast.samplers.ddgan import to_pixels
from genfast.types import Pixels
from training.checkpoint import load_average, newest_checkpoint, saved
from training.data.images import signed
from training.nets.vqgan import VQGAN, VQGANConfig
from training.recipe import DataConfig

Grids = npt.NDArray[np.int64]  # [B, h, w]


class Codec(Protocol):
    """A VQ-GAN, between arrays."""

    @property
    def codebook(self) -> Tensor:
        """What tokens stand for, in each region (R * R, V, D)."""

    @property
    def regions(self) -> int:
        """Blocks with codes of their own, along each side of an image."""

    @property
    def identity(self) -> str:
        """A hash of what makes tokens: the encoder and the codes. A decoder that learned on leaves it as it is."""

    def encode(self, images: Pixels) -> Grids:
        """Tokens [B, h, w] of pictures [B, H, W, 3]."""

    def decode(self, grids: Grids) -> Pixels:
        """Pictures [B, H, W, 3] of tokens [B, h, w]."""


@dataclass(frozen=True)
class TrainedCodec:
    """A VQ-GAN that was trained here."""

    network: VQGAN

    @property
    def codebook(self) -> Tensor:
        return self.network.codebook

    @property
    def regions(self) -> int:
        return self.network.config.regions

    @property
    def identity(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            if name.startswith("encoder.") or name == "codebook":
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, images: Pixels) -> Grids:
        pixels = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)  # (B, 3, H, W)
        grids: Grids = self.network.encode(signed(pixels).to(self.codebook.device)).cpu().numpy()
        return grids

    @torch.no_grad()
    def decode(self, grids: Grids) -> Pixels:
        return to_pixels(self.network.decode(torch.from_numpy(grids).to(self.codebook.device)).cpu().numpy())


@dataclass(frozen=True)
class BundledCodec:
    """A bundle of family vq, on onnxruntime."""

    model: VQModel

    @property
    def codebook(self) -> Tensor:
        return torch.from_numpy(self.model.bundle.array("codebook"))[None]

    @property
    def regions(self) -> int:
        return 1

    @property
    def identity(self) -> str:
        return token_set.identity(self.model.bundle)

    def encode(self, images: Pixels) -> Grids:
        tokens = self.model.encode(images)
        return tokens.reshape(len(images), self.model.tokens.height, self.model.tokens.width)

    def decode(self, grids: Grids) -> Pixels:
        return self.model.decode(grids.reshape(len(grids), -1))


def load_codec(path: Path, device: torch.device | None = None) -> tuple[Codec, DataConfig]:
    """The VQ-GAN of a bundle, of a checkpoint, or of the newest one of a run, and the data set that it was trained on.

    For a bundle, that is a folder of images of its size, which is not said. Raises:
        FileNotFoundError: it is a run without a checkpoint.
        GenfastError: it is a bundle that cannot be loaded.
        ValueError: it is of another family, or its pictures are not square.
    """
    if (path / MANIFEST).exists():
        model = api.load(str(path))
        if not isinstance(model, VQModel):
            raise ValueError(f"{path} is a bundle of family {model.bundle.manifest.family}, not vq")
        if model.image.height != model.image.width:
            raise ValueError(f"{path} encodes pictures that are not square")
        return BundledCodec(model), DataConfig(name="folder", size=model.image.height)
    network, data = load_vqgan(path)
    return TrainedCodec(network.to(device)), data


def load_vqgan(path: Path) -> tuple[VQGAN, DataConfig]:
    """The VQ-GAN of a checkpoint or of the newest one of a run, and the data set that it was trained on.

    Raises FileNotFoundError and ValueError as `load_codec` does.
    """
    checkpoint = path if (path / "model.safetensors").exists() else newest_checkpoint(path)
    table = saved(checkpoint)["recipe"]
    if table["family"] not in ("vqgan", "dequantiser"):
        raise ValueError(f"{checkpoint} is a {table['family']}, not a vqgan")
    network = VQGAN(TypeAdapter(VQGANConfig).validate_python(table["vqgan"]))
    data = TypeAdapter(DataConfig).validate_python(table["data"])
    return load_average(checkpoint, network).eval().requires_grad_(False), data
