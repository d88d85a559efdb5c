"""Over how many images, and how, what is spelled START..END goes from the one to the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.errors import SteadyganError
from ..core.registry import base, register
from ..core.schedules import half_cosine


@base("ramp")
@dataclass(frozen=True)
class Way:
    """Base of every way: all of a run's values START..END go it together.

    ``images`` is how long it takes, in images that the critic has seen, steps times batch; none:
    the whole training. Behind it the values stay at END.
    """

    images: float | None = None

    def __post_init__(self) -> None:
        if self.images is not None and not (math.isfinite(self.images) and self.images > 0):
            raise SteadyganError(f"images must be a finite number above 0, not {self.images:g}")

    def until(self, total: float) -> float:
        """Return the progress at which it ends, of a training of so many images."""
        return 1.0 if self.images is None else self.images / total

    def __call__(self, x: float) -> float:
        """Return the part of the way, 0 to 1, at a part x of its time."""
        raise NotImplementedError


@register("ramp", "cosine")
@dataclass(frozen=True)
class Cosine(Way):
    """Half a cosine, (1 - cos(pi n/images))/2 after n images; none: over the whole training.

    Reference: Loshchilov and Hutter 2017; over a burn-in, Huang et al. 2024 (R3GAN).
    """

    def __call__(self, x: float) -> float:
        """Return (1 - cos(pi x))/2."""
        return half_cosine(x)


@register("ramp", "linear")
@dataclass(frozen=True)
class Linear(Way):
    """A straight line, n/images after n images; none: over the whole training.

    Reference: Miyato et al. 2018 (SN-GAN) and others let the learning rate fall so.
    """

    def __call__(self, x: float) -> float:
        """Return x."""
        return x


__all__ = ["Cosine", "Linear", "Way"]
