"""steadygan trains GANs that do not fall over, and says why.

The five lines for one's own loop::

    from steadygan import Game
    game = Game("nonsaturating", ["js:gamma=0.1"])
    game.critic_loss(D, real, fake.detach()).backward()      # then step D's optimizer
    game.generator_loss(D, real, fake).backward()            # then step G's optimizer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.exports import on_first_use

if TYPE_CHECKING:
    from .analysis import analyze_dirac as analyze_dirac
    from .analysis import diagnose as diagnose
    from .analysis.audit import audit as audit
    from .core.augment import augment as augment
    from .core.context import Context as Context
    from .core.conventions import convert_gamma as convert_gamma
    from .core.errors import SteadyganError as SteadyganError
    from .core.game import Game as Game
    from .core.gradients import critic_backward as critic_backward
    from .core.objectives import Objective as Objective
    from .core.players import Batch as Batch
    from .core.ranks import average_gradients as average_gradients
    from .core.registry import build as build
    from .core.registry import describe as describe
    from .core.registry import names as names
    from .core.registry import register as register
    from .core.registry import spec as spec
    from .core.regularizers import GradientPenalty as GradientPenalty
    from .core.regularizers import Regularizer as Regularizer
    from .evaluation import Evaluator as Evaluator
    from .evaluation import Features as Features
    from .evaluation import Metric as Metric
    from .evaluation import build_features as build_features
    from .evaluation.judging import evaluate as evaluate
    from .problems import Network as Network
    from .problems import Problem as Problem
    from .problems import Recipe as Recipe
    from .runs.config import Config as Config
    from .runs.models import load_generator as load_generator
    from .training import resume as resume
    from .training import train as train
    from .training.trackers import track as track

__version__ = "0.1.0"

_HOMES = {
    "Batch": "core.players",
    "Config": "runs.config",
    "Context": "core.context",
    "Evaluator": "evaluation",
    "Features": "evaluation",
    "Game": "core.game",
    "GradientPenalty": "core.regularizers",
    "Metric": "evaluation",
    "Network": "problems",
    "Objective": "core.objectives",
    "Problem": "problems",
    "Recipe": "problems",
    "Regularizer": "core.regularizers",
    "SteadyganError": "core.errors",
    "analyze_dirac": "analysis",
    "audit": "analysis.audit",
    "augment": "core.augment",
    "average_gradients": "core.ranks",
    "build": "core.registry",
    "build_features": "evaluation",
    "convert_gamma": "core.conventions",
    "critic_backward": "core.gradients",
    "describe": "core.registry",
    "diagnose": "analysis",
    "evaluate": "evaluation.judging",
    "load_generator": "runs.models",
    "names": "core.registry",
    "register": "core.registry",
    "resume": "training",
    "spec": "core.registry",
    "track": "training.trackers",
    "train": "training",
}
"""Where each name is at home; its module is imported when the name is first used."""

__all__ = ["__version__", *_HOMES]
if not TYPE_CHECKING:  # a checker knows the names above and no others
    __getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
