"""Autodiff of the objects that train against the closed forms, for every registered name and many
random settings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygan import Game, SteadyganError, build
from steadygan.analysis import analyze_dirac, closed_forms, jacobian
from steadygan.analysis.convergence import dirac_system, eigenvalues
from steadygan.core.registry import lookup, names

OBJECTIVES = [o for o in names("objective") if o != "f-gan"] + [
    f"f-gan:divergence={d}" for d in names("divergence")
]
DAMPING = [r for r in names("regularizer") if not lookup("regularizer", r).not_smooth]
some = settings(max_examples=8, deadline=None)
positive = st.floats(0.01, 3.0)


def matrices(game, dynamics, h):
    system = dirac_system(game, dynamics, h)
    field = jacobian(system.field, system.point()).numpy()
    step = jacobian(system.step, system.step_state(system.point())).numpy()
    return field, step


def agree(game, dynamics, h):
    dynamics = build("dynamics", dynamics)
    field, step = matrices(game, dynamics, h)
    np.testing.assert_allclose(
        field, closed_forms.field_matrix(game, dynamics, h), atol=1e-9, rtol=1e-9
    )
    np.testing.assert_allclose(
        step, closed_forms.step_matrix(game, dynamics, h), atol=1e-9, rtol=1e-9
    )
    return field, step


def test_the_tables_have_a_row_for_every_registered_name():
    assert set(closed_forms.REGULARIZERS) == set(names("regularizer"))
    assert set(closed_forms.OBJECTIVES) | {"f-gan"} == set(names("objective"))
    assert set(closed_forms.DIVERGENCES) == set(names("divergence"))
    assert set(closed_forms.SMOOTHINGS) == set(names("smoothing"))
    assert {lookup("dynamics", d) for d in names("dynamics")} == set(closed_forms.STEPS)
    refused = {r for r, row in closed_forms.REGULARIZERS.items() if row == "refused"}
    assert refused == {r for r in names("regularizer") if lookup("regularizer", r).not_smooth}


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(gamma=positive, h=st.floats(0.01, 1.0))
@some
def test_every_objective_with_every_regularizer(objective, gamma, h):
    for regularizer in DAMPING:
        game = Game(objective, [f"{regularizer}:gamma={gamma!r}"])
        field, _ = agree(game, "simultaneous", h)
        a, q = closed_forms.coupling(game), closed_forms.damping(game)
        roots = sorted(np.roots([1, q, a * a]), key=lambda z: (z.real, z.imag))
        near = 1e-7 if abs(q - 2 * a) < 1e-3 else 1e-9
        np.testing.assert_allclose(
            sorted(np.linalg.eigvals(field), key=lambda z: (round(z.real, 9), z.imag)),
            roots,
            atol=near,
        )


@pytest.mark.parametrize("divergence", names("divergence"))
@given(gamma=positive)
@some
def test_the_f_gan_weights(divergence, gamma):
    game = Game(
        f"f-gan:divergence={divergence}", [f"f-gan:gamma={gamma!r},divergence={divergence}"]
    )
    field, _ = agree(game, "simultaneous", 0.1)
    assert -field[1, 1] == pytest.approx(gamma * closed_forms.DIVERGENCES[divergence][1], abs=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(sigma=st.floats(0.05, 2.0), h=st.floats(0.01, 0.5))
@some
def test_every_objective_under_instance_noise_is_exact(objective, sigma, h):
    agree(Game(objective, [], f"instance-noise:sigma={sigma!r}"), "simultaneous", h)
    agree(
        Game(objective, ["js:gamma=0.7"], f"explicit-noise:variance={sigma!r},nsr=4"),
        f"unrolled:steps=2,step_size={h!r}",
        h,
    )


@given(
    gamma=st.floats(0.0, 3.0),
    h=st.floats(0.01, 1.5),
    n=st.integers(1, 5),
    m=st.integers(1, 3),
    first=st.booleans(),
    size=positive,
)
@settings(max_examples=25, deadline=None)
def test_every_dynamics(gamma, h, n, m, first, size):
    game = Game("minimax", [f"r1:gamma={gamma!r}", "r2:gamma=0.25"])
    order = "critic-first" if first else "generator-first"
    _, step = agree(game, f"alternating:critic_steps={n},generator_steps={m},order={order}", h)
    rho = 1 - h * (gamma + 0.25)
    assert np.linalg.det(step) == pytest.approx(rho**n, abs=1e-9)
    if m == 1 and abs(1 - rho) > 1e-6:
        assert np.trace(step) == pytest.approx(
            1 + rho**n - h**2 / 4 * (1 - rho**n) / (1 - rho), abs=1e-9
        )
    agree(game, f"consensus:gamma={gamma!r}", h)
    agree(game, f"consensus:gamma={gamma!r},alternating=true,critic_steps={n}", h)
    agree(game, "extragradient", h)
    agree(game, "optimistic", h)
    for backprop in ("true", "false"):
        field, _ = agree(
            Game("hinge"), f"unrolled:steps={n},step_size={size!r},backprop={backprop}", h
        )
        assert field[0, 0] == pytest.approx(-(2 if backprop == "true" else 1) * size * n, abs=1e-9)


def record(objective="minimax", regularizer=(), smoothing=None, dynamics="simultaneous", lr=0.2):
    (row,) = analyze_dirac([objective], [list(regularizer)], [smoothing], [dynamics], [lr])
    return row


def test_js_needs_twice_the_gamma_of_r1():
    js, r1 = record(regularizer=["js:gamma=1.2"]), record(regularizer=["r1:gamma=0.6"])
    np.testing.assert_allclose(js.eigenvalues, r1.eigenvalues, atol=1e-12)
    assert (js.critical_gamma, r1.critical_gamma) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("objective", "regularizer", "critical"),
    [
        ("minimax", "r1r2", 0.5),
        ("relativistic", "r1r2", 0.5),
        ("hinge", "r1", 2.0),
        ("f-gan:divergence=kl", "f-gan:divergence=kl", 2.0),
    ],
)
def test_critical_gamma_turns_the_rotation_off(objective, regularizer, critical):
    joint = "," if ":" in regularizer else ":"
    assert record(objective, [regularizer]).critical_gamma == pytest.approx(critical, abs=1e-8)
    below, above = (
        record(objective, [f"{regularizer}{joint}gamma={critical * f}"]) for f in (0.99, 1.01)
    )
    assert abs(below.eigenvalues[0].imag) > 0.01 and above.eigenvalues[0].imag == 0


def test_nothing_damps_where_nothing_should():
    for regularizer in ("lecam", "wgan-lp"):
        row = record("wasserstein" if regularizer == "wgan-lp" else "minimax", [regularizer])
        assert (
            row.critical_gamma is None
            and row.eigenvalues[0].real == pytest.approx(0, abs=1e-12)
            and row.converges is False
        )


@pytest.mark.parametrize("regularizer", ["wgan-gp", "dragan"])
def test_a_kink_is_refused_with_the_reason(regularizer):
    row = record("wasserstein", [regularizer])
    assert (
        row.converges is False
        and row.eigenvalues is None
        and "kink" in row.reason
        and "Mescheder" in row.reason
    )
    assert row.to_json()["eigenvalues"] is None
    with pytest.raises(SteadyganError, match="kink"):
        dirac_system(Game("wasserstein", [regularizer]), "simultaneous", 0.1)


@pytest.mark.parametrize(
    ("regularizer", "dynamics", "limit"),
    [
        (["r1:gamma=0.4"], "simultaneous", 0.4 / 0.25),
        (["r1:gamma=2.5"], "simultaneous", 2 / (1.25 + np.sqrt(1.25**2 - 0.25))),
        ([], "simultaneous", 0.0),
        ([], "alternating:critic_steps=3,generator_steps=2", 2 / (0.5 * np.sqrt(6))),
        ([], "extragradient", 2.0),
        ([], "optimistic", 2 / np.sqrt(3)),
    ],
)
def test_the_largest_stable_learning_rate(regularizer, dynamics, limit):
    row = record(regularizer=regularizer, dynamics=dynamics)
    assert row.max_stable_lr == pytest.approx(limit, rel=1e-6, abs=1e-12)
    assert closed_forms.max_stable_lr(
        Game("minimax", regularizer), build("dynamics", dynamics)
    ) == pytest.approx(limit, rel=1e-9)
    if limit and regularizer:
        assert record(regularizer=regularizer, dynamics=dynamics, lr=0.98 * limit).converges is True
        assert (
            record(regularizer=regularizer, dynamics=dynamics, lr=1.02 * limit).converges is False
        )


def test_the_verdict_is_open_exactly_on_the_circle():
    row = record(dynamics="alternating")
    assert (
        row.converges is None
        and "decides nothing" in row.reason
        and row.spectral_radius == pytest.approx(1, abs=1e-12)
    )


def test_records_serve_programs():
    row = record(regularizer=["r1:gamma=0.25", "r2:gamma=0.05"]).to_json()
    keys = (
        "objective regularizer smoothing dynamics lr eigenvalues step_eigenvalues"
        " spectral_radius critical_gamma max_stable_lr converges"
    )
    assert list(row) == [*keys.split(), "reason", "closed_form_eigenvalues"]
    assert row["regularizer"] == "r1:gamma=0.25 + r2:gamma=0.05" and row["smoothing"] is None
    assert row["eigenvalues"][0] == pytest.approx([-0.15, np.sqrt(0.25 - 0.0225)])


def test_a_mistake_in_the_last_name_is_told_before_anything_is_computed():
    with pytest.raises(SteadyganError, match="nearest first: optimistic"):
        analyze_dirac(["minimax"], [[]], [None], ["simultaneous", "optimstic"], [0.1])


def test_eigenvalues_are_ordered():
    assert eigenvalues(np.diag([1.0, 3.0, -2.0])) == [3, 1, -2]
