"""The critic's gradient by the cheapest exact path."""

from .choice import Decision, Path, critic_backward, critic_gradient, decide, remember

__all__ = ["Decision", "Path", "critic_backward", "critic_gradient", "decide", "remember"]
