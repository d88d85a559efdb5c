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

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import ClassVar

from torch import Tensor

from .context import Context
from .couples import Couples
from .divergences import GAN, Divergence
from .errors import SteadyganError
from .penalties import KINK, POINTS, GradientPenalty, Regularizer
from .registry import build, register
from .schedules import Strength, strength, strength_at
from .scores import Scores


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

    def __post_init__(self, anneal: float | None, schedule: str, start: float | None) -> None:
        super().__post_init__(anneal, schedule, start)
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
    not_smooth: ClassVar[str] = KINK.format("wgan-gp", 1, "Mescheder et al. 2018, on WGAN-GP")
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
    not_smooth: ClassVar[str] = KINK.format(
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
        real, fake = (context.whole(scores[name].logits) for name in ("real", "fake"))
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


__all__ = [
    "DRAGAN",
    "POINTS",
    "R1",
    "R1R2",
    "R2",
    "WGANGP",
    "WGANLP",
    "FGANPenalty",
    "GradientPenalty",
    "JensenShannon",
    "LeCam",
    "Regularizer",
    "ZeroCentred",
]
