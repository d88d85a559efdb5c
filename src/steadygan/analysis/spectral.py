"""The spectra of a system and what follows: local stability, limits of the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .limits import Limits, limits
from .linearize import Map, System, jacobian
from .spectra import DENSE, Eigenvalue, listed, survey
from .stability import NEUTRAL, grown, modes

COARSE = 1e-2
"""Residual, relative to the largest modulus, below which an eigenvalue of a large network counts as
converged; verdicts allow for it."""

SMALL = 200
"""Up to so large a state the limits of the learning rate are looked for closely."""

LOOKS = 3
"""How many learning rates of a large network's step are tried for its limit."""


@dataclass(frozen=True)
class Spectral:
    """Eigenvalues of the field, and of one step as (s - 1)/h, so that both are rates.

    Args:
        field: by decreasing modulus.
        step: by decreasing modulus, of the state of a step: with the previous gradients where they
            are remembered, and with what optimizers remember.
        complete: whether these are all.
        neutral: how many field eigenvalues lie below ``tolerance`` in modulus; the verdict is about
            the others.
        tolerance: a modulus.
        stability: of one step, 'stable', 'unstable' or 'undecided'.
        radius: the largest modulus s of an eigenvalue of one step that is not neutral.
        max_stable_lr: the critic's learning rate (the ratio of both kept) below which no step of
            this dynamics is unstable; 0 where there is none such, None where it is not known. Where
            the spectrum is not complete, an upper bound.
        windows: the intervals of the learning rate in which a step is unstable; the last has no
            end, inf, unless none was seen.
        advised: a smaller learning rate at which a step is stable, as far as this analysis sees.
    """

    field: list[Eigenvalue]
    step: list[Eigenvalue]
    complete: bool
    neutral: int
    tolerance: float
    stability: str
    radius: float | None
    max_stable_lr: float | None
    windows: tuple[tuple[float, float], ...] = ()
    advised: float | None = None

    @property
    def active(self) -> list[Eigenvalue]:
        """Return the converged eigenvalues of the field that are not neutral."""
        return [e for e in self.field if e.converged and abs(e.value) > self.tolerance]

    @property
    def largest_real(self) -> float | None:
        """Return the largest real part among the active eigenvalues of the field."""
        return max((e.value.real for e in self.active), default=None)


def spectral(system: System, budget: int, *, alone: bool = False) -> tuple[Spectral, int]:
    """Return the spectra of a system and how many products with Jacobians they cost.

    Args:
        system: the system; its learning rate is the same afterwards.
        budget: products, for systems of more than 300 parameters.
        alone: of one step only, which then stands for the field too, and no limits.
    """
    return (_dense if system.size <= DENSE else _sparse)(system, budget, alone)


def _dense(system: System, budget: int, alone: bool) -> tuple[Spectral, int]:
    start, h, spent = system.step_state(system.point()), system.lr, 0

    def family(rate: float) -> np.ndarray:
        nonlocal spent
        system.lr, spent = rate, spent + len(start)
        try:
            found: np.ndarray = jacobian(_moved(system), start).double().cpu().numpy()
        finally:
            system.lr = h
        return found

    step = modes(family(h) / h, h)
    field = step
    if not alone:
        field = modes(jacobian(system.field, system.point()).double().cpu().numpy())
        spent += system.size
    found = Limits(()) if alone else limits(family, field.rates, fine=len(start) <= SMALL)
    limit, advised = found.first, None
    if limit and limit <= h:
        advised = limit / 2
        if modes(family(advised) / advised, advised).verdict != "stable":
            advised = None
    # What only an optimizer's own memory says is not about the players.
    moving = not field.neutral.all()
    return Spectral(
        field=listed(field),
        step=listed(step),
        complete=True,
        neutral=int(field.neutral.sum()),
        tolerance=float(abs(field.rates[field.neutral]).max(initial=0.0)),
        stability=step.verdict if moving else "undecided",
        radius=None if step.fastest is None else 1 + h * step.fastest,
        max_stable_lr=limit,
        windows=found.unstable,
        advised=advised,
    ), spent


def _sparse(system: System, budget: int, alone: bool) -> tuple[Spectral, int]:
    point = system.point()
    step, verdict, radius, spent = _seen(system, budget if alone else budget // 3)
    field, first, advised = step, None, None
    neutral = _neutral(point.dtype) * max((abs(e.value) for e in step), default=0.0)
    if not alone:
        looked = survey(system.field, point, budget=max(8, budget // 3), tolerance=COARSE)
        field, spent = looked.values, spent + looked.products
        neutral = _neutral(point.dtype) * max((abs(e.value) for e in field), default=0.0)
        active = np.array([e.value for e in field if e.converged and abs(e.value) > neutral])
        first, advised, more = _bound(system, active, verdict, budget // 3)
        spent += more
    return Spectral(
        field=field,
        step=step,
        complete=False,
        neutral=sum(abs(e.value) <= neutral for e in field),
        tolerance=neutral,
        stability=verdict,
        radius=radius,
        max_stable_lr=first,
        windows=() if first is None else ((first, math.inf),),
        advised=advised,
    ), spent


def _bound(
    system: System, active: np.ndarray, verdict: str, budget: int
) -> tuple[float | None, float | None, int]:
    """Return an upper bound of the limit of the learning rate, a smaller rate, and the cost.

    At the smaller rate nothing that was computed is unstable.
    """
    if not len(active):
        return None, None, 0
    h, spent = system.lr, 0
    low = h if verdict == "stable" else None
    high = h if verdict == "unstable" else None
    damped = float((-2 * active.real / abs(active) ** 2).min())
    guess = damped if damped > 0 else 2 / float(abs(active).max())
    for _ in range(LOOKS):
        inside = (low is None or guess > low) and (high is None or guess < high)
        if not inside:
            guess = math.sqrt(low * high) if low and high else (high or 0) / 4 or (low or 0) * 4
        system.lr = guess
        try:
            _, found, _, cost = _seen(system, budget // LOOKS)
        finally:
            system.lr = h
        spent += cost
        if found == "unstable":
            high, guess = guess, guess / 2
        elif found == "stable":
            low, guess = guess, guess * 2
        else:
            guess /= 2
    return high, low if low is not None and low < h else None, spent


def _seen(system: System, budget: int) -> tuple[list[Eigenvalue], str, float | None, int]:
    """Return what a budget of products sees of one step: eigenvalues, a verdict, the radius."""
    start, h = system.step_state(system.point()), system.lr
    units = system.units(start)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        return _moved(system)(units * x) / (h * units)

    looked = survey(scaled, start / units, budget=max(8, budget), tolerance=COARSE)
    values, rough = looked.values, _neutral(start.dtype)
    neutral = rough * max((abs(e.value) for e in values), default=0.0)
    kept = [e for e in values if abs(e.value) > neutral]
    rates = np.array([e.value for e in kept])
    growth, sure = grown(rates, h), np.array([e.converged for e in kept], dtype=bool)
    margin = np.maximum(1e-6 / h, [e.residual for e in kept])
    if (sure & (growth > margin)).any():
        verdict = "unstable"
    else:
        # What did not converge may not lie outside, and what did must be inside.
        inside = np.where(sure, growth < -margin, growth <= 0)
        verdict = "stable" if sure.any() and inside.all() else "undecided"
    radius = 1 + h * float(growth[sure].max()) if sure.any() else None
    return values, verdict, radius, looked.products


def _moved(system: System) -> Map:
    return lambda state: system.step(state) - state


def _neutral(dtype: torch.dtype) -> float:
    return NEUTRAL if dtype == torch.float64 else 1e-4
