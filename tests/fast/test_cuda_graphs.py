"""Gradients that a GPU replays from recordings are those that it computes, bit for bit: run where
there is one (CUDA graphs exist nowhere else); what is refused before, everywhere."""

from dataclasses import replace

import pytest
import torch

from steadygan import SteadyganError, build
from steadygan.core.gradients import tracing
from steadygan.core.players.recorded import RecordedPlayers
from steadygan.problems import Images
from steadygan.runs.files import read_lines
from steadygan.runs.format import METRICS
from steadygan.training import Config, Watcher, resume, train
from steadygan.training.fleet import Fleet
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
