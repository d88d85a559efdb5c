"""Learning rates that the analysis calls limits, or advises, against steps at and beside them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from steadygan import Game
from steadygan.analysis import analyze_dirac
from steadygan.analysis.doctor import diagnose
from steadygan.analysis.limits import Limits, limits
from steadygan.core.players import PLAYERS, Batch
from steadygan.problems.networks import Point

DYNAMICS = [
    "simultaneous",
    "alternating",
    "alternating:critic_steps=3,order=generator-first",
    "alternating:critic_steps=4,generator_steps=2",
    "extragradient",
    "optimistic",
    "consensus:gamma=0.5",
    "consensus:gamma=0.3,alternating=true,critic_steps=2",
    "unrolled:steps=2,step_size=0.05",
]
OBJECTIVES = ["minimax", "nonsaturating", "wasserstein", "least-squares", "relativistic"]
REGULARIZERS = ["r1", "r2", "r1r2", "js", "lecam"]


class Affine(nn.Module):
    """G(z) = s z + θ."""

    def __init__(self, d):
        super().__init__()
        self.size, self.shift = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, z):
        return z * self.size + self.shift


def setting(index):
    """A random game: at an equilibrium (Dirac, or a constant critic), or anywhere."""
    rng = np.random.default_rng(index)
    torch.manual_seed(index)
    d, kind = int(rng.integers(1, 3)), ("dirac", "equilibrium", "anywhere")[index % 3]
    if kind == "dirac":
        network = Point(theta=0.0, psi=0.0)
        generator, critic = network.generator((d,), 1), network.critic((d,))
        data, latent = torch.zeros(4, d), torch.zeros(4, 1)
    else:
        latent = torch.from_numpy(rng.standard_normal((8, d))).float()
        critic = nn.Sequential(nn.Linear(d, 3), nn.Tanh(), nn.Linear(3, 1))
        generator, data = Affine(d), latent
        nn.init.normal_(critic[0].weight)
        if kind == "equilibrium":
            nn.init.zeros_(critic[2].weight), nn.init.zeros_(critic[2].bias)
        else:
            data = 1.3 * latent.flip(0) + 0.2
    gamma = round(float(10 ** rng.uniform(-1.5, 1)), 3)
    some = [] if rng.random() < 0.15 else [f"{rng.choice(REGULARIZERS)}:gamma={gamma}"]
    game = Game(str(rng.choice(OBJECTIVES)), some)
    lr = dict(zip(PLAYERS, (10 ** rng.uniform(-1.2, 0.7, 2)).tolist(), strict=True))
    networks = generator.double(), critic.double()
    return game, networks, Batch(data.double(), latent.double()), str(rng.choice(DYNAMICS)), lr


def check(index):
    """Return how many limits and advised rates of a setting were tried."""
    game, networks, batch, dynamics, lr = setting(index)

    def seen(rate):
        rates = {name: rate * value / lr["critic"] for name, value in lr.items()}
        settings = {"dynamics": dynamics, "lr": rates, "alternatives": (), "critic_steps": 0}
        return diagnose(game, *networks, batch, **settings).spectrum

    spectrum, tried = seen(lr["critic"]), 0
    if spectrum.advised:
        assert spectrum.advised < lr["critic"]
        assert seen(spectrum.advised).stability == "stable", index
        tried += 1

    def inside(rate):
        return any(low < rate < high for low, high in spectrum.windows)

    assert inside(lr["critic"]) == (spectrum.stability == "unstable"), index
    for end in {end for window in spectrum.windows for end in window if 0 < end < math.inf}:
        for rate in (0.99 * end, 1.01 * end):
            assert inside(rate) == (seen(rate).stability == "unstable"), (index, end, rate)
        assert inside(0.99 * end) != inside(1.01 * end) or len(spectrum.windows) > 1
        tried += 1
    return tried


def radius(a, q, n, m, h):
    """Of n steps of the critic, then m of the generator, on the Dirac-GAN."""
    critic, generator = np.array([[1, 0], [-h * a, 1 - h * q]]), np.array([[1, h * a], [0, 1]])
    power = np.linalg.matrix_power
    return abs(np.linalg.eigvals(power(generator, m) @ power(critic, n))).max()


@pytest.mark.parametrize(
    ("objective", "a", "q", "n", "m"),
    [
        ("wasserstein", 1.0, 1.05, 4, 2),
        ("wasserstein", 1.0, 1.15, 4, 2),
        ("minimax", 0.5, 0.4, 6, 1),
        ("minimax", 0.5, 0.7, 4, 3),
        ("wasserstein", 1.0, 0.35, 6, 3),
    ],
)
def test_windows_are_found(objective, a, q, n, m):
    """Against a grid of ten thousand learning rates, by the formula."""
    dynamics = f"alternating:critic_steps={n},generator_steps={m}"
    (row,) = analyze_dirac([objective], [[f"r1:gamma={q}"]], [None], [dynamics], [3.0])
    grid = np.geomspace(1e-2, 10 / q, 10_000)
    outside = np.array([radius(a, q, n, m, h) > 1 + 1e-9 for h in grid])
    edges = grid[1:][np.diff(outside)]
    ends = [end for window in row.unstable for end in window if 0 < end < math.inf]
    np.testing.assert_allclose(ends, edges, rtol=1e-3)
    assert len(ends) > 1 and row.max_stable_lr == ends[0]
    low, high = row.unstable[0]
    assert f"and between {low:.4g} and {high:.4g}" in row.reason


def test_words():
    one, whole = Limits(((0.5, math.inf),)), Limits(((0.0, math.inf),))
    assert one.words() == "unstable above 0.5" and one.first == 0.5
    assert whole.words() == "unstable at every learning rate" and whole.first == 0
    assert Limits(((0.0, 0.1), (2.0, math.inf))).words() == "unstable above 2, and below 0.1"
    assert Limits(()).first is None and Limits(()).words().startswith("stable")


def test_a_family_that_is_no_polynomial_is_taken_as_it_is():
    turning, asked = np.array([[0.0, 1.0], [-1.0, -0.5]]), []

    def family(h):
        asked.append(h)
        return abs(math.sin(3 * h)) * turning

    found = limits(family, np.linalg.eigvals(turning))
    assert found.first == pytest.approx(math.asin(0.5) / 3, rel=1e-6) and len(asked) < 400


def test_limits_are_limits_and_advised_rates_are_stable():
    assert sum(check(index) for index in range(9)) > 6


@pytest.mark.slow
def test_500_settings():
    assert sum(check(index) for index in range(500)) > 400
