"""Batch normalisation that is differentiated three times, as a penalty's Hessian needs it."""

import copy

import pytest
import torch
from torch import nn

from steadygan import Game, SteadyganError, build
from steadygan.analysis.linearize import System, jacobian
from steadygan.core.batchnorm import ExactBatchNorm
from steadygan.core.players import Batch
from steadygan.runs.members import grid
from steadygan.training import Config, train, train_fleet
from steadygan.training.single import Single


class Activated(nn.BatchNorm1d):
    def forward(self, x):
        return nn.functional.softplus(super().forward(x))


class Conditional(nn.BatchNorm1d):
    def forward(self, x, y):
        return super().forward(x) * y


class Own(nn.BatchNorm1d):
    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, training=True)


def networks(norm=nn.BatchNorm1d):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 4), norm(4), nn.Tanh(), nn.Linear(4, 1))
    return nn.Linear(2, 2).double(), critic.double()


def differences(function, point, step=1e-6):
    """Return the Jacobian of a flat map by central differences."""
    columns = []
    for direction in torch.eye(len(point), dtype=point.dtype):
        ends = [function((point + s * direction).requires_grad_()).detach() for s in (step, -step)]
        columns.append((ends[0] - ends[1]) / (2 * step))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("x", [torch.randn(7, 3), torch.randn(4, 3, 2, 2), torch.randn(5, 3, 4)])
@pytest.mark.parametrize(
    "settings", [{}, {"momentum": None}, {"momentum": 0.0}, {"affine": False, "eps": 0.1}]
)
def test_it_is_the_function_of_torch(x, settings):
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[x.ndim]
    theirs = kind(3, **settings)
    ours = nn.Sequential(copy.deepcopy(theirs))
    assert ExactBatchNorm.replace(ours) and not ExactBatchNorm.replace(nn.ReLU())
    for _ in range(2):
        torch.testing.assert_close(ours(x), theirs(x))
        x = 3 * x + 1
    torch.testing.assert_close(ours[0].state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_without_running_averages_it_is_exact_in_evaluation_too():
    """There, too, it takes means and variances of the batch, and torch's third derivative fails."""
    norm = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)).double()
    x, found = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), []
    ExactBatchNorm.replace(norm)
    for mode in (True, False):
        slope = torch.tanh(norm.train(mode)(x)).sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(slope, x, create_graph=True)
            slope = g.square().sum()
        found.append(g)
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)


@pytest.mark.parametrize("given", [(Activated, ()), (Conditional, (torch.randn(7, 1),))])
def test_a_subclass_keeps_what_it_does_besides(given):
    kind, labels = given
    theirs, x = kind(3), torch.randn(7, 3, dtype=torch.float64)
    ours = copy.deepcopy(theirs).double()
    assert ExactBatchNorm.replace(ours) and isinstance(ours, ExactBatchNorm)
    again = copy.deepcopy(ours)
    assert ExactBatchNorm.replace(again) and type(again) is type(ours)
    torch.testing.assert_close(ours(x, *labels), theirs.double()(x, *labels), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert ours._get_name() == kind.__name__


def test_a_subclass_that_goes_past_is_refused_where_it_trains():
    with pytest.raises(SteadyganError, match=r"Own has a forward of its own .* super\(\)\.forward"):
        ExactBatchNorm.replace(nn.Sequential(Own(3)))
    still = Own(3).eval()
    assert ExactBatchNorm.replace(still) and type(still) is Own


@pytest.mark.parametrize("norm", ["norm", "critic_norm"])
@pytest.mark.parametrize("dynamics", ["alternating", "consensus"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_one_value_of_a_channel_is_refused(tmp_path, norm, dynamics, seeds):
    """Its variance over one row less has no value, which running averages would keep."""
    network = f"mlp:width=4,{norm}=batch"
    given = Config(
        regularizer=("r1",), dynamics=dynamics, network=network, batch=1, steps=1, device="cpu"
    )
    members = grid(given, seeds=seeds)
    with pytest.raises(SteadyganError, match="at least two values of each channel"):
        if seeds == 1:
            train(build("problem", "ring2d"), members[0], tmp_path / "x", show=False)
        else:
            train_fleet(build("problem", "ring2d"), members, tmp_path / "x", show=False)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, Activated])
def test_the_jacobian_of_a_penalized_field_is_that_of_differences(kind):
    """Through torch's own it is off, by more than a hundredth of the largest entry."""
    generator, critic = networks(kind)
    batch = Batch(*torch.randn(2, 6, 2, dtype=torch.float64))
    game = Game("nonsaturating", "r1:gamma=2")
    system = System(game, "simultaneous", generator, critic, batch)
    found = jacobian(system.field, system.point())
    true = differences(system.field, system.point())
    torch.testing.assert_close(found, true, rtol=1e-6, atol=1e-7 * true.abs().max().item())
    assert type(critic[1]) is kind
    system.critic[1].__class__ = kind
    assert (jacobian(system.field, system.point()) - true).abs().max() > 0.01 * true.abs().max()


def test_consensus_follows_the_gradient_of_the_norm_of_a_penalized_field():
    """As it does without batch normalisation: half the norm's slope along the critic's bias."""
    config = Config(
        regularizer=("r1:gamma=2",),
        dynamics="consensus:gamma=1",
        network="mlp:width=4,critic_norm=batch",
        precision="float64",
        batch=6,
        steps=1,
        device="cpu",
    )
    problem = build("problem", "ring2d")
    players = Single(problem, config.resolve(problem)).players
    batch = players.draw()
    found = players.consensus_gradient(batch, 1.0)["critic"]
    own = players.consensus_gradient(batch, 0.0)["critic"]

    def half():
        v = players.consensus_gradient(batch, 0.0)
        return sum(g.square().sum() for values in v.values() for g in values.values()) / 2

    for key, p in players.values("critic").items():
        place = int((found[key] - own[key]).abs().argmax())
        ends = []
        for step in (1e-6, -1e-6):
            p.data.view(-1)[place] += step
            ends.append(half())
            p.data.view(-1)[place] -= step
        slope = (found[key] - own[key]).view(-1)[place]
        torch.testing.assert_close(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-6)
