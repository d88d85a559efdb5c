"""The Dirac-GAN in closed form (equations.md, section 2): one row for every registered regularizer,
or it does not merge.

At the equilibrium the field's Jacobian in (theta, psi) is [[0, a], [-a, -q]]: a is the objective's
coupling, q what the regularizer damps. (The papers print [[0, -a], [a, -q]], with logits large on
fakes; here they are large on real samples. The spectrum is the same.)
"""

from __future__ import annotations

import cmath
from collections.abc import Callable
from dataclasses import dataclass

from support import specs


@dataclass(frozen=True)
class Refused:
    """No linearisation exists, for this reason: a finite number here would be a wrong one."""

    reason: str


def refused(reason: str) -> Refused:
    return Refused(reason)


DAMPING: dict[str, Callable[..., float] | Refused] = {
    "r1": lambda gamma: gamma,
    "r2": lambda gamma: gamma,
    "r1r2": lambda gamma: 2 * gamma,
    "gp0": lambda gamma: gamma,
    "js": lambda gamma: gamma / 2,  # both weights are 1/4 at logit 0
    "f-gan": lambda gamma, divergence="gan": gamma * WEIGHT[divergence],
    "lecam": lambda gamma: 0.0,  # of third order at the equilibrium
    "wgan-lp": lambda gamma: 0.0,  # one-sided: nothing below norm 1
    "wgan-gp": refused(
        "(||grad D|| - 1)^2 has a kink where the gradient vanishes, and at the equilibrium it does"
    ),
    "dragan": refused("as wgan-gp"),
}

# w(0) = g'(0)^2 f*''(g(0)).
WEIGHT = {
    "kl": 1.0,
    "reverse-kl": 1.0,
    "pearson": 0.5,
    "neyman": 0.5,
    "squared-hellinger": 2.0,
    "js": 0.5,
    "gan": 0.5,
    "jeffrey": 0.5,
    "alpha": 1.0,
}

HALF = (
    "minimax",
    "nonsaturating",
    "relativistic",
    "relativistic-average",
    "f-gan:divergence=gan",
    "f-gan:divergence=js",
)
COUPLING = {spelling: 0.5 if spelling in HALF else 1.0 for spelling in specs("objective")}

LINEARISABLE = [
    s for s in specs("regularizer") if not isinstance(DAMPING.get(s.partition(":")[0]), Refused)
]


def damping(spelling: str, gamma: float) -> float:
    """q of a regularizer's spec."""
    name, _, setting = spelling.partition(":")
    row = DAMPING[name]
    assert not isinstance(row, Refused)
    return row(gamma, *([setting.partition("=")[2]] if setting else []))


def eigenvalues(a: float, q: float) -> list[complex]:
    """-q/2 +- sqrt(q^2/4 - a^2)."""
    root = cmath.sqrt(q * q / 4 - a * a)
    return [-q / 2 - root, -q / 2 + root]
