r"""The generator's side of a game inside another training, such as an autoencoder's.

There the generator minimises what it would minimise anyway, plus an adversarial term:

.. math:: L = L_{rec} + r(t) \, \lambda \, L_G + \mu \, L_{feat}

L_G is ``Game.generator_terms(...).loss``, whose scores carry the critic's feature maps. These
pieces say when the term sets in (``Ramp``), how large it is (``adaptive_weight``, ``Balancer``) and
what features add (``feature_matching``). The critic learns from the first step on, by
``critic_backward``: switched on untrained together with the term, it begins by tearing at what the
generator has learned. docs/cookbook has whole recipes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import torch
from torch import Tensor

from .core.errors import SteadyganError, unknown


@dataclass(frozen=True)
class Ramp:
    """A factor that is 0 before a step, then rises to 1 within ``length`` steps, linearly.

    Raises:
        SteadyganError: for a negative length.

    Reference: taming-transformers' ``adopt_weight`` is ``length=0``.

    >>> [Ramp(start=10, length=4)(step) for step in (9, 10, 12, 14, 99)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """

    start: int
    length: int = 0

    def __post_init__(self) -> None:
        if self.length < 0:
            raise SteadyganError(f"a ramp takes 0 or more steps, not {self.length}")

    def __call__(self, step: int) -> float:
        """Return the factor at a step, counted from 0."""
        if step < self.start or not self.length:
            return float(step >= self.start)
        return min(1.0, (step - self.start) / self.length)


def adaptive_weight(
    reconstruction: Tensor,
    adversarial: Tensor,
    last_layer: Tensor,
    *,
    floor: float = 1e-4,
    most: float = 1e4,
) -> Tensor:
    r"""Return :math:`\|\nabla_W L_{rec}\| / (\|\nabla_W L_G\| + \delta)`, at most ``most``.

    With it both terms pull equally at the weights W of the generator's last layer.

    Args:
        reconstruction: the loss without the critic, 0-d; its graph stays.
        adversarial: the generator's loss, 0-d; its graph stays.
        last_layer: W, such as ``decoder[-1].weight``.
        floor: delta.
        most: the largest weight.

    Returns:
        The weight, 0-d, a constant for every derivative.

    Raises:
        SteadyganError: where a loss is no number or does not depend on W.

    Reference: Esser et al. 2021 (VQGAN), Eq. 7.

    >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> adaptive_weight((2 * w).sum(), w.square().sum() / 2, w, floor=0.0)
    tensor(0.5657)
    """
    norms = []
    for name, loss in (("reconstruction", reconstruction), ("adversarial", adversarial)):
        slope = _slope(f"the {name} loss", loss, last_layer)
        if slope is None and not last_layer.is_leaf:
            raise SteadyganError(
                f"the {name} loss does not depend on this tensor, which was computed from others: a"
                " weight under weight_norm or the like is computed anew whenever it is asked for."
                " Pass the parameter behind it, such as layer.parametrizations.weight.original1"
            )
        if slope is None:
            raise SteadyganError(
                f"the {name} loss does not depend on the last layer: pass a weight of the"
                " generator that both losses came through, and the generator's samples undetached"
            )
        norms.append(slope.norm())
    weight: Tensor = norms[0] / (norms[1] + floor)
    return weight.clamp(0, most).detach()


def _slope(what: str, loss: Tensor, x: Tensor) -> Tensor | None:
    """Return the gradient of a loss in x, None where it does not depend on x; its graph stays."""
    if not isinstance(x, Tensor):
        raise SteadyganError(
            f"{what} is differentiated in a tensor, such as decoder[-1].weight, not in"
            f" {type(x).__name__}"
        )
    if loss.numel() != 1:
        raise SteadyganError(
            f"{what} has shape {tuple(loss.shape)}: pass one number, such as its mean()"
        )
    if not loss.requires_grad or not x.requires_grad:
        return None
    return torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)[0]


Features = Sequence[Sequence[Tensor]]
"""Feature maps in groups, as ``Scores.features`` has them."""
Over = Literal["sum", "mean"]


def feature_matching(
    real: Features,
    fake: Features,
    *,
    over: Over = "sum",
    relative: bool = False,
) -> Tensor:
    r"""Return the distance of feature maps, :math:`\sum_{g, l} E |r_{gl} - f_{gl}|`, 0-d.

    HiFi-GAN's is twice the sum, audiocraft's the mean, EnCodec's the relative mean. The critic's
    logits count where it hands them on among its features.

    Args:
        real: of real samples, ``terms.scores["real"].features``.
        fake: of generated ones, in the same groups.
        over: "sum" of all maps, or "mean" of each group's maps and then of the groups.
        relative: each distance over the mean absolute value of the real map.

    Raises:
        SteadyganError: where there are no features, or not the same for both, or not in groups.

    Reference: Larsen et al. 2016; Kong et al. 2020 (HiFi-GAN), Eq. 5; Defossez et al. 2022
    (EnCodec), Eq. 2.

    >>> feature_matching([[torch.zeros(2, 3)]], [[torch.full((2, 3), 0.5)]])
    tensor(0.5000)
    """
    if over not in get_args(Over):
        raise unknown("sum over feature maps", over, get_args(Over))
    if any(isinstance(group, Tensor) for groups in (real, fake) for group in groups):
        raise SteadyganError(
            "feature matching takes maps in groups, one for each part of the critic: pass"
            " terms.scores['real'].features as it is, or a list of lists, [[map, map]]"
        )
    shapes = [[[t.shape for t in group] for group in groups] for groups in (real, fake)]
    if shapes[0] != shapes[1] or not any(shapes[0]):
        raise SteadyganError(
            "feature matching compares the same feature maps of real and of generated samples:"
            " pass terms.scores['real'].features and ['fake'] of game.generator_terms, from a"
            " critic that returns feature maps and batches of one size"
        )
    groups = []
    for ours, theirs in zip(real, fake, strict=True):
        if not ours:
            continue
        gaps = [(r - f).abs().mean() for r, f in zip(ours, theirs, strict=True)]
        if relative:
            gaps = [gap / r.abs().mean() for gap, r in zip(gaps, ours, strict=True)]
        groups.append(torch.stack(gaps))
    if over == "sum":
        return torch.cat(groups).sum()
    return torch.stack([group.mean() for group in groups]).mean()


class Balancer:
    r"""Gradients of several losses, balanced where they meet: at the generator's output x.

    .. math:: G = \sum_i \frac{w_i}{\sum_j w_j} \, \frac{n \, g_i}{\langle \|g_i\| \rangle},
       \qquad g_i = \nabla_x L_i

    Each loss has its share of the pull, whatever its scale. The averages are moving ones, which
    start at the first value.

    Args:
        weights: of each loss, by name.
        total_norm: n.
        decay: of the moving averages.
        floor: what is added to an average.

    Reference: Defossez et al. 2022 (EnCodec), Eq. 6; audiocraft's ``Balancer``.

    >>> x = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> balancer = Balancer({"rec": 1, "adv": 3})
    >>> balancer.backward({"rec": 100 * x.sum(), "adv": -x[0, 0]}, x)
    tensor(...)
    >>> x.grad
    tensor([[-0.5732,  0.1768]])
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        total_norm: float = 1.0,
        decay: float = 0.999,
        floor: float = 1e-12,
    ) -> None:
        fine = all(isfinite(w) and w >= 0 for w in weights.values())
        if not fine or not any(weights.values()):
            raise SteadyganError(f"weights of losses are numbers >= 0, not all 0: {dict(weights)}")
        self.weights, self.total_norm, self.decay, self.floor = weights, total_norm, decay, floor
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def backward(self, losses: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Send the balanced gradient through x into whatever made it.

        Args:
            losses: 0-d each, by the names of the weights; some may be left out.
            x: (B, ...), the generator's output, the one thing that ties the losses to it.

        Returns:
            The loss whose gradient it was, 0-d and without a graph.

        Raises:
            SteadyganError: for a loss without a weight, that is no number or that does not depend
                on x, and where none of the losses has a weight above 0.
        """
        total = sum(self.weights.get(name, 0.0) for name in losses)
        gradients, norms = {}, {}
        for name, loss in losses.items():
            if name not in self.weights:
                raise SteadyganError(f"the loss {name!r} has no weight: {list(self.weights)} have")
            slope = _slope(f"the loss {name!r}", loss, x)
            if slope is None:
                raise SteadyganError(
                    f"the loss {name!r} does not depend on x: pass the generator's output"
                    " undetached, the very tensor that the loss was computed from"
                )
            gradients[name] = slope
            norms[name] = slope.reshape(len(slope), -1).norm(dim=1).mean().item()
        if not total:
            raise SteadyganError(
                f"none of the losses {list(losses)} has a weight above 0: nothing would pull"
            )
        for name, norm in norms.items():
            self._sums[name] = self.decay * self._sums.get(name, 0.0) + norm
            self._counts[name] = self.decay * self._counts.get(name, 0.0) + 1
        scales = {
            name: self.weights[name] / total * self.total_norm / (self.floor + self._mean(name))
            for name in losses
        }
        x.backward(torch.stack([scales[name] * g for name, g in gradients.items()]).sum(0))
        # A loss may be one number of shape (1,).
        return sum(
            (scales[name] * loss.detach().reshape(()) for name, loss in losses.items()),
            start=torch.zeros((), device=x.device),
        )

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Return the moving averages, for a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Return to saved averages."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])

    def _mean(self, name: str) -> float:
        return self._sums[name] / self._counts[name]


__all__ = ["Balancer", "Ramp", "adaptive_weight", "feature_matching"]
