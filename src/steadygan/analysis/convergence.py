"""Whether a method converges on the Dirac-GAN, and why.

Spectra, critical gamma, largest stable learning rate, a verdict in words.

>>> (record,) = analyze_dirac(["minimax"], [["r1:gamma=1"]], [None], ["simultaneous"], [0.1])
>>> record.converges, record.critical_gamma
(True, 1.0)
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.context import Context
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import Batch
from ..core.registry import build
from ..problems.networks import Point
from . import closed_forms
from .limits import Limits, limits
from .linearize import System, jacobian
from .stability import SLOWEST

ROUNDING = 1e-13
"""How far from 1 rounding may take a spectral radius."""

STRAIGHT = 1e-3
"""The share of its way that the slowest mode must lead sideways for a turn that anybody sees."""

DECLARED = 1e-6
"""How far an entry of a declared Jacobian may be from automatic differentiation."""

NODES = 16


class Quadrature:
    """Equal-weight nodes for a batch of n² samples.

    Quantiles of the draw, scaled to its exact variance. Every other draw runs along the other axis
    of the n x n grid, so the noise on real and on generated samples is independent.
    """

    def __init__(self, nodes: int = NODES) -> None:
        self._nodes, self._calls = nodes, 0

    def normal(self, like: Tensor) -> Tensor:
        """Return normal quantiles, shaped like ``like`` (n², 1); mean 0 and variance 1 exactly."""
        nodes = torch.special.ndtri(self._middles(like))
        return self._laid(nodes / nodes.square().mean().sqrt(), like)

    def uniform(self, like: Tensor) -> Tensor:
        """Return the middles of n equal parts of [0, 1], shaped like ``like``."""
        return self._laid(self._middles(like), like)

    def _middles(self, like: Tensor) -> Tensor:
        return (torch.arange(self._nodes, dtype=like.dtype, device=like.device) + 0.5) / self._nodes

    def _laid(self, nodes: Tensor, like: Tensor) -> Tensor:
        self._calls += 1
        laid = (
            nodes.repeat_interleave(self._nodes) if self._calls % 2 else nodes.repeat(self._nodes)
        )
        return laid.view(like.shape)


@dataclass(frozen=True)
class Record:
    """One row: a method, its spectrum at the equilibrium, what follows, and the closed form.

    Names are spelled as they were asked for; regularizers that add up are joined by ' + '.
    eigenvalues: of the field that the dynamics follows. step_eigenvalues, spectral_radius: of one
    step at ``lr``. converges: None where linearisation decides nothing, because growth per
    unit of time is below 1e-9 of the field's fastest rate. max_stable_lr: below it no learning rate
    is unstable; None where none is at all, 0 where there is no such limit. unstable: all intervals
    of unstable learning rates; the last has no end, inf.
    """

    objective: str
    regularizer: str | None
    smoothing: str | None
    dynamics: str
    lr: float
    eigenvalues: list[complex] | None
    step_eigenvalues: list[complex] | None
    spectral_radius: float | None
    critical_gamma: float | None
    max_stable_lr: float | None
    converges: bool | None
    reason: str
    closed_form_eigenvalues: list[complex] | None
    unstable: list[list[float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data: complex numbers as [re, im], what is absent or unbounded as null."""
        return {key: _plain(value) for key, value in vars(self).items()}


def dirac_system(
    game: Game, dynamics: Dynamics | str, lr: float, progress: float | None = None
) -> System:
    """Return the Dirac-GAN at its equilibrium (θ, ψ) = (0, 0).

    In double precision, its expectations by quadrature.
    """
    network = Point(theta=0.0, psi=0.0)
    generator, critic = network.generator((1,), 1).double(), network.critic((1,)).double()
    zeros = torch.zeros(NODES**2, 1, dtype=torch.float64)
    return System(
        game,
        dynamics,
        generator,
        critic,
        Batch(zeros, zeros),
        lr=lr,
        progress=progress,
        draws=Quadrature,
    )


def analyze_dirac(
    objectives: Iterable[str],
    regularizers: Iterable[Sequence[str]],
    smoothings: Iterable[str | None],
    dynamics: Iterable[str],
    lrs: Iterable[float],
    *,
    progress: float | None = 0.0,
) -> list[Record]:
    """Return one record for each combination; each entry of ``regularizers`` is a set that adds up.

    Args:
        objectives: specs.
        regularizers: sets of specs; an empty one is none.
        smoothings: specs, or None.
        dynamics: specs.
        lrs: learning rates of a step.
        progress: where annealed strengths are taken.

    Raises:
        SteadyganError: for names that are unknown and rates that are none; a method that cannot be
            linearised is a record with the reason.
    """
    rows = [
        (o, list(r), s, d, h)
        for o in objectives
        for r in regularizers
        for s in smoothings
        for d in dynamics
        for h in lrs
    ]
    for *_, h in rows:
        if not (math.isfinite(h) and h > 0):
            raise SteadyganError(f"A learning rate is a finite number > 0, not {h:g}.")
    # All are built before the first is analysed, so that a typing mistake in the last one costs
    # nothing.
    games = [(Game(o, r, s), build("dynamics", d), h) for o, r, s, d, h in rows]
    labels = [
        {
            "objective": o,
            "regularizer": " + ".join(r) or None,
            "smoothing": s,
            "dynamics": d,
            "lr": h,
        }
        for o, r, s, d, h in rows
    ]
    return [_record(label, *game, progress) for label, game in zip(labels, games, strict=True)]


def _record(
    names: dict[str, Any], game: Game, dynamics: Dynamics, lr: float, progress: float | None
) -> Record:
    try:
        system = dirac_system(game, dynamics, lr, progress)
    except SteadyganError as refusal:
        return Record(
            **names,
            eigenvalues=None,
            step_eigenvalues=None,
            spectral_radius=None,
            critical_gamma=None,
            max_stable_lr=None,
            converges=False,
            reason=str(refusal),
            closed_form_eigenvalues=None,
        )
    measured = {
        "field": jacobian(system.field, system.point()),
        "step": jacobian(system.step, system.step_state(system.point())),
    }
    field, step = (eigenvalues(matrix) for matrix in measured.values())
    radius = max(abs(value) for value in step)
    closed, note = _closed(game, dynamics, lr, progress, measured)

    def family(h: float) -> np.ndarray:
        system.lr = h
        start = system.step_state(system.point())
        return jacobian(lambda state: system.step(state) - state, start).numpy()

    found = limits(family, np.array(field))
    fastest = max(abs(value) for value in field)

    def shrinks(radius: float, h: float) -> bool | None:
        margin = max(SLOWEST * fastest * h, ROUNDING)
        return None if abs(radius - 1) <= margin else radius < 1

    converges = shrinks(radius, lr)
    below = None
    if converges is False and found.first:
        half = found.first / 2
        below = shrinks(max(abs(np.linalg.eigvals(np.eye(len(step)) + family(half)))), half)
    return Record(
        **names,
        eigenvalues=field,
        step_eigenvalues=step,
        spectral_radius=radius,
        critical_gamma=critical_gamma(game, progress),
        max_stable_lr=found.first,
        converges=converges,
        reason=_verdict(step, converges, found, lr, below) + note,
        closed_form_eigenvalues=closed,
        unstable=[list(window) for window in found.unstable],
    )


def _closed(
    game: Game,
    dynamics: Dynamics,
    lr: float,
    progress: float | None,
    measured: Mapping[str, Tensor],
) -> tuple[list[complex] | None, str]:
    """Return the declared eigenvalues of the field, and what is to be said of the declarations."""
    try:
        declared = {
            "field": closed_forms.field_matrix(game, dynamics, lr, progress),
            "step": closed_forms.step_matrix(game, dynamics, lr, progress),
        }
    except closed_forms.Undeclared as absent:
        return None, f"; there is no closed form: {absent}"
    wrong = [
        name
        for name, matrix in measured.items()
        if not np.allclose(matrix, declared[name], rtol=DECLARED, atol=DECLARED)
    ]
    note = (
        f"; the declared {' and '.join(wrong)} is WRONG: automatic differentiation differs from"
        " what this game and dynamics declare of themselves"
    )
    return eigenvalues(declared["field"]), note if wrong else ""


def critical_gamma(game: Game, progress: float | None = None) -> float | None:
    """Return the gamma of the only regularizer at which the Dirac-GAN's eigenvalues turn real.

    Of its plain field; None where there is no such gamma.
    The Jacobian is affine in gamma, so three of them determine the discriminant tr² - 4 det, a
    parabola; its first positive root is meant.
    """
    alone = Game(game.objective, game.regularizers)
    if not len(alone.strengths()) == len(game.regularizers) == 1 or game.smoothing is not None:
        return None
    values = []
    for gamma in (0.0, 1.0, 2.0):
        other = alone.with_strengths(dict.fromkeys(alone.strengths(), gamma))
        system = dirac_system(other, "simultaneous", 0.1, progress)
        matrix = jacobian(system.field, system.point()).numpy()
        values.append(np.trace(matrix) ** 2 - 4 * np.linalg.det(matrix))
    curve = np.polynomial.Polynomial.fit([0.0, 1.0, 2.0], values, 2, domain=[-1, 1], window=[-1, 1])
    coefficients = np.where(abs(curve.coef) < 1e-9, 0.0, curve.coef)
    roots = (
        np.polynomial.Polynomial(np.trim_zeros(coefficients, "b")).roots()
        if coefficients[1:].any()
        else np.array([])
    )
    positive = [root.real for root in roots if abs(root.imag) < 1e-7 and root.real > 1e-9]
    return float(round(min(positive), 9)) if positive else None


def eigenvalues(matrix: Tensor | np.ndarray) -> list[complex]:
    """Return the eigenvalues of a square matrix, by decreasing real part.

    Of a conjugate pair the upper one comes first.
    """
    values = np.linalg.eigvals(np.asarray(matrix, dtype=np.float64)).astype(complex)
    return sorted(
        (complex(value) for value in values),
        key=lambda value: (-round(value.real, 12), -value.imag),
    )


def _verdict(
    step: list[complex], converges: bool | None, found: Limits, lr: float, below: bool | None
) -> str:
    """Return what follows from a step's eigenvalues; ``below``: what half the first limit does."""
    slowest = max(step, key=abs)
    radius = abs(slowest)
    sign = "-" if radius < 1 else "+"
    factor = f"{radius:.6g}" if abs(radius - 1) > 1e-5 else f"1 {sign} {abs(radius - 1):.3g}"
    turns = abs(slowest.imag) > STRAIGHT * abs(slowest - 1)
    windows = f"; a step is {found.words()}" if len(found.unstable) > 1 else ""
    if converges:
        way = (
            f"spirals in, a turn every {2 * math.pi / abs(cmath.phase(slowest)):.3g} steps"
            if turns
            else "comes in without turning"
        )
        return f"converges linearly: the distance shrinks by {factor} a step; it {way}{windows}"
    if converges is None:
        return (
            "linearisation decides nothing: the spectral radius is 1, so the next order decides"
            + (
                " (with eigenvalues ±i of the field it turns around the equilibrium for ever, or"
                " converges sublinearly)"
                if turns
                else ""
            )
        )
    if not found.first:
        return (
            "does not converge: nothing damps the rotation, and each step leads outwards by"
            f" {factor}{windows}"
        )
    then = "it converges" if below else "linearisation decides nothing"
    return (
        f"does not converge: the learning rate {lr:g} oversteps (factor {radius:.4g} a step);"
        f" below {found.first:.4g} {then}{windows}"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = [
    "Context",
    "Quadrature",
    "Record",
    "analyze_dirac",
    "critical_gamma",
    "dirac_system",
    "eigenvalues",
]
