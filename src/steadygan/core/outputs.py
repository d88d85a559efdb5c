r"""Which penalties the logits of a critic of many outputs get, and at the price of which gradients.

Output o has K_o positions and a share :math:`\alpha_o`. Losses average over the positions of an
output and add up over outputs, and so does a penalty that is derived for each logit:

.. math:: \Omega = \sum_o \frac{\alpha_o}{K_o} \sum_{k \in o} E[w(D_k) \|\nabla_x D_k\|^2]

One gradient is enough for an unbiased value: with independent signs it is :math:`E_\varepsilon
\|\nabla_x \sum_k \varepsilon_k \sqrt{\alpha_o w_k / K_o} D_k\|^2`, the factor before D_k being a
cotangent: constant under :math:`\nabla_x`, yet a function of the critic's parameters.

Derivation and variance: docs/derivations.md, section 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from .context import Context
from .errors import SteadyganError
from .reading import Reading
from .registry import base, register

if TYPE_CHECKING:
    from .penalties import Regularizer


class Probe(NamedTuple):
    """A scalar function of a sample's outputs whose input gradient penalties look at.

    It is the inner product of the logits with cotangents (B, K) of each output, None for 0. share:
    what its penalty counts. of: the regularizer whose weight the cotangents have in them, by its
    place in the game; None where any regularizer may look, and applies its weight itself.
    """

    cotangents: tuple[Tensor | None, ...]
    share: float
    of: int | None = None

    def value(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the function's values (B,)."""
        pairs = zip(self.cotangents, logits, strict=True)
        return torch.stack([(c * t).sum(1) for c, t in pairs if c is not None]).sum(0)


@base("outputs")
@dataclass(frozen=True)
class Outputs:
    """Base of every rule for many outputs: a registered frozen dataclass.

    over: sum or mean of the outputs. weights: of the outputs, in their order; 1 each by default,
    spelled weights=1/0.5. reading: how nested lists are read (core/reading.py). A critic of one
    logit a sample has nothing for a rule to decide.
    """

    over: Literal["sum", "mean"] = "sum"
    weights: tuple[float, ...] = ()
    reading: Reading = "auto"

    def __post_init__(self) -> None:
        fine = all(math.isfinite(w) and w >= 0 for w in self.weights)
        if not fine or (self.weights and not any(self.weights)):
            raise SteadyganError(f"weights of outputs are numbers >= 0, not all 0: {self.weights}")

    def shares(self, count: int) -> tuple[float, ...]:
        """Return what each of ``count`` outputs counts in losses and penalties."""
        weights = self.weights or (1.0,) * count
        if len(weights) != count:
            raise SteadyganError(
                f"there are {len(weights)} weights for {count} outputs of the critic"
            )
        return tuple(w / sum(weights) for w in weights) if self.over == "mean" else weights

    def probes(
        self,
        logits: Sequence[Tensor],
        point: str,
        regularizers: Mapping[int, Regularizer],
        at: Context,
    ) -> list[Probe]:
        """Return what the regularizers that look at a point see of its outputs.

        Args:
            logits: (B, K) of each output.
            point: where they were evaluated.
            regularizers: those that look there, by their place in the game.
            at: the source of signs.
        """
        raise NotImplementedError

    def how(self, sizes: Sequence[int]) -> str:
        """Return in words which penalties outputs of so many positions get."""
        raise NotImplementedError


@register("outputs", "each")
@dataclass(frozen=True)
class Each(Outputs):
    """A penalty of every logit, as the noise argument gives it: exact for few, by signs for many.

    signs: draws of signs that are averaged, a gradient each. exact: up to so many logits a sample
    the penalties are taken one by one, a gradient each. Penalties that are not linear in the
    squared norm (wgan-gp, wgan-lp, dragan) are always taken one by one. over, weights, reading: see
    ``Outputs``. Reference: docs/derivations.md, section 7; Hutchinson 1990 on such signs.

    >>> build("outputs", "each:signs=2").how([900, 225])
    'each of 1125 logits in 2 outputs, by 2 draws of signs'
    """

    signs: int = 1
    exact: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.signs < 1 or self.exact < 0:
            raise SteadyganError(
                f"signs counts draws, 1 or more, and exact logits, 0 or more: not {self.signs} and"
                f" {self.exact}"
            )

    def probes(
        self,
        logits: Sequence[Tensor],
        point: str,
        regularizers: Mapping[int, Regularizer],
        at: Context,
    ) -> list[Probe]:
        """Return a probe for each logit, or for each draw of signs and regularizer."""
        scales = [s / t.shape[1] for s, t in zip(self.shares(len(logits)), logits, strict=True)]
        if self._one_by_one([t.shape[1] for t in logits]):
            return [
                Probe(_at(o, unit.expand_as(t), logits), scales[o])
                for o, t in enumerate(logits)
                for unit in torch.eye(t.shape[1], dtype=t.dtype, device=t.device)
            ]
        found = []
        for i, regularizer in regularizers.items():
            if regularizer.not_by_signs:
                raise SteadyganError(
                    f"{type(regularizer).__name__} {regularizer.not_by_signs}, so that signs cannot"
                    f" stand for the sum over this critic's {sum(t.shape[1] for t in logits)}"
                    " logits: penalize the mean logit of each output, outputs='mean', or raise the"
                    " number of gradients that you pay for, outputs='each:exact=...'"
                )
            for _ in range(self.signs):
                drawn = [at.signs(t) * math.sqrt(s) for s, t in zip(scales, logits, strict=True)]
                roots = [regularizer.root(point, t) for t in logits]
                cotangents = (d if r is None else d * r for d, r in zip(drawn, roots, strict=True))
                found.append(Probe(tuple(cotangents), 1 / self.signs, i))
        return found

    def how(self, sizes: Sequence[int]) -> str:
        """Return how many logits there are, and whether signs stand for their sum."""
        many = f"each of {sum(sizes)} logits" + (
            f" in {len(sizes)} outputs" if len(sizes) > 1 else ""
        )
        if self._one_by_one(sizes):
            return f"{many}, one by one"
        return f"{many}, by {self.signs} draw{'s' if self.signs > 1 else ''} of signs"

    def _one_by_one(self, sizes: Sequence[int]) -> bool:
        # As many draws of signs cost as much, and have noise.
        return sum(sizes) <= max(self.exact, self.signs)


@register("outputs", "mean")
@dataclass(frozen=True)
class Mean(Outputs):
    """The penalty of the mean logit of each output; at most that of ``each``, for unit weights.

    1/K of it where the positions look at different places, all of it where they agree. Wasserstein
    losses are linear, so that nothing but the mean enters them. over, weights, reading: see
    ``Outputs``. Reference: docs/derivations.md, section 7; Arjovsky et al. 2017 on the dual.

    >>> build("outputs", "mean").how([900, 225])
    'the mean of each of 2 outputs, 1125 logits in all'
    """

    def probes(
        self,
        logits: Sequence[Tensor],
        point: str,
        regularizers: Mapping[int, Regularizer],
        at: Context,
    ) -> list[Probe]:
        """Return a probe for each output."""
        return _summed(logits, self.shares(len(logits)), [1 / t.shape[1] for t in logits])

    def how(self, sizes: Sequence[int]) -> str:
        """Return how many means there are."""
        return f"the mean of {_many(sizes)}"


@register("outputs", "sum")
@dataclass(frozen=True)
class Sum(Outputs):
    """The penalty of the sum of each output's logits, as most public codes take it.

    K^2 times that of ``mean`` for unit weights. over, weights, reading: see ``Outputs``. Reference:
    docs/derivations.md, section 7; Isola et al. 2017 on maps of logits.

    >>> build("outputs", "sum").how([900])
    'the sum of 900 logits'
    """

    def probes(
        self,
        logits: Sequence[Tensor],
        point: str,
        regularizers: Mapping[int, Regularizer],
        at: Context,
    ) -> list[Probe]:
        """Return a probe for each output."""
        return _summed(logits, self.shares(len(logits)), [1.0 for _ in logits])

    def how(self, sizes: Sequence[int]) -> str:
        """Return how many sums there are."""
        return f"the sum of {_many(sizes)}"


def _summed(
    logits: Sequence[Tensor], shares: Sequence[float], factors: Sequence[float]
) -> list[Probe]:
    """Return a probe for each output: the sum of its logits times a factor."""
    return [
        Probe(_at(o, torch.full_like(t, factors[o]), logits), shares[o])
        for o, t in enumerate(logits)
    ]


def _at(place: int, cotangent: Tensor, logits: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    return tuple(cotangent if o == place else None for o in range(len(logits)))


def _many(sizes: Sequence[int]) -> str:
    return (
        f"{sum(sizes)} logits"
        if len(sizes) == 1
        else f"each of {len(sizes)} outputs, {sum(sizes)} logits in all"
    )
