"""Why a GAN converges or does not: linearisation, spectra, closed forms and what follows from them."""

from .convergence import Record, analyze_dirac
from .linearize import Products, Spectrum, System, jacobian, leading

__all__ = ["Products", "Record", "Spectrum", "System", "analyze_dirac", "jacobian", "leading"]
