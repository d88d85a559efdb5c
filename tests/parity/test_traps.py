"""The traps of DESIGN.md, each measured once and owed a test: the wrong way shown wrong, ours shown
right.

(Trap 8 is about the merged fast path and comes with it.)
"""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from steadygan.core import Context, Game, Samples, build, names, score
from steadygan.core.players import PLAYERS, Players
from steadygan.core.scores import safe_norm
from steadygan.core.slopes import AUTOGRAD, FUNC
from support import (
    dirac,
    field,
    field_jacobian,
    flat,
    functional,
    jacobian,
    mlp,
    optimizer,
    start,
    step_jacobian,
)


def eigenvalues(matrix: torch.Tensor) -> list[complex]:
    return sorted(torch.linalg.eigvals(matrix).tolist(), key=lambda c: (c.real, c.imag))


class DetachingGame(Game):
    """What R3GAN's and GAN_stability's trainers do inside the loss."""

    def critic_terms(self, critic, real, fake, **given):
        return super().critic_terms(critic, real, fake.detach(), **given)


def test_trap_1_a_game_that_detaches_fakes_has_wrong_eigenvalues():
    r1 = ["r1:gamma=1"]
    right = eigenvalues(field_jacobian(Game("nonsaturating", r1), dirac()))
    assert right == pytest.approx([-0.5, -0.5], abs=1e-7)  # a double root: half of the digits
    wrong = eigenvalues(field_jacobian(DetachingGame("nonsaturating", r1), dirac()))
    assert wrong == pytest.approx([-1.0, 0.0], abs=1e-12)
    # Training's players cut the graph themselves, so there the two games are one.
    ends = []
    for game in (Game("nonsaturating", r1), DetachingGame("nonsaturating", r1)):
        players = optimizer(game, mlp(), lr=0.1)
        build("dynamics", "alternating").step(players)
        ends.append(flat(players).detach())
    assert torch.equal(*ends)


def test_trap_2_an_alternating_step_is_not_an_unrolled_one(monkeypatch):
    alternating, game = build("dynamics", "alternating"), Game("minimax")

    def radius() -> float:
        return (
            torch.linalg.eigvals(step_jacobian(game, alternating, dirac(), 0.5)).abs().max().item()
        )

    assert radius() == pytest.approx(1, abs=1e-12)
    monkeypatch.setattr(Players, "_alias", lambda self, player: dict(self.values(player)))
    assert radius() == pytest.approx(
        0.968, abs=5e-4
    )  # sqrt(1 - h^2 a^2): the generator's step seen through the critic's
    assert radius() == pytest.approx(math.sqrt(1 - 0.25**2), rel=1e-12)


@pytest.mark.parametrize("name", names("regularizer"))
def test_trap_3_func_slopes_work_inside_transforms(name):
    """torch.func.grad of the whole loss, and vmap over a fleet of critics, against plain autograd
    one by one."""
    arena, draws = (
        mlp(),
        torch.rand(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    )
    game, (real, latent, _) = Game("relativistic", [f"{name}:gamma=0.7"]), arena.batches[0]
    fake = arena.generator(latent).detach()

    class Same:
        uniform = staticmethod(lambda like: draws.flatten()[: like.numel()].reshape(like.shape))

    def loss(parameters, slopes):
        critic = lambda x: torch.func.functional_call(arena.critic, parameters, (x,))  # noqa: E731
        return game.critic_loss(critic, real, fake, at=Context(rng=Same()), slopes=slopes)

    parameters = {key: p.detach() for key, p in arena.critic.named_parameters()}
    fleet = {key: torch.stack([p, 0.5 * p, -1.3 * p + 0.1]) for key, p in parameters.items()}
    together = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(fleet, FUNC)
    for i in range(3):
        member = {key: p[i].clone().requires_grad_() for key, p in fleet.items()}
        alone = torch.autograd.grad(
            loss(member, AUTOGRAD),
            list(member.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        for key, expected in zip(member, alone, strict=True):
            torch.testing.assert_close(together[key][i], expected, rtol=1e-11, atol=1e-13)


def test_trap_3_autograd_does_not():
    """Why there are two. If torch ever allows this, the second way has lost its reason."""
    x = torch.randn(4, 3)
    with pytest.raises(RuntimeError):
        torch.func.grad(
            lambda w: score(
                lambda x: (w * x).square().sum(1), Samples(x), gradient=True
            ).gradient.sum()
        )(torch.ones(3))


def test_trap_4_wgan_gp_is_finite_where_the_gradient_vanishes():
    psi = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    real, fake = torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    for name in ("wgan-gp", "wgan-lp", "dragan"):
        value = (
            Game("wasserstein", [f"{name}:gamma=0.7"])
            .critic_terms(lambda x: x @ psi, real, fake)
            .penalty
        )
        (slope,) = torch.autograd.grad(value, psi)
        assert value.item() == pytest.approx(0 if name == "wgan-lp" else 0.35) and slope == 0
    naive = ((psi.expand(2, 1)).square().sum(1).sqrt() - 1).square().mean()
    assert torch.autograd.grad(naive, psi)[0].isnan()
    # Elsewhere the safe norm is the norm, to second order.
    g = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(safe_norm(g), g.flatten(1).norm(dim=1))
    assert torch.autograd.gradcheck(safe_norm, g) and torch.autograd.gradgradcheck(safe_norm, g)
    mixed = torch.cat(
        [g.detach()[:1], torch.zeros(1, 2, 2)]
    ).requires_grad_()  # a zero row does not spoil the other
    assert torch.autograd.grad(safe_norm(mixed).sum(), mixed)[0].isfinite().all()


def batch_norm_critic() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1)).double()


def test_trap_5_batch_norm_sees_real_and_fake_separately():
    critic, rng = batch_norm_critic(), torch.Generator().manual_seed(0)
    real, fake = (
        torch.randn(6, 3, generator=rng, dtype=torch.float64) + 1,
        0.3 * torch.randn(6, 3, generator=rng, dtype=torch.float64),
    )
    joined = copy.deepcopy(critic)(torch.cat([real, fake])).flatten()
    own = [copy.deepcopy(critic)(x).flatten() for x in (real, fake)]
    terms = Game("minimax", ["r1r2"]).critic_terms(critic, real, fake)
    for point, expected, mixed in zip(("real", "fake"), own, joined.chunk(2), strict=True):
        assert torch.equal(terms.scores[point].logits, expected)
        assert ((expected - mixed).norm() / mixed.norm()) > 0.05


def test_trap_5_batch_norm_couples_the_samples_of_a_batch_but_not_the_batches():
    """The input gradient is that of the summed logits, across the batch, as everybody's
    autograd.grad computes it."""
    critic, x = (
        batch_norm_critic(),
        torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    found = score(critic, Samples(x), gradient=True).gradient
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad(critic(leaf).sum(), leaf)[0])


def spectral_critic() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(3, 8), nn.Linear(8, 1)
    return nn.Sequential(
        parametrizations.spectral_norm(layers[0]),
        nn.Tanh(),
        parametrizations.spectral_norm(layers[1]),
    ).double()


@pytest.mark.parametrize(
    "penalties", [[], ["r1r2:gamma=1"], ["js:gamma=1", "gp0:gamma=1", "dragan:gamma=1"]]
)
@pytest.mark.parametrize("loss", ["critic_loss", "generator_loss"])
def test_trap_6_one_loss_is_one_power_iteration(penalties, loss):
    """However many points are looked at; the buffers then hold what one forward pass leaves, and
    all points saw one weight."""
    critic, once = spectral_critic(), spectral_critic()
    real, fake = (
        torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s))
        for s in (1, 2)
    )
    getattr(Game("relativistic", penalties), loss)(critic, real, fake)
    once(real)
    for name, buffer in critic.named_buffers():
        assert torch.equal(buffer, once.get_buffer(name)), name
    twice = spectral_critic()
    twice(real), twice(real)
    assert any(not torch.equal(b, twice.get_buffer(name)) for name, b in critic.named_buffers())


def test_trap_6_real_and_fake_see_the_same_weight():
    x = torch.randn(4, 3, dtype=torch.float64)
    scores = Game("minimax", ["r1r2"]).critic_terms(spectral_critic(), x, x.clone()).scores
    assert torch.equal(scores["real"].logits, scores["fake"].logits) and torch.equal(
        scores["real"].gradient, scores["fake"].gradient
    )
    alone = spectral_critic()
    assert not torch.equal(alone(x), alone(x))  # two passes of their own would differ


def test_trap_6_players_iterate_alike():
    ends = []
    for make in (functional, optimizer):
        arena = mlp()._replace(critic=spectral_critic())
        players = make(Game("nonsaturating", ["r1:gamma=1"]), arena, lr=0.1)
        for _ in range(3):
            build("dynamics", "alternating").step(players)
        ends.append(
            torch.cat(
                [
                    flat(players).detach(),
                    *(b.flatten() for _, b in sorted(arena.critic.named_buffers())),
                ]
            )
        )
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


def test_trap_7_dragan_with_one_sample_is_finite():
    """One sample has no spread, so the point is the sample itself: here with slope 3 * 0.8."""
    real = torch.full((1, 1), 0.8, dtype=torch.float64)
    terms = Game("wasserstein", ["dragan:gamma=2"]).critic_terms(
        lambda x: 1.5 * x.square().sum(1), real, real + 1
    )
    assert torch.equal(terms.scores["around-real"].x, real)
    assert terms.penalty.item() == pytest.approx((3 * 0.8 - 1) ** 2)


@pytest.mark.parametrize("arena", [dirac(0.7, -1.1), mlp()], ids=["dirac", "mlp"])
def test_trap_9_the_consensus_gradient_away_from_the_origin(arena):
    """gamma * grad(||v||^2/2) against central differences of the norm itself, in random directions
    of the joint space."""
    gamma, game = 0.8, Game("minimax", ["r1:gamma=0.3"])
    players = functional(game, arena)
    batch = players.draw()
    found = players.consensus_gradient(batch, gamma)
    plain = {name: players.gradient(name, batch) for name in PLAYERS}
    pull = torch.cat(
        [(found[n][k] - plain[n][k]).reshape(-1) for n in PLAYERS for k in plain[n]]
    ).detach()
    origin, rng = flat(players).detach(), torch.Generator().manual_seed(0)

    def half_norm(at: torch.Tensor) -> float:
        here, values = functional(game, arena), iter(at.split([p.numel() for p in start(players)]))
        here.point = {
            n: {k: next(values).reshape(p.shape).requires_grad_() for k, p in here.point[n].items()}
            for n in PLAYERS
        }
        return field(here).square().sum().item() / 2

    assert pull.norm() > 0.05
    for _ in range(3):
        direction, h = torch.randn(len(origin), generator=rng, dtype=torch.float64), 1e-5
        slope = (half_norm(origin + h * direction) - half_norm(origin - h * direction)) / (2 * h)
        assert (pull @ direction).item() == pytest.approx(gamma * slope, rel=1e-6)


def test_trap_9_no_spurious_half():
    """At (theta, psi) of the Dirac-GAN by hand: ||v||^2/2 = s^2 (theta^2 + psi^2)/2, s =
    sigmoid(theta psi)."""
    theta, psi = 0.7, -1.1
    s = 1 / (1 + math.exp(-theta * psi))
    expected = [
        s * s * theta + s * s * (1 - s) * psi * (theta**2 + psi**2),
        s * s * psi + s * s * (1 - s) * theta * (theta**2 + psi**2),
    ]
    players = functional(Game("minimax"), dirac(theta, psi))
    batch = players.draw()
    with_, without = (
        players.consensus_gradient(batch, 1.0),
        {name: players.gradient(name, batch) for name in PLAYERS},
    )
    found = [
        (with_[n][k] - without[n][k]).item() for n, k in (("generator", "theta"), ("critic", "psi"))
    ]
    assert found == pytest.approx(expected, rel=1e-12)
    # Its Jacobian at the origin is what the closed forms need: -gamma a^2 on the diagonal.
    players = functional(Game("minimax"), dirac())
    joint = players.consensus_gradient(players.draw(), 1.0)
    matrix = -jacobian(
        torch.cat([joint["generator"]["theta"], joint["critic"]["psi"]]), start(players)
    )
    torch.testing.assert_close(
        matrix, torch.tensor([[-0.25, 0.5], [-0.5, -0.25]], dtype=torch.float64)
    )
