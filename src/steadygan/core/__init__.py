"""The mathematics of the game: no I/O, plotting, device or logging code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exports import on_first_use

if TYPE_CHECKING:
    from .context import Context as Context
    from .context import Draws as Draws
    from .context import Samples as Samples
    from .conventions import CONVENTIONS as CONVENTIONS
    from .conventions import convert_gamma as convert_gamma
    from .dynamics import Alternating as Alternating
    from .dynamics import Consensus as Consensus
    from .dynamics import Dynamics as Dynamics
    from .dynamics import Extragradient as Extragradient
    from .dynamics import Optimistic as Optimistic
    from .dynamics import Simultaneous as Simultaneous
    from .dynamics import Unrolled as Unrolled
    from .errors import SteadyganError as SteadyganError
    from .game import Game as Game
    from .players import Batch as Batch
    from .players import FunctionalPlayers as FunctionalPlayers
    from .players import OptimizerPlayers as OptimizerPlayers
    from .players import Players as Players
    from .registry import build as build
    from .registry import describe as describe
    from .registry import names as names
    from .registry import register as register
    from .registry import spec as spec
    from .registry import unregister as unregister
    from .scores import Scores as Scores
    from .scores import score as score
    from .terms import CriticTerms as CriticTerms
    from .terms import GeneratorTerms as GeneratorTerms

_HOMES = {
    "Alternating": "dynamics",
    "Batch": "players",
    "CONVENTIONS": "conventions",
    "Consensus": "dynamics",
    "Context": "context",
    "CriticTerms": "terms",
    "Draws": "context",
    "Dynamics": "dynamics",
    "Extragradient": "dynamics",
    "FunctionalPlayers": "players",
    "Game": "game",
    "GeneratorTerms": "terms",
    "Optimistic": "dynamics",
    "OptimizerPlayers": "players",
    "Players": "players",
    "Samples": "context",
    "Scores": "scores",
    "Simultaneous": "dynamics",
    "SteadyganError": "errors",
    "Unrolled": "dynamics",
    "build": "registry",
    "convert_gamma": "conventions",
    "describe": "registry",
    "names": "registry",
    "register": "registry",
    "score": "scores",
    "spec": "registry",
    "unregister": "registry",
}
"""Where each name is at home."""

__all__ = [*_HOMES]
if not TYPE_CHECKING:  # a checker knows the names above and no others
    __getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
