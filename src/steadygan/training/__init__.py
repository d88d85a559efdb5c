"""The training loop, many GANs at once, run folders, checkpoints and the monitor."""

from ..runs import optimizers
from ..runs.config import Config
from ..runs.folder import is_fleet
from ..runs.members import grid
from ..runs.models import load_member
from .fleet import FleetOutcome, MemberOutcome, resume_fleet, train_fleet
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
