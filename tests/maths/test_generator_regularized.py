"""The regularizer in the generator's objective too: its sign, its gradient through the critic's
input gradient, and what changes where."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closed_forms import DAMPING, LINEARISABLE, damping

from steadygan import SteadyganError
from steadygan.analysis import batch as trajectories
from steadygan.analysis import closed_forms
from steadygan.cli import main
from steadygan.core import Context, Game, build
from steadygan.core.gradients import critic_backward
from steadygan.core.players import PLAYERS, FunctionalPlayers
from steadygan.problems.toys import Circle2D
from steadygan.training import Config
from steadygan.training.fleet import Fleet
from steadygan.training.single import Single
from support import (
    Fixed,
    dirac,
    field,
    field_jacobian,
    functional,
    jacobian,
    mlp,
    normal_nodes,
    optimizer,
    start,
    with_gamma,
)

SEEING = [s for s in LINEARISABLE if build("regularizer", s).sees_generated]
"""Penalties that depend on generated samples."""


def draws(seed=3):
    """The same noise at every look."""
    return Context(rng=torch.Generator().manual_seed(seed))


def loss_at(game, arena, theta, at):
    """The generator's loss with all of its parameters in one vector."""
    parameters = dict(arena.generator.named_parameters())
    parts = theta.split([p.numel() for p in parameters.values()])
    values = {
        key: part.view_as(p) for (key, p), part in zip(parameters.items(), parts, strict=True)
    }
    fake = torch.func.functional_call(arena.generator, values, (arena.batches[0].latent,))
    return game.generator_loss(arena.critic, arena.batches[0].real, fake, at=at())


@pytest.mark.parametrize("objective", ["minimax", "nonsaturating", "wasserstein", "relativistic"])
@pytest.mark.parametrize("penalty", ["js", "f-gan", "r2", "r1r2", "gp0", "wgan-gp", "lecam"])
def test_the_generators_gradient_is_that_of_finite_differences(objective, penalty):
    arena = mlp(seed=4)
    game = Game(objective, [f"{penalty}:gamma=3"], regularize_generator=True)
    theta = torch.cat([p.detach().flatten() for p in arena.generator.parameters()])
    (found,) = torch.autograd.grad(
        loss_at(game, arena, leaf := theta.clone().requires_grad_(), draws), leaf
    )
    rng, h = torch.Generator().manual_seed(0), 1e-5
    for _ in range(4):
        u = torch.randn(len(theta), generator=rng, dtype=torch.float64)
        slope = (
            loss_at(game, arena, theta + h * u, draws) - loss_at(game, arena, theta - h * u, draws)
        ) / (2 * h)
        assert (found @ u).item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-9)
    plain = replace(game, regularize_generator=False)
    (without,) = torch.autograd.grad(loss_at(plain, arena, leaf, draws), leaf)
    assert (found - without).norm() > 1e-3 * without.norm(), "the penalty is in the gradient"


def test_the_js_penalty_by_hand():
    """L_G = mean log(1 - s) - gamma/2 (E_real (1 - s)^2 |grad D|^2 + E_fake s^2 |grad D|^2), D
    written out, its gradient by hand."""
    critic = lambda x: torch.sin(x[:, 0]) + x[:, 0] * x[:, 1] ** 2  # noqa: E731
    real, fake = (
        torch.randn(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.3
    )

    def part(x, sign):
        slope = torch.stack([x[:, 0].cos() + x[:, 1] ** 2, 2 * x[:, 0] * x[:, 1]], dim=1)
        return ((sign * critic(x)).sigmoid() ** 2 * slope.square().sum(1)).mean()

    expected = torch.log(1 - critic(fake).sigmoid()).mean() - 0.7 / 2 * (
        part(real, -1) + part(fake, 1)
    )
    found = Game("minimax", "js:gamma=0.7", regularize_generator=True).generator_loss(
        critic, real, fake
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("penalty", SEEING)
def test_the_minimax_game_is_zero_sum_in_the_regularized_value(penalty, labelled):
    """L_D + L_G does not depend on the generator, and the penalties cancel: what is left is the
    real samples' part, -E log s."""
    arena = mlp(seed=2, labels=labelled)
    game = Game("minimax", [with_gamma(penalty, 5.0)], regularize_generator=True)
    (real, latent, labels), critic = arena.batches[0], arena.critic
    fake = arena.generator(latent, labels[1]) if labels else arena.generator(latent)
    total = game.critic_loss(critic, real, fake, labels=labels, at=draws())
    total = total + game.generator_loss(critic, real, fake, labels=labels, at=draws())
    logits = critic(real, labels[0]) if labels else critic(real)
    assert total.item() == pytest.approx(-logits.sigmoid().log().mean().item(), rel=1e-12)
    slopes = torch.autograd.grad(total, list(arena.generator.parameters()))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-13


@pytest.mark.parametrize("smoothing", [None, "instance-noise:sigma=0.4"])
def test_with_another_objective_the_penalty_is_subtracted(smoothing):
    arena = mlp(seed=5)
    real, fake = arena.batches[0].real, arena.generator(arena.batches[0].latent)
    plain = Game("nonsaturating", ["js:gamma=2", "r1:gamma=1"], smoothing)
    terms = plain.critic_terms(arena.critic, real, fake, at=draws())
    logits = terms.scores["fake"].logits
    found = replace(plain, regularize_generator=True).generator_loss(
        arena.critic, real, fake, at=draws()
    )
    assert found.item() == pytest.approx(
        (torch.nn.functional.softplus(-logits).mean() - terms.penalty).item(), rel=1e-12
    )
    assert terms.penalty > 0.01


# ------------------------------------------------------------ the Dirac-GAN


def slopes_of(x):
    s = torch.as_tensor(x, dtype=torch.float64).sigmoid().item()
    return s, s * (1 - s), s * (1 - s) * (1 - 2 * s)


@pytest.mark.parametrize(("theta", "psi"), [(0.0, 0.0), (0.4, -0.9), (-1.3, 0.7)])
def test_the_field_of_the_dirac_gan_with_js(theta, psi):
    """Omega = psi^2/4 + s^2 psi^2 with s = sigmoid(psi theta), so that v_theta gains gamma s s'
    psi^3, and v_psi does not change."""
    gamma = 1.7
    plain, with_it = (
        Game("minimax", f"js:gamma={gamma}", regularize_generator=on) for on in (False, True)
    )
    s, s1, s2 = slopes_of(psi * theta)
    gained = field(functional(with_it, dirac(theta, psi))) - field(
        functional(plain, dirac(theta, psi))
    )
    torch.testing.assert_close(
        gained,
        torch.tensor([gamma * s * s1 * psi**3, 0.0], dtype=torch.float64),
        rtol=1e-12,
        atol=1e-15,
    )
    # d/dtheta and d/dpsi of gamma s s' psi^3, by the product rule.
    row = [
        gamma * psi**4 * (s1**2 + s * s2),
        gamma * (psi**3 * theta * (s1**2 + s * s2) + 3 * psi**2 * s * s1),
    ]
    more = field_jacobian(with_it, dirac(theta, psi)) - field_jacobian(plain, dirac(theta, psi))
    torch.testing.assert_close(
        more, torch.tensor([row, [0.0, 0.0]], dtype=torch.float64), rtol=1e-11, atol=1e-14
    )


@pytest.mark.parametrize("objective", ["minimax", "nonsaturating"])
@pytest.mark.parametrize("penalty", SEEING)
def test_at_the_equilibrium_nothing_changes_to_first_order(objective, penalty):
    game = Game(objective, [with_gamma(penalty, 0.8)], regularize_generator=True)
    expected = torch.tensor([[0.0, 0.5], [-0.5, -damping(penalty, 0.8)]], dtype=torch.float64)
    torch.testing.assert_close(
        field_jacobian(game, dirac(), draws()), expected, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("backprop", ["true", "false"])
@pytest.mark.parametrize("smoothing", [None, "instance-noise:sigma=0.6"])
@pytest.mark.parametrize(
    "penalties", [["r2:gamma=0.9"], ["js:gamma=0.9"], ["r1:gamma=0.3", "r1r2:gamma=0.4"]]
)
def test_the_unrolled_generator_feels_it_to_first_order(penalties, smoothing, backprop):
    game = Game("nonsaturating", penalties, smoothing, regularize_generator=True)
    dynamics, nodes = (
        build("dynamics", f"unrolled:steps=3,step_size=0.2,backprop={backprop}"),
        normal_nodes(9),
    )
    players = functional(game, dirac(batch=9), Context(rng=Fixed(nodes)))
    found = jacobian(
        -torch.cat(
            [g for v in dynamics.field(players, players.draw()).values() for g in v.values()]
        ),
        start(players),
    )
    expected = torch.as_tensor(closed_forms.field_matrix(game, dynamics, 0.1))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    plain = closed_forms.field_matrix(replace(game, regularize_generator=False), dynamics, 0.1)
    assert (abs(expected.numpy() - plain).max() > 1e-3) == (backprop == "true")


@pytest.mark.parametrize("penalty", ["r2", "r1r2", "gp0"])
def test_a_penalty_that_is_psi_squared_changes_nothing_anywhere(penalty):
    """R2 of the Dirac-GAN is psi^2, wherever the generated point is."""
    games = [Game("minimax", f"{penalty}:gamma=2", regularize_generator=on) for on in (False, True)]
    plain, with_it = (field(functional(game, dirac(0.6, -1.1), draws())) for game in games)
    torch.testing.assert_close(plain, with_it, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    "dynamics",
    ["simultaneous", "alternating:critic_steps=2", "consensus:gamma=0.5", "unrolled:steps=2"],
)
def test_every_dynamics_sees_it_the_same_in_both_kinds_of_players(dynamics):
    game, points = Game("minimax", "js:gamma=2", regularize_generator=True), []
    for players in (functional(game, mlp(seed=6), lr=0.1), optimizer(game, mlp(seed=6), lr=0.1)):
        build("dynamics", dynamics).step(players)
        points.append(
            torch.cat(
                [p.detach().flatten() for name in PLAYERS for p in players.values(name).values()]
            )
        )
    torch.testing.assert_close(*points, rtol=1e-11, atol=1e-12)
    without = functional(replace(game, regularize_generator=False), mlp(seed=6), lr=0.1)
    build("dynamics", dynamics).step(without)
    moved = torch.cat(
        [p.detach().flatten() for name in PLAYERS for p in without.values(name).values()]
    )
    assert (points[0] - moved).abs().max() > 1e-5


def test_many_trajectories_of_the_dirac_gan_have_it_too():
    game, start = (
        Game("minimax", "js:gamma=2", regularize_generator=True),
        torch.tensor([[0.9, -0.8], [0.2, 1.5]], dtype=torch.float64),
    )
    found = trajectories.follow(
        game, build("dynamics", "simultaneous"), start, 0.1, steps=3, every=1, nodes=1
    )
    for path, (theta, psi) in zip(found.unbind(1), start.tolist(), strict=True):
        players: FunctionalPlayers = functional(game, dirac(theta, psi), lr=0.1)
        for _ in range(3):
            build("dynamics", "simultaneous").step(players)
        assert path[-1].tolist() == pytest.approx(
            [p.item() for name in PLAYERS for p in players.values(name).values()], rel=1e-12
        )


# ------------------------------------------------------------ training


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


SMALL = Config(
    network="mlp:width=8",
    steps=6,
    batch=8,
    log_every=2,
    evaluate_every=3,
    checkpoint_every=2,
    device="cpu",
    optimizer="sgd:lr=0.05",
    regularize_generator=True,
)


@pytest.mark.parametrize(
    "more",
    [
        {"objective": "minimax"},
        {"smoothing": "instance-noise:sigma=0.3"},
        {"dynamics": "consensus:gamma=0.5"},
        {"dynamics": "unrolled:steps=2"},
        {"dynamics": "alternating:share=true"},
    ],
)
def test_a_member_of_a_fleet_is_the_same_gan_trained_alone(double, more):
    problem, config = Circle2D(), replace(SMALL, **more)
    configs = [
        replace(config, regularizer=(f"js:gamma={gamma}", "wgan-gp:gamma=1"), seed=seed)
        for seed, gamma in enumerate((10, 100))
    ]
    fleet = Fleet(problem, configs)
    for _ in range(4):
        fleet.dynamics.step(fleet.players)
    for i, member in enumerate(fleet.members):
        alone = Single(problem, member)
        for _ in range(4):
            alone.dynamics.step(alone.players)
        for name in PLAYERS:
            for key, p in alone.players.values(name).items():
                assert (p - fleet.players.values(name)[key][i]).abs().max() < 1e-11
        assert (alone.players.generator_loss - fleet.players.generator_loss[i]).abs() < 1e-11
        # Two moves with it and without it part, or the comparison above would see nothing.
        plain = Single(problem, replace(member, regularize_generator=False))
        for _ in range(4):
            plain.dynamics.step(plain.players)
        pairs = zip(
            plain.players.values("generator").values(),
            alone.players.values("generator").values(),
            strict=True,
        )
        assert max((a - b).abs().max().item() for a, b in pairs) > 1e-8


def test_traced_gradients_are_the_same(double, monkeypatch):
    """Traced as for compilation, the traced operations run as they are."""
    graphs, problem = [], Circle2D()
    monkeypatch.setattr(torch, "compile", lambda graph, dynamic: graphs.append(graph) or graph)
    configs = [
        replace(SMALL, objective="minimax", regularizer=(f"js:gamma={10 + seed}",), seed=seed)
        for seed in range(2)
    ]
    fleets = [Fleet(problem, configs, compiled=compiled) for compiled in (False, True)]
    for fleet in fleets:
        for _ in range(3):
            fleet.dynamics.step(fleet.players)
    assert len(graphs) == 2
    for name in PLAYERS:
        for a, b in zip(*(fleet.players.values(name).values() for fleet in fleets), strict=True):
            assert (a - b).abs().max() < 1e-12


def test_the_critics_gradient_does_not_change():
    arena, grads = mlp(seed=7), []
    real, fake = arena.batches[0].real, arena.generator(arena.batches[0].latent).detach()
    for on in (False, True):
        arena.critic.zero_grad()
        critic_backward(
            Game("minimax", "js:gamma=2", regularize_generator=on), arena.critic, real, fake
        )
        grads.append(torch.cat([p.grad.flatten() for p in arena.critic.parameters()]))
    assert torch.equal(*grads)


def test_what_cannot_be_is_refused():
    with pytest.raises(
        SteadyganError,
        match=r"needs a penalty that depends on generated samples.*there is no regularizer",
    ):
        Game("minimax", regularize_generator=True)
    for blind in ("r1", "dragan"):
        with pytest.raises(SteadyganError, match=r"looks at .*real samples only"):
            Game("minimax", blind, regularize_generator=True)
    Game("minimax", ["r1", "js"], regularize_generator=True)
    arena = mlp()
    with pytest.raises(SteadyganError, match="pass real samples"):
        Game("minimax", "js", regularize_generator=True).generator_loss(
            arena.critic, None, arena.batches[0].real
        )
    with pytest.raises(SteadyganError, match="not in every 4th"):
        replace(SMALL, regularizer=("js",), penalty_every=4).resolve(Circle2D())
    with pytest.raises(SteadyganError, match="there is no regularizer"):
        SMALL.resolve(Circle2D())


def test_every_registered_penalty_is_on_one_side():
    blind = {name for name in DAMPING if not build("regularizer", name).sees_generated}
    assert {"r1", "dragan"} <= blind
    assert not blind & {"r2", "r1r2", "js", "f-gan", "gp0", "wgan-gp", "wgan-lp", "lecam"}


def test_a_configuration_without_the_setting_still_loads():
    held = replace(SMALL, regularizer=("js",)).to_json()
    del held["regularize_generator"]
    assert Config.from_json(held).regularize_generator is False


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = (
        "train circle2d --regularizer js:gamma=0.1 --steps 2 --batch 8 --network mlp:width=8"
        " --regularize-generator --out run"
    ).split()
    assert main(argv) == 0
    assert json.loads(Path("run/config.json").read_text())["config"]["regularize_generator"] is True
    row = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert math.isfinite(row["generator_loss"])
    capsys.readouterr()
    assert main(["train", "circle2d", "--regularize-generator", "--out", "other"]) == 2
    assert (
        "there is no regularizer" in " ".join(capsys.readouterr().err.split())
        and not Path("other").exists()
    )
