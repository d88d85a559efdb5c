"""Small games whose truth is known: the Dirac-GAN, the bilinear game, mixtures and curves.

>>> from steadygan.core.registry import build
>>> problem = build("problem", "mixture3d")
>>> problem.stream(seed=0).draw(512).x.shape
torch.Size([512, 3])
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import SteadyganError
from ..core.registry import register
from .measures import (
    Foot,
    coverage,
    high_quality,
    modes_covered,
    occupancy_kl,
    onto_circle,
    onto_segments,
    share_within,
    sliced_wasserstein,
)
from .problem import Problem, RandomStream, Recipe, Stream

# The real samples of the metric: not a seed that one trains with, and a draw whose own imbalance is
# typical. It is part of every sw1, so an unlucky draw would lift them all: 0.007 from the
# distribution of mixture3d, where draws of 5,120 run from 0.003 to 0.017.
_REFERENCE_SEED = 27_182_818


class Toy(Problem):
    """Base of the toys: independent float32 samples (n, *event) on the CPU from ``sample``.

    ``centres`` (K, d) are the modes, None where the data have none. ``equilibrium`` maps each
    parameter to the value of its coordinates at the equilibrium; None where that is known as a
    distribution only: the generator's is then the data's.
    """

    centres: Tensor | None = None
    equilibrium: dict[str, float] | None = None

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent real samples (n, *event) from ``rng``."""
        raise NotImplementedError

    def stream(self, seed: int) -> Stream:
        """Return a fresh stream of real samples; the same seed gives the same samples."""
        return RandomStream(self.sample, seed)

    def _sw1(self, samples: Tensor) -> float:
        return sliced_wasserstein(samples, self.stream(_REFERENCE_SEED).draw(len(samples)).x)


class Mixture(Toy):
    """Base of the mixtures: centre + std * (two-dimensional normal noise) @ plane.

    Every centre (K, d) is equally likely.
    ``plane`` (2, d) holds the orthonormal directions of the noise; ``radii`` names the shares of
    samples near a mode in the metrics.
    """

    centres: Tensor
    std: float
    plane: Tensor = torch.eye(2)
    radii: dict[str, float]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of what ``measure`` returns."""
        return ("modes", *self.radii, "kl", "sw1")

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent samples (n, d) from ``rng``."""
        modes = torch.randint(len(self.centres), (n,), generator=rng)
        return self.centres[modes] + self.std * torch.randn(n, 2, generator=rng) @ self.plane

    def measure(
        self, samples: Tensor, critic: nn.Module, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Return the metrics of samples (n, d).

        ``modes``: how many hold at least 1 % of the samples within the first radius; each name of
        ``radii``: the share of samples within that radius of a mode; ``kl``: imbalance of the
        nearest modes in nats; ``sw1``: sliced Wasserstein-1 to n fresh real samples. The critic is
        not used. Samples that are not finite count as far from every mode and make kl and sw1 inf.
        """
        return {
            "modes": modes_covered(samples, self.centres, next(iter(self.radii.values()))),
            **{
                name: high_quality(samples, self.centres, radius)
                for name, radius in self.radii.items()
            },
            "kl": occupancy_kl(samples, self.centres),
            "sw1": self._sw1(samples),
        }


def _ring(modes: int, radius: float) -> Tensor:
    """Return centres (modes, 2) on a ring, clockwise from the top, as Roth et al.'s code does."""
    angle = 2 * math.pi * torch.arange(modes) / modes
    return radius * torch.stack([angle.sin(), angle.cos()], dim=1)


def _tilt(axis: tuple[float, float, float], angle: float) -> Tensor:
    """Return Rodrigues' matrix R (3, 3) of a rotation about a unit axis: R v is v rotated."""
    x, y, z = axis
    return torch.matrix_exp(angle * torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]))


@register("problem", "mixture3d")
@dataclass(frozen=True)
class Mixture3D(Mixture):
    """Seven narrow Gaussians on a ring in a plane tilted in 3-D: data on a submanifold.

    An unregularized GAN collapses there.

    x = (sin a + e1, cos a + e2, 0) R + (1, 1, 1)/sqrt 3 with a = 2 pi k/7 and e1, e2 ~ N(0,
    0.01^2), so there is no noise across the plane; R is the Rodrigues matrix of pi/4 about (1, -1,
    0)/sqrt 2, applied to row vectors. Event (3,).

    Metrics as in ``Mixture.measure``, with hq10 and hq3 the shares within 0.1 and 0.03 of a mode,
    in 3-D. Real samples, 5,120 of them: hq3 = 1 - exp(-4.5) = 0.989, sw1 about 0.010, up to 0.020.

    Reference: Roth, Lucchi, Nowozin and Hofmann 2017, sections 5.1 and 7.3, and the authors'
    published code.
    """

    event = (3,)
    # The points are row vectors times R, so the plane is spanned by the first two rows of R, not by
    # its columns.
    plane = _tilt(axis=(math.sqrt(0.5), -math.sqrt(0.5), 0.0), angle=math.pi / 4)[:2]
    centres = _ring(modes=7, radius=1.0) @ plane + 1 / math.sqrt(3)
    std = 0.01
    radii = {"hq10": 0.1, "hq3": 0.03}
    recipe = Recipe(
        network="mlp:width=128",
        optimizer="adam:lr=0.001,beta1=0.5",
        steps=20000,
        batch=512,
        latent=2,
        # The authors' script defaults to the saturating loss here, although their Algorithm 1 is
        # non-saturating.
        objective="minimax",
    )


_MIXTURE2D = Recipe(
    network="mlp:width=128", optimizer="adam:lr=0.001,beta1=0.5", steps=20000, batch=512, latent=2
)


@register("problem", "ring2d")
@dataclass(frozen=True)
class Ring2D(Mixture):
    """Eight Gaussians of std 0.02 on a ring of radius 2. Event (2,).

    Metrics as in ``Mixture.measure``, with hq the share within 3 std of a mode: 1 - exp(-4.5) =
    0.989 for real samples. A mode counts as held at 1 % of the samples, as in mixture3d; papers
       often count it at one sample. Real samples, 5,120 of them: sw1 about 0.026.

    Reference: Metz, Poole, Pfau and Sohl-Dickstein 2017, "Unrolled GANs" (data); Srivastava et al.
    2017, "VEEGAN" (3 std).
    """

    event = (2,)
    centres = _ring(modes=8, radius=2.0)
    std = 0.02
    radii = {"hq": 3 * std}
    recipe = _MIXTURE2D


@register("problem", "grid2d")
@dataclass(frozen=True)
class Grid2D(Mixture):
    """Twenty-five Gaussians of std 0.05 on the grid {-4, -2, 0, 2, 4}^2. Event (2,).

    Metrics as in ``Ring2D``. Real samples, 5,120 of them: sw1 about 0.054.

    Reference: Srivastava, Valkov, Russell, Gutmann and Sutton 2017, "VEEGAN".
    """

    event = (2,)
    centres = torch.cartesian_prod(torch.arange(-4.0, 5.0, 2.0), torch.arange(-4.0, 5.0, 2.0))
    std = 0.05
    radii = {"hq": 3 * std}
    recipe = _MIXTURE2D


# The latent dimension, the batch and the number of steps are this project's choice: the paper's are
# not known here.
_DENSITY2D = Recipe(
    network="mlp:width=16,depth=4,activation=relu,init=torch",
    optimizer="rmsprop:lr=0.0005",
    steps=20000,
    batch=512,
    latent=2,
)


@register("problem", "gaussian2d")
@dataclass(frozen=True)
class Gaussian2D(Toy):
    """The standard normal distribution in the plane. Event (2,).

    Data with a density, where even unregularized GANs can converge.

    Reference: Mescheder, Geiger and Nowozin 2018, 2-D experiments.
    """

    event = (2,)
    numbers = ("sw1",)
    recipe = _DENSITY2D

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent samples (n, 2) from ``rng``."""
        return torch.randn(n, 2, generator=rng)

    def measure(
        self, samples: Tensor, critic: nn.Module, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Return ``sw1``, sliced Wasserstein-1 to fresh real samples; inf if one is not finite."""
        return {"sw1": self._sw1(samples)}


class Curve(Toy):
    """Base of the data that lie on curves in the plane, uniformly by length.

    ``near`` in the metrics means within ``tolerance``.
    """

    event = (2,)
    numbers = ("near", "coverage", "sw1")
    tolerance = 0.05
    recipe = _DENSITY2D

    def foot(self, samples: Tensor) -> Foot:
        """Return the distance of samples (n, 2) to the curve, and where on it they are nearest."""
        raise NotImplementedError

    def measure(
        self, samples: Tensor, critic: nn.Module, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Return the metrics of samples (n, 2).

        ``near``: the share of samples within 0.05 of the curve; ``coverage``: the share of 50 equal
        lengths of the curve that hold such a sample; ``sw1``: sliced Wasserstein-1 to n fresh real
        samples, inf where a sample is not finite. The critic is not used.
        """
        foot = self.foot(samples)
        return {
            "near": share_within(foot.distance, self.tolerance),
            "coverage": coverage(foot, self.tolerance),
            "sw1": self._sw1(samples),
        }


class Segments(Curve):
    """Base of the data that are uniform on line ``segments`` (S, 2, 2) of one length."""

    segments: Tensor

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent samples (n, 2) from ``rng``."""
        start, end = self.segments[torch.randint(len(self.segments), (n,), generator=rng)].unbind(1)
        return start + torch.rand(n, 1, generator=rng) * (end - start)

    def foot(self, samples: Tensor) -> Foot:
        """Return the distance of samples (n, 2) to the segments, and where they are nearest."""
        return onto_segments(samples, self.segments)


@register("problem", "line2d")
@dataclass(frozen=True)
class Line2D(Segments):
    """The uniform distribution on the line segment from (-1, -1/2) to (1, 1/2).

    Event (2,). Metrics as in ``Curve.measure``.

    Reference: Mescheder, Geiger and Nowozin 2018, 2-D experiments; where the segment lies is this
    project's choice.
    """

    segments = torch.tensor([[[-1.0, -0.5], [1.0, 0.5]]])


@register("problem", "lines2d")
@dataclass(frozen=True)
class Lines2D(Segments):
    """The uniform distribution on the sides of a square of side 2 without its corners.

    Four segments of length 1. Event (2,). Metrics as in ``Curve.measure``.

    Reference: Mescheder, Geiger and Nowozin 2018, 2-D experiments; where the segments lie is this
    project's choice.
    """

    segments = torch.tensor(
        [
            [[-0.5, 1.0], [0.5, 1.0]],
            [[1.0, 0.5], [1.0, -0.5]],
            [[0.5, -1.0], [-0.5, -1.0]],
            [[-1.0, -0.5], [-1.0, 0.5]],
        ],
    )


@register("problem", "circle2d")
@dataclass(frozen=True)
class Circle2D(Curve):
    """The uniform distribution on the unit circle. Event (2,). Metrics as in ``Curve.measure``.

    Reference: Mescheder, Geiger and Nowozin 2018, 2-D experiments.
    """

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent samples (n, 2) from ``rng``."""
        angle = 2 * math.pi * torch.rand(n, generator=rng)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def foot(self, samples: Tensor) -> Foot:
        """Return the distance of samples (n, 2) to the circle, and their angles in turns."""
        return onto_circle(samples, radius=1.0)


class PointGame(Toy):
    """Base of the games of a point against a linear critic: data delta_0, theta = psi = 0."""

    equilibrium = {"theta": 0.0, "psi": 0.0}
    numbers = ("distance", "radius")

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n zeros (n, *event)."""
        return torch.zeros(n, *self.event)

    def measure(
        self, samples: Tensor, critic: nn.Module, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Return ``distance`` = E||x|| of samples (n, d), and ``radius``.

        distance is ||theta|| for the network ``point``. radius = sqrt(distance^2 + ||psi||^2) is
        the distance from the equilibrium, left out where the critic has no parameter ``psi``. Both
        are inf where a sample is not finite, the radius also where psi is not.
        """
        distance = _mean_norm(samples)
        psi = getattr(critic, "psi", None)
        if psi is None:
            return {"distance": distance}
        radius = math.hypot(distance, _mean_norm(psi.reshape(1, -1)))
        return {"distance": distance, "radius": radius}


def _mean_norm(rows: Tensor) -> float:
    norm = rows.detach().cpu().double().norm(dim=1).mean().item()
    return norm if math.isfinite(norm) else math.inf


@register("problem", "dirac")
@dataclass(frozen=True)
class Dirac(PointGame):
    """The Dirac-GAN: data delta_0, generator delta_theta, critic D(x) = psi x. Event (1,).

    Two numbers in which every claim has a closed form. The loss is the min-max one, the paper's
    counterexample: undamped, its gradient flow circles the equilibrium for ever. That of the
    non-saturating loss converges, if only like sqrt(8/t).

    Reference: Mescheder, Geiger and Nowozin 2018, section 2; step size and number of steps from the
    authors' published code.
    """

    event = (1,)
    recipe = Recipe(
        network="point", optimizer="sgd:lr=0.2", steps=500, batch=64, latent=1, objective="minimax"
    )


@register("problem", "bilinear")
@dataclass(frozen=True)
class Bilinear(PointGame):
    """The bilinear game, a Dirac-GAN with the Wasserstein loss in ``dimension`` coordinates.

    Event (dimension,). The data are delta_0 and the value is psi' A theta, with A the coupling of
    the network ``point``. Gradient descent-ascent turns about (0, 0) at as many speeds as A has
    singular values.

    Raises:
        SteadyganError: for dimension < 2: that is the Dirac-GAN.

    Reference: Gidel, Berard, Vignoud, Vincent and Lacoste-Julien 2019, "A variational inequality
    perspective on GANs".
    """

    dimension: int = 4
    recipe = Recipe(
        network="point:condition=4",
        optimizer="sgd:lr=0.1",
        steps=500,
        batch=64,
        latent=1,
        objective="wasserstein",
    )

    def __post_init__(self) -> None:
        if self.dimension < 2:
            raise SteadyganError(
                f"dimension must be at least 2, not {self.dimension}; in one dimension the game"
                " is the problem 'dirac'"
            )

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return (self.dimension,)
