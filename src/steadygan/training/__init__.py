"""The training loop, many GANs at once, run folders, checkpoints and the monitor."""

from . import optimizers
from .config import Config
from .fleet import FleetOutcome, MemberOutcome, is_fleet, resume_fleet, train_fleet
from .members import grid, load_member
from .trainer import Outcome, resume, train

__all__ = [
    "Config",
    "FleetOutcome",
    "MemberOutcome",
    "Outcome",
    "grid",
    "is_fleet",
    "load_member",
    "optimizers",
    "resume",
    "resume_fleet",
    "train",
    "train_fleet",
]
