"""Smoothing of the distributions: noise on real and generated samples alike."""

from __future__ import annotations

from dataclasses import InitVar, dataclass

from torch import Tensor

from .context import Context, Samples
from .couples import Couples
from .errors import SteadyganError
from .registry import base, register
from .schedules import Strength, strength, strength_at


@base("smoothing")
class Smoothing:
    """Base of every smoothing; a subclass is a registered frozen dataclass."""

    @property
    def couples(self) -> Couples | None:
        """What lets samples of a batch see each other, None where each is smoothed on its own."""
        return None

    def __call__(self, samples: Samples, context: Context) -> Samples:
        """Return the samples as the critic shall see them; labels travel along."""
        raise NotImplementedError

    def noise(self, progress: float | None = None) -> float | None:
        """Return the variance that each sample gains, or None where it is not declared."""
        return None


@register("smoothing", "instance-noise")
@dataclass(frozen=True)
class InstanceNoise(Smoothing):
    """Instance noise: x + sigma e, e ~ N(0, I), on real and generated samples.

    sigma: standard deviation in units of the samples; anneal=0.01 ends at 1 % of it.
    Reference: Sonderby et al. 2017; Arjovsky and Bottou 2017; Mescheder et al. 2018, section 3.2.

    >>> build("smoothing", "instance-noise:sigma=0.1")
    InstanceNoise(sigma=0.1)
    """

    sigma: Strength = 0.1
    anneal: InitVar[float | None] = None
    schedule: InitVar[str] = "exponential"

    def __post_init__(self, anneal: float | None, schedule: str) -> None:
        object.__setattr__(self, "sigma", strength(self.sigma, anneal, schedule, "sigma"))

    def __call__(self, samples: Samples, context: Context) -> Samples:
        """Return as many samples, each with its own noise."""
        return samples._replace(
            x=samples.x + strength_at(self.sigma, context.progress) * context.normal(samples.x)
        )

    def noise(self, progress: float | None = None) -> float:
        """Return sigma^2."""
        return float(strength_at(self.sigma, progress)) ** 2


@register("smoothing", "explicit-noise")
@dataclass(frozen=True)
class ExplicitNoise(Smoothing):
    """Explicit noise: the first B/nsr of the B samples, each with nsr noise vectors.

    nsr is the noise-to-signal ratio.

    The critic still sees B samples, the nsr copies of one sample side by side. variance: of the
    noise, in squared units of the samples.

    Raises:
        SteadyganError: where nsr does not divide B.

    Reference: Roth et al. 2017, section 5.4.

    >>> build("smoothing", "explicit-noise:variance=0.01,nsr=4")
    ExplicitNoise(variance=0.01, nsr=4)
    """

    variance: Strength = 0.01
    nsr: int = 1
    anneal: InitVar[float | None] = None
    schedule: InitVar[str] = "exponential"

    def __post_init__(self, anneal: float | None, schedule: str) -> None:
        object.__setattr__(self, "variance", strength(self.variance, anneal, schedule, "variance"))
        if self.nsr < 1:
            raise SteadyganError(
                f"nsr counts the noise vectors for each sample: a whole number >= 1, not {self.nsr}"
            )

    @property
    def couples(self) -> Couples | None:
        """The first samples of a batch stand in for the others, where nsr > 1."""
        return None if self.nsr == 1 else Couples("first samples of the batch", "batch")

    def __call__(self, samples: Samples, context: Context) -> Samples:
        """Return as many samples, made of the first B/nsr."""
        n = len(samples.x)
        if n % self.nsr:
            raise SteadyganError(
                f"a batch of {n} cannot be split at noise-to-signal ratio {self.nsr}: choose a"
                " batch that it divides"
            )
        x = samples.x[: n // self.nsr].repeat_interleave(self.nsr, 0)
        labels = (
            None
            if samples.labels is None
            else samples.labels[: n // self.nsr].repeat_interleave(self.nsr, 0)
        )
        variance = strength_at(self.variance, context.progress)
        std = variance.sqrt() if isinstance(variance, Tensor) else variance**0.5
        return Samples(x + std * context.normal(x), labels)

    def noise(self, progress: float | None = None) -> float:
        """Return the variance."""
        return float(strength_at(self.variance, progress))
