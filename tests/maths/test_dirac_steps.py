"""The Jacobian of one whole step of every dynamics on the Dirac-GAN against its closed form, for
random step sizes and strengths."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygan.core import Batch, Game, build, names
from support import dirac, flat, functional, jacobian, start, step_jacobian

few = settings(deadline=None, max_examples=10)
steps = st.floats(0.01, 1.5)
gammas = st.floats(0.0, 3.0)
counts = st.integers(1, 4)
GAMES = {0.5: "minimax", 1.0: "wasserstein"}  # coupling a -> an objective that has it
couplings = st.sampled_from([0.5, 1.0])
EYE = torch.eye(2, dtype=torch.float64)


def game(a: float, gamma: float = 0.0) -> Game:
    return Game(GAMES[a], [f"r1:gamma={gamma}"] if gamma else [])


def of(dynamics: str, a: float, h: float, gamma: float = 0.0) -> torch.Tensor:
    return step_jacobian(game(a, gamma), build("dynamics", dynamics), dirac(), h)


def linear(a: float, q: float) -> torch.Tensor:
    return torch.tensor([[0, a], [-a, -q]], dtype=torch.float64)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def radius(matrix) -> float:
    return torch.linalg.eigvals(matrix).abs().max().item()


# ------------------------------------------------------------ simultaneous


@few
@given(steps, gammas, couplings)
def test_simultaneous(h, gamma, a):
    close(of("simultaneous", a, h, gamma), EYE + h * linear(a, gamma))


@few
@given(st.floats(0.05, 4.0), couplings)
def test_simultaneous_is_stable_below_the_bound(q, a):
    """h < 2|Re l|/|l|^2 for both eigenvalues, written out: q < 2a: h < q/a^2; q >= 2a: h < 2/(q/2 +
    sqrt(q^2/4 - a^2))."""
    bound = q / a**2 if q < 2 * a else 2 / (q / 2 + math.sqrt(q * q / 4 - a * a))
    assert (
        radius(of("simultaneous", a, 0.999 * bound, q))
        < 1
        < radius(of("simultaneous", a, 1.001 * bound, q))
    )


@few
@given(steps)
def test_simultaneous_wasserstein_spirals_out(h):
    assert radius(of("simultaneous", 1.0, h)) == pytest.approx(math.sqrt(1 + h * h), rel=1e-12)


@pytest.mark.parametrize("name", ["simultaneous", "alternating", "extragradient"])
def test_steps_follow_the_flow_to_first_order(name):
    """n steps of h towards exp(T J): half the step, half the error. (Extragradient looks a whole
    step ahead, not half a step.)"""
    time, j = 1.0, linear(1.0, 0.4)
    exact = torch.linalg.matrix_exp(time * j)
    errors = [
        (torch.linalg.matrix_power(of(name, 1.0, time / n, 0.4), n) - exact).norm().item()
        for n in (50, 100)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.05)


# ------------------------------------------------------------ alternating


def spelled(n_d: int, n_g: int, order: str) -> str:
    return f"alternating:critic_steps={n_d},generator_steps={n_g},order={order}"


@few
@given(steps, gammas, couplings, counts, counts)
def test_alternating_composes_its_updates(h, gamma, a, n_d, n_g):
    """Each player's update with the other fixed, in the declared order."""
    critic = torch.tensor([[1, 0], [-h * a, 1 - h * gamma]], dtype=torch.float64).matrix_power(n_d)
    generator = torch.tensor([[1, h * a], [0, 1]], dtype=torch.float64).matrix_power(n_g)
    close(of(spelled(n_d, n_g, "critic-first"), a, h, gamma), generator @ critic)
    close(of(spelled(n_d, n_g, "generator-first"), a, h, gamma), critic @ generator)


@few
@given(
    steps, gammas, couplings, counts, counts, st.sampled_from(["critic-first", "generator-first"])
)
def test_alternating_determinant_and_trace(h, gamma, a, n_d, n_g, order):
    """With rho = 1 - hq: det = rho^n_d, trace = 1 + rho^n_d - h^2 a^2 n_g (1 - rho^n_d)/(1 - rho),
    in either order."""
    found = of(spelled(n_d, n_g, order), a, h, gamma)
    rho = 1 - h * gamma
    geometric = sum(rho**k for k in range(n_d))
    assert torch.linalg.det(found).item() == pytest.approx(rho**n_d, rel=1e-9, abs=1e-9)
    assert found.trace().item() == pytest.approx(
        1 + rho**n_d - h * h * a * a * n_g * geometric, rel=1e-9, abs=1e-9
    )


@few
@given(
    st.floats(0.05, 3.0),
    couplings,
    counts,
    counts,
    st.sampled_from(["critic-first", "generator-first"]),
)
def test_alternating_without_damping(alpha, a, n_d, n_g, order):
    """1 - alpha^2/2 +- sqrt((1 - alpha^2/2)^2 - 1) with alpha = sqrt(n_g n_d) h a: on the unit
    circle iff alpha <= 2."""
    found = of(spelled(n_d, n_g, order), a, alpha / (math.sqrt(n_g * n_d) * a))
    half = 1 - alpha**2 / 2
    root = complex(half * half - 1) ** 0.5
    for expected in (half + root, half - root):
        assert min(abs(value - expected) for value in torch.linalg.eigvals(found).tolist()) < 1e-6
    assert (radius(found) > 1 + 1e-6) == (alpha > 2) or abs(alpha - 2) < 1e-3


# ------------------------------------------------------------ extragradient, optimistic


@few
@given(steps, gammas, couplings)
def test_extragradient(h, gamma, a):
    j = linear(a, gamma)
    close(of("extragradient", a, h, gamma), EYE + h * j + h * h * j @ j)


@pytest.mark.parametrize("a", GAMES)
def test_extragradient_is_stable_below_one_over_omega(a):
    assert radius(of("extragradient", a, 0.999 / a)) < 1 < radius(of("extragradient", a, 1.001 / a))


def optimistic_state(a: float, h: float, gamma: float = 0.0) -> torch.Tensor:
    """The Jacobian of (w, w_before) -> (w_next, w) through the objects: two steps share their
    gradients through ``previous``."""
    now, before = (
        functional(game(a, gamma), dirac(), lr=h),
        functional(game(a, gamma), dirac(), lr=h),
    )
    leaves = start(now) + start(before)
    batch = Batch(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    now.previous = {name: before.gradient(name, batch) for name in ("generator", "critic")}
    here = flat(now)
    build("dynamics", "optimistic").step(now)
    return jacobian(torch.cat([flat(now), here]), leaves)


@few
@given(steps, gammas, couplings)
def test_optimistic(h, gamma, a):
    j, zero = linear(a, gamma), torch.zeros(2, 2, dtype=torch.float64)
    expected = torch.cat([torch.cat([EYE + 2 * h * j, -h * j], 1), torch.cat([EYE, zero], 1)])
    close(optimistic_state(a, h, gamma), expected)


@few
@given(steps, gammas, couplings)
def test_optimistic_remembers_by_itself(h, gamma, a):
    """Two steps from a fresh start: a plain one, then the look back."""
    players = functional(game(a, gamma), dirac(), lr=h)
    leaves = start(players)
    for _ in range(2):
        build("dynamics", "optimistic").step(players)
    j = linear(a, gamma)
    close(jacobian(flat(players), leaves), (EYE + 2 * h * j) @ (EYE + h * j) - h * j)


@pytest.mark.parametrize("a", GAMES)
def test_optimistic_is_stable_below_one_over_root_three_omega(a):
    bound = 1 / (math.sqrt(3) * a)
    assert (
        radius(optimistic_state(a, 0.999 * bound)) < 1 < radius(optimistic_state(a, 1.001 * bound))
    )


# ------------------------------------------------------------ consensus, unrolled


@few
@given(steps, st.floats(0.01, 2), couplings)
def test_consensus(h, gamma, a):
    """The modified field's Jacobian [[-gamma a^2, a], [-a, -gamma a^2]]: real part -gamma a^2."""
    modified = (of(f"consensus:gamma={gamma}", a, h) - EYE) / h
    close(modified, torch.tensor([[-gamma * a * a, a], [-a, -gamma * a * a]], dtype=torch.float64))
    assert torch.linalg.eigvals(modified).real.tolist() == pytest.approx([-gamma * a * a] * 2)


@few
@given(steps, st.floats(0.01, 2), st.floats(0.0, 2), couplings)
def test_consensus_with_damping(h, gamma, q, a):
    """J - gamma J'J at the equilibrium, where the field vanishes."""
    j = linear(a, q)
    close(of(f"consensus:gamma={gamma}", a, h, q), EYE + h * (j - gamma * j.T @ j))


@few
@given(steps, st.floats(0.01, 2), couplings, counts)
def test_consensus_alternating(h, gamma, a, n_d):
    damped = 1 - h * gamma * a * a
    critic = torch.tensor([[1, 0], [-h * a, damped]], dtype=torch.float64).matrix_power(n_d)
    generator = torch.tensor([[damped, h * a], [0, 1]], dtype=torch.float64)
    close(
        of(f"consensus:gamma={gamma},alternating=true,critic_steps={n_d}", a, h), generator @ critic
    )


@few
@given(steps, st.floats(0.01, 0.5), couplings, counts)
def test_unrolled(h, e, a, k):
    """k inner steps of size e: [[-2 e k a^2, a], [-a, 0]] with backprop through them, [[-e k a^2,
    a], [-a, 0]] without."""
    for backprop, factor in (("true", 2), ("false", 1)):
        found = (of(f"unrolled:steps={k},step_size={e},backprop={backprop}", a, h) - EYE) / h
        close(found, torch.tensor([[-factor * e * k * a * a, a], [-a, 0]], dtype=torch.float64))
        if backprop == "true" and e * k * a < 1:
            assert torch.linalg.eigvals(found).real.tolist() == pytest.approx(
                [-e * k * a * a] * 2, rel=1e-6
            )


@few
@given(steps, couplings, counts)
def test_unrolled_steps_at_the_critics_learning_rate(h, a, k):
    close(of(f"unrolled:steps={k}", a, h), of(f"unrolled:steps={k},step_size={h!r}", a, h))


def test_every_dynamics_is_here():
    """Nothing is registered whose step has no closed form above."""
    assert set(names("dynamics")) == {
        "simultaneous",
        "alternating",
        "consensus",
        "extragradient",
        "optimistic",
        "unrolled",
    }
