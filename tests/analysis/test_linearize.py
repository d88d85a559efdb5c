"""Jacobians against finite differences, products and leading eigenvalues against dense ones, and
what cannot be linearised."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from steadygan import Game, SteadyganError
from steadygan.analysis.linearize import System, jacobian
from steadygan.analysis.spectra import Products, leading, survey
from steadygan.core.players import Batch

DYNAMICS = [
    "simultaneous",
    "alternating:critic_steps=2",
    "consensus:gamma=0.3",
    "extragradient",
    "optimistic",
    "unrolled:steps=2,step_size=0.1",
]


def mlp(sizes, last=None):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1], *([last] if last else [])).double()


def networks(width=3, seed=0):
    torch.manual_seed(seed)
    return mlp([2, width, 2]), mlp([2, width, width, 1])


def batch(n=16, seed=1):
    rng = torch.Generator().manual_seed(seed)
    draw = [torch.randn(n, 2, generator=rng, dtype=torch.float64) for _ in range(2)]
    return Batch(*draw)


def small(dynamics="simultaneous", game=None, width=3, **more):
    return System(
        game or Game("nonsaturating", ["js:gamma=0.5", "gp0:gamma=0.2"]),
        dynamics,
        *networks(width),
        batch(),
        lr=0.1,
        **more,
    )


def differences(function, at, e=1e-6):
    columns = [
        (function(at + e * d) - function(at - e * d)) / (2 * e)
        for d in torch.eye(len(at), dtype=at.dtype)
    ]
    return torch.stack([c.detach() for c in columns], 1)


def dense_matrix(system):
    at = system.point().requires_grad_()
    rows = torch.eye(len(at), dtype=at.dtype)
    return torch.autograd.grad(system.field(at), at, rows, is_grads_batched=True)[0].numpy()


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_jacobians_against_finite_differences(dynamics):
    system = small(dynamics, width=2)
    for function, at in (
        (system.field, system.point()),
        (system.step, system.step_state(system.point())),
    ):
        numeric = differences(function, at.requires_grad_())
        torch.testing.assert_close(jacobian(function, at), numeric, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_products_against_the_dense_matrix(dynamics):
    system = small(dynamics, width=2)
    for function, at in (
        (system.field, system.point()),
        (system.step, system.step_state(system.point())),
    ):
        dense, products = jacobian(function, at), Products(function, at)
        v = torch.randn(len(at), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(products.forward(v), dense @ v, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(products.transposed(v), dense.T @ v, atol=1e-9, rtol=1e-9)
        assert products.spent == 2


def test_a_scale_multiplies_the_field_and_every_move():
    scale = torch.rand(small().size, dtype=torch.float64) + 0.5
    plain, scaled = small(), small(scale=scale)
    point = plain.point()
    torch.testing.assert_close(
        jacobian(scaled.field, point), scale[:, None] * jacobian(plain.field, point)
    )
    torch.testing.assert_close(
        jacobian(scaled.step, point), torch.eye(plain.size) + 0.1 * jacobian(scaled.field, point)
    )
    with pytest.raises(SteadyganError, match="one entry for each"):
        small(scale=scale[:-1])


@pytest.mark.parametrize(("width", "size"), [(12, 260), (34, 1500)])
def test_leading_eigenvalues_against_dense_ones(width, size):
    system = small(width=width, game=Game("nonsaturating", ["js:gamma=0.5"]))
    at = system.point()
    assert abs(system.size - size) < 0.15 * size
    dense = np.linalg.eigvals(dense_matrix(system))
    for which, key in (("LM", abs), ("LR", np.real)):
        found = leading(system.field, at, 4, which=which, budget=3000, tolerance=1e-9)
        assert all(e.converged for e in found.values) and found.products <= 3000
        expected = sorted(key(dense), reverse=True)[:4]
        np.testing.assert_allclose([key(e.value) for e in found.values], expected, atol=1e-6)
        for e in found.values:
            assert abs(dense - e.value).min() < 1e-6


def true_residuals(spectrum, dense):
    return [
        np.linalg.norm(dense @ v - e.value * v) / np.linalg.norm(v)
        for e, v in zip(spectrum.values, spectrum.vectors.T, strict=True)
    ]


@pytest.mark.parametrize("budget", [3, 60, 2000])
def test_residuals_are_true_and_what_did_not_converge_is_labelled(budget):
    system = small(width=10)
    dense = dense_matrix(system)
    found = leading(system.field, system.point(), 4, which="LR", budget=budget, tolerance=1e-8)
    np.testing.assert_allclose(
        [e.residual for e in found.values], true_residuals(found, dense), atol=1e-10, rtol=1e-6
    )
    scale = max(abs(e.value) for e in found.values)
    assert [e.converged for e in found.values] == [e.residual <= 1e-8 * scale for e in found.values]
    assert all(e.converged for e in found.values) == (budget == 2000)
    assert found.products <= max(budget, 14) + 10 and not found.complete


def test_a_survey_sees_both_ends_and_says_what_it_reached(monkeypatch):
    system = small(width=10)
    at = system.point()
    dense = dense_matrix(system)
    exact = np.linalg.eigvals(dense)
    whole = survey(system.field, at)
    assert whole.complete and len(whole.values) == system.size
    np.testing.assert_allclose(
        np.sort([e.value.real for e in whole.values]), np.sort(exact.real), atol=1e-9
    )
    monkeypatch.setattr("steadygan.analysis.spectra.DENSE", 0)
    part = survey(system.field, at, budget=60, tolerance=1e-6)
    assert not part.complete and part.products == 60 and len(part.values) == 60
    good = [e.value for e in part.values if e.converged]
    assert 2 <= len(good) < 60 and max(abs(exact - value).min() for value in good) < 1e-5
    for key in (abs, np.real, lambda z: -np.real(z)):
        assert max(key(np.array(good))) == pytest.approx(max(key(exact)), abs=1e-5)


class Noisy(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x + 0.1 * torch.randn_like(x))


def spectral(kind):
    return nn.Sequential(kind(nn.Linear(2, 8)), nn.Tanh(), kind(nn.Linear(8, 1))).double()


@pytest.mark.parametrize(
    ("critic", "message"),
    [
        (
            lambda: mlp([2, 4, 1], nn.Dropout(0.5)),
            r"critic.3 is dropout in training mode; call .eval\(\)",
        ),
        (lambda: Noisy(mlp([2, 4, 1])), "draws noise from torch's global generator; draw it once"),
        (
            lambda: spectral(nn.utils.parametrizations.spectral_norm),
            r"spectral normalisation, whose power iteration .* call .eval\(\)",
        ),
    ],
)
def test_what_is_not_a_function_is_refused_with_the_remedy(critic, message):
    torch.manual_seed(0)
    generator, critic = mlp([2, 3, 2]), critic()
    state = torch.get_rng_state()
    with pytest.raises(SteadyganError, match=message):
        System(Game(), "alternating", generator, critic, batch())
    assert torch.equal(state, torch.get_rng_state())
    if not isinstance(critic, Noisy):
        System(Game(), "alternating", generator, critic.eval(), batch())


def test_a_network_that_cannot_be_copied_is_refused_with_the_remedy():
    critic = spectral(nn.utils.spectral_norm)
    critic(torch.zeros(1, 2, dtype=torch.float64))
    with pytest.raises(SteadyganError, match=r"cannot be copied.*torch.nn.utils.parametrizations"):
        System(Game(), "alternating", networks()[0], critic, batch())


def test_a_field_that_is_not_finite_and_one_without_parameters_are_refused():
    generator, critic = networks()
    with torch.no_grad():
        critic[0].weight[0, 0] = torch.nan
    with pytest.raises(SteadyganError, match="not finite"):
        System(Game(), "alternating", generator, critic, batch())
    with pytest.raises(SteadyganError, match=r"units of the critic's learning rate.*not 0"):
        System(Game(), "alternating", *networks(), batch(), lr={"generator": 0.1, "critic": 0.0})
    with pytest.raises(SteadyganError, match="requires a gradient"):
        System(
            Game(),
            "alternating",
            generator.requires_grad_(False),
            critic.requires_grad_(False),
            batch(),
        )


@pytest.mark.parametrize("regularizer", ["wgan-gp", "dragan"])
def test_a_kink_is_refused(regularizer):
    with pytest.raises(SteadyganError, match="kink"):
        small(game=Game("wasserstein", [regularizer]))


class Told(nn.Module):
    """A network of samples and of labels that are numbers."""

    def __init__(self, out):
        super().__init__()
        self.of_samples, self.of_labels = nn.Linear(2, out), nn.Linear(3, out)

    def forward(self, x, y):
        return self.of_samples(x) + self.of_labels(y)


def test_labels_that_are_numbers_are_taken_in_double_precision_too():
    x, y = torch.randn(8, 2), torch.rand(8, 3)
    system = System(Game(), "simultaneous", Told(2), Told(1), Batch(x, x, (y, y)), double=True)
    assert jacobian(system.field, system.point()).dtype == torch.float64


def test_the_networks_of_the_caller_stay_as_they_are():
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)
    ).double()
    critic = mlp([2, 4, 1])
    critic[0].bias.requires_grad_(False)
    critic[0].weight.grad = torch.ones_like(critic[0].weight)
    before = copy.deepcopy((generator.state_dict(), critic.state_dict()))
    system = System(Game(), "alternating", generator, critic, batch())
    leading(system.step, system.point(), 2, budget=60)
    for saved, network in zip(before, (generator, critic), strict=True):
        assert all(torch.equal(saved[key], value) for key, value in network.state_dict().items())
    assert [p.requires_grad for p in critic.parameters()] == [True, False, True, True]
    assert (
        torch.equal(critic[0].weight.grad, torch.ones_like(critic[0].weight))
        and critic[2].weight.grad is None
    )
    assert (
        system.size == sum(p.numel() for net in (generator, critic) for p in net.parameters()) - 4
    )
    assert any("running averages are held" in note for note in system.notes())
    assert not any(
        "running" in note
        for note in System(Game(), "alternating", generator.eval(), critic, batch()).notes()
    )


def test_output_padding_is_differentiated_a_third_time():
    torch.manual_seed(0)
    generator = nn.Sequential(
        nn.Linear(2, 18),
        nn.Unflatten(1, (2, 3, 3)),
        nn.ConvTranspose2d(2, 1, 3, stride=2, padding=1, output_padding=1),
    ).double()
    critic = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 1)
    ).double()
    data = Batch(
        torch.randn(4, 1, 6, 6, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    )
    system = System(Game("nonsaturating", ["r1r2:gamma=1"]), "alternating", generator, critic, data)
    torch.testing.assert_close(system.generator(data.latent), generator(data.latent))
    v = torch.randn(system.size, dtype=torch.float64)
    at, e = system.point(), 1e-6
    numeric = (
        system.step((at + e * v).requires_grad_()) - system.step((at - e * v).requires_grad_())
    ).detach() / (2 * e)
    torch.testing.assert_close(Products(system.step, at).forward(v), numeric, atol=1e-7, rtol=1e-6)


def test_single_precision_knows_its_limits():
    generator, critic = (network.float() for network in networks(8))
    data = Batch(*(t.float() for t in batch()[:2]))
    system = System(Game(), "simultaneous", generator, critic, data)
    found = leading(system.field, system.point(), 2, budget=600)
    assert all(e.converged and e.residual < 1e-4 * abs(found.values[0].value) for e in found.values)
