"""Table 1 of Mescheder et al. 2018: the measured verdict beside the recalled one, and the spectra
beside their closed forms."""

import math

import numpy as np
import pytest

from steadygan import Game, SteadyganError
from steadygan.analysis.linearize import System, jacobian
from steadygan.analysis.table1 import (
    CASES,
    METHODS,
    GridDraws,
    Method,
    measure,
    players,
    table1,
)

# The penalty's kink is at the equilibrium in both games, and the critic's own curvature does not
# remove it.
DISAGREEMENTS = {("DRAGAN", "absolutely continuous")}
BY_NAME = {method.name: method for method in METHODS}


@pytest.fixture(scope="module")
def table():
    return {(v.method, v.case): v for v in table1()}


def test_the_measured_table_is_the_recalled_one_but_for_dragan(table):
    assert {key for key, verdict in table.items() if not verdict.agrees} == DISAGREEMENTS
    assert len(table) == 18


def test_no_verdict_is_close(table):
    for verdict in table.values():
        assert verdict.ratio < 1e-3 if verdict.converges else verdict.ratio > 0.5


def test_linearisation_and_play_agree(table):
    for verdict in table.values():
        if verdict.eigenvalues is None:
            assert "kink" in verdict.reason and not verdict.converges
        else:
            assert verdict.converges == (max(value.real for value in verdict.eigenvalues) < -1e-9)


@pytest.mark.parametrize("name", ["unregularized", "WGAN", "instance noise", "JS", "R1", "R2"])
def test_spectra_with_densities(name, table):
    """Blocks of (mu, psi_1) and (s, psi_2): k = 1, 2, features x^k with second moments 1 and 3,
    slopes k under the data."""
    game = Game(**BY_NAME[name].game)
    a, c = game.objective.coupling, game.objective.curvature.critic
    variance = 0.0 if game.smoothing is None else game.smoothing.noise()
    penalty = sum(regularizer.damping() for regularizer in game.regularizers)
    roots = []
    for k, moment in ((1, 1 + variance), (2, 3 * (1 + variance) ** 2)):
        roots.extend(np.roots([1, c * moment + penalty * k**2, (k * a) ** 2]))
    found = table[name, "absolutely continuous"].eigenvalues
    # Rounded before they are sorted: real parts that are 0 but for rounding would decide.
    ours, theirs = (np.sort_complex(np.round(np.array(v, complex), 7)) for v in (found, roots))
    np.testing.assert_allclose(ours, theirs, atol=2e-7)


@pytest.mark.parametrize(
    ("name", "bent"),
    [
        ("minimax", (1 / 2, 3 / 2)),
        ("relativistic", (1 / 2, 1)),
        ("relativistic-average", (1 / 4, 1 / 2)),
        ("wasserstein r1:gamma=3", (3, 12)),
        ("wasserstein gp0:gamma=3", (3, 8)),
        ("wasserstein lecam:gamma=3", (6, 18)),
        # Noise of variance 1/2: E x^2 = 3/2, E x^4 = 27/4, Var x^2 = 9/2.
        ("relativistic noise", (3 / 4, 9 / 4)),
        ("wasserstein gp0:gamma=3 noise", (3, 12)),
    ],
)
def test_what_bends_the_critic_with_densities(name, bent):
    # D = psi_1 x + psi_2 x^2 and N(0, 1): derivations, section 4; (x, x^2) varies by diag(1, 2).
    objective, *regularizers = name.removesuffix(" noise").split(" ")
    noise = f"instance-noise:sigma={0.5**0.5}" if name.endswith("noise") else None
    game = Game(objective, regularizers, noise)
    system = System(game, "simultaneous", *players(CASES[0]), lr=0.1, draws=GridDraws)
    field = jacobian(system.field, system.point()).numpy()
    # The grid has 2.656 for gp0's 8/3.
    np.testing.assert_allclose(-field[2:, 2:], np.diag(bent), rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_the_equilibrium_is_one(case):
    generator, critic, batch = players(case)
    assert critic(generator(batch.latent)).abs().max() == 0
    assert generator(batch.latent).var(correction=0).item() == pytest.approx(
        batch.real.var(correction=0).item()
    )


def test_the_kink_stays_at_any_strength():
    """From closer and with smaller steps the players still leave: it is not the step that
    oversteps."""
    for gamma in (0.1, 10.0):
        dragan = Method(
            "DRAGAN", {"objective": "minimax", "regularizers": [f"dragan:gamma={gamma}"]}
        )
        verdict = measure(
            dragan, "absolutely continuous", offset=0.01, lr=0.3 if gamma < 1 else 0.03, steps=200
        )
        assert verdict.ratio > 2 and math.isfinite(verdict.ratio)


def test_refusals():
    with pytest.raises(SteadyganError, match="absolutely continuous, general"):
        players("singular")
    with pytest.raises(SteadyganError, match="damped, but 3 steps"):
        measure(BY_NAME["R1"], "general", steps=3)
