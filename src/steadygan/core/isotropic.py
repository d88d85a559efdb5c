r"""Penalties that need no input gradient: how far the logit moves under a little noise.

.. math:: \Omega = \frac{\gamma}{2} E_{x, \varepsilon}\left[ \frac{(D(x + \sigma\varepsilon) -
D(x))^2}{\sigma^2} \right] = \frac{\gamma}{2} E\|\nabla_x D\|^2 + O(\sigma^2)

with independent signs as noise. It is what the field calls approximate R1, where nothing but plain
backward works. One draw has the relative variance 2 of each sample's squared norm, where the
gradient has many components; the bias punishes curvature, and wide noise is another penalty.
Derivation, bias and variance: docs/derivations.md, section 8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import ClassVar

from torch import Tensor

from .context import Context, Samples
from .errors import SteadyganError
from .penalties import Regularizer
from .registry import register
from .schedules import Strength, strength, strength_at
from .scores import Scores


@dataclass(frozen=True)
class Isotropic(Regularizer):
    """gamma/2 E (D(x + sigma e) - D(x))^2 / sigma^2 at one batch; rows of the idea say which.

    Of a critic of many logits it is the mean over an output's positions, whatever the rule of
    ``outputs`` is: each logit's own difference is there anyway.
    """

    on_slopes: ClassVar[bool] = True
    at: ClassVar[str] = ""

    gamma: Strength = 10.0
    sigma: float = 0.01
    anneal: InitVar[float | None] = None
    schedule: InitVar[str] = "exponential"

    def __post_init__(self, anneal: float | None, schedule: str) -> None:
        object.__setattr__(self, "gamma", strength(self.gamma, anneal, schedule, "gamma"))
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise SteadyganError(
                "sigma is the size of the noise on each component of a sample, a finite number > 0,"
                f" not {self.sigma:g}"
            )

    @property
    def sees_generated(self) -> bool:
        """Whether the batch that it looks at is the generated one."""
        return self.at == "fake"

    def beside(self, real: Samples, fake: Samples, context: Context) -> dict[str, Samples]:
        """Return the batch with noise."""
        x, labels = real if self.at == "real" else fake
        return {self._name: Samples(x + self.sigma * context.signs(x), labels)}

    def penalty(self, scores: Mapping[str, Scores], context: Context) -> Tensor:
        """Return the penalty, 0-d; an annealed gamma needs ``context.progress``."""
        moved = (scores[self._name].logits - scores[self.at].logits) / self.sigma
        return strength_at(self.gamma, context.progress) / 2 * moved.square().mean()

    def damping(self, progress: float | None = None, variance: float = 0.0) -> float:
        """Return gamma: on a linear critic of one component it is the gradient penalty."""
        return float(strength_at(self.gamma, progress))

    @property
    def _name(self) -> str:
        return f"{self.at} beside {self.sigma!r}"


@register("regularizer", "isotropic-r1")
@dataclass(frozen=True)
class IsotropicR1(Isotropic):
    """R1 by noise: gamma/2 E_real (D(x + sigma e) - D(x))^2 / sigma^2, e independent signs.

    gamma: in squared units of the samples, as of r1; sigma: in units of the samples.
    Reference: Lin et al. 2025 (Seaweed-APT), section 3.4, with normal noise.

    >>> build("regularizer", "isotropic-r1:gamma=0.02,sigma=0.05").sigma
    0.05
    """

    at: ClassVar[str] = "real"


@register("regularizer", "isotropic-r2")
@dataclass(frozen=True)
class IsotropicR2(Isotropic):
    """R2 by noise: gamma/2 E_fake (D(x + sigma e) - D(x))^2 / sigma^2, e independent signs.

    gamma: in squared units of the samples, as of r2; sigma: in units of the samples.
    Reference: Huang et al. 2025 (Self-Forcing), with normal noise.

    >>> build("regularizer", "isotropic-r2:gamma=0.02").sees_generated
    True
    """

    at: ClassVar[str] = "fake"
