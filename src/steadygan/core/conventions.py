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

    regularizer: which one it is here. Of a critic of several logits gradient penalties are of the
    sum. sigma: the size of the noise of those that move samples instead, as the code has it; gamma
    is then ``factor * c * sigma^squared``, and ``positions`` is the power of K that it takes.
    """

    regularizer: str
    term: str
    factor: float
    source: str
    sigma: float | None = None
    squared: int = 2
    positions: int = 0


CONVENTIONS: dict[str, Convention] = {
    "apt": Convention(
        "isotropic-r1",
        "c E(D(x) - D(x + sigma e))^2",
        2.0,
        "Lin et al. 2025 (Seaweed-APT), lambda",
        sigma=0.01,
    ),
    "dragan": Convention("dragan", "c E(||grad D|| - 1)^2", 2.0, "Kodali et al. 2017, lambda"),
    "fastgen": Convention(
        "isotropic-r1",
        "c E(D(x) - D(x + sigma e))^2, a mean over logits",
        2.0,
        "NVlabs/FastGen, gan_r1_reg_weight; sigma is gan_r1_reg_alpha",
        sigma=0.1,
    ),
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
    "self-forcing": Convention(
        "isotropic-r1, isotropic-r2",
        "c/2 E((D(x + sigma e) - D(x))/sigma)^2 on both batches",
        1.0,
        "guandeh17/Self-Forcing, r1_weight and r2_weight",
        sigma=0.01,
        squared=0,
    ),
    "soundstream": Convention(
        "r1", "c E||grad D||^2 of each critic", 2.0, "lucidrains/audiolm-pytorch, with center = 0"
    ),
    "stable-audio": Convention(
        "isotropic-r1, isotropic-r2",
        "c/2 E sum_k (D_k(x + sigma e) - D_k(x))^2 on both batches, a sum over logits",
        1.0,
        "Stability-AI/stable-audio-tools, ARC, where c is 1",
        sigma=0.05,
        positions=1,
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
"""What other codebases multiply by their strength c, and the factor that makes it gamma."""

POWERS = {"sum": 0, "each": 1, "mean": 2}
"""The power of K that gamma of a sum of K logits takes for each logit, or for their mean."""


def convert_gamma(
    source: str,
    strength: float,
    *,
    outputs: str | None = None,
    positions: int = 1,
    sigma: float | None = None,
) -> float:
    r"""Return this project's gamma for another codebase's strength.

    Here the penalty is gamma/2 times the mean squared norm. Of a critic of K logits other codes
    penalize the sum. :math:`\|\nabla \sum_k D_k\|^2` is K^2 times that of the mean; it is K times
    the mean over each where the logits look at different places, and K^2 times where they agree.
    Codes that move samples by noise of size sigma, "approximate R1", look at each logit: to the
    lowest order in sigma their normal noise is the noise of signs here.

    Args:
        source: a name in ``CONVENTIONS``.
        strength: c over there.
        outputs: the rule for many logits here: "sum", "each" or "mean"; by default the one over
            there.
        positions: K, the logits of one output; "each" takes them to look at different places.
        sigma: size of the noise of those that move samples; by default the one over there.

    Raises:
        SteadyganError: for an unknown codebase or rule, for a strength that is negative or not
            finite, for less than one position, and where a penalty of many logits has no such
            relation: it pulls the norm towards 1, or does not look at the gradient.

    >>> convert_gamma("gan-stability", 10, outputs="each", positions=900)
    18000.0
    >>> convert_gamma("apt", 100)
    0.02
    """
    if source not in CONVENTIONS:
        raise unknown("convention", source, CONVENTIONS)
    there = CONVENTIONS[source]
    outputs = outputs or ("sum" if there.sigma is None else "each")
    if outputs not in POWERS:
        raise unknown("rule for many outputs", outputs, POWERS)
    if not (math.isfinite(strength) and strength >= 0):
        raise SteadyganError(f"a penalty's strength is a finite number >= 0, not {strength:g}")
    if positions < 1:
        raise SteadyganError(f"a critic has one logit a sample or more, not {positions}")
    if there.sigma is not None:
        size = there.sigma if sigma is None else sigma
        if outputs != "each" or not (math.isfinite(size) and size > 0):
            raise SteadyganError(
                f"{there.regularizer} is of each logit, outputs='each', and sigma a finite number"
                f" > 0: not outputs={outputs!r} and sigma={size:g}"
            )
        return there.factor * strength * size**there.squared * float(positions) ** there.positions
    if sigma is not None:
        raise SteadyganError(f"{source} adds no noise to samples, so that it has no sigma")
    if outputs != "sum" and positions > 1 and there.regularizer not in ("r1", "r1r2", "js"):
        raise SteadyganError(
            f"{there.regularizer} of a sum of logits is no multiple of {there.regularizer} of each"
            " or of their mean: keep outputs='sum', or choose gamma anew"
        )
    return there.factor * strength * math.pow(positions, POWERS[outputs])
