"""Autodiff of the objects that train against the closed forms, for every registered name and many
random settings."""

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from steadygan import Game, SteadyganError, build
from steadygan.analysis import analyze_dirac, closed_forms, convergence, jacobian
from steadygan.analysis.convergence import Quadrature, dirac_system, eigenvalues
from steadygan.analysis.linearize import System
from steadygan.core import Batch, register, unregister
from steadygan.core.linear import Linear
from steadygan.core.registry import lookup, names
from steadygan.core.regularizers import GradientPenalty, Regularizer

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


def test_every_name_declares_its_mathematics():
    for name in names("objective"):
        made = build("objective", name)
        assert made.coupling is not None and made.curvature is not None
    for name in names("regularizer"):
        made = build("regularizer", name)
        assert (made.damping() is None) == bool(made.not_smooth)
    assert None not in {build("smoothing", name).noise(0.0) for name in names("smoothing")}
    for name in names("dynamics"):
        dynamics, game = build("dynamics", name), closed_forms.linear(Game("minimax"))
        assert dynamics.linear_field(game, 0.1) is not None
        assert dynamics.linear_step(game, 0.1) is not None


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
    weight = build("divergence", divergence).weight(torch.zeros((), dtype=torch.float64)).item()
    assert -field[1, 1] == pytest.approx(gamma * weight, abs=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(sigma=st.floats(0.05, 2.0), h=st.floats(0.01, 0.5))
@some
def test_every_objective_under_instance_noise_is_exact(objective, sigma, h):
    agree(Game(objective, [], f"instance-noise:sigma={sigma!r}"), "simultaneous", h)
    every = Game(objective, [f"{r}:gamma=0.{i + 1}" for i, r in enumerate(DAMPING)])
    agree(replace(every, smoothing=f"instance-noise:sigma={sigma!r}"), "simultaneous", h)
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


@pytest.mark.parametrize(
    "dynamics",
    [
        "simultaneous",
        "alternating:critic_steps=2,generator_steps=3,order=generator-first",
        "consensus:gamma=0.3",
        "consensus:gamma=0.3,alternating=true,critic_steps=2",
        "extragradient",
        "optimistic",
        "unrolled:steps=3,step_size=0.2,backprop=true",
        "unrolled:steps=2,backprop=false",
    ],
)
def test_what_a_dynamics_declares_holds_for_any_linear_game(dynamics):
    """G(z) = A z + b against D(x) = psi x with noise: a linear field of five variables."""
    rng = torch.Generator().manual_seed(5)
    latent = torch.randn(16, 2, generator=rng, dtype=torch.float64)
    latent -= latent.mean(0)
    generator, critic = nn.Linear(2, 1).double(), nn.Linear(1, 1, bias=False).double()
    for p in (*generator.parameters(), *critic.parameters()):
        nn.init.zeros_(p)
    game = Game("wasserstein", ["r1:gamma=0.3", "lecam:gamma=0.8"], "instance-noise:sigma=0.7")
    rest = {
        "draws": lambda: Quadrature(4),
        "memory": {f"lecam.{name}": torch.zeros(()).double() for name in ("real", "fake")},
    }
    batch, h, made = Batch(torch.zeros(16, 1).double(), latent), 0.35, build("dynamics", dynamics)
    plain = System(game, "simultaneous", generator, critic, batch, lr=h, **rest)
    linear = Linear(jacobian(plain.field, plain.point()), plain.split, torch.zeros(1, 1).double())
    system = System(game, made, generator, critic, batch, lr=h, **rest)
    assert linear.split == 3 and linear.jacobian.abs().sum() > 1
    torch.testing.assert_close(
        made.linear_field(linear, h), jacobian(system.field, system.point()), atol=1e-12, rtol=1e-12
    )
    torch.testing.assert_close(
        made.linear_step(linear, h),
        jacobian(system.step, system.step_state(system.point())),
        atol=1e-12,
        rtol=1e-12,
    )


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


@pytest.mark.parametrize("gamma", [0.3, 0.9])
def test_the_turn_is_that_of_the_step(gamma):
    row = record(regularizer=[f"r1:gamma={gamma}"], dynamics="alternating:critic_steps=5")
    assert row.eigenvalues[0].imag > 0.1
    turn = 2 * np.pi / np.angle(row.step_eigenvalues[0]) if gamma < 0.5 else None
    said = f"a turn every {turn:.3g} steps" if turn else "comes in without turning"
    assert row.converges and row.reason.endswith(said)


@pytest.mark.parametrize(
    ("objective", "dynamics", "lr", "words"),
    [
        ("nonsaturating", "extragradient", 3.0, "rate 3 oversteps .*; below 2 it converges"),
        ("wasserstein", "optimistic", 0.7, "rate 0.7 oversteps .*; below 0.5774 it converges"),
        ("minimax", "alternating", 4.5, "rate 4.5 oversteps .*; below 4 linearisation decides"),
        ("minimax", "simultaneous", 0.2, "nothing damps the rotation"),
    ],
)
def test_a_rate_that_oversteps_is_told_from_what_no_rate_helps(objective, dynamics, lr, words):
    row = record(objective, dynamics=dynamics, lr=lr)
    assert row.converges is False and re.search(words, row.reason)


@pytest.mark.parametrize(
    ("regularizer", "dynamics", "converges", "words"),
    [
        (["r1:gamma=1e-4"], "alternating", True, "shrinks by 1 - 5e-10 a step"),
        ([], "simultaneous", False, "leads outwards by 1 + 1.25e-11"),
        ([], "alternating", None, "decides nothing"),
    ],
)
def test_what_decides_at_a_small_rate_is_growth_in_time(regularizer, dynamics, converges, words):
    row = record(regularizer=regularizer, dynamics=dynamics, lr=1e-5)
    assert row.converges is converges and words in row.reason


def test_records_serve_programs():
    row = record(regularizer=["r1:gamma=0.25", "r2:gamma=0.05"]).to_json()
    keys = (
        "objective regularizer smoothing dynamics lr eigenvalues step_eigenvalues"
        " spectral_radius critical_gamma max_stable_lr converges"
    )
    assert list(row) == [*keys.split(), "reason", "closed_form_eigenvalues", "unstable"]
    assert row["unstable"] == [[pytest.approx(row["max_stable_lr"]), None]]
    assert row["regularizer"] == "r1:gamma=0.25 + r2:gamma=0.05" and row["smoothing"] is None
    assert row["eigenvalues"][0] == pytest.approx([-0.15, np.sqrt(0.25 - 0.0225)])


def registered(request, name, cls):
    made = register("regularizer", name)(dataclass(frozen=True)(cls))
    request.addfinalizer(lambda: unregister(made))
    return made


def test_what_declares_no_mathematics_is_measured_all_the_same(request):
    class Silent(Regularizer):
        """(D(x)^2 + D(G)^2)/2. Reference: none 2031."""

        def penalty(self, scores, context):
            return sum(scores[name].logits.square().mean() for name in ("real", "fake")) / 2

    registered(request, "silent", Silent)
    row = record(regularizer=["silent"], smoothing="instance-noise:sigma=1")
    assert row.closed_form_eigenvalues is None and row.critical_gamma is None
    assert "there is no closed form: Silent declares no damping" in row.reason
    assert sum(row.eigenvalues).real == pytest.approx(-2.5)


def test_a_wrong_declaration_is_told(request):
    class Off(GradientPenalty):
        """gamma/2 E_real ||grad D||^2, and a wrong number. Reference: none 2031."""

        where = ("real",)

        def damping(self, progress=None, variance=0.0):
            return 1.01 * self.gamma

    registered(request, "off", Off)
    row = record(regularizer=["off:gamma=0.5"])
    assert "the declared field and step is WRONG" in row.reason
    assert sum(row.eigenvalues).real == pytest.approx(-0.5)
    assert "WRONG" not in record(regularizer=["r1:gamma=0.5"]).reason


def test_a_penalty_with_a_kink_says_so_of_itself(request):
    class Shy(GradientPenalty):
        """gamma/2 E_real (||grad D|| - 3)^2. Reference: none 2031."""

        where = ("real",)
        target = 3.0

    registered(request, "shy", Shy)
    assert "Shy pulls the norm" in record(regularizer=["shy"]).reason


def test_a_mistake_in_the_last_name_is_told_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(convergence, "_record", None)
    with pytest.raises(SteadyganError, match="learning rate is a finite number > 0, not nan"):
        analyze_dirac(["minimax"], [[]], [None], ["simultaneous"], [0.1, math.nan])
    with pytest.raises(SteadyganError, match="nearest first: optimistic"):
        analyze_dirac(["minimax"], [[]], [None], ["simultaneous", "optimstic"], [0.1])


def test_eigenvalues_are_ordered():
    assert eigenvalues(np.diag([1.0, 3.0, -2.0])) == [3, 1, -2]
