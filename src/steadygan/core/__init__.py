"""The mathematics of the game: no I/O, plotting, device or logging code."""

from .context import Context, Draws, Samples
from .conventions import CONVENTIONS, convert_gamma
from .dynamics import (
    Alternating,
    Consensus,
    Dynamics,
    Extragradient,
    Optimistic,
    Simultaneous,
    Unrolled,
)
from .errors import SteadyganError
from .game import CriticTerms, Game
from .players import Batch, FunctionalPlayers, OptimizerPlayers, Players
from .registry import build, describe, names, register, spec, unregister
from .scores import Scores, score

__all__ = [
    "CONVENTIONS",
    "Alternating",
    "Batch",
    "Consensus",
    "Context",
    "CriticTerms",
    "Draws",
    "Dynamics",
    "Extragradient",
    "FunctionalPlayers",
    "Game",
    "Optimistic",
    "OptimizerPlayers",
    "Players",
    "Samples",
    "Scores",
    "Simultaneous",
    "SteadyganError",
    "Unrolled",
    "build",
    "convert_gamma",
    "describe",
    "names",
    "register",
    "score",
    "spec",
    "unregister",
]
