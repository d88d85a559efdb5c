"""TensorBoard, Weights & Biases, Trackio: for runs, and for one's own loop."""

from .base import Board, Place, Tracker
from .loop import Track, track
from .tensorboard import TensorBoard
from .trackio import Trackio
from .wandb import WandB

__all__ = ["Board", "Place", "TensorBoard", "Track", "Tracker", "Trackio", "WandB", "track"]
