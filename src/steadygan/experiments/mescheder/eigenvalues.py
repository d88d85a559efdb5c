"""Mescheder et al. 2018, sections 2 to 4: every closed form of the Dirac-GAN.

Against automatic differentiation of the training objects.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis import closed_forms
from ...analysis.convergence import analyze_dirac, critical_gamma, dirac_system, eigenvalues
from ...analysis.linearize import jacobian
from ...analysis.portrait import field
from ...core.errors import SteadyganError
from ...core.game import Game
from ...core.registry import build, names
from ..spec import Experiment, Findings, Row, Source, bound, fact, number

GAMMAS = (0.1, 0.3, 0.5, 1.0, 2.0, 5.0)
_DOUBLE_ROOT = 1e-7
"""Where the eigenvalues coincide, rounding of 1e-16 in the Jacobian moves them by its square
root."""


@dataclass(frozen=True)
class Form:
    """A row of the paper's closed forms.

    The method, its formula in words, and its eigenvalues at a strength g.
    """

    method: str
    formula: str
    source: Source
    game: Callable[[float], Game]
    values: Callable[[float], list[complex]]
    dynamics: Callable[[float], str] = lambda g: "simultaneous"


def damped(a: float, q: float) -> list[complex]:
    """Return -q/2 ± √(q²/4 - a²), the eigenvalues of [[0, a], [-a, -q]].

    >>> damped(0.5, 1.0)
    [(-0.5+0j), (-0.5+0j)]
    """
    root = cmath.sqrt(q * q / 4 - a * a)
    return [-q / 2 + root, -q / 2 - root]


_M = "Mescheder et al. 2018, "
_TEXT = Source(_M + "section 3")
_HERE = Source(_M + "sections 2 and 3", known="derived here")
_OURS = Source("docs/derivations.md", "ours", "derived here")
_R = Source("Roth et al. 2017, Eq. 20, linearised at the equilibrium", "ours", "derived here")
_STEPS, _SIZE = 5, 0.1

FORMS = (
    Form("GAN", "±ia, a = ½", _HERE, lambda g: Game("minimax"), lambda g: damped(0.5, 0)),
    Form(
        "non-saturating GAN",
        "±ia, a = ½",
        _HERE,
        lambda g: Game("nonsaturating"),
        lambda g: damped(0.5, 0),
    ),
    Form("WGAN", "±i", _HERE, lambda g: Game("wasserstein"), lambda g: damped(1, 0)),
    Form(
        "WGAN, clipped at 1",
        "±i: inactive there",
        _HERE,
        lambda g: Game("wasserstein", constraint="clip:c=1"),
        lambda g: damped(1, 0),
    ),
    Form(
        "WGAN-LP",
        "±i: vanishes there",
        _OURS,
        lambda g: Game("wasserstein", f"wgan-lp:gamma={g}"),
        lambda g: damped(1, 0),
    ),
    Form(
        "instance noise, σ² = γ",
        "bσ² ± √(b²σ⁴ − a²), b = −¼",
        _TEXT,
        lambda g: Game("minimax", smoothing=f"instance-noise:sigma={math.sqrt(g)!r}"),
        lambda g: damped(0.5, g / 2),
    ),
    Form(
        "R1",
        "−γ/2 ± √(γ²/4 − a²)",
        _TEXT,
        lambda g: Game("minimax", f"r1:gamma={g}"),
        lambda g: damped(0.5, g),
    ),
    Form(
        "R2",
        "−γ/2 ± √(γ²/4 − a²)",
        _TEXT,
        lambda g: Game("minimax", f"r2:gamma={g}"),
        lambda g: damped(0.5, g),
    ),
    Form(
        "R1 + R2",
        "−γ ± √(γ² − a²)",
        _OURS,
        lambda g: Game("minimax", f"r1r2:gamma={g}"),
        lambda g: damped(0.5, 2 * g),
    ),
    Form(
        "JS",
        "−γ/4 ± √(γ²/16 − a²)",
        _R,
        lambda g: Game("minimax", f"js:gamma={g}"),
        lambda g: damped(0.5, g / 2),
    ),
    Form(
        "f-GAN with its regularizer, KL",
        "−γw/2 ± √(γ²w²/4 − a²), a = w = 1",
        _OURS,
        lambda g: Game("f-gan:divergence=kl", f"f-gan:gamma={g},divergence=kl"),
        lambda g: damped(1, g),
    ),
    Form(
        "consensus optimisation",
        "−γa² ± ia",
        _HERE,
        lambda g: Game("minimax"),
        lambda g: [complex(-g / 4, 0.5), complex(-g / 4, -0.5)],
        lambda g: f"consensus:gamma={g}",
    ),
    Form(
        f"unrolled by {_STEPS} steps of {_SIZE}",
        "−eka² ± √(e²k²a⁴ − a²)",
        _OURS,
        lambda g: Game("minimax"),
        lambda g: damped(0.5, 2 * _STEPS * _SIZE / 4),
        lambda g: f"unrolled:steps={_STEPS},step_size={_SIZE}",
    ),
)


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Compare both sides at every strength; where there is no Jacobian, show the kink.

    Returns:
        A row for each closed form, and the spectra.
    """
    gammas = settings["gammas"]
    rows, spectra = [], {}
    for form in FORMS:
        pairs = [(form.values(g), measured(form.game(g), form.dynamics(g))) for g in gammas]
        words = f"{form.method}: eigenvalues at γ = {', '.join(f'{g:g}' for g in gammas)}"
        rows.append(
            bound(words, form.source, form.formula, max(gap(*pair) for pair in pairs), _DOUBLE_ROOT)
        )
        spectra[form.method] = tuple(
            np.concatenate([np.array(pair[side]) for pair in pairs]) for side in (0, 1)
        )
    rows += [
        _kink(name, objective, source, settings["strength"])
        for name, objective, source in (
            ("wgan-gp", "wasserstein", _HERE),
            ("dragan", "minimax", _OURS),
        )
    ]
    for name, expected in {"r1": 1.0, "r2": 1.0, "r1r2": 0.5, "js": 2.0}.items():
        found = critical_gamma(Game("minimax", f"{name}:gamma=1"))
        rows.append(
            number(
                f"{name}: critical γ",
                _TEXT if name in ("r1", "r2") else _OURS,
                expected,
                math.nan if found is None else found,
                1e-6,
            )
        )
    twins = [
        gap(
            measured(Game("minimax", f"js:gamma={2 * g}")),
            measured(Game("minimax", f"r1:gamma={g}")),
        )
        for g in gammas
    ]
    rows.append(
        bound(
            "JS with 2γ has the eigenvalues of R1 with γ",
            _OURS,
            "equal",
            max(twins),
            _DOUBLE_ROOT,
        )
    )
    rows += _largest_rates(settings["rates"])
    rows.append(_all_combinations(settings["objectives"]))
    note = (
        "Rings are closed forms, dots what automatic differentiation gives; each colour is a"
        " method, each pair of points a strength."
    )
    return Findings(
        tuple(rows), "spectra", {"spectra": spectra, "curves": _curves(settings["curve"])}, (note,)
    )


def measured(game: Game, dynamics: str = "simultaneous") -> list[complex]:
    """Return the eigenvalues of the field that the dynamics follows at the equilibrium.

    By automatic differentiation.
    """
    system = dirac_system(game, dynamics, 0.2)
    return eigenvalues(jacobian(system.field, system.point()))


def gap(one: list[complex], other: list[complex]) -> float:
    """Return the largest distance between two spectra of two values, in the better pairing.

    >>> gap([1j, -1j], [-1j, 1j])
    0.0
    """
    (a, b), (c, d) = one, other
    return min(max(abs(a - c), abs(b - d)), max(abs(a - d), abs(b - c)))


def _kink(name: str, objective: str, source: Source, gamma: float) -> Row:
    game = Game(objective, f"{name}:gamma={gamma}")
    try:
        measured(game)
        refused = False
    except SteadyganError:
        refused = True
    above, below = field(game, "simultaneous", [[0.0, 1e-9], [0.0, -1e-9]])[:, 1].tolist()
    return fact(
        f"{name}: the field is discontinuous at ψ = 0, so there are no eigenvalues",
        source,
        f"v_ψ jumps by 2γg₀ = {2 * gamma:g}; the analysis refuses",
        "1e-6",
        f"jump {above - below:.7g}; " + ("refused" if refused else "NOT refused"),
        refused and abs(above - below - 2 * gamma) < 1e-6,
    )


def _largest_rates(count: int) -> list[Row]:
    """Return rows for the largest stable learning rates.

    Bisection on the spectral radius against the formulas.
    """
    cases: tuple[tuple[str, list[str], str, str, float], ...] = (
        ("minimax", ["r1:gamma=0.3"], "simultaneous", "q/a²", 1.2),
        (
            "minimax",
            ["r1:gamma=3"],
            "simultaneous",
            "2/(q/2 + √(q²/4 − a²))",
            2 / (1.5 + math.sqrt(2)),
        ),
        ("minimax", [], "alternating", "2/a", 4.0),
        ("minimax", [], "alternating:critic_steps=5", "2/(a√5)", 4 / math.sqrt(5)),
        ("minimax", [], "extragradient", "1/a", 2.0),
        ("minimax", [], "optimistic", "1/(a√3)", 2 / math.sqrt(3)),
    )
    rows = []
    for objective, regularizers, dynamics, formula, expected in cases[:count]:
        (record,) = analyze_dirac([objective], [regularizers], [None], [dynamics], [0.2])
        words = (
            f"largest stable learning rate, {' + '.join(regularizers) or 'unregularized'},"
            f" {dynamics}: {formula}"
        )
        rows.append(
            number(
                words,
                _OURS,
                expected,
                record.max_stable_lr or math.nan,
                1e-6 * expected,
            )
        )
    return rows


def _all_combinations(objectives: tuple[str, ...]) -> Row:
    worst, count, refused, silent = 0.0, 0, 0, set()
    for objective in objectives or names("objective"):
        for regularizer in ("", *names("regularizer")):
            game = Game(objective, regularizer or ())
            game = game.with_strengths(dict.fromkeys(game.strengths(), 0.7))
            for dynamics in names("dynamics"):
                try:
                    found = measured(game, dynamics)
                except SteadyganError:
                    refused += 1
                    continue
                try:
                    form = eigenvalues(
                        closed_forms.field_matrix(game, build("dynamics", dynamics), 0.2)
                    )
                except closed_forms.Undeclared as absent:
                    silent.add(str(absent))
                    continue
                worst, count = max(worst, gap(form, found)), count + 1
    words = (
        f"all registered objectives × regularizers × dynamics: {count} closed forms,"
        f" {refused} refused for a kink" + "".join(f"; {words}" for words in sorted(silent))
    )
    return bound(words, _OURS, "equal", worst, _DOUBLE_ROOT)


def _curves(count: int) -> dict[str, tuple[np.ndarray, ...]]:
    """Return by regularizer: γ (n,), and the largest real part (n,) twice.

    By autodiff, and by the formula.
    """
    gammas = np.geomspace(0.05, 8, count)
    found: dict[str, tuple[np.ndarray, ...]] = {}
    for name, factor in {"r1": 1.0, "r1r2": 2.0, "js": 0.5}.items():
        by_autodiff = [
            max(v.real for v in measured(Game("minimax", f"{name}:gamma={g}"))) for g in gammas
        ]
        found[name] = (
            gammas,
            np.array(by_autodiff),
            np.array([max(v.real for v in damped(0.5, factor * g)) for g in gammas]),
        )
    return found


_FULL = {"gammas": GAMMAS, "strength": 0.7, "objectives": (), "curve": 25, "rates": 6}

EXPERIMENT = Experiment(
    name="mescheder-eigenvalues",
    what="all closed forms of the Dirac-GAN against automatic differentiation",
    source="Mescheder et al. 2018, sections 2 to 4",
    scales={
        "quick": _FULL,
        "paper": _FULL,
        "tiny": {
            "gammas": (0.3, 1.0),
            "strength": 0.7,
            "objectives": ("minimax",),
            "curve": 3,
            "rates": 2,
        },
    },
    cost={"quick": "20 seconds", "paper": "the same", "tiny": "seconds"},
    run=run,
)
