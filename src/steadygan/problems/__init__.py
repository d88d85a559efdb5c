"""What is played: small games whose equilibrium is known, images, and the networks that play
them."""

from . import networks, toys
from .images import Images
from .problem import Draw, Network, Problem, Recipe, Stream

__all__ = ["Draw", "Images", "Network", "Problem", "Recipe", "Stream", "networks", "toys"]
