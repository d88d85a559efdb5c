"""The Dirac-GAN in closed form (equations.md, section 2): one row for every registered regularizer,
objective and divergence, or it does not merge. Written apart from what the classes declare.

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
    "isotropic-r1": lambda gamma: gamma,  # signs: (psi sigma e)^2 / sigma^2 = psi^2
    "isotropic-r2": lambda gamma: gamma,
    "js": lambda gamma: gamma / 2,  # both weights are 1/4 at logit 0
    "f-gan": lambda gamma, divergence="gan": gamma * WEIGHT[divergence],
    "lecam": lambda gamma: 0.0,  # of third order at the equilibrium
    "wgan-lp": lambda gamma: 0.0,  # one-sided: nothing below norm 1
    "wgan-gp": refused(
        "(||grad D|| - 1)^2 has a kink where the gradient vanishes, and at the equilibrium it does"
    ),
    "dragan": refused("as wgan-gp"),
}

# What a penalty damps per unit of variance where all samples carry noise: it squares logits.
UNDER_NOISE: dict[str, Callable[[float], float]] = {"lecam": lambda gamma: 2 * gamma}

# a = g'(0), w(0) = g'(0)^2 f*''(g(0)), and (f* g)''(0); the critic's loss curves by w(0).
DIVERGENCES = {
    "kl": (1.0, 1.0, 1.0),
    "reverse-kl": (1.0, 1.0, 0.0),
    "pearson": (1.0, 0.5, 0.5),
    "neyman": (1.0, 0.5, -0.5),
    "squared-hellinger": (1.0, 2.0, 1.0),
    "js": (0.5, 0.5, 0.25),
    "gan": (0.5, 0.5, 0.25),
    "jeffrey": (1.0, 0.5, 0.5),
    "alpha": (1.0, 1.0, 1.0),
}
WEIGHT = {name: w for name, (_, w, _) in DIVERGENCES.items()}

# a, and how the losses of critic and generator curve in psi per unit of noise: on real and on fake
# samples each f''(0) = -1/4 of equations.md; relativistic losses see the variance of a difference.
OBJECTIVES = {
    "minimax": (0.5, 0.5, -0.25),
    "nonsaturating": (0.5, 0.5, 0.25),
    "relativistic": (0.5, 0.5, 0.5),
    "relativistic-average": (0.5, 0.25, 0.25),
    "least-squares": (1.0, 2.0, 1.0),
    "hinge": (1.0, 0.0, 0.0),
    "wasserstein": (1.0, 0.0, 0.0),
    **{f"f-gan:divergence={name}": (a, w, -b) for name, (a, w, b) in DIVERGENCES.items()},
}
COUPLING = {spelling: a for spelling, (a, _, _) in OBJECTIVES.items()}

LINEARISABLE = [
    s for s in specs("regularizer") if not isinstance(DAMPING.get(s.partition(":")[0]), Refused)
]


def damping(spelling: str, gamma: float, variance: float = 0.0) -> float:
    """q of a regularizer's spec, under noise of a variance."""
    name, _, setting = spelling.partition(":")
    row = DAMPING[name]
    assert not isinstance(row, Refused)
    more = UNDER_NOISE[name](gamma) * variance if name in UNDER_NOISE else 0.0
    return row(gamma, *([setting.partition("=")[2]] if setting else [])) + more


def eigenvalues(a: float, q: float) -> list[complex]:
    """-q/2 +- sqrt(q^2/4 - a^2)."""
    root = cmath.sqrt(q * q / 4 - a * a)
    return [-q / 2 - root, -q / 2 + root]
