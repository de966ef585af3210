"""What can be trained: each family is a recipe's dataclass and the class that takes one training step."""

from training.classifier import ClassifierTraining
from training.ddgan import DDGANTraining
from training.ddpm import DDPMTraining
from training.sundae import SundaeTraining
from training.vqgan import VQGANTraining

TRAININGS = (ClassifierTraining, DDPMTraining, DDGANTraining, VQGANTraining, SundaeTraining)
FAMILIES = {family.name: family for family in TRAININGS}
