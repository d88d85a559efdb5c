"""Make the pictures of this gallery, and their numbers as CSV: ``python docs/gallery/make.py``.

A minute and a half on one core.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from steadygan import Game, SteadyganError
from steadygan.analysis.portrait import basin, mesh, portrait, spectrum
from steadygan.report.numbers import numbers, to_csv
from steadygan.report.portraits import (
    Panel,
    draw_basin,
    draw_rate,
    draw_spectrum,
    portrait_sheet,
    save_figure,
    styled,
)

HERE = Path(__file__).parent
LR = 0.2

# The settings of Mescheder et al. 2018, Figure 3, and three methods more that they discuss.
METHODS = {
    "GAN": Game("minimax"),
    "Non-saturating GAN": Game("nonsaturating"),
    "WGAN": Game("wasserstein"),
    "WGAN, clipped at 1": Game("wasserstein", constraint="clip:c=1"),
    "WGAN-GP, γ = 0.7": Game("wasserstein", "wgan-gp:gamma=0.7"),
    "WGAN-LP, γ = 0.7": Game("wasserstein", "wgan-lp:gamma=0.7"),
    "DRAGAN, γ = 0.7": Game("minimax", "dragan:gamma=0.7"),
    "Consensus, γ = 1": Game("minimax"),
    "Instance noise, σ = 0.7": Game("minimax", smoothing="instance-noise:sigma=0.7"),
    "JS regularizer, γ = 0.6": Game("minimax", "js:gamma=0.6"),
    "R1, γ = 0.3": Game("minimax", "r1:gamma=0.3"),
    "R1, γ = 1": Game("minimax", "r1:gamma=1"),
}
DYNAMICS = {
    "simultaneous": "simultaneous",
    "alternating, 1 critic step": "alternating:order=generator-first",
    "alternating, 5 critic steps": "alternating:critic_steps=5,order=generator-first",
}
CONSENSUS = dict(
    zip(
        DYNAMICS,
        ("consensus", "consensus:alternating=true", "consensus:alternating=true,critic_steps=5"),
        strict=True,
    )
)


def rate(game: Game, dynamics: str, lr: float) -> float:
    """Return the spectral radius of one step at the equilibrium."""
    return max(map(abs, spectrum(game, dynamics, lr)))


def panels() -> list[Panel]:
    """Return a panel for each method and dynamics."""
    found = []
    for name, game in METHODS.items():
        for words, dynamics in (CONSENSUS if name.startswith("Consensus") else DYNAMICS).items():
            seen = portrait(game, dynamics, LR)
            try:
                factor = rate(game, dynamics, LR)
                converges, theory = (
                    None if abs(factor - 1) < 1e-9 else factor < 1,
                    f"rate {factor:.4f}",
                )
            except SteadyganError:
                converges, theory = False, "a kink: no eigenvalues"
            found.append(
                Panel(
                    name, words, f"r = {np.hypot(*seen.path[-1]):.2g};  {theory}", *seen, converges
                )
            )
    return found


def analysis() -> tuple[Figure, list[list[str]]]:
    """Draw eigenvalues, rates against gamma and the learning rate, and basins; with the numbers."""
    table = [["panel", "name", "x", "y", "value"]]

    def note(panel: str, name: str, *found: float) -> None:
        table.append([panel, name, *(f"{x:.5g}" for x in found), *[""] * (3 - len(found))])

    figure = Figure(figsize=(10.6, 6.4), dpi=150, layout="constrained")
    axes = [styled(axis) for axis in figure.subplots(2, 3).flat]
    rows = ("GAN", "WGAN", "R1, γ = 0.3", "R1, γ = 1", "JS regularizer, γ = 0.6")
    spectra = {name: spectrum(METHODS[name], "simultaneous", LR) for name in rows}
    draw_spectrum(axes[0], spectra)
    for name, eigenvalues in spectra.items():
        for z in eigenvalues:
            note("eigenvalues of a step: Re, Im", name, z.real, z.imag)
    gammas = np.geomspace(0.03, 10, 24)
    kinds = ("r1", "js", "r1r2")
    curves = {
        kind: [rate(Game("minimax", f"{kind}:gamma={g}"), "simultaneous", LR) for g in gammas]
        for kind in kinds
    }
    for kind, curve in curves.items():
        for gamma, factor in zip(gammas, curve, strict=True):
            note("spectral radius against gamma", kind, gamma, factor)
    draw_rate(
        axes[1],
        {kind: (gammas, np.array(curve)) for kind, curve in curves.items()},
        "γ, simultaneous, learning rate 0.2",
    )
    lrs = np.geomspace(0.03, 4, 24)
    plain, damped = METHODS["GAN"], METHODS["R1, γ = 0.3"]
    methods = {
        "GAN, simultaneous": (plain, "simultaneous"),
        "GAN, alternating": (plain, "alternating"),
        "GAN, extragradient": (plain, "extragradient"),
        "GAN, optimistic": (plain, "optimistic"),
        "R1 0.3, simultaneous": (damped, "simultaneous"),
        "R1 0.3, alternating": (damped, "alternating"),
    }
    rates = {name: np.array([rate(*method, h) for h in lrs]) for name, method in methods.items()}
    for name, curve in rates.items():
        for h, factor in zip(lrs, curve, strict=True):
            note("spectral radius against the learning rate", name, h, factor)
    draw_rate(axes[2], {name: (lrs, curve) for name, curve in rates.items()}, "learning rate")
    for axis in axes[1:3]:
        axis.set_xscale("log")
        axis.minorticks_off()
    half, count = 4.0, 41
    starts = mesh(half, count)
    basins = {
        "R1, γ = 1: from everywhere": (METHODS["R1, γ = 1"], "simultaneous"),
        "WGAN-GP: from nowhere": (
            METHODS["WGAN-GP, γ = 0.7"],
            DYNAMICS["alternating, 1 critic step"],
        ),
        "Consensus, alternating: locally": (plain, CONSENSUS["alternating, 5 critic steps"]),
    }
    for axis, (title, (game, dynamics)) in zip(axes[3:], basins.items(), strict=True):
        distances = basin(game, dynamics, starts.view(-1, 2), LR, 200)
        for (theta, psi), distance in zip(starts.view(-1, 2).tolist(), distances, strict=True):
            note("distance after 200 steps, by start", title, theta, psi, float(distance))
        draw_basin(axis, distances.view(count, count).numpy(), half, title)
    return figure, table


if __name__ == "__main__":
    drawn = panels()
    print(save_figure(portrait_sheet(drawn, columns=6), HERE / "dirac.png"))
    paths = numbers("portraits", {"panels": [vars(panel) for panel in drawn]})
    (HERE / "dirac.csv").write_text(to_csv(paths))
    figure, table = analysis()
    print(save_figure(figure, HERE / "analysis.png"))
    (HERE / "analysis.csv").write_text(to_csv(table))
