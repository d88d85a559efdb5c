"""How other codebases write the strength of a gradient penalty, in this project's gamma.

>>> convert_gamma("gan-stability", 10)
20.0
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import SteadyganError, unknown


@dataclass(frozen=True)
class Convention:
    """One codebase's penalty of strength c, gamma = ``factor * c``, and where it was seen."""

    term: str
    factor: float
    source: str


CONVENTIONS: dict[str, Convention] = {
    "dragan": Convention("c E(||grad D|| - 1)^2", 2.0, "Kodali et al. 2017, lambda"),
    "gan-stability": Convention("c E||grad D||^2", 2.0, "LMescheder/GAN_stability, reg_param"),
    "lecam": Convention("c (E(D(x) - a_F)^2 + E(D(G) - a_R)^2)", 2.0, "Tseng et al. 2021, lambda"),
    "lucidrains-stylegan2": Convention(
        "c E||grad D||^2, every 4 steps, not compensated", 0.5, "lucidrains/stylegan2-pytorch"
    ),
    "r3gan": Convention(
        "c/2 (E_real||grad D||^2 + E_fake||grad D||^2)", 1.0, "brownvc/R3GAN, Gamma"
    ),
    "roth": Convention("c/2 Omega", 1.0, "rothk/Stabilizing_GANs, gamma"),
    "studiogan": Convention("c/2 E||grad D||^2", 1.0, "POSTECH-CVLab/PyTorch-StudioGAN, r1_lambda"),
    "stylegan2-ada": Convention("c/2 E||grad D||^2", 1.0, "NVlabs/stylegan2-ada-pytorch, r1_gamma"),
    "wgan-gp": Convention("c E(||grad D|| - 1)^2", 2.0, "Gulrajani et al. 2017, lambda"),
    "wgan-lp": Convention("c E max(0, ||grad D|| - 1)^2", 2.0, "Petzka et al. 2018, lambda"),
}


def convert_gamma(source: str, strength: float) -> float:
    """Return this project's gamma for another codebase's strength.

    Here the penalty is gamma/2 times the mean squared norm.

    Raises SteadyganError for an unknown codebase and for a strength that is negative or not finite.
    """
    if source not in CONVENTIONS:
        raise unknown("convention", source, CONVENTIONS)
    if not (math.isfinite(strength) and strength >= 0):
        raise SteadyganError(f"a penalty's strength is a finite number >= 0, not {strength:g}")
    return CONVENTIONS[source].factor * strength
