"""The critic's gradient by the cheapest exact path."""

from .backward import CriticGradient, critic_backward, critic_gradient
from .choice import Decision, GradientPath, decide, remember

__all__ = [
    "CriticGradient",
    "Decision",
    "GradientPath",
    "critic_backward",
    "critic_gradient",
    "decide",
    "remember",
]
