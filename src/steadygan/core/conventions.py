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
    """One codebase's penalty of strength c, the gamma that equals ``factor * c``, and its source.

    regularizer: which one it is here. Of a critic of several logits they all penalize the sum.
    """

    regularizer: str
    term: str
    factor: float
    source: str


CONVENTIONS: dict[str, Convention] = {
    "dragan": Convention("dragan", "c E(||grad D|| - 1)^2", 2.0, "Kodali et al. 2017, lambda"),
    "gan-stability": Convention(
        "r1", "c E||grad D||^2", 2.0, "LMescheder/GAN_stability, reg_param"
    ),
    "lecam": Convention(
        "lecam", "c (E(D(x) - a_F)^2 + E(D(G) - a_R)^2)", 2.0, "Tseng et al. 2021, lambda"
    ),
    "lucidrains-stylegan2": Convention(
        "r1r2",
        "c (E_real||grad D||^2 + E_fake||grad D||^2), every 4 steps, not compensated",
        0.5,
        "lucidrains/stylegan2-pytorch",
    ),
    "r3gan": Convention(
        "r1r2", "c/2 (E_real||grad D||^2 + E_fake||grad D||^2)", 1.0, "brownvc/R3GAN, Gamma"
    ),
    "roth": Convention("js", "c/2 Omega", 1.0, "rothk/Stabilizing_GANs, gamma"),
    "soundstream": Convention(
        "r1", "c E||grad D||^2 of each critic", 2.0, "lucidrains/audiolm-pytorch, with center = 0"
    ),
    "studiogan": Convention(
        "r1", "c/2 E||grad D||^2", 1.0, "POSTECH-CVLab/PyTorch-StudioGAN, r1_lambda"
    ),
    "stylegan2-ada": Convention(
        "r1", "c/2 E||grad D||^2", 1.0, "NVlabs/stylegan2-ada-pytorch, r1_gamma"
    ),
    "wgan-gp": Convention("wgan-gp", "c E(||grad D|| - 1)^2", 2.0, "Gulrajani et al. 2017, lambda"),
    "wgan-lp": Convention(
        "wgan-lp", "c E max(0, ||grad D|| - 1)^2", 2.0, "Petzka et al. 2018, lambda"
    ),
}

POWERS = {"sum": 0, "each": 1, "mean": 2}
"""The power of K that gamma of a sum of K logits takes for each logit, or for their mean."""


def convert_gamma(
    source: str, strength: float, *, outputs: str = "sum", positions: int = 1
) -> float:
    r"""Return this project's gamma for another codebase's strength.

    Here the penalty is gamma/2 times the mean squared norm. Of a critic of K logits other codes
    penalize the sum. :math:`\|\nabla \sum_k D_k\|^2` is K^2 times that of the mean; it is K times
    the mean over each where the logits look at different places, and K^2 times where they agree.

    Args:
        source: a name in ``CONVENTIONS``.
        strength: c over there.
        outputs: the rule for many logits here: "sum", "each" or "mean".
        positions: K, the logits of one output; "each" takes them to look at different places.

    Raises:
        SteadyganError: for an unknown codebase or rule, for a strength that is negative or not
            finite, for less than one position, and where a penalty of many logits has no such
            relation: it pulls the norm towards 1, or does not look at the gradient.

    >>> convert_gamma("gan-stability", 10, outputs="each", positions=900)
    18000.0
    """
    if source not in CONVENTIONS:
        raise unknown("convention", source, CONVENTIONS)
    if outputs not in POWERS:
        raise unknown("rule for many outputs", outputs, POWERS)
    if not (math.isfinite(strength) and strength >= 0):
        raise SteadyganError(f"a penalty's strength is a finite number >= 0, not {strength:g}")
    if positions < 1:
        raise SteadyganError(f"a critic has one logit a sample or more, not {positions}")
    there = CONVENTIONS[source]
    if outputs != "sum" and positions > 1 and there.regularizer not in ("r1", "r1r2", "js"):
        raise SteadyganError(
            f"{there.regularizer} of a sum of logits is no multiple of {there.regularizer} of each"
            " or of their mean: keep outputs='sum', or choose gamma anew"
        )
    return there.factor * strength * math.pow(positions, POWERS[outputs])
