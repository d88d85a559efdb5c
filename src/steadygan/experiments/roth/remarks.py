"""What Roth et al. 2017 say beside their figures: remarks that a computation can decide.

Eq. 6, the paired critics of Eq. 10, the Hessians of Eq. 14, the form of Eq. 26 before the sigmoid's
identity, and noise that is not Gaussian.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...analysis.smoothing_theory import Normal, log_ratio, objective, optimal
from ...core.registry import build
from ..spec import Experiment, Findings, Row, Source, bound, fact, number

P, Q = Normal((0.0,), (1.0,)), Normal((0.4,), (1.1,))
GAMMAS = (0.02, 0.01, 0.005, 0.0025)
CLIPPED = 32
"""Units of a layer of the critics of Eq. 6."""


def _eq(where: str) -> Source:
    return Source("Roth et al. 2017, " + where, known="derived here")


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Compute each remark.

    Returns:
        A row for each, and the curves that they are about.
    """
    laplacians, exponents = _hessians(settings["dimensions"], settings["width"])
    clipped = _clipped(settings["clips"], settings["steps"])
    exact = next(iter(clipped.values()))[1]
    low_pass, panel = _low_pass()
    rows = [
        *_wasserstein(clipped),
        *low_pass,
        *_weaker(),
        *laplacians,
        *_before_the_sigmoid(),
        *_laplace(),
    ]
    panels = [
        panel,
        {
            "title": "Laplacian of f*∘ψ against its gradient (Eq. 14)",
            "x": "dimension of x",
            "y": "multiplications, in gradients",
            "log": True,
            "lines": {"exact Laplacian": exponents},
        },
        {
            "title": f"a distance of {exact:.3g} by clipped critics (Eq. 6)",
            "x": "clipped to ± c",
            "y": "gap over the largest slope",
            "log": False,
            "lines": {
                "clipped critic": (
                    np.array(list(clipped)),
                    np.array([found for found, _ in clipped.values()]),
                )
            },
        },
    ]
    notes = (
        "Expectations are Gauss-Hermite or Gauss-Laguerre sums in double precision; multiplications"
        " are counted, not timed.",
        f"The clipped critics are tanh networks of width {CLIPPED}, trained for"
        f" {settings['steps']:,} steps of RMSProp on 256 quantiles of both sides, clipped at"
        f" {', '.join(f'{c:g}' for c in settings['clips'])}; the exact distance sorts them. The gap"
        " is divided by the largest slope on a fine grid, so that no critic can exceed the distance"
        " but by rounding.",
    )
    return Findings(tuple(rows), "lines", {"panels": panels}, notes)


def _wasserstein(clipped: Mapping[float, tuple[float, float]]) -> list[Row]:
    worst = max(found - exact for found, exact in clipped.values())
    best = max(found / exact for found, exact in clipped.values())
    least = min(found / exact for found, exact in clipped.values())
    return [
        fact(
            "a clipped critic's gap over its slope is a lower bound of the Wasserstein distance",
            _eq("Eq. 6"),
            "never above the exact distance",
            "1e-9",
            f"at most {worst:.3g} above it",
            worst < 1e-9,
        ),
        fact(
            "and how far below depends on where it is clipped",
            Source("how clipping fares, by this project", "ours", "derived here"),
            "shares that differ",
            "by more than a tenth",
            f"{least:.0%} to {best:.0%} of it",
            best - least > 0.1,
        ),
    ]


def _clipped(clips: tuple[float, ...], steps: int) -> dict[float, tuple[float, float]]:
    """Return by clip value the gap over the largest slope, and the exact distance."""
    quantiles = torch.special.ndtri((torch.arange(256, dtype=torch.float64) + 0.5) / 256)
    x, y = quantiles[:, None], 1.5 * quantiles[:, None] + 2
    exact = (x.sort(0).values - y.sort(0).values).abs().mean().item()
    grid = torch.linspace(-8, 10, 4001, dtype=torch.float64)[:, None].requires_grad_()
    found = {}
    for clip in clips:
        torch.manual_seed(0)
        critic = nn.Sequential(
            nn.Linear(1, CLIPPED),
            nn.Tanh(),
            nn.Linear(CLIPPED, CLIPPED),
            nn.Tanh(),
            nn.Linear(CLIPPED, 1),
        ).double()
        optimizer = torch.optim.RMSprop(critic.parameters(), 1e-2 * clip)
        for _ in range(steps):
            optimizer.zero_grad()
            (critic(x).mean() - critic(y).mean()).backward()
            optimizer.step()
            with torch.no_grad():
                for p in critic.parameters():
                    p.clamp_(-clip, clip)
        slope = torch.autograd.grad(critic(grid).sum(), grid)[0].abs().max().item()
        gap = (critic(y).mean() - critic(x).mean()).item()
        found[clip] = (gap / slope, exact)
    return found


def _low_pass() -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of the class of critics that noise leaves: closed, and without high ones."""
    point = torch.tensor([[0.3]], dtype=torch.float64)

    def smoothed(gamma: float, frequency: float) -> float:
        noise = Normal((0.3,), (math.sqrt(gamma),))
        return noise.expectation(lambda x: (frequency * x.sum(-1)).cos()).item()

    frequencies = np.linspace(0.25, 4, 12)
    lines, worst = {}, 0.0
    for gamma in (0.1, 0.5):
        plain = [math.cos(f * point.item()) for f in frequencies]
        passed = np.array([smoothed(gamma, f) / c for f, c in zip(frequencies, plain, strict=True)])
        worst = max(worst, float(abs(passed - np.exp(-gamma * frequencies**2 / 2)).max()))
        lines[f"γ = {gamma:g}"] = (frequencies, passed)
    inner = Normal((0.3,), (math.sqrt(0.2),)).quadrature()
    statistic = lambda x: (1.7 * x.sum(-1)).tanh()  # noqa: E731
    twice = sum(
        mass * Normal((float(at[0]),), (math.sqrt(0.3),)).expectation(statistic)
        for at, mass in zip(*inner, strict=True)
    )
    once = Normal((0.3,), (math.sqrt(0.5),)).expectation(statistic)
    rows = [
        bound(
            "noise of variance γ multiplies a critic's frequency ω by exp(−γω²/2): a low-pass",
            _eq("Eq. 10 and its remark"),
            "equal",
            worst,
            1e-9,
        ),
        bound(
            "smoothed critics smoothed again are smoothed critics: variances add",
            _eq("Eq. 10 and its remark"),
            "equal",
            abs(float(twice - once)),
            1e-6,
        ),
    ]
    panel = {"title": "what noise leaves of a critic's frequencies (Eq. 10)", "x": "ω",
             "y": "share that is left", "log": False, "lines": lines}  # fmt: skip
    return rows, panel


def _weaker() -> list[Row]:
    """Return the row that the best critic on noisy samples sees less, the less the more noise."""
    seen = []
    for gamma in (0.0, 0.1, 0.5, 2.0):
        p, q = (side.smoothed(gamma) if gamma else side for side in (P, Q))
        seen.append(float(objective("gan", optimal("gan", p, q), p, q)))
    falls = all(a > b for a, b in itertools.pairwise(seen))
    return [
        fact(
            "critics of noisy samples are weaker: the divergence that they see falls with γ",
            _eq("section 3.2"),
            "falls",
            "at γ = 0, 0.1, 0.5, 2",
            ", ".join(f"{value + 2 * math.log(2):.4g}" for value in seen) + " (twice the JSD)",
            falls,
        )
    ]


def _hessians(
    dimensions: tuple[int, ...], width: int
) -> tuple[list[Row], tuple[np.ndarray, np.ndarray]]:
    """Return the row of what the Laplacian of a composition costs, and its course."""
    divergence, costs = build("divergence", "gan"), []
    for d in dimensions:
        torch.manual_seed(1)
        critic = nn.Sequential(nn.Linear(d, width), nn.Tanh(), nn.Linear(width, 1)).double()
        x = torch.randn(4, d, dtype=torch.float64)

        def composed(point: Tensor, critic: nn.Module = critic) -> Tensor:
            score: Tensor = divergence.fake_score(critic(point[None])[0, 0])
            return score

        with FlopCounterMode(display=False) as gradient:
            for point in x:
                torch.func.grad(composed)(point)
        with FlopCounterMode(display=False) as laplacian:
            for point in x:
                torch.autograd.functional.hessian(composed, point).trace()
        costs.append(laplacian.get_total_flops() / gradient.get_total_flops())
    order = float(np.polyfit(np.log(dimensions[-2:]), np.log(costs[-2:]), 1)[0])
    row = number(
        "the Laplacian of f*∘ψ needs a full Hessian: its price in gradients grows with the"
        " dimension, fitted order at the largest ones",
        _eq("Eq. 14"),
        1.0,
        order,
        0.15,
    )
    return [row], (np.array(dimensions, dtype=float), np.array(costs))


def _before_the_sigmoid() -> list[Row]:
    """Return the rows of Eq. 26: equal to Eq. 20, and what single precision makes of either."""
    logits = torch.linspace(-30, 30, 241, dtype=torch.float64)

    def both(v: Tensor) -> tuple[Tensor, Tensor]:
        # The slope of the logit is 1 at every point: sigma'(v) is the slope of D.
        prob = torch.sigmoid(v)
        slope = torch.func.vmap(torch.func.grad(torch.sigmoid))(v)
        on_real = (1 - prob).square(), (slope / prob).square()
        on_fake = prob.square(), (slope / (1 - prob)).square()
        return torch.cat([on_real[0], on_fake[0]]), torch.cat([on_real[1], on_fake[1]])

    inner = logits[logits.abs() < 8]
    logit_form, sigmoid_form = both(inner)
    exact = torch.cat([torch.sigmoid(-logits).square(), torch.sigmoid(logits).square()])
    single = logits.float()
    by_logit = torch.cat([torch.sigmoid(-single).square(), torch.sigmoid(single).square()])
    by_sigmoid = both(single)[1]
    errors = []
    for found in (by_logit, by_sigmoid):
        error = ((found.double() - exact).abs() / exact).nan_to_num(math.inf)
        errors.append(error.max().item())
    return [
        bound(
            "‖∇D‖²/D² and ‖∇D‖²/(1−D)² are (1−D)²‖∇φ‖² and D²‖∇φ‖²",
            _eq("Eq. 26"),
            "equal",
            (logit_form - sigmoid_form).abs().max().item(),
            1e-12,
        ),
        fact(
            "gradients of the logit are more robust than those after the sigmoid: largest relative"
            " error in single precision, |φ| up to 30",
            _eq("section 7.1, Eq. 26"),
            "smaller by the logit",
            "by a thousand times and more",
            f"{errors[0]:.2g} by the logit, {errors[1]:.2g} after the sigmoid",
            errors[1] > 1000 * errors[0],
        ),
    ]


def _laplace() -> list[Row]:
    """Return the row of Laplace noise of the same variance: the same first order in γ."""
    nodes, masses = np.polynomial.laguerre.laggauss(60)
    x, weights = torch.from_numpy(nodes), torch.from_numpy(masses)
    point = torch.tensor([0.7], dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return (1.4 * log_ratio(P, Q)(at[:, None]) - 0.6 * at).sigmoid()

    curvature = torch.func.hessian(lambda p: value(p)[0])(point).item()
    errors = []
    for gamma in GAMMAS:
        scale = math.sqrt(gamma / 2)  # of a Laplace distribution of variance gamma
        blurred = 0.5 * ((value(point + scale * x) + value(point - scale * x)) * weights).sum()
        errors.append(abs(blurred.item() - value(point).item() - gamma / 2 * curvature))
    order = float(np.polyfit(np.log(GAMMAS), np.log(errors), 1)[0])
    return [
        number(
            "Laplace noise of variance γ: the same γ/2 Δψ, fitted order of the error",
            _eq("section 3.2, other noise"),
            2.0,
            order,
            0.1,
        )
    ]


EXPERIMENT = Experiment(
    name="roth-remarks",
    what="what the paper says beside its figures: low-pass critics, Hessians, the sigmoid, other"
    " noise, a clipped critic's distance",
    source="Roth et al. 2017, Eqs. 6, 10, 14 and 26, sections 3.2 and 7.1",
    scales={
        "quick": {
            "dimensions": (2, 8, 32, 128),
            "width": 64,
            "clips": (0.1, 0.3, 1.0),
            "steps": 2000,
        },
        "tiny": {"dimensions": (8, 32), "width": 8, "clips": (0.1, 1.0), "steps": 30},
    },
    cost={"quick": "half a minute", "tiny": "seconds"},
    run=run,
)
