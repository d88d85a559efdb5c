"""The training loop, run folders, checkpoints and the monitor."""

from . import optimizers
from .config import Config
from .trainer import Outcome, resume, train

__all__ = ["Config", "Outcome", "optimizers", "resume", "train"]
