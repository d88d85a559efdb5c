"""The Jacobian of the Dirac-GAN's gradient field, taken through the very objects that train images,
against closed forms."""

import math

import pytest
import torch
from closed_forms import (
    COUPLING,
    DAMPING,
    DIVERGENCES,
    LINEARISABLE,
    OBJECTIVES,
    WEIGHT,
    Refused,
    damping,
    eigenvalues,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygan.core import Context, Game, build, names
from support import Fixed, dirac, field, field_jacobian, functional, normal_nodes, specs, with_gamma

few = settings(deadline=None, max_examples=8)


def matrix(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def close(found, expected, atol=1e-10):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=atol)


def seeded() -> Context:
    return Context(rng=torch.Generator().manual_seed(0))


def spectrum(found: torch.Tensor) -> list[complex]:
    return sorted(
        torch.linalg.eigvals(found).tolist(), key=lambda c: (round(c.real, 7), round(c.imag, 7))
    )


def test_every_name_has_its_row():
    assert set(DAMPING) == set(names("regularizer"))
    assert set(DIVERGENCES) == set(names("divergence"))
    assert set(OBJECTIVES) == set(specs("objective"))


@pytest.mark.parametrize("spelling", OBJECTIVES)
def test_what_an_objective_declares(spelling):
    objective, (a, critic, generator) = build("objective", spelling), OBJECTIVES[spelling]
    assert objective.coupling == a
    assert objective.curvature[:2] == pytest.approx((critic, generator), abs=1e-15)


@pytest.mark.parametrize("spelling", LINEARISABLE)
@pytest.mark.parametrize("variance", [0.0, 0.49])
def test_what_a_regularizer_declares(spelling, variance):
    regularizer = build("regularizer", with_gamma(spelling, 0.37))
    expected = damping(spelling, 0.37, variance)
    assert regularizer.damping(variance=variance) == pytest.approx(expected, rel=1e-14)
    if len(regularizer.where):
        annealed = build("regularizer", with_gamma(spelling, "0.37,anneal=0.01"))
        assert annealed.damping(0.5) == pytest.approx(0.1 * expected, rel=1e-14)


@pytest.mark.parametrize("objective", COUPLING)
@pytest.mark.parametrize("spelling", LINEARISABLE)
def test_jacobian_at_the_equilibrium(objective, spelling):
    """Every objective with every regularizer: a and q do not know of each other."""
    gamma, a = 0.37, COUPLING[objective]
    found = field_jacobian(Game(objective, [with_gamma(spelling, gamma)]), dirac(), seeded())
    close(found, matrix([0, a], [-a, -damping(spelling, gamma)]))


@pytest.mark.parametrize("spelling", LINEARISABLE)
@few
@given(st.floats(0.01, 8), st.integers(1, 4))
def test_eigenvalues(spelling, gamma, batch):
    q, game = damping(spelling, gamma), Game("nonsaturating", [with_gamma(spelling, gamma)])
    found = torch.linalg.eigvals(field_jacobian(game, dirac(batch=batch), seeded())).tolist()
    # Near the critical gamma the two meet like a square root, so compare their sum and product too,
    # which stay well conditioned.
    assert sum(found).real == pytest.approx(-q, abs=1e-10) and (
        found[0] * found[1]
    ).real == pytest.approx(0.25, abs=1e-10)
    for value in eigenvalues(0.5, q):
        assert min(abs(value - other) for other in found) < 2e-5


@pytest.mark.parametrize(
    "name, critical", [("r1", 1.0), ("r2", 1.0), ("gp0", 1.0), ("r1r2", 0.5), ("js", 2.0)]
)
def test_critical_gamma(name, critical):
    """Oscillation ends at 2a (R1), a (both), 4a (JS): complex below, real above."""
    for gamma, oscillates in ((0.99 * critical, True), (1.01 * critical, False)):
        found = spectrum(
            field_jacobian(Game("minimax", [f"{name}:gamma={gamma}"]), dirac(), seeded())
        )
        assert (abs(found[0].imag) > 0.02) == oscillates
        assert found[0].real < -0.4


def test_regularizers_add_up():
    found = field_jacobian(
        Game("relativistic", ["r1:gamma=0.3", "js:gamma=0.5"]), dirac(), seeded()
    )
    close(found, matrix([0, 0.5], [-0.5, -0.3 - 0.25]))


@pytest.mark.parametrize("divergence", names("divergence"))
@few
@given(st.floats(0.05, 5))
def test_f_gan_with_its_own_regularizer(divergence, gamma):
    a, w = COUPLING[f"f-gan:divergence={divergence}"], WEIGHT[divergence]
    game = Game(f"f-gan:divergence={divergence}", [f"f-gan:gamma={gamma},divergence={divergence}"])
    close(field_jacobian(game, dirac()), matrix([0, a], [-a, -gamma * w]))


@pytest.mark.parametrize("objective", ["minimax", "nonsaturating"])
@few
@given(st.floats(0.05, 2))
def test_instance_noise(objective, sigma):
    """q = -2 b sigma^2 with b = f''(0) = -1/4: it damps as R1 does, if gamma = sigma^2 / 2."""
    nodes = normal_nodes(9)
    game = Game(objective, smoothing=f"instance-noise:sigma={sigma}")
    found = field_jacobian(game, dirac(batch=9), Context(rng=Fixed(nodes)))
    close(found, matrix([0, 0.5], [-0.5, -(sigma**2) / 2]))
    close(found, field_jacobian(Game(objective, [f"r1:gamma={sigma**2 / 2}"]), dirac()))


def test_noise_does_not_damp_where_the_loss_is_linear():
    game = Game("wasserstein", smoothing="instance-noise:sigma=0.8")
    close(
        field_jacobian(game, dirac(batch=9), Context(rng=Fixed(normal_nodes(9)))),
        matrix([0, 1], [-1, 0]),
    )


def test_explicit_noise_is_instance_noise_of_that_variance():
    game = Game("minimax", smoothing="explicit-noise:variance=0.36,nsr=3")
    close(
        field_jacobian(game, dirac(batch=9), Context(rng=Fixed(normal_nodes(9)))),
        matrix([0, 0.5], [-0.5, -0.18]),
    )


@pytest.mark.parametrize(
    "memory", [{}, {"lecam.real": torch.zeros(()).double(), "lecam.fake": torch.zeros(()).double()}]
)
def test_lecam_is_of_third_order(memory):
    """The pull on psi shrinks like the cube of the distance (twice the distance: eight times) with
    the averages at their equilibrium."""
    pulls = []
    for r in (0.01, 0.02):
        with_, without = (
            field(functional(Game("wasserstein", given), dirac(r, 1.7 * r), Context(memory=memory)))
            for given in (["lecam:gamma=2"], [])
        )
        pulls.append((with_ - without)[1].item())
    assert pulls[0] < 0 and pulls[1] / pulls[0] == pytest.approx(8, rel=1e-6)


@pytest.mark.parametrize(
    "name", [name for name, row in DAMPING.items() if isinstance(row, Refused)]
)
def test_refused_rows_have_no_linearisation(name):
    """The field jumps across psi = 0 by gamma * target on each side: there is nothing to
    differentiate, and hence no number to print."""
    game = Game("wasserstein", [f"{name}:gamma=0.7"])
    above, below = (
        field(functional(game, dirac(0.0, psi), seeded()))[1].item() for psi in (1e-9, -1e-9)
    )
    assert above == pytest.approx(0.7, rel=1e-6) and below == pytest.approx(-0.7, rel=1e-6)
    assert DAMPING[name].reason


# ------------------------------------------------------------ away from the equilibrium


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


# Six digits: the square of a slope of 1e-200 is 0, and the safe norm then calls the slope 0 too.
coordinates = st.floats(-2, 2).map(lambda x: round(x, 6))


@few
@given(coordinates, coordinates, st.floats(0, 3))
def test_field_in_closed_form_everywhere(theta, psi, gamma):
    """v at any point for the rows whose field is elementary, minimax and Wasserstein."""
    s = sigmoid(psi * theta)
    rows = {
        ("minimax",): (psi * s, -theta * s),
        ("nonsaturating",): (psi * (1 - s), -theta * s),
        ("wasserstein",): (psi, -theta),
        ("least-squares",): (psi * (1 - psi * theta), -theta * (1 + psi * theta)),
        ("relativistic",): (psi * (1 - s), -theta * s),
        ("wasserstein", "r1"): (psi, -theta - gamma * psi),
        ("wasserstein", "r1r2"): (psi, -theta - 2 * gamma * psi),
        ("wasserstein", "wgan-lp"): (
            psi,
            -theta - gamma * math.copysign(max(abs(psi) - 1, 0), psi),
        ),
        ("wasserstein", "wgan-gp"): (
            psi,
            -theta - (gamma * (abs(psi) - 1) * math.copysign(1, psi) if psi else 0),
        ),
        ("minimax", "js"): (
            psi * s,
            -theta * s - gamma * psi * (0.25 + s**2) - gamma * psi**2 * theta * s**2 * (1 - s),
        ),
        ("minimax", "f-gan"): (
            psi * s,
            -theta * s - gamma * psi * s - gamma / 2 * psi**2 * theta * s * (1 - s),
        ),
        # Without a memory the batch's own mean stands in for the average and depends on psi too:
        # twice the pull of a constant.
        ("wasserstein", "lecam"): (psi, -theta - 2 * gamma * psi * theta**2),
    }
    for (objective, *penalties), expected in rows.items():
        game = Game(objective, [f"{p}:gamma={gamma}" for p in penalties])
        found = field(functional(game, dirac(theta, psi), seeded())).tolist()
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12), (objective, *penalties)
