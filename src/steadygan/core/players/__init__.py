"""Two ways to hold the players' parameters, one interface for the dynamics, and many at once."""

from .base import OTHER, PLAYERS, Batch, Name, Players, Values
from .optimizers import OptimizerPlayers, laid_out
from .values import FunctionalPlayers

__all__ = [
    "OTHER",
    "PLAYERS",
    "Batch",
    "FunctionalPlayers",
    "Name",
    "OptimizerPlayers",
    "Players",
    "Values",
    "laid_out",
]
