"""The VQ-GAN of a prior: a checkpoint, whose graphs are written anew, or a bundle, which has its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx
import torch
from torch import Tensor

from export.provenance import trained
from export.vqgan import round_vqgan
from export.vqgan import vqgan as write_vqgan
from export.weights import Rounded
from genfast import token_set
from genfast.bundles import bundle
from genfast.bundles.bundle import MANIFEST, Bundle
from genfast.errors import UsageError
from training.checkpoint import load_average
from training.data.avatars import credits
from training.data.datasets import class_names
from training.families.vqgan import VQGANRecipe
from training.nets.vqgan import FACTOR, VQGAN
from training.recipe import DataConfig

Parities = dict[str, dict[str, float]]  # by role, by size of the batch


class PriorVQGAN(Protocol):
    """What a bundle of a prior takes from a VQ-GAN."""

    @property
    def codebook(self) -> Tensor:
        """What tokens stand for, in each region (R * R, V, D)."""

    @property
    def licence(self) -> str:
        """Of the bundle that a prior and this make."""

    @property
    def recipe(self) -> str:
        """The name of its recipe; empty for another project's."""

    @property
    def notes(self) -> str:
        """Where it comes from, as a sentence."""

    def side(self, tokens: int) -> int:
        """Pixels along the side of a picture of so many tokens along its side. Raises UsageError where it has none."""

    def about(self, data: DataConfig) -> tuple[str, str, tuple[str, ...]]:
        """The name of the images that a prior learned from `data`, their licence, and the names of their classes."""

    def write(self, side: int, folder: Path) -> tuple[Rounded, Parities]:
        """Write the graphs of grids of side * side tokens; the codebook becomes what is returned as the codes."""


@dataclass
class TrainedVQGAN:
    """The averaged VQ-GAN of a checkpoint of this project."""

    network: VQGAN
    data: DataConfig
    recipe: str
    notes: str
    licence = "Apache-2.0"

    @property
    def codebook(self) -> Tensor:
        return self.network.codebook

    def side(self, tokens: int) -> int:
        return tokens * FACTOR

    def about(self, data: DataConfig) -> tuple[str, str, tuple[str, ...]]:
        return self.data.name, licence(self.data.name), class_names(self.data)

    def write(self, side: int, folder: Path) -> tuple[Rounded, Parities]:
        rounded = round_vqgan(self.network)
        return rounded[0], write_vqgan(self.network, side, folder, rounded)


@dataclass
class BundledVQGAN:
    """A bundle of family vq, whose graphs are taken over as they are."""

    loaded: Bundle
    codebook: Tensor
    recipe = ""

    @property
    def licence(self) -> str:
        return f"{self.loaded.manifest.licence} (the VQ-GAN); Apache-2.0 (the prior)"

    @property
    def notes(self) -> str:
        made = self.loaded.manifest.provenance
        return f"Tokens: {self.loaded.manifest.name}, of {made.source or made.recipe}."

    def side(self, tokens: int) -> int:
        image, grid = self.loaded.manifest.image, self.loaded.manifest.tokens
        assert image and grid  # as every manifest of this family
        if {grid.height, grid.width} != {tokens} or image.height != image.width:
            wanted = f"{grid.height}x{grid.width}"
            raise UsageError(f"{self.loaded.directory} has {wanted} tokens, and the prior is for {tokens}x{tokens}")
        return image.height

    def about(self, data: DataConfig) -> tuple[str, str, tuple[str, ...]]:
        assert data.folder  # as of every token set
        described = token_set.about(data.folder)
        return described.data, licence(described.data), described.classes

    def write(self, side: int, folder: Path) -> tuple[Rounded, Parities]:
        codes = Rounded.of(self.codebook.numpy())
        self.codebook = torch.from_numpy(codes.values)
        copy_graphs(self.loaded, folder)
        return codes, {}


def licence(dataset: str) -> str:
    """The licence of a data set, as far as it is known."""
    if dataset == "avatars":
        return "; ".join(f"{credit.style} by {credit.creator}: {credit.licence}" for credit in credits())
    return "that of the images"


def copy_graphs(loaded: Bundle, folder: Path) -> None:
    """Write encode.onnx and decode.onnx of a bundle, with their weights inside."""
    for role in ("encode", "decode"):
        onnx.save(onnx.load(loaded.graph(role)), folder / f"{role}.onnx")


def load(path: Path) -> PriorVQGAN:
    """The VQ-GAN of a checkpoint, or of a bundle of family vq. Raises UsageError where it is none of these."""
    if (path / MANIFEST).exists():
        return bundled(path)
    recipe, made = trained(path, VQGANRecipe)
    network = load_average(path, VQGAN(recipe.vqgan)).eval()
    notes = "Tokens: {recipe}, {images_seen} images, {hours} h.".format(**made)
    return TrainedVQGAN(network, recipe.data, recipe.name, notes)


def bundled(path: Path) -> BundledVQGAN:
    """The VQ-GAN of a bundle. Raises UsageError where it is of another family, ModelError where it is none."""
    loaded = bundle.load(path)
    if loaded.manifest.family != "vq":
        raise UsageError(f"{path} is of family {loaded.manifest.family}, not vq")
    return BundledVQGAN(loaded, torch.from_numpy(loaded.array("codebook"))[None])
