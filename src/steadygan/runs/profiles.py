r"""Averages whose profile is chosen afterwards, as a sum of snapshots of power-function ones.

The average at step t with exponent g weighs step s by

.. math:: p(s) = (s^{g+1} - (s-1)^{g+1}) / t^{g+1} \approx (g+1) s^g / t^{g+1}

so that averages are vectors in the space of profiles, and the best approximation of one that was
not kept is a least-squares problem with inner products in closed form.

Reference: Karras et al. 2024, section 3.2 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import SteadyganError
from . import checkpoint
from .format import AVERAGES, by_step

_LEAST = 1e-6
"""Width below which a profile is the last step's weights alone."""

WORST = 0.05
"""How far a profile may be from the wanted one, relative to its norm."""


def exponent(sigma: float) -> float:
    """Return g >= 0 of the profile (s/t)^g whose standard deviation is ``sigma`` times t.

    Raises:
        SteadyganError: For a width that no such profile has.

    >>> g = exponent(0.1)
    >>> round(((g + 1) / (g + 2) ** 2 / (g + 3)) ** 0.5, 12)
    0.1
    """
    if not _LEAST <= sigma <= 12**-0.5:
        raise SteadyganError(
            f"sigma is the width of a power function's weights relative to the training's length,"
            f" from {_LEAST:g} to 0.2886, where all steps count the same, not {sigma:g}"
        )
    # It falls in g: bisection in its logarithm, to the last bit that counts.
    low, high = 0.0, 2 / sigma
    for _ in range(200):
        g = (low + high) / 2
        wider = (g + 1) / ((g + 2) ** 2 * (g + 3)) > sigma**2
        low, high = (g, high) if wider else (low, g)
    return (low + high) / 2


def combined(
    held: Sequence[tuple[int, float]], wanted: tuple[int, float]
) -> tuple[list[float], float]:
    """Return the weight of each kept average in the best approximation of a wanted one.

    Args:
        held: Step and sigma of each.
        wanted: Step and sigma.

    Returns:
        The weights, and how far their profile is from the wanted one, relative to its norm.
    """
    steps, g = (list(each) for each in zip(*((t, exponent(s)) for t, s in held), strict=True))
    a = torch.tensor(
        [[_product(t, a, u, b) for u, b in zip(steps, g, strict=True)]
         for t, a in zip(steps, g, strict=True)],
        dtype=torch.float64,
    )  # fmt: skip
    step, own = wanted[0], exponent(wanted[1])
    b = a.new_tensor([_product(t, a, step, own) for t, a in zip(steps, g, strict=True)])
    # Scaled to norms of 1: neighbouring profiles are nearly alike.
    norm = a.diagonal().sqrt()
    unit = torch.linalg.lstsq(a / norm / norm[:, None], b / norm, driver="gelsd").solution
    x = unit / norm
    whole = _product(step, own, step, own)
    gap = (whole - 2 * x @ b + x @ a @ x).clamp(min=0) / whole
    return x.tolist(), math.sqrt(gap)


def reconstructed(run: Path, sigma: float, step: int) -> dict[str, Tensor]:
    """Return the state of a run's generator averaged by a profile that need not have been kept.

    Args:
        run: The folder.
        sigma: Of the profile, relative to the steps made.
        step: After which step.

    Returns:
        The state.

    Raises:
        SteadyganError: Where there are no snapshots up to that step, and where they are too few for
            this profile.
    """
    files = by_step(run / AVERAGES, ".safetensors")
    exponent(sigma)
    files = {at: path for at, path in files.items() if at <= step}
    if not files:
        raise SteadyganError(
            f"{run} keeps no snapshots of averages up to step {step}:"
            " a profile can be chosen afterwards for runs of train --ema power."
        )
    trees: list[dict[str, Any]] = [checkpoint.load(path) for path in files.values()]
    held = [(tree["step"], s) for tree in trees for s in tree["sigma"]]
    x, gap = combined(held, (step, sigma))
    if not gap <= WORST:
        raise SteadyganError(
            f"The {len(held)} kept averages of {run} come within {gap:.0%} of the profile of sigma"
            f" {sigma:g} at step {step} only, {WORST:.0%} is allowed: take a sigma nearer to"
            f" {' or '.join(f'{s:g}' for s in trees[-1]['sigma'])}, or train with a smaller"
            " --checkpoint-every, which also keeps averages."
        )
    states = [state for tree in trees for state in tree["states"].values()]
    found = {}
    for key, newest in states[-1].items():
        found[key] = newest
        if newest.is_floating_point():
            terms = [weight * state[key].double() for weight, state in zip(x, states, strict=True)]
            found[key] = torch.stack(terms).sum(0).to(newest.dtype)
    return found


def _product(t: float, a: float, u: float, b: float) -> float:
    """Return the inner product of the profiles of exponents a at t and b at u."""
    first, power = min(t, u), a + b + 1
    # m^(a+b+1) / (t^(a+1) u^(b+1)), in ratios that do not overflow.
    ratio: float = (first / t) ** (a + 1) * (first / u) ** (b + 1) / first
    return (a + 1) * (b + 1) / power * ratio


__all__ = ["WORST", "combined", "exponent", "reconstructed"]
