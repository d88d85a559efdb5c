"""What a regularizer is, and the gradient penalty, of which most of them are rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from .auto import Auto
from .context import Context, Samples
from .couples import Couples
from .errors import SteadyganError
from .registry import base
from .schedules import Strength, strength, strength_at
from .scores import Scores, safe_norm, squared_norm


def between(real: Samples, fake: Samples, context: Context) -> Samples:
    """Return x = u real + (1 - u) fake with u ~ U[0, 1] per pair, and the real samples' labels."""
    if real.x.shape != fake.x.shape:
        raise SteadyganError(
            f"interpolation pairs real with fake samples: {tuple(real.x.shape)} and"
            f" {tuple(fake.x.shape)} differ; give batches of one size"
        )
    u = context.uniform(real.x.new_empty(len(real.x))).view(-1, *[1] * (real.x.ndim - 1))
    return Samples(u * real.x + (1 - u) * fake.x, real.labels)


def around_real(real: Samples, fake: Samples, context: Context) -> Samples:
    """Return x = real + std(real)/2 u, u ~ U[0, 1] per component (DRAGAN).

    std is over the whole batch.
    """
    # correction=0: the unbiased estimate is NaN for a single sample.
    deviation = context.whole(real.x).std(correction=0)
    return Samples(real.x + deviation / 2 * context.uniform(real.x), real.labels)


KINK = (
    "{0} pulls the norm of the critic's gradient towards {1:g}, and at an equilibrium that gradient"
    " is 0, where the norm has a kink:"
    " the field is discontinuous there, has no eigenvalues and does not converge ({2})"
)

POINTS: dict[str, Callable[[Samples, Samples, Context], Samples]] = {
    "real": lambda real, fake, context: real,
    "fake": lambda real, fake, context: fake,
    "between": between,
    "around-real": around_real,
}
"""Where a penalty may look; a regularizer's ``where`` names them."""


@base("regularizer")
class Regularizer:
    """Base of every regularizer: a registered frozen dataclass.

    It says where it needs the input gradient, and what it adds there.
    """

    where: ClassVar[tuple[str, ...]] = ()
    couples: ClassVar[Couples | None] = None
    """What lets samples of a batch see each other, None for a mean over samples or pairs."""
    on_slopes: ClassVar[bool] = False
    """Whether it is a gradient penalty, exact or by differences."""
    not_smooth: ClassVar[str] = ""
    """Why a game with it cannot be linearised at an equilibrium; empty where it can."""

    def damping(self, progress: float | None = None, variance: float = 0.0) -> float | None:
        """Return q, the penalty's second derivative in psi where D(x) = psi x, at psi = 0.

        variance: of the noise on all samples, which are 0 else. None where it is not declared.
        """
        return None

    @property
    def not_by_signs(self) -> str:
        """Why signs cannot stand for a sum of its penalties (outputs.py); '' where they can."""
        return "is no gradient penalty"

    @property
    def sees_generated(self) -> bool:
        """Whether it depends on generated samples: by its points, or by both batches' logits."""
        return not self.where or not set(self.where) <= {"real", "around-real"}

    def beside(self, real: Samples, fake: Samples, context: Context) -> dict[str, Samples]:
        """Return further samples whose logits it compares, by names of their own."""
        return {}

    def penalty(self, scores: Mapping[str, Scores], context: Context) -> Tensor:
        """Return the penalty, 0-d.

        ``scores`` holds 'real', 'fake', what is ``beside`` them, and every point of ``where``, the
        latter with their gradient.
        """
        raise NotImplementedError

    def root(self, point: str, logits: Tensor) -> Tensor | None:
        """Return the square root of the weight of squared gradient norms; None for 1."""
        raise NotImplementedError

    def observe(
        self, scores: Mapping[str, Scores], memory: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return what to remember after a discriminator step; by default nothing."""
        return {}


@dataclass(frozen=True)
class GradientPenalty(Regularizer):
    """gamma/2 times the sum over points of E[weight (||grad D|| - target)^2].

    Rows of the idea set ``where``, ``target`` and ``weight``. gamma=auto is found while training,
    from ``start`` times the variance of the data (``Auto``).
    """

    on_slopes: ClassVar[bool] = True
    target: ClassVar[float] = 0.0
    one_sided: ClassVar[bool] = False

    gamma: Strength = 10.0
    anneal: InitVar[float | None] = None
    schedule: InitVar[str] = "exponential"
    start: InitVar[float | None] = None

    def __init_subclass__(cls) -> None:
        if cls.target and not cls.one_sided and not cls.not_smooth:
            reference = "as Mescheder et al. 2018 show of WGAN-GP"
            cls.not_smooth = KINK.format(cls.__name__, cls.target, reference)

    def __post_init__(self, anneal: float | None, schedule: str, start: float | None) -> None:
        if isinstance(self.gamma, Auto) and not self.target and anneal is None:
            gamma: Strength = self.gamma if start is None else Auto(start)
        elif start is not None:
            raise SteadyganError("start is where gamma=auto begins: leave it out, or gamma")
        else:
            gamma = strength(self.gamma, anneal, schedule, "gamma")
        object.__setattr__(self, "gamma", gamma)

    def weight(self, point: str, logits: Tensor) -> Tensor | None:
        """Return the weight of each squared norm, from its logit: the root's square; None for 1."""
        root = self.root(point, logits)
        return None if root is None else root.square()

    def root(self, point: str, logits: Tensor) -> Tensor | None:
        """Return the square root of the weight, from logits of any shape; None for 1.

        In closed form: the square root of a weight that vanishes has an infinite derivative.
        """
        return None

    @property
    def not_by_signs(self) -> str:
        """A target other than 0 is not linear in the squared norm, and signs take the root."""
        if self.target:
            return "is not linear in the squared norm of the gradient"
        said = next(vars(c) for c in type(self).__mro__ if {"root", "weight"} & vars(c).keys())
        return "" if "root" in said else "declares a weight without its root(point, logits)"

    def damping(self, progress: float | None = None, variance: float = 0.0) -> float | None:
        """Return gamma times the sum over points of weight(0); 0 where no slope below 1 counts."""
        if self.target:
            return 0.0 if self.one_sided else None
        logit = torch.zeros(1, dtype=torch.float64)
        weights = (self.weight(point, logit) for point in self.where)
        total = sum(1.0 if w is None else w.item() for w in weights)
        return float(strength_at(self.gamma, progress)) * total

    def penalty(self, scores: Mapping[str, Scores], context: Context) -> Tensor:
        """Return the penalty, 0-d; an annealed gamma needs ``context.progress``."""
        if isinstance(self.gamma, Auto):
            if scores["real"].outputs:
                raise SteadyganError(
                    "gamma=auto is for critics of one logit a sample, and this one has more: give"
                    " gamma a number"
                )
            seen = scores
            if "gamma" not in context.memory:  # the first one goes by the whole batch's variance
                seen = {name: s.whole(context, samples=True) for name, s in scores.items()}
            gamma: float | Tensor = self.gamma.now(context.memory, _variance(seen))
        else:
            gamma = strength_at(self.gamma, context.progress)
        return gamma / 2 * self._sum(scores)

    def observe(
        self, scores: Mapping[str, Scores], memory: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return what gamma=auto remembers; nothing after an update that was spared the penalty."""
        if not isinstance(self.gamma, Auto) or any(scores[p].gradient is None for p in self.where):
            return {}
        seen = {name: s.detach() for name, s in scores.items()}
        gap = seen["real"].logits.mean() - seen["fake"].logits.mean()
        return self.gamma.observe(memory, _variance(seen), self._sum(seen), gap)

    def _sum(self, scores: Mapping[str, Scores]) -> Tensor:
        terms = []
        for point in self.where:
            here = scores[point]
            assert here.gradient is not None
            size = self._size(here.gradient)
            # A penalty on a share of the batch looks at its first rows.
            logits = here.logits
            if len(size) < len(logits):
                logits = logits[: len(size)]
            weight = None if here.weighted else self.weight(point, logits)
            terms.append((size if weight is None else weight * size).mean())
        return reduce(torch.add, terms)

    def _size(self, gradient: Tensor) -> Tensor:
        if self.target == 0:
            return squared_norm(gradient)
        excess = safe_norm(gradient) - self.target
        return (excess.clamp(min=0) if self.one_sided else excess).square()


def _variance(scores: Mapping[str, Scores]) -> Tensor:
    """Return the mean variance of a component of real samples, 0-d.

    Where they are all one point, as in the Dirac-GAN, the mean square of the generated ones'
    distance to it.
    """
    real, fake = (scores[name].x.detach() for name in ("real", "fake"))
    middle = real.mean(0)
    own, other = ((x - middle).square().mean() for x in (real, fake))
    return torch.where(own > 0, own, other)
