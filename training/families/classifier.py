"""Trains the classifier whose features score Fashion-MNIST images."""

from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.datasets import load
from training.data.images import Images, signed
from training.distributed import descend
from training.nets.classifier import Classifier
from training.nets.layout import channels_last
from training.recipe import DataConfig, LoopConfig, config


@config
class ClassifierRecipe:
    name: str
    family: Literal["classifier"]
    loop: LoopConfig
    data: DataConfig = DataConfig()
    lr: float = 2e-3
    weight_decay: float = 0.05
    shift: int = 2  # pixels that augmentation moves an image by, at most


class ClassifierTraining:
    averaged = "classifier"

    def __init__(self, recipe: ClassifierRecipe, fabric: Fabric) -> None:
        self.fabric, self.shift = fabric, recipe.shift
        self.network = channels_last(Classifier(), fabric.device)
        self.networks = nn.ModuleDict({"classifier": self.network})
        optimizer = torch.optim.AdamW(
            [{"params": self.network.parameters(), "lr": recipe.lr}], weight_decay=recipe.weight_decay
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": optimizer}
        images, self.labels = (torch.from_numpy(array) for array in load(recipe.data, "test"))
        self.images = signed(images.permute(0, 3, 1, 2))  # (N, 1, 28, 28)

    def step(self, images: Tensor, labels: Tensor, rng: torch.Generator, step: int) -> dict[str, Tensor]:
        with self.fabric.autocast():
            logits = self.network(self._augment(signed(images), rng))
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.05)
        descend(self.fabric, self.network, loss, self.optimizers["optimizer"])
        return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}

    def _augment(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Mirror half of the images, and move the batch by up to `shift` pixels."""
        mirror = torch.rand(len(images), 1, 1, 1, generator=rng, device=images.device) < 0.5
        images = torch.where(mirror, images.flip(3), images)
        left, top = torch.randint(2 * self.shift + 1, (2,), generator=rng, device=images.device).tolist()
        padded = F.pad(images, [self.shift] * 4, value=-1.0)
        return padded[:, :, top : top + images.shape[2], left : left + images.shape[3]]

    @torch.no_grad()
    def evaluate(self, network: Classifier, images: Images) -> tuple[dict[str, float], None]:
        """Accuracy on the test images."""
        correct = [
            (network(batch.to(self.fabric.device)).argmax(1).cpu() == labels).float().sum()
            for batch, labels in zip(self.images.split(500), self.labels.split(500), strict=True)
        ]
        return {"test_accuracy": (sum(correct) / len(self.labels)).item()}, None
