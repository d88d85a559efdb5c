"""The grid of the 2-D experiments of Mescheder et al. 2018.

Methods, strengths, optimizers and learning rates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...training import Config
from ..fleets import SAVED

GAMMAS = (1.0, 10.0, 100.0)
"""The paper's own grid. Its γ multiplies one half of the mean squared norm, for R1, R2 and WGAN-GP
alike, as here."""

KINDS = ("sgd", "rmsprop")

EMA = 0.999
"""Decay of the moving average that is measured beside the last iterate."""

EVALUATED = 10_000
"""Iterations after which a GAN is evaluated, and at its end. The same at every length, so that a
training that is to be longer goes on."""


@dataclass(frozen=True)
class Method:
    """A method: its three strengths and the settings of a configuration at one of them.

    ``kinds`` are those of the optimizers that it is trained with; ``alone`` says that every
    strength is a structure, and so a fleet, of its own.
    """

    name: str
    strengths: tuple[float, ...]
    settings: Callable[[float], Mapping[str, Any]]
    kinds: tuple[str, ...] = KINDS
    alone: bool = False


def _penalized(
    r1: float = 0.0, r2: float = 0.0, js: float = 0.0, sigma: float = 0.0
) -> dict[str, Any]:
    # One structure with zeros for what is not asked for, so that one fleet trains five methods.
    regularizer = (f"r1:gamma={r1:g}", f"r2:gamma={r2:g}", f"js:gamma={js:g}")
    return {
        "objective": "nonsaturating",
        "regularizer": regularizer,
        "smoothing": f"instance-noise:sigma={sigma:g}",
    }


def _wasserstein(gamma: float, critic_steps: int) -> dict[str, Any]:
    dynamics = f"alternating:critic_steps={critic_steps}"
    return {
        "objective": "wasserstein",
        "regularizer": (f"wgan-gp:gamma={gamma:g}",),
        "dynamics": dynamics,
    }


def _consensus(gamma: float) -> dict[str, Any]:
    return {"objective": "nonsaturating", "dynamics": f"consensus:gamma={gamma:g}"}


METHODS = (
    Method("unregularized", (0.0,), lambda _: _penalized()),
    Method("WGAN-GP, 1 critic step", GAMMAS, lambda gamma: _wasserstein(gamma, 1)),
    Method("WGAN-GP, 5 critic steps", GAMMAS, lambda gamma: _wasserstein(gamma, 5)),
    Method("R1", GAMMAS, lambda gamma: _penalized(r1=gamma)),
    Method("R2", GAMMAS, lambda gamma: _penalized(r2=gamma)),
    Method("JS", tuple(2 * gamma for gamma in GAMMAS), lambda gamma: _penalized(js=gamma)),
    Method("instance noise", (0.1, 0.3, 1.0), lambda sigma: _penalized(sigma=sigma)),
    Method("consensus", (1.0, 0.1, 10.0), _consensus, kinds=("rmsprop",), alone=True),
)


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a method at a strength, a kind of optimizer and its learning rate."""

    method: Method
    strength: float
    kind: str
    rate: str

    def config(self, settings: Mapping[str, Any], seed: int) -> Config:
        """Return how a GAN of this cell is trained."""
        return Config(
            **self.method.settings(self.strength),
            optimizer=f"{self.kind}:lr={self.rate}",
            batch=settings["batch"],
            steps=settings["steps"],
            evaluate_every=EVALUATED,
            log_every=1000,
            checkpoint_every=SAVED,
            keep_checkpoints=1,
            ema=EMA,
            seed=seed,
        )

    def __str__(self) -> str:
        strength = f", strength {self.strength:g}" if len(self.method.strengths) > 1 else ""
        return f"{self.kind} {self.rate}{strength}"


def cells(settings: Mapping[str, Any]) -> list[Cell]:
    """Return the whole grid."""
    return [
        Cell(method, strength, kind, rate)
        for method in METHODS
        for kind in method.kinds
        for rate in settings[kind]
        for strength in method.strengths[: settings["alone" if method.alone else "strengths"]]
    ]
