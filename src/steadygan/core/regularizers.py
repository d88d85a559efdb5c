r"""Regularizers of the discriminator.

A gradient penalty is data: at which points, with which weight, towards which norm.

.. math:: \Omega = \frac{\gamma}{2} \sum_{p} E_{x \sim p}\left[ w_p(D(x)) \, (\|\nabla_x D(x)\| -
t)^2 \right]

gamma always multiplies one half of the mean squared norm (R1 of a codebase that writes 10 E||grad
D||^2 is gamma=20 here, and WGAN-GP's lambda=10 is gamma=20); ``steadygan convert-gamma``
translates. For the JS regularizer gamma is the variance of the noise it stands for, in squared
units of the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .context import Context, Samples
from .couples import Couples
from .divergences import GAN, Divergence
from .errors import SteadyganError
from .registry import base, build, register
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
    return Samples(real.x + real.x.std(correction=0) / 2 * context.uniform(real.x), real.labels)


_KINK = (
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

    def penalty(self, scores: Mapping[str, Scores], context: Context) -> Tensor:
        """Return the penalty, 0-d.

        ``scores`` holds 'real', 'fake' and every point of ``where``, the latter with their
        gradient.
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

    Rows of the idea set ``where``, ``target`` and ``weight``.
    """

    target: ClassVar[float] = 0.0
    one_sided: ClassVar[bool] = False

    gamma: Strength = 10.0
    anneal: InitVar[float | None] = None
    schedule: InitVar[str] = "exponential"

    def __init_subclass__(cls) -> None:
        if cls.target and not cls.one_sided and not cls.not_smooth:
            reference = "as Mescheder et al. 2018 show of WGAN-GP"
            cls.not_smooth = _KINK.format(cls.__name__, cls.target, reference)

    def __post_init__(self, anneal: float | None, schedule: str) -> None:
        object.__setattr__(self, "gamma", strength(self.gamma, anneal, schedule, "gamma"))

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
        terms = []
        for point in self.where:
            here = scores[point]
            assert here.gradient is not None
            size = self._size(here.gradient)
            weight = None if here.weighted else self.weight(point, here.logits)
            terms.append((size if weight is None else weight * size).mean())
        return strength_at(self.gamma, context.progress) / 2 * torch.stack(terms).sum()

    def _size(self, gradient: Tensor) -> Tensor:
        if self.target == 0:
            return squared_norm(gradient)
        excess = safe_norm(gradient) - self.target
        return (excess.clamp(min=0) if self.one_sided else excess).square()


@register("regularizer", "js")
@dataclass(frozen=True)
class JensenShannon(GradientPenalty):
    """JS regularizer: gamma/2 (E_real (1 - s)^2 ||grad D||^2 + E_fake s^2 ||grad D||^2).

    s = sigmoid(D), D the logits.

    gamma: variance of the noise it stands for, in squared units of the samples; anneal=0.01 ends at
    1 % of it.
    Reference: Roth et al. 2017, Eq. 20.

    >>> build("regularizer", "js:gamma=2,anneal=0.01").gamma
    Exponential(start=2.0, factor=0.01)
    """

    where: ClassVar[tuple[str, ...]] = ("real", "fake")
    gamma: Strength = 2.0

    def root(self, point: str, logits: Tensor) -> Tensor:
        """Return 1 - s on real samples, s on fakes: the weights are their squares."""
        return (-logits if point == "real" else logits).sigmoid()


@register("regularizer", "f-gan")
@dataclass(frozen=True)
class FGANPenalty(GradientPenalty):
    """f-GAN regularizer: gamma/2 E_fake f*''(psi) ||grad psi||^2.

    On the raw output v it is gamma/2 E_fake w(v) ||grad v||^2.

    gamma: variance of the noise it stands for, in squared units of the samples. divergence: that of
    the objective (gan and js fit the logits of minimax and nonsaturating). Reference: Roth et al.
    2017, Eq. 19.

    >>> build("regularizer", "f-gan:gamma=0.1,divergence=kl")
    FGANPenalty(gamma=0.1, divergence=KullbackLeibler())
    """

    where: ClassVar[tuple[str, ...]] = ("fake",)
    gamma: Strength = 2.0
    divergence: Divergence = GAN()

    def __post_init__(self, anneal: float | None, schedule: str) -> None:
        super().__post_init__(anneal, schedule)
        object.__setattr__(self, "divergence", build("divergence", self.divergence))

    def weight(self, point: str, logits: Tensor) -> Tensor:
        """Return the divergence's weight g'(v)^2 f*''(g(v))."""
        return self.divergence.weight(logits)

    def root(self, point: str, logits: Tensor) -> Tensor:
        """Return its square root."""
        return self.divergence.root(logits)


@register("regularizer", "r1")
@dataclass(frozen=True)
class R1(GradientPenalty):
    """Zero-centred gradient penalty on real samples: gamma/2 E_real ||grad D||^2.

    gamma: in squared units of the samples. Reference: Mescheder et al. 2018, Eq. 9; Roth et al.
    2017.

    >>> build("regularizer", "r1:gamma=10").where
    ('real',)
    """

    where: ClassVar[tuple[str, ...]] = ("real",)


@register("regularizer", "r2")
@dataclass(frozen=True)
class R2(GradientPenalty):
    """Zero-centred gradient penalty on generated samples: gamma/2 E_fake ||grad D||^2.

    gamma: in squared units of the samples. Reference: Mescheder et al. 2018, Eq. 10.

    >>> build("regularizer", "r2:gamma=10").where
    ('fake',)
    """

    where: ClassVar[tuple[str, ...]] = ("fake",)


@register("regularizer", "r1r2")
@dataclass(frozen=True)
class R1R2(GradientPenalty):
    """R1 and R2 together: gamma/2 (E_real ||grad D||^2 + E_fake ||grad D||^2).

    gamma: in squared units of the samples. Reference: Mescheder et al. 2018; Huang et al. 2024
    (R3GAN).

    >>> build("regularizer", "r1r2:gamma=10").where
    ('real', 'fake')
    """

    where: ClassVar[tuple[str, ...]] = ("real", "fake")


@register("regularizer", "gp0")
@dataclass(frozen=True)
class ZeroCentred(GradientPenalty):
    """Zero-centred penalty between the batches: gamma/2 E ||grad D||^2 at u x + (1 - u) G.

    u ~ U[0, 1].

    gamma: in squared units of the samples. Reference: Mescheder et al. 2018; Thanh-Tung et al.
    2019.

    >>> build("regularizer", "gp0:gamma=10").where
    ('between',)
    """

    where: ClassVar[tuple[str, ...]] = ("between",)


@register("regularizer", "wgan-gp")
@dataclass(frozen=True)
class WGANGP(GradientPenalty):
    """WGAN gradient penalty: gamma/2 E (||grad D|| - 1)^2 at u x + (1 - u) G, u ~ U[0, 1].

    gamma = 2 lambda, so 20 is lambda = 10.

    gamma: in squared units of the samples. Reference: Gulrajani et al. 2017, Eq. 3.

    >>> build("regularizer", "wgan-gp").gamma
    20.0
    """

    where: ClassVar[tuple[str, ...]] = ("between",)
    target: ClassVar[float] = 1.0
    not_smooth: ClassVar[str] = _KINK.format("wgan-gp", 1, "Mescheder et al. 2018, on WGAN-GP")
    gamma: Strength = 20.0


@register("regularizer", "wgan-lp")
@dataclass(frozen=True)
class WGANLP(WGANGP):
    """WGAN Lipschitz penalty, one-sided: gamma/2 E max(0, ||grad D|| - 1)^2 at u x + (1 - u) G.

    u ~ U[0, 1]; gamma = 2 lambda.

    gamma: in squared units of the samples. Reference: Petzka et al. 2018, Eq. 8.

    >>> build("regularizer", "wgan-lp").one_sided
    True
    """

    one_sided: ClassVar[bool] = True
    not_smooth: ClassVar[str] = ""


@register("regularizer", "dragan")
@dataclass(frozen=True)
class DRAGAN(GradientPenalty):
    """DRAGAN: gamma/2 E (||grad D|| - 1)^2 around real samples, at x + std(x)/2 u.

    u ~ U[0, 1] per component; gamma = 2 lambda.

    gamma: in squared units of the samples. Reference: Kodali et al. 2017.

    >>> build("regularizer", "dragan").where
    ('around-real',)
    """

    where: ClassVar[tuple[str, ...]] = ("around-real",)
    couples: ClassVar[Couples] = Couples("deviation of the real batch", "means", "real")
    target: ClassVar[float] = 1.0
    not_smooth: ClassVar[str] = _KINK.format(
        "dragan", 1, "by the argument of Mescheder et al. 2018 for WGAN-GP"
    )
    gamma: Strength = 20.0


@register("regularizer", "lecam")
@dataclass(frozen=True)
class LeCam(Regularizer):
    """LeCam: gamma/2 (E (D(x) - a_F)^2 + E (D(G) - a_R)^2).

    a_F and a_R are moving averages of D on fakes and on real samples.

    gamma: per squared logit, 2 lambda. Before anything was observed the batch's own means stand in
    for the averages.
    Reference: Tseng et al. 2021, Eq. 8.

    >>> build("regularizer", "lecam:gamma=0.6,decay=0.99").where
    ()
    """

    couples: ClassVar[Couples] = Couples("mean logits of the batch", "means")
    gamma: Strength = 0.6
    decay: float = 0.99
    anneal: InitVar[float | None] = None
    schedule: InitVar[str] = "exponential"

    def __post_init__(self, anneal: float | None, schedule: str) -> None:
        object.__setattr__(self, "gamma", strength(self.gamma, anneal, schedule, "gamma"))
        if not 0 <= self.decay < 1:
            raise SteadyganError(
                "decay is the share of a moving average that stays each step, in [0, 1), not"
                f" {self.decay:g}"
            )

    def damping(self, progress: float | None = None, variance: float = 0.0) -> float:
        """Return 2 gamma variance: it squares logits, and without noise these are psi theta."""
        return 2 * float(strength_at(self.gamma, progress)) * variance

    def penalty(self, scores: Mapping[str, Scores], context: Context) -> Tensor:
        """Return the penalty, 0-d, with 'lecam.real' and 'lecam.fake' from ``context.memory``."""
        real, fake = scores["real"].logits, scores["fake"].logits
        mean_real, mean_fake = (
            context.memory.get(f"lecam.{name}", logits.mean())
            for name, logits in (("real", real), ("fake", fake))
        )
        return (
            strength_at(self.gamma, context.progress)
            / 2
            * ((real - mean_fake).square().mean() + (fake - mean_real).square().mean())
        )

    def observe(
        self, scores: Mapping[str, Scores], memory: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return the moving averages after this batch."""
        now = {f"lecam.{name}": scores[name].logits.detach().mean() for name in ("real", "fake")}
        return {
            key: self.decay * memory.get(key, mean) + (1 - self.decay) * mean
            for key, mean in now.items()
        }
