r"""What a game is near an equilibrium with a flat critic: the numbers that its parts declare.

On the Dirac-GAN (real samples 0, generated ones :math:`\theta`, :math:`D(x) = \psi x`, logits large
on real samples) every method's field has at :math:`(\theta, \psi) = (0, 0)` the Jacobian

.. math:: J = \begin{pmatrix} 0 & a \\ -a & -q \end{pmatrix}, \qquad q = c \sigma^2 + \sum_i q_i,

a the ``coupling`` and c the ``curvature`` of the objective, :math:`\sigma^2` the variance of the
smoothing's ``noise`` and :math:`q_i` the ``damping`` of a regularizer. A dynamics declares what it
makes of such a J. ``analysis.closed_forms`` puts them together, and holds them against automatic
differentiation; what declares nothing trains all the same. Derivations: docs/derivations.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Curvature(NamedTuple):
    """How an objective's losses bend in flat logits: L(tD) = L(0) + ... + t^2/2 (c E[D^2]).

    critic, generator: c of the two losses, per squared logit. centred: the mean logit does not
    count, so that E[(D - E D)^2] stands for E[D^2]; so it is where logits are only compared.
    """

    critic: float
    generator: float
    centred: bool = False


class Linear(NamedTuple):
    """A game to first order around a point where both players rest: v(w) = J w.

    jacobian (n, n): J in w = (generator's parameters, critic's). split: how many are the
    generator's. bend (m, m): second derivatives of the generator's loss in the critic's parameters,
    which a generator that looks through the critic feels.
    """

    jacobian: Tensor
    split: int
    bend: Tensor

    def only(self, player: str) -> Tensor:
        """Return the rows of J that move one player, the other rows 0."""
        rows = torch.arange(len(self.jacobian)) < self.split
        return self.jacobian * (rows if player == "generator" else ~rows).unsqueeze(1)


__all__ = ["Curvature", "Linear"]
