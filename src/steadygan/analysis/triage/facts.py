"""Every fact of the triage, in the order in which it is looked at and said."""

from __future__ import annotations

from .balance import (
    critic_weak,
    critic_won,
    gamma,
    gradients,
    no_spread,
    rates_of_change,
    swapped,
)
from .data import data_variety, scale
from .fact import Look
from .movers import movers
from .structure import (
    blind,
    bounded_logits,
    deaf,
    detached,
    evaluation_mode,
    frozen,
    non_finite,
    saturated,
)

FACTS: tuple[Look, ...] = (
    non_finite,
    bounded_logits,
    movers,
    frozen,
    evaluation_mode,
    detached,
    blind,
    data_variety,
    swapped,
    scale,
    rates_of_change,
    deaf,
    gamma,
    critic_won,
    critic_weak,
    no_spread,
    gradients,
    saturated,
)

__all__ = ["FACTS"]
