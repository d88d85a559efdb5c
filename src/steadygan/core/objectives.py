"""What discriminator and generator minimise, as functions of raw logits, large on real samples.

``critic(real, fake)`` and ``generator(real, fake)`` take logits (B,) and return a 0-d loss.
``uses_real`` says whether the generator's loss looks at real logits. Scalings are such that every
row has a non-degenerate coupling a at the Dirac-GAN's equilibrium.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .couples import Couples
from .divergences import GAN, Divergence
from .errors import SteadyganError
from .linear import Curvature
from .registry import base, build, register


@base("objective")
class Objective:
    """Base of every objective; a subclass is a registered frozen dataclass.

    It may declare its mathematics near flat logits (``core.linear``), for the closed forms.
    """

    uses_real: ClassVar[bool] = False
    couples: ClassVar[Couples | None] = None
    """What lets samples of a batch see each other, None for a mean over samples or pairs."""

    @property
    def coupling(self) -> float | None:
        """Slope a of the fakes' term in the logit at 0, and of the generator's loss -a, or None."""
        return None

    @property
    def curvature(self) -> Curvature | None:
        """How both losses bend in flat logits, or None where it is not declared."""
        return None

    @property
    def indifferent(self) -> float:
        """The discriminator's loss where it cannot tell real from generated: all logits 0."""
        return self.critic(torch.zeros(2), torch.zeros(2)).item()

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss, 0-d."""
        raise NotImplementedError

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss, 0-d; ``real`` is empty unless ``uses_real``."""
        raise NotImplementedError


@register("objective", "minimax")
@dataclass(frozen=True)
class Minimax(Objective):
    """Saturating GAN: L_D = E softplus(-D(x)) + E softplus(D(G)), L_G = -E softplus(D(G)).

    Logits have no unit. Reference: Goodfellow et al. 2014, Eq. 1.

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "minimax").critic(real, fake)
    tensor(1.8078)
    """

    coupling: ClassVar[float] = 1 / 2
    curvature: ClassVar[Curvature] = Curvature(critic=1 / 2, generator=-1 / 4)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the cross entropy of real against fake."""
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return E log(1 - sigmoid(D(G)))."""
        return -F.softplus(fake).mean()


@register("objective", "nonsaturating")
@dataclass(frozen=True)
class NonSaturating(Minimax):
    """Non-saturating GAN: L_D as minimax, L_G = E softplus(-D(G)).

    Logits have no unit. Reference: Goodfellow et al. 2014, section 3; Roth et al. 2017, Alg. 1.

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "nonsaturating").critic(real, fake)
    tensor(1.8078)
    """

    curvature: ClassVar[Curvature] = Curvature(critic=1 / 2, generator=1 / 4)

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return -E log sigmoid(D(G))."""
        return F.softplus(-fake).mean()


@register("objective", "wasserstein")
@dataclass(frozen=True)
class Wasserstein(Objective):
    """Wasserstein GAN: L_D = E D(G) - E D(x), L_G = -E D(G); needs a constraint or penalty on D.

    Logits have no unit. Reference: Arjovsky et al. 2017.

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "wasserstein").critic(real, fake)
    tensor(0.)
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[Curvature] = Curvature(critic=0.0, generator=0.0)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the negative dual estimate of the Wasserstein-1 distance."""
        return fake.mean() - real.mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return -E D(G)."""
        return -fake.mean()


@register("objective", "least-squares")
@dataclass(frozen=True)
class LeastSquares(Objective):
    """Least squares: L_D = E (D(x) - 1)^2/2 + E (D(G) + 1)^2/2, L_G = E (D(G) - 1)^2/2.

    Logits have no unit. Reference: Mao et al. 2017 (a=-1, b=c=1).

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "least-squares").critic(real, fake)
    tensor(2.8750)
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[Curvature] = Curvature(critic=2.0, generator=1.0)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return half the squared distances to the labels 1 and -1."""
        return (real - 1).square().mean() / 2 + (fake + 1).square().mean() / 2

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return half the squared distance of fakes to the label 1."""
        return (fake - 1).square().mean() / 2


@register("objective", "hinge")
@dataclass(frozen=True)
class Hinge(Objective):
    """Hinge: L_D = E max(0, 1 - D(x)) + E max(0, 1 + D(G)), L_G = -E D(G).

    Logits have no unit. Reference: Lim and Ye 2017; Miyato et al. 2018.

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "hinge").critic(real, fake)
    tensor(2.5000)
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[Curvature] = Curvature(critic=0.0, generator=0.0)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the margins that are not met."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return -E D(G)."""
        return -fake.mean()


@register("objective", "relativistic")
@dataclass(frozen=True)
class Relativistic(Objective):
    """Relativistic pairing: L_D = E softplus(D(G) - D(x)), L_G = E softplus(D(x) - D(G)).

    The means are over the pairs of the batch.

    Logits have no unit. Reference: Jolicoeur-Martineau 2018; Huang et al. 2024 (R3GAN, with r1r2).

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "relativistic").critic(real, fake)
    tensor(1.3289)
    """

    uses_real: ClassVar[bool] = True
    coupling: ClassVar[float] = 1 / 2
    # The variance of a difference is twice that of a logit.
    curvature: ClassVar[Curvature] = Curvature(critic=1 / 2, generator=1 / 2, centred=True)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss over pairs.

        Raises:
            SteadyganError: where real and fake differ in number.
        """
        return F.softplus(_paired(fake, real)).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the same with the roles exchanged."""
        return F.softplus(-_paired(fake, real)).mean()


@register("objective", "relativistic-average")
@dataclass(frozen=True)
class RelativisticAverage(Objective):
    """Relativistic average: L_D = (E softplus(E D(G) - D(x)) + E softplus(D(G) - E D(x)))/2.

    L_G is the same with the roles exchanged.

    Logits have no unit. Reference: Jolicoeur-Martineau 2018 (RaSGAN), as the mean of its two
    halves.

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "relativistic-average").critic(real, fake)
    tensor(0.8823)
    """

    uses_real: ClassVar[bool] = True
    couples: ClassVar[Couples] = Couples("mean logits of the batch", "means")
    coupling: ClassVar[float] = 1 / 2
    curvature: ClassVar[Curvature] = Curvature(critic=1 / 4, generator=1 / 4, centred=True)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the mean of the real and the fake half."""
        return (F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()) / 2

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the same with the roles exchanged."""
        return self.critic(fake, real)


@register("objective", "f-gan")
@dataclass(frozen=True)
class FGAN(Objective):
    """f-GAN on the raw output v = D(x): L_D = -E g(v(x)) + E f*(g(v(G))), L_G = -E f*(g(v(G))).

    Logits have no unit. Reference: Nowozin et al. 2016, Eq. 6.

    >>> real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.5])
    >>> build("objective", "f-gan").critic(real, fake)
    tensor(1.8078)
    """

    divergence: Divergence = GAN()

    def __post_init__(self) -> None:
        object.__setattr__(self, "divergence", build("divergence", self.divergence))

    @property
    def coupling(self) -> float | None:
        """Return g'(0), because f*'(f'(1)) = 1."""
        return self.divergence.coupling

    @property
    def curvature(self) -> Curvature | None:
        """Return w(0), which is -g''(0) + (f* g)''(0), and -(f* g)''(0)."""
        bend = self.divergence.curvature
        weight = self.divergence.weight(torch.zeros((), dtype=torch.float64)).item()
        return None if bend is None else Curvature(critic=weight, generator=-bend)

    def critic(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the negative variational bound of the divergence."""
        return self.divergence.fake_score(fake).mean() - self.divergence.activation(real).mean()

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's side of the bound."""
        return -self.divergence.fake_score(fake).mean()


def _paired(fake: Tensor, real: Tensor) -> Tensor:
    if fake.shape != real.shape:
        raise SteadyganError(
            f"a relativistic objective compares pairs: {len(real)} real against {len(fake)} fake"
            " samples do not pair up"
        )
    return fake - real
