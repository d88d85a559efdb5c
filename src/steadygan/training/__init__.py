"""The training loop, for one GAN and for many at once, and what watches it."""

from ..runs import optimizers
from ..runs.config import Config
from ..runs.folder import is_fleet
from ..runs.members import grid
from ..runs.models import load_generator, load_member
from .outcome import MemberOutcome, Outcome
from .start import resume, train, train_fleet
from .watchers import Watcher

__all__ = [
    "Config",
    "MemberOutcome",
    "Outcome",
    "Watcher",
    "grid",
    "is_fleet",
    "load_generator",
    "load_member",
    "optimizers",
    "resume",
    "train",
    "train_fleet",
]
