"""Gradients that a GPU replays from recordings are those that it computes, bit for bit: run where
there is one (CUDA graphs exist nowhere else); what is refused before, everywhere."""

from dataclasses import replace

import pytest
import torch

from steadygan import SteadyganError, build
from steadygan.core.gradients import tracing
from steadygan.core.players import OptimizerPlayers
from steadygan.core.players.recorded import RecordedPlayers, Recording
from steadygan.problems import Images
from steadygan.runs.files import read_lines
from steadygan.runs.format import METRICS
from steadygan.training import Config, Watcher, layout, resume, train
from steadygan.training.fleet import Fleet
from steadygan.training.ranks import Ranks
from steadygan.training.single import Single

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="a recording needs a GPU")

MLP = Config(network="mlp:width=16", batch=12, steps=40, device="cuda", optimizer="adam:lr=0.002")
DCGAN = replace(MLP, network="dcgan:width=4", latent=5, batch=6)
CASES = {
    "none": MLP,
    "annealed": replace(MLP, regularizer=("js:gamma=0.7,anneal=0.01",), ema=0.9),
    "lazy": replace(MLP, regularizer=("r1:gamma=3", "r2:gamma=1"), penalty_every=3),
    "interpolates": replace(
        MLP,
        objective="wasserstein",
        regularizer=("wgan-gp",),
        dynamics="alternating:critic_steps=3",
    ),
    "noise": replace(MLP, smoothing="instance-noise:sigma=0.4,anneal=0.1"),
    "simultaneous": replace(MLP, dynamics="simultaneous", optimizer="sgd:lr=0.05,momentum=0.5"),
    "batch normalisation": replace(DCGAN, regularizer=("js:gamma=2,anneal=0.1",)),
    "no normalisation": replace(
        DCGAN, network="dcgan:width=4,norm=none,critic_norm=none", regularizer=("r1:gamma=1",)
    ),
    "spectral": replace(DCGAN, network="dcgan:width=4,critic_norm=spectral", objective="hinge"),
}


class Press(Watcher):
    """Someone who presses Ctrl-C."""

    def stepped(self, training):
        training.interrupt.seen |= training.step == 4


def problem_of(config):
    images = config.network.startswith("dcgan")
    return Images("digits", 8, 1) if images else build("problem", "circle2d")


def trained(config, steps, record=True):
    problem = problem_of(config)
    single = Single(problem, replace(config, cuda_graphs=record).resolve(problem))
    rows = []
    for _ in range(steps):
        single.advance()
        rows.append(single.rows()[0])
    values = {
        f"{name}.{key}": t
        for name in ("generator", "critic")
        for key, t in getattr(single, name).state_dict().items()
    }
    return single, rows, values


@gpu
@pytest.mark.parametrize("case", CASES)
def test_the_same_steps_as_unrecorded(case):
    torch.backends.cudnn.deterministic = True
    config = CASES[case]
    recorded, rows, found = trained(config, 9)
    plain, expected_rows, expected = trained(config, 9, record=False)
    assert isinstance(recorded.players, RecordedPlayers)
    assert not isinstance(plain.players, RecordedPlayers)
    # Strengths that change are doubles in the one and single numbers in the other, and cuDNN may
    # choose another algorithm in a recording.
    for key, t in expected.items():
        torch.testing.assert_close(found[key], t, rtol=1e-4, atol=2e-6, msg=lambda m, k=key: k + m)
    for row, want in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(want, rel=1e-3, abs=1e-5)
    start = trained(config, 0)[2]
    moved = [key for key in expected if not torch.equal(start[key], expected[key])]
    assert len(moved) >= len(expected) // 2


@gpu
def test_gradients_are_not_overwritten_by_the_next_look():
    problem = problem_of(MLP)
    single = Single(problem, replace(MLP, cuda_graphs=True).resolve(problem))
    batches = [single.players.draw() for _ in range(2)]
    first = single.players.gradient("critic", batches[0])
    kept = {key: g.clone() for key, g in first.items()}
    second = single.players.gradient("critic", batches[1])
    assert all(torch.equal(first[key], kept[key]) for key in kept)
    assert any(not torch.equal(first[key], second[key]) for key in kept)


@gpu
@pytest.mark.parametrize("case", ["annealed", "lazy", "noise", "batch normalisation"])
def test_a_resumed_run_has_the_same_steps(tmp_path, case):
    torch.backends.cudnn.deterministic = True
    config = replace(CASES[case], cuda_graphs=True, steps=8, checkpoint_every=4, log_every=1)
    problem = problem_of(config)
    train(problem, config, tmp_path / "whole")
    assert train(problem, config, tmp_path / "cut", watchers=[Press()]).state == "interrupted"
    resume(tmp_path / "cut")
    whole, cut = (read_lines(tmp_path / name / METRICS).rows for name in ("whole", "cut"))
    for one, other in zip(whole, cut, strict=True):
        assert one["critic_loss"] == pytest.approx(other["critic_loss"], rel=1e-5), one["step"]


@gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_fleet_is_recorded_and_its_members_are_the_same_gans(monkeypatch, compiled):
    problem = build("problem", "circle2d")
    config = replace(MLP, regularizer=("js:gamma=0.5",), cuda_graphs=False)
    members = [
        replace(config, seed=seed, regularizer=(f"js:gamma={gamma}",)).resolve(problem)
        for seed, gamma in ((0, 0.5), (1, 2), (2, 0.1))
    ]
    recordings = []
    record = tracing.record
    monkeypatch.setattr(tracing, "record", lambda *a: recordings.append(1) or record(*a))
    fleet = Fleet(problem, members, compiled=compiled)
    for _ in range(40):
        fleet.advance()
    assert len(recordings) == 2  # of the critics and of the generators
    for i, member in enumerate(members):
        alone = Single(problem, member)
        for _ in range(40):
            alone.advance()
        for key, t in alone.critic.state_dict().items():
            each = fleet.players.critic.state_dict()[key][i]
            torch.testing.assert_close(each, t, rtol=1e-2, atol=1e-4)


@gpu
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dynamics": "alternating:share=true"}, "cannot be recorded"),
        ({"regularizer": ("lecam",)}, "remembers"),
    ],
)
def test_what_no_recording_holds_is_refused_at_the_first_step(changes, message):
    config = replace(MLP, **changes)
    with pytest.raises(SteadyganError, match=message):
        trained(config, 1)


def test_without_a_gpu_it_is_refused():
    problem = problem_of(MLP)
    with pytest.raises(SteadyganError, match="is for a GPU"):
        replace(MLP, device="cpu", cuda_graphs=True).resolve(problem)


def test_an_experiment_records_where_its_runs_are_trained(monkeypatch):
    # A planner without a GPU, and a worker with one, read the same configuration.
    problem, config = problem_of(MLP), replace(MLP, device="auto", cuda_graphs=None)
    assert replace(config, device="cpu").resolve(problem).cuda_graphs is False
    there = Config.from_json(config.to_json())
    monkeypatch.setattr("steadygan.runs.config._device", lambda name: "cuda:1")
    assert there.resolve(problem).cuda_graphs is True


def test_what_cannot_be_recorded_is_refused_before_anything_is_trained(monkeypatch):
    problem = problem_of(MLP)
    shared = replace(MLP, device="cpu", dynamics="alternating:share=true").resolve(problem)
    with pytest.raises(SteadyganError, match="moves on the critic's samples"):
        Single(problem, replace(shared, cuda_graphs=True))
    config = replace(replace(MLP, device="cpu").resolve(problem), cuda_graphs=True)
    with pytest.raises(SteadyganError, match=r"2 processes cannot train this .*graphs"):
        Single(problem, config, ranks=Ranks(0, 2))
    monkeypatch.setattr("steadygan.runs.config._device", lambda name: name)  # as where there is one
    with pytest.raises(SteadyganError, match="float32 or float64"):
        replace(MLP, cuda_graphs=True, precision="bfloat16").resolve(problem)
    many = [replace(MLP, cuda_graphs=True, seed=seed) for seed in (0, 1)]
    with pytest.raises(SteadyganError, match="recorded as it is"):
        Fleet(problem, many)


def test_a_recording_that_differs_is_not_used(monkeypatch):
    # A stand-in for the graph, which needs a GPU: it writes what it is told, not the gradient.
    config = replace(MLP, device="cpu", regularizer=("r1:gamma=1",), penalty_every=2)
    problem = problem_of(config)
    made = []

    class Wrong:
        def __init__(self, gradient):
            self.gradient = gradient

        def replay(self):
            for g in self.gradient.values():
                g.mul_(1.2)

    def record(self, player, batch, strengths):
        with self._untouched():
            gradient = OptimizerPlayers.gradient(self, player, batch)
            terms = self.terms
        made.append(player)
        return Recording(Wrong(gradient), batch, {}, gradient, terms, None)

    monkeypatch.setattr(RecordedPlayers, "_record", record)
    found = {}
    for kind in (OptimizerPlayers, RecordedPlayers):
        single = Single(problem, config.resolve(problem))
        own = single.players
        single.players = kind(
            own.game,
            own.generator,
            own.critic,
            own.draw,
            own.context,
            optimizers=own.optimizers,
            path=own.path,
            penalty_every=2,
            chains=own.chains,
        )
        if kind is RecordedPlayers:
            with pytest.warns(UserWarning, match="differs from it by 20%"):
                for _ in range(5):
                    single.advance()
        else:
            for _ in range(5):
                single.advance()
        found[kind] = [*single.critic.state_dict().values(), single.players.penalty]
    # Critics with and without the penalty, and generators: each kind is recorded once and dropped.
    assert made == ["critic", "generator", "critic"]
    for a, b in zip(*found.values(), strict=True):
        assert torch.equal(a, b)


def test_networks_keep_their_layout_where_torch_pools_wrongly_in_the_other(monkeypatch):
    assert layout.pools_rightly.__wrapped__("cpu")
    real = torch.nn.functional.avg_pool2d

    class Shifted(torch.autograd.Function):
        """Its gradient forgets the padding in channels_last, as torch's did on GPUs."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return real(x, 3, 2, 1)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            with torch.enable_grad():
                own = x.detach().requires_grad_()
                (slope,) = torch.autograd.grad(real(own, 3, 2, 1), own, g)
            return slope.roll(1, 3) if x.is_contiguous(memory_format=torch.channels_last) else slope

    monkeypatch.setattr(layout.F, "avg_pool2d", lambda x, *_: Shifted.apply(x))
    assert not layout.pools_rightly.__wrapped__("cpu")
    monkeypatch.setattr(layout, "pools_rightly", lambda device: False)
    conv = torch.nn.Conv2d(4, 5, 3)
    layout.to_channels_last("cpu", conv)
    assert not conv.weight.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(layout, "pools_rightly", lambda device: True)
    layout.to_channels_last("cpu", conv)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
def test_a_residual_critic_has_the_same_gradients_in_the_layout_that_training_takes(device):
    torch.manual_seed(0)
    critic = build("network", "resnet:width=4").critic((3, 16, 16)).to(device)
    x = torch.randn(6, 3, 16, 16, device=device)
    (expected,) = torch.autograd.grad(critic(x.requires_grad_()).sum(), x)
    layout.to_channels_last(device, critic)
    (found,) = torch.autograd.grad(critic(x).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * expected.abs().max().item())
