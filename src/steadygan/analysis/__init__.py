"""Why a GAN converges or does not: linearisation, spectra, closed forms and what follows."""

from .convergence import Record, analyze_dirac
from .doctor import Diagnosis, diagnose
from .linearize import System, jacobian
from .path import GamePath, game_path
from .spectra import Products, Spectrum, leading

__all__ = [
    "Diagnosis",
    "GamePath",
    "Products",
    "Record",
    "Spectrum",
    "System",
    "analyze_dirac",
    "diagnose",
    "game_path",
    "jacobian",
    "leading",
]
