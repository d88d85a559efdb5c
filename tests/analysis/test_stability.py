"""Every eigenvalue of a dense Jacobian, defective ones too, and what a critic's last layer does."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steadygan import Game, SteadyganError
from steadygan.analysis.doctor import diagnose
from steadygan.analysis.ends import bounded, last_range, reach
from steadygan.analysis.stability import modes
from steadygan.core import Batch
from steadygan.core.context import Samples


def turned(blocks, seed=0, spread=1.0):
    """A matrix with these Jordan blocks (value, size), in coordinates of many sizes."""
    n = sum(size for _, size in blocks)
    rng, j, at = np.random.default_rng(seed), np.zeros((n, n)), 0
    for value, size in blocks:
        part = slice(at, at + size)
        j[part, part] = value * np.eye(size) + 0.3 * np.eye(size, k=1)
        at += size
    q = np.linalg.qr(rng.standard_normal((n, n)))[0] * spread ** np.linspace(-1, 1, n)
    return q @ j @ np.linalg.inv(q)


def of_step(factors, h=0.5, **more):
    """The modes of a step whose Jacobian has these Jordan blocks."""
    matrix = turned(factors, **more)
    return modes((matrix - np.eye(len(matrix))) / h, h)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("value", "verdict"), [(0.9, "stable"), (-0.9, "stable"), (0.0, "stable")])
def test_defective_eigenvalues_inside_are_stable(value, size, verdict):
    found = of_step([(value, size), (0.5, 1), (-0.3, 1)])
    assert len(found.rates) == size + 2 and found.verdict == verdict


@pytest.mark.parametrize("size", [1, 2, 4])
def test_one_eigenvalue_outside_is_unstable_whatever_is_beside_it(size):
    blocks = [(1.0, 1)] * 8 + [(0.0, 3)] * 6 + [(-1.05, size)]
    found = of_step(blocks)
    assert found.verdict == "unstable" and found.neutral.sum() == 8
    assert found.fastest == pytest.approx(0.1, rel=1e-2)


def test_drift_is_neutral_and_what_rounding_could_move_is_undecided():
    drifting = of_step([(1.0, 2), (1.0, 1), (0.7, 1)])
    assert drifting.neutral.sum() == 3 and drifting.verdict == "stable"
    # A block of six this near to the circle: rounding moves it across.
    assert of_step([(0.9999, 6), (0.5, 1)]).verdict == "undecided"
    assert of_step([(0.9999, 1), (0.5, 1)]).verdict == "stable"
    assert of_step([(-1.0, 1), (0.5, 1)]).verdict == "undecided"


def test_units_do_not_matter():
    """Parameters of size 1 beside an average of squares of size 1e-8."""
    plain = turned([(0.9, 1), (-0.95, 1), (0.3, 2), (1.0002, 1)])
    units = np.array([1, 1, 1e-8, 1e-4, 1e8])
    scaled = units[:, None] * plain / units
    for matrix in (plain, scaled):
        found = modes((matrix - np.eye(5)) / 1e-3, 1e-3)
        assert found.verdict == "unstable" and found.fastest == pytest.approx(0.2, rel=1e-6)


def test_what_is_not_finite_is_refused():
    with pytest.raises(SteadyganError, match="not finite"):
        modes(np.array([[np.nan, 0.0], [0.0, 1.0]]))


class Recurrent(nn.Module):
    """A critic that reads its sample as a sequence: a Jacobian far from normal."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.inner(x[..., None])[0][:, -1])


@pytest.mark.parametrize("seed", range(3))
def test_no_eigenvalue_of_a_complete_spectrum_is_dropped(seed):
    """At rest, with the previous gradients in the state: half of its eigenvalues are defective."""
    torch.manual_seed(seed)
    generator, critic = nn.Linear(2, 2).double(), Recurrent().double()
    latent = torch.randn(8, 2).double()
    with torch.no_grad():
        data = generator(latent).clone()
        critic.last.weight.zero_(), critic.last.bias.zero_()
    game, lr = Game("minimax", ["r2:gamma=2.26"]), {"generator": 0.793, "critic": 2.48}
    found = diagnose(
        game, generator, critic, Batch(data, latent), dynamics="optimistic", lr=lr, alternatives=()
    ).spectrum
    factors = np.array([1 + 2.48 * e.value for e in found.step])
    assert found.complete and len(factors) == 2 * (6 + 89)
    assert all(e.converged for e in found.step)
    assert (found.stability == "unstable") == (abs(factors).max() > 1.005)
    assert found.radius == pytest.approx(abs(factors[abs(factors - 1) > 1e-5]).max())


LINEAR = nn.Linear(3, 1)


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (nn.Sigmoid(), "Sigmoid: between 0 and 1"),
        (nn.Softmax(1), "Softmax: between 0 and 1"),
        (nn.Tanh(), "Tanh: between -1 and 1"),
        (nn.ReLU(), "Relu: never below 0"),
        (nn.Hardtanh(), "Hardtanh: between -1 and 1"),
        (nn.LogSigmoid(), "LogSigmoid: never above 0"),
        (nn.Softsign(), "Softsign: between -1 and 1"),
        (Of(lambda x: F.normalize(x, dim=1)), "Normalize: between -1 and 1"),
        (Of(torch.sin), "Sin: between -1 and 1"),
        (Of(torch.atan), "Atan: between -1.57 and 1.57"),
        (nn.ELU(), "Elu: never below -1"),
        (nn.SELU(), "Elu: never below -1.7581"),
        (nn.CELU(0.7), "Celu: never below -0.7"),
        (nn.GELU(), "Gelu: never below -0.169971"),
        (nn.SiLU(), "Silu: never below -0.278465"),
        (nn.Mish(), "Mish: never below -0.308843"),
        (nn.Hardswish(), "Hardswish: never below -0.375"),
        (nn.Threshold(0.1, 0.0), "Threshold: above a bound"),
        (Of(torch.square), "Square: never below 0"),
        (Of(lambda x: x * x), "Square: never below 0"),
        (Of(lambda x: 3 - x**4), "Square: never below 0, stretched"),
        (Of(lambda x: x.norm(dim=1, keepdim=True)), "LinalgVectorNorm: never below 0"),
        (Of(lambda x: x.sigmoid().sum(1)), "Sigmoid: between 0 and 1, stretched"),
        (Of(lambda x: x**3), None),
        (Of(lambda x: x * (x + 1)), None),
        (Of(lambda x: x / (x[:1].abs() + 1)), None),
        (Of(lambda x: x / (x.exp() + 1)), None),
        (nn.Sequential(nn.Sigmoid(), nn.Flatten(), nn.Identity()), "Sigmoid: between 0 and 1"),
        (nn.Tanhshrink(), None),
        (nn.Identity(), None),
        (nn.LeakyReLU(0.2), None),
        (nn.Sequential(nn.Sigmoid(), nn.Linear(1, 1)), None),
    ],
)
def test_what_bounds_the_logits(end, words):
    samples = Samples(torch.randn(5, 3))
    assert bounded(nn.Sequential(LINEAR, end), samples) == words


X = torch.linspace(-9, 9, 12).view(4, 3).requires_grad_()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: F.cosine_similarity(x, x.flip(1)), "Normalize: between -1 and 1, stretched"),
        (lambda x: 1 / (1 + torch.exp(-x)), "Reciprocal: between 0 and 1, stretched"),
        (lambda x: torch.log(torch.sigmoid(x) + 1e-8), "Log: below a bound"),
        (lambda x: torch.log1p(torch.exp(x)), "Log1P: never below 0"),
        (lambda x: torch.maximum(x, torch.zeros(())), "Maximum: above a bound"),
        (lambda x: x.clamp(min=-1), "Clamp: never below -1"),
        (lambda x: torch.sigmoid(x).sum(1), "Sigmoid: between 0 and 1, stretched"),
        (lambda x: torch.cat([torch.sigmoid(x), torch.tanh(x)]), "Sigmoid: between -1 and 1"),
        (lambda x: torch.sigmoid(x) + torch.tanh(x), "Sigmoid: between 0 and 1, stretched"),
        (lambda x: torch.relu(x) - 3 * torch.sigmoid(x), "Relu: never below 0, stretched"),
        (lambda x: 2 - 3 * torch.relu(x), "Relu: never below 0, stretched"),
        (lambda x: torch.minimum(torch.relu(x), torch.ones(())), "Minimum: between two bounds"),
        (lambda x: torch.where(x > 0, x.sigmoid(), x.detach()), "Sigmoid: between two bounds"),
        (lambda x: torch.maximum(0.2 * x, x), None),
        (lambda x: torch.relu(x) - 2 * torch.relu(-x), None),
        (lambda x: torch.relu(x) + -2 * torch.relu(-x), None),
        (lambda x: torch.relu(x) * torch.tensor([1.0, -1.0, 2.0]), None),
        (lambda x: torch.sigmoid(x) / torch.sigmoid(-x), None),
        (lambda x: torch.ones(4, 3) / torch.sigmoid(x), "Div: above a bound"),
        (lambda x: 1 / (torch.exp(x) - 5), None),
        (lambda x: torch.log1p(torch.exp(x) - 1), None),
        (lambda x: torch.cat([torch.sigmoid(x), x]), None),
        (lambda x: torch.relu(x) - torch.relu(-x), None),
        (lambda x: torch.sigmoid(x) * x, None),
        (lambda x: torch.log(torch.exp(x)), None),
        (lambda x: x / (1 + x.flip(0).abs()), None),
        (lambda x: x**3, None),
    ],
)
def test_what_functions_at_the_end_leave(function, words):
    X.grad = None
    assert last_range(function(X)) == words


@pytest.mark.parametrize(
    ("function", "ends"),
    [
        (torch.tanh, (-1, 1)),
        (lambda x: (torch.tanh(x) + 1) / 2, (0, 1)),
        (lambda x: 127.5 - 127.5 * torch.tanh(x), (0, 255)),
        (lambda x: (3 * torch.sigmoid(x) - 1).view(2, 6), (-1, 2)),
        (torch.relu, (0, math.inf)),
        (lambda x: 2 - torch.relu(x), (-math.inf, 2)),
        (lambda x: x.clamp(-2, 5), (-2, 5)),
        (lambda x: torch.tanh(x) * torch.linspace(1, 2, 3), (-math.inf, math.inf)),
        (lambda x: 1 / (1 + torch.exp(-x)), (0, 1)),
        (lambda x: torch.cat([torch.sigmoid(x), torch.tanh(x)]), (-1, 1)),
        (lambda x: torch.sigmoid(x) + torch.tanh(x), (-math.inf, math.inf)),
        (F.elu, (-1, math.inf)),
        (lambda x: x, (-math.inf, math.inf)),
    ],
)
def test_how_far_a_stretched_end_reaches(function, ends):
    assert reach(function(X * 1.0)) == pytest.approx(ends)


def test_a_function_at_the_end_is_seen_too():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 1)

        def forward(self, x):
            return torch.sigmoid(F.leaky_relu(self.inner(x))).squeeze(1)

    critic, batch = Critic(), Batch(torch.randn(6, 3), torch.randn(6, 3))
    found = diagnose(Game(), nn.Linear(3, 3), critic, batch, lr=0.1, alternatives=())
    assert "bounded by its last operation, Sigmoid: between 0 and 1" in found.words()[0]
    assert "take the Sigmoid from the end" in found.advice()
    assert found.to_json()["logits"]["bounded"] == "Sigmoid: between 0 and 1"
    assert 0 < found.logits["lowest"] < found.logits["highest"] < 1
