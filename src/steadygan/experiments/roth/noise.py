"""Roth et al. 2017, sections 3.1 to 3.4 and 7.2: smoothing by noise against its approximations.

Between Gaussians, nothing estimated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...analysis.parallel_lines import parallel_lines, penalised_lines
from ...analysis.smoothing_theory import (
    Critic,
    Expansion,
    Normal,
    expand,
    log_ratio,
    omega,
    optimal,
)
from ...core.divergences import Divergence
from ...core.registry import build, names
from ..spec import Experiment, Findings, Row, Source, bound, fact, number, printed

P, Q = Normal((0.0,), (1.0,)), Normal((0.4,), (1.1,))
"""The pair of the numerical oracle."""

_PAPER = "Roth et al. 2017, "
_ORACLE = Source("numerical oracle", "ours", "derived here")
_ORDER = 0.05
"""How far a fitted order may be from a whole number: the next order still shows at finite γ."""


def _eq(where: str) -> Source:
    # The seed text has lost its formulas: what an equation says is restored by deriving it anew.
    return Source(_PAPER + where, known="derived here")


def tilted(x: Tensor) -> Tensor:
    """Return a logit that is not optimal: 1.4 φ* - 0.6 x."""
    return 1.4 * log_ratio(P, Q)(x) - 0.6 * x.sum(-1)


def perturbed(divergence: str) -> Critic:
    """Return raw outputs near the optimal ones of a divergence: 0.9 v* + sin(x)/20."""
    best = optimal(divergence, P, Q)
    return lambda x: 0.9 * best(x) + 0.05 * torch.sin(x.sum(-1))


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Measure orders in γ for every divergence, the oracle, and what happens on disjoint lines.

    Returns:
        A row for each equation, and the curves of the errors.
    """
    divergences = settings["divergences"] or names("divergence")
    at = {name: expand(name, f"f-gan:divergence={name}", P, Q) for name in divergences}
    off = {
        name: expand(name, f"f-gan:divergence={name}", P, Q, perturbed(name))
        for name in divergences
    }
    rows = [
        *_statistic(),
        _convolution(),
        *_optimal(divergences),
        *_orders(at, off),
        *_oracle(),
        *_lines(settings["gammas"]),
    ]
    return Findings(
        tuple(rows),
        "lines",
        {"panels": _panels(at, off, settings["points"])},
        ("Expectations are Gauss-Hermite sums in double precision.",),
    )


def _statistic() -> list[Row]:
    """Return the rows of Eqs. 11 and 12: one statistic at one point under noise."""
    gammas = (8e-3, 4e-3, 2e-3, 1e-3)
    point = torch.tensor([0.7], dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return tilted(x[None])[0].sigmoid()

    laplacian = torch.func.hessian(value)(point).trace().item()
    start = value(point).item()
    errors = []
    for gamma in gammas:
        blurred = (
            Normal((0.7,), (math.sqrt(gamma),)).expectation(lambda x: tilted(x).sigmoid()).item()
        )
        errors.append(abs(blurred - start - gamma / 2 * laplacian))
    order = float(np.polyfit(np.log(gammas), np.log(errors), 1)[0])
    claim = "E ψ(x + ξ) = ψ + (γ/2) Δψ + O(γ²): fitted order of the error, a statistic at a point"
    return [number(claim, _eq("Eqs. 11, 12"), 2, order, _ORDER)]


def _convolution() -> Row:
    """Return the row of Eqs. 8 to 10.

    Noise on the samples is noise on the statistic is convolution of the density.
    """
    gamma = 0.3
    noise, masses = Normal((0.0,), (math.sqrt(gamma),)).quadrature()

    def blurred(x: Tensor) -> Tensor:
        grid = (x[:, None] + noise[None])[..., 0].reshape(-1, 1)
        return tilted(grid).sigmoid().reshape(len(x), -1) @ masses

    wide = P.smoothed(gamma).expectation(lambda x: tilted(x).sigmoid())
    return bound("noise on the samples = smoothed density = smoothed"
                 " statistic", _eq("Eqs. 8–10"), "equal",
                 abs(P.expectation(blurred) - wide).item(), 1e-10)  # fmt: skip


def _optimal(divergences: list[str]) -> list[Row]:
    """Return the rows of Eqs. 15 and 16 at points, for every divergence."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    ratio = log_ratio(P, Q)(x).exp()
    inverse, product = [], []
    for name in divergences:
        divergence = build("divergence", name)
        best = optimal(name, P, Q)
        slope = _along(divergence.fake_score, best(x)) / _along(divergence.activation, best(x))
        inverse.append((slope / ratio - 1).abs().max().item())
        product.append(_product_rule(divergence, perturbed(name), x))
    return [
        bound(
            "f*′(ψ*) = p/q, every divergence",
            _eq("Eq. 15"),
            "equal, relative",
            max(inverse),
            1e-9,
        ),
        bound(
            "Δ(f*∘ψ) = f*″(ψ)‖∇ψ‖² + f*′(ψ)Δψ, every divergence, off the optimum",
            _eq("Eq. 16"),
            "equal",
            max(product),
            1e-9,
        ),
    ]


def _product_rule(divergence: Divergence, critic: Critic, points: Tensor) -> float:
    # In raw outputs v, psi = g(v): f*'' ||grad psi||^2 is the declared weight w(v) times ||grad
    # v||^2, the very term that trains.
    def raw(x: Tensor) -> Tensor:
        return critic(x[None])[0]

    worst = 0.0
    for x in points:
        whole = torch.func.hessian(lambda p: divergence.fake_score(raw(p)))(x).trace()
        psi = torch.func.hessian(lambda p: divergence.activation(raw(p)))(x).trace()
        v = raw(x)[None]
        slope = _along(divergence.fake_score, v) / _along(divergence.activation, v)
        square = torch.func.grad(raw)(x).square().sum()
        worst = max(worst, (whole - divergence.weight(v)[0] * square - slope[0] * psi).abs().item())
    return worst


def _orders(at: Mapping[str, Expansion], off: Mapping[str, Expansion]) -> list[Row]:
    """Return the rows of Eqs. 13, 17, 18 and 32, one for each and every divergence in it."""

    def order(claim: str, source: str, expected: float, found: Mapping[str, float]) -> Row:
        worst = max(found, key=lambda name: abs(found[name] - expected))
        return number(f"{claim}: fitted order of the error, the worst of {len(found)}"
                      f" divergences ({worst})", _eq(source), expected,
                      found[worst], _ORDER)  # fmt: skip

    missed = {
        name: abs(e.penalty_errors[-1] / e.gammas[-1] / e.miss - 1) for name, e in off.items()
    }
    by_laplacian, by_penalty = (
        [{name: getattr(e, kind) for name, e in found.items()} for found in (at, off)]
        for kind in ("laplacian_order", "penalty_order")
    )
    claim, equal = (
        "off the optimum it misses γ/2 ∫ (p − f*′(ψ)q)Δψ",
        "equal to first order, relative",
    )
    return [
        order("F_γ by Laplacians, at the optimum", "Eq. 13", 2, by_laplacian[0]),
        order("F_γ by Laplacians, off the optimum", "Eq. 13", 2, by_laplacian[1]),
        order("F_γ by the regularizer, at the optimum", "Eqs. 17, 18", 2, by_penalty[0]),
        order(
            "F_γ by the regularizer, off the optimum, where it need not hold",
            "Eq. 32",
            1,
            by_penalty[1],
        ),
        bound(claim, _eq("Eq. 32"), equal, max(missed.values()), 0.01),
    ]


def _oracle() -> list[Row]:
    best = optimal("gan", P, Q)
    found = expand("gan", "js", P, Q, gammas=(0.1, 0.01, 0.001))
    rows = [
        number(
            "Ω_JS at the optimum, N(0, 1) against N(0.4, 1.1²)",
            _ORACLE,
            0.0773353,
            found.omega,
            6e-8,
        )
    ]
    rows.append(
        bound(
            "Ω_JS = Ω_f at the optimum",
            _eq("Eqs. 29, 30"),
            "equal",
            abs(found.omega - omega("f-gan", best, P, Q)),
            1e-12,
        )
    )
    for gamma, text, size in zip(
        found.gammas, ("7.9e-3", "8e-4", "1e-4"), found.deviation, strict=True
    ):
        rows.append(printed(f"|1 − (F_γ − F)/(−γ/2·Ω)| at γ = {gamma:g}", _ORACLE, text, size))
    one, other = omega("js", tilted, P, Q), omega("f-gan", tilted, P, Q)
    rows.append(
        fact("Ω_JS and Ω_f differ off the"
            " optimum", _eq("Eqs. 29, 30"), "differ", "by more than a tenth",
            f"{one:.6g} and {other:.6g}",
            abs(one - other) > 0.1 * max(one, other))
    )  # fmt: skip
    return rows


def _lines(gammas: tuple[float, ...]) -> list[Row]:
    """Return the rows of section 7.2: two parallel lines at a distance.

    No density ratio exists there without noise.
    """
    d, source = 0.5, _eq("section 7.2")
    near = parallel_lines(d, 0.005)
    seen = {gamma: parallel_lines(d, gamma) for gamma in gammas}
    kl = max(abs(line.kl * 2 * gamma / d**2 - 1) for gamma, line in seen.items())
    slope = max(abs(line.gradient_norm * gamma / d - 1) for gamma, line in seen.items())
    reverse = [
        penalised_lines("reverse-kl", f"f-gan:divergence=reverse-kl,gamma={gamma}", d)
        for gamma in gammas
    ]
    values = [
        abs((found.value or math.inf) * 2 * gamma / d**2 - 1)
        for gamma, found in zip(gammas, reverse, strict=True)
    ]
    slopes = [
        abs((found.slope or math.inf) * gamma / d - 1)
        for gamma, found in zip(gammas, reverse, strict=True)
    ]
    exact = max(*values, *slopes)
    saturated = max(math.log(2) - near.jsd, near.jsd_slope)
    derived = Source("docs/derivations.md", "ours", "derived here")
    rows = [
        bound("parallel lines with noise: KL = d²/(2γ)", source, "equal, relative", kl, 1e-9),
        bound("parallel lines with noise: ‖∇φ*‖ = d/γ", source, "equal, relative", slope, 1e-9),
        bound(
            "with too little noise JSD saturates at log 2",
            source,
            "log 2, with no slope in d",
            saturated,
            0.02,
        ),
        bound(
            "reverse KL: the regularizer without noise gives what noise gives",
            derived,
            "equal, relative",
            exact,
            1e-6,
        ),
    ]
    limits = {"kl": ("f-gan:divergence=kl,gamma={}", 2.0), "gan": ("js:gamma={}", 1.9077)}
    for name, (spelling, factor) in limits.items():
        found = [
            penalised_lines(name, spelling.format(side * factor * d**2), d).value is not None
            for side in (0.97, 1.03)
        ]
        measured = ", ".join(
            f"{side} of it: {'an' if there else 'no'} optimum"
            for side, there in zip((0.97, 1.03), found, strict=True)
        )
        words = f"{name}: without noise a linear critic has an optimum only for γ > {factor} d²"
        rows.append(
            fact(
                words,
                derived,
                "none below, one above",
                "3 % on either side",
                measured,
                found == [False, True],
            )
        )
    return rows


def _along(function: Any, v: Tensor) -> Tensor:
    """Return the derivative of a function of raw outputs at v (n,)."""
    along: Tensor = torch.func.vmap(torch.func.grad(function))(v)
    return along


def _panels(
    at: Mapping[str, Expansion], off: Mapping[str, Expansion], points: int
) -> list[dict[str, Any]]:
    distances = np.linspace(0.05, 3, points)
    saturating = {
        f"JSD, γ = {g}": (distances, np.array([parallel_lines(d, g).jsd for d in distances]))
        for g in (0.05, 0.3, 2.0)
    }

    def errors(found: Mapping[str, Expansion]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {
            name: (np.array(e.gammas), np.abs(e.penalty_errors) / e.gammas)
            for name, e in found.items()
        }

    return [
        {
            "title": "regularizer at the optimum",
            "x": "γ",
            "y": "|error| / γ",
            "log": True,
            "lines": errors(at),
        },
        {
            "title": "regularizer off the optimum",
            "x": "γ",
            "y": "|error| / γ",
            "log": True,
            "lines": errors(off),
        },
        {
            "title": "parallel lines with noise",
            "x": "distance",
            "y": "JSD in nats",
            "log": False,
            "lines": saturating,
        },
    ]


EXPERIMENT = Experiment(
    name="roth-noise",
    what="noise against its approximation by the regularizer: orders in γ, at the optimum and"
    " off it; disjoint supports",
    source="Roth et al. 2017, sections 3.1–3.4 and 7.2, Eqs. 8–18, 29–32",
    scales={
        "quick": {"divergences": [], "gammas": (0.01, 0.3, 4.0), "points": 25},
        "paper": {"divergences": [], "gammas": (0.01, 0.3, 4.0), "points": 25},
        "tiny": {"divergences": ["gan"], "gammas": (0.3,), "points": 3},
    },
    cost={"quick": "half a minute", "paper": "the same", "tiny": "seconds"},
    run=run,
)
