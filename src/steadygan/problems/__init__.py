"""What is played: small games whose equilibrium is known, images, and their networks."""

from . import networks, toys
from .images import Images
from .problem import Network, Problem, RandomStream, Recipe, Stream

__all__ = [
    "Images",
    "Network",
    "Problem",
    "RandomStream",
    "Recipe",
    "Stream",
    "networks",
    "toys",
]
