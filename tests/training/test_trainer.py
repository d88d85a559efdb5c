"""The trainer: one seed is one run, a stopped run continues with the same bits, and whatever ends a
run leaves it whole."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from steadygan import SteadyganError, build
from steadygan.problems import Images
from steadygan.problems.toys import Mixture3D
from steadygan.runs import checkpoint
from steadygan.runs.averages import Average, Decay
from steadygan.runs.models import load_generator, load_sampler
from steadygan.training import Config, Watcher, resume, train
from steadygan.training.interrupt import Interrupt
from steadygan.training.single import Single

SMALL = Config(
    network="mlp:width=8",
    steps=6,
    batch=16,
    log_every=2,
    evaluate_every=3,
    checkpoint_every=2,
    optimizer="adam:lr=0.01",
)


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def weights(path):
    tree = checkpoint.load(checkpoint.latest(path))
    return {
        f"{who}/{name}": t
        for who in ("generator", "critic", "ema")
        for name, t in tree[who].items()
    }


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def run(tmp_path, name, problem=None, config=SMALL, **changes):
    config = Config(**{**vars(config), **changes})
    return train(problem or build("problem", "mixture3d"), config, tmp_path / name, show=False)


# Everything that a step can depend on: noise, memory (lecam), previous gradients (optimistic),
# momentum, buffers, flips, labels, EMA.
CASES = {
    "adam": {},
    "annealed noise": {
        "smoothing": "instance-noise:sigma=0.5,anneal=0.1",
        "regularizer": ("wgan-gp", "js:gamma=1,anneal=0.01"),
    },
    "lecam, optimistic, momentum": {
        "regularizer": ("lecam",),
        "dynamics": "optimistic",
        "optimizer": "sgd:lr=0.05,momentum=0.9",
    },
    "batch norm, average": {
        "network": "mlp:width=8,norm=batch,critic_norm=batch",
        "ema": 0.9,
        "optimizer": "rmsprop",
    },
    "lazy penalties, each step logged": {
        "regularizer": ("r1",),
        "penalty_every": 4,
        "log_every": 1,
    },
    "spectral norm, extragradient": {
        "network": "mlp:width=8,critic_norm=spectral",
        "dynamics": "extragradient",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_has_the_same_bits(tmp_path, case):
    whole = run(tmp_path, "whole", **CASES[case])
    # The same run, stopped by a signal after its third step.
    problem = Interrupting(stop_after=3 * draws(CASES[case]))
    cut = run(tmp_path, "cut", problem, **CASES[case])
    assert (cut.state, cut.step) == ("interrupted", 3)
    described = json.loads((cut.path / "config.json").read_text())
    described["problem"] = {"name": "mixture3d"}
    (cut.path / "config.json").write_text(json.dumps(described))
    done = resume(cut.path, show=False)
    assert (done.state, done.step) == ("finished", 6)
    assert same(weights(whole.path), weights(cut.path))
    # No trace of the stop: the same rows, samples and monitor.
    timeless = [[row | {"seconds": 0} for row in rows(each.path)] for each in (whole, cut)]
    assert timeless[0] == timeless[1]
    trees = [checkpoint.load(checkpoint.latest(each.path)) for each in (whole, cut)]
    assert trees[0]["monitor"] == trees[1]["monitor"]
    names = [{p.name for p in (each.path / "samples").iterdir()} for each in (whole, cut)]
    assert names[0] == names[1]


def draws(case):
    return {"optimistic": 1, "extragradient": 2}.get(case.get("dynamics", ""), 2)


@dataclass(frozen=True)
class Interrupting(Mixture3D):
    """The 3-D mixture, with a Ctrl-C after so many draws."""

    stop_after: int = 0

    def stream(self, seed):
        inner, problem = super().stream(seed), self

        class Stream:
            count = 0

            def draw(self, n):
                self.count += 1
                if self.count == problem.stop_after and n == SMALL.batch:
                    os.kill(os.getpid(), signal.SIGINT)
                return inner.draw(n)

            state, restore = inner.state, inner.restore

        return Stream()


@pytest.fixture(autouse=True)
def _interrupting_is_a_mixture(monkeypatch):
    from steadygan.core import registry

    monkeypatch.setitem(registry._where, Interrupting, ("problem", "mixture3d"))


def test_a_signal_that_the_shell_had_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupt.seen and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_interruption_within_a_step_is_no_failure(tmp_path):
    class Impatient(Watcher):
        def stepped(self, training):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Mixture3D(), SMALL, tmp_path / "run", watchers=[Impatient()], show=False)
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert (status["state"], status["reason"]) == ("interrupted", "interrupted by a second signal")


def test_kill_9_in_the_middle_and_resume_has_the_same_bits(tmp_path):
    arguments = (
        "mixture3d --network mlp:width=8 --batch 16 --steps 400 --checkpoint-every 20"
        " --evaluate-every 100 --ema 0.9 --out"
    ).split()
    program = [
        sys.executable,
        "-c",
        "import torch; torch.set_num_threads(1); from steadygan.cli import entry; entry()",
    ]
    process = subprocess.Popen(
        [*program, "train", *arguments, str(tmp_path / "cut")],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        len(checkpoint.checkpoints(tmp_path / "cut")) < 2
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    killed_at = checkpoint.load(checkpoint.latest(tmp_path / "cut"))["step"]
    assert 0 <= killed_at < 400
    done = resume(tmp_path / "cut", show=False)
    config = Config(
        network="mlp:width=8", batch=16, steps=400, checkpoint_every=20, evaluate_every=100, ema=0.9
    )
    whole = train(build("problem", "mixture3d"), config, tmp_path / "whole", show=False)
    assert done.state == whole.state == "finished"
    assert same(weights(whole.path), weights(done.path))
    assert [r | {"seconds": 0} for r in rows(whole.path)] == [
        r | {"seconds": 0} for r in rows(done.path)
    ]


def test_one_seed_is_one_run_and_another_is_another(tmp_path):
    first, again, other = (
        run(tmp_path, name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert same(weights(first.path), weights(again.path))
    assert not same(weights(first.path), weights(other.path))


def test_every_step_of_training_is_the_hand_written_loop(tmp_path):
    config = Config(**{**vars(SMALL), "objective": "minimax", "regularizer": ("r1:gamma=2",)})
    problem = build("problem", "mixture3d")
    trainer = Single(problem, config.resolve(problem))
    plain = Single(problem, config.resolve(problem))
    G, D = plain.generator, plain.critic
    optimizers = [torch.optim.Adam(m.parameters(), 0.01, (0.5, 0.999)) for m in (G, D)]
    bce = nn.BCEWithLogitsLoss()
    for _ in range(4):
        trainer.dynamics.step(trainer.players)

        real, z, _ = plain._draw()
        real.requires_grad_()
        d_real, d_fake = D(real), D(G(z).detach())
        (slope,) = torch.autograd.grad(d_real.sum(), real, create_graph=True)
        loss = (
            bce(d_real, torch.ones(16))
            + bce(d_fake, torch.zeros(16))
            + 2 / 2 * (slope**2).sum(1).mean()
        )
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()

        _, z, _ = plain._draw()
        optimizers[0].zero_grad()
        (-bce(D(G(z)), torch.zeros(16))).backward()
        optimizers[0].step()
    for mine, theirs in zip(
        [*trainer.generator.parameters(), *trainer.critic.parameters()],
        [*G.parameters(), *D.parameters()],
        strict=True,
    ):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_the_last_step_is_logged_sampled_and_saved_however_short(tmp_path):
    out = run(tmp_path, "one", steps=1, log_every=50).path
    assert [row["step"] for row in rows(out)] == [1] and rows(out)[-1]["metrics"]["modes"] >= 0
    assert (out / "samples/step-00000001.npz").is_file() and (out / "samples/real.npz").is_file()
    assert checkpoint.latest(out).name == "step-00000001.safetensors"
    assert json.loads((out / "status.json").read_text())["state"] == "finished"


def test_a_diverging_run_stops_with_its_last_good_checkpoint(tmp_path):
    done = run(
        tmp_path,
        "x",
        steps=200,
        optimizer="sgd:lr=1e30",
        network="mlp:width=8,activation=relu",
        objective="wasserstein",
    )
    assert done.state == "stopped" and done.reason.startswith("non-finite") and done.step < 200
    assert all(t.isfinite().all() for t in weights(done.path).values())
    said = (done.path / "warnings.jsonl").read_text()
    assert "non-finite" in said and "; try to start again with a tenth" in said


def test_stop_on_stops_where_the_trouble_is_named(tmp_path):
    done = run(
        tmp_path,
        "x",
        steps=3000,
        log_every=5,
        evaluate_every=3000,
        stop_on=("critic-won",),
        dynamics="alternating:critic_steps=5",
        regularizer=("r1:gamma=1e-9",),
        batch=64,
    )
    assert done.state == "stopped" and "critic-won" in done.reason and done.step < 3000
    assert checkpoint.load(checkpoint.latest(done.path))["step"] == done.step
    assert (done.path / f"samples/step-{done.step:08d}.npz").is_file()
    told = (done.path / "warnings.jsonl").read_text()
    assert "; try a stronger gradient penalty (ten times" in told and "r1:gamma=1 " not in told


def test_a_disk_that_fills_up_is_an_error_that_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def filling(source, target):
        if "checkpoints" in str(target):
            calls.append(target)
            if len(calls) > 2:
                raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", filling)
    with pytest.raises(SteadyganError, match="No space left"):
        run(tmp_path, "x")
    monkeypatch.undo()
    assert json.loads((tmp_path / "x/status.json").read_text())["state"] == "failed"
    assert checkpoint.load(checkpoint.latest(tmp_path / "x"))["step"] == 2
    assert resume(tmp_path / "x", show=False).state == "finished"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1"),
        (
            {"batch": 16, "smoothing": "explicit-noise:nsr=3"},
            "16 cannot be split at noise-to-signal ratio 3",
        ),
        ({"network": "dcgan"}, "needs images"),
        ({"penalty_every": 2, "dynamics": "extragradient"}, "does not go with extragradient"),
        ({"penalty_share": 0.5, "dynamics": "consensus"}, "does not go with consensus"),
        ({"gradient_path": "merged", "dynamics": "consensus"}, "does not go with consensus"),
        ({"regularizer": ("r1:gamma=-1",)}, "gamma must be a finite number >= 0"),
        ({"optimizer": "adm"}, "nearest first: adam"),
        ({"stop_on": ("modeloss",)}, "nearest first: mode-loss"),
        ({"ema": 1.0}, "decay of a moving average"),
        ({"device": "tpu9"}, "cannot be used here"),
        ({"latent_distribution": "cauchy"}, "latent distribution"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(tmp_path, changes, message):
    with pytest.raises(SteadyganError, match=message):
        run(tmp_path, "x", **changes)
    assert not (tmp_path / "x").exists()


def test_a_folder_that_exists_is_refused_and_untouched(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/thesis.txt").write_text("precious")
    with pytest.raises(SteadyganError, match="not empty"):
        run(tmp_path, "x")
    assert (tmp_path / "x/thesis.txt").read_text() == "precious"
    run(tmp_path, "y", steps=1)
    with pytest.raises(SteadyganError, match="steadygan resume"):
        run(tmp_path, "y", steps=1)
    (tmp_path / "file").touch()
    with pytest.raises(SteadyganError, match=r"cannot be written|not empty"):
        run(tmp_path, "file/below")


def test_a_finished_run_can_be_extended(tmp_path):
    done = run(tmp_path, "x", steps=2)
    with pytest.raises(SteadyganError, match="already made its 2 steps"):
        resume(done.path, show=False)
    assert resume(done.path, steps=4, show=False).step == 4
    assert json.loads((done.path / "config.json").read_text())["config"]["steps"] == 4


def test_fewer_steps_than_were_made_are_refused_however_the_run_ended(tmp_path):
    class Interrupts(Watcher):
        def stepped(self, training):
            training.interrupt.seen |= training.step == 4

    problem = build("problem", "mixture3d")
    cut = train(problem, SMALL, tmp_path / "cut", show=False, watchers=[Interrupts()])
    assert (cut.state, cut.step) == ("interrupted", 4)
    before = {name: (cut.path / name).read_bytes() for name in ("config.json", "status.json")}
    with pytest.raises(SteadyganError, match="already made its 4 steps"):
        resume(cut.path, steps=3, show=False)
    assert before == {name: (cut.path / name).read_bytes() for name in before}
    assert resume(cut.path, steps=5, show=False).step == 5


def test_the_look_at_the_gradient_leaves_no_trace(tmp_path):
    # An unregularized critic is probed for its gradient when a step is logged: logging often or
    # seldom must be the same run.
    network = "mlp:width=8,norm=batch,critic_norm=batch"
    often, seldom = (
        run(tmp_path, f"{every}", network=network, log_every=every) for every in (1, 6)
    )
    assert same(weights(often.path), weights(seldom.path))
    assert all(0 < row["gradient_norm_fake"] < 100 for row in rows(often.path))


def test_the_average_follows_its_formula_and_copies_whole_numbers():
    module = nn.BatchNorm1d(2)
    average = Average(module, Decay(0.9))
    with torch.no_grad():
        module.weight.fill_(3.0)
        module.running_mean.fill_(-1.0)
        module.num_batches_tracked.fill_(41)
    average.update(module, step=1)
    d = 2 / 11  # the young average: (1 + 1)/(10 + 1)
    assert torch.allclose(average.module.weight, torch.full((2,), d * 1.0 + (1 - d) * 3.0))
    assert torch.allclose(average.module.running_mean, torch.full((2,), -(1 - d)))
    assert average.module.num_batches_tracked == 41
    average.update(module, step=10_000)
    assert torch.allclose(
        average.module.weight, torch.full((2,), 0.9 * (d + (1 - d) * 3) + 0.1 * 3.0)
    )


def test_labels_that_were_not_asked_for_do_not_reach_the_networks(tmp_path):
    problem = Images(data="digits", resolution=8, channels=1)
    assert problem.load().labels is not None and problem.stream(0).draw(3).labels is None
    done = run(tmp_path, "x", problem, network="dcgan:width=4", batch=8, steps=1, latent=4)
    assert done.state == "finished"


def test_images_with_classes_are_trained_sampled_and_resumed(tmp_path):
    problem = Images(data="digits", resolution=8, channels=1, flip=False, conditional=True)
    small = {
        "network": "dcgan:width=4",
        "batch": 8,
        "steps": 2,
        "latent": 4,
        "regularizer": ("wgan-gp",),
        "optimizer": None,
    }
    whole = run(tmp_path, "whole", problem, **small)
    assert (whole.path / "samples/step-00000002.png").is_file()
    cut = run(tmp_path, "cut", problem, **small | {"steps": 1})
    resume(cut.path, steps=2, show=False)
    assert same(weights(whole.path), weights(cut.path))
    sample, step = load_sampler(whole.path)
    x = sample(12, 0)
    assert (
        step == 2
        and x.shape == (12, 1, 8, 8)
        and torch.equal(x, sample(12, 0))
        and not torch.equal(x, sample(12, 1))
    )


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    whole = run(tmp_path, "whole")
    for keep in ({"config.json"}, {"config.json", "status.json"}):
        killed = tmp_path / f"killed-{len(keep)}"
        (killed / "samples").mkdir(parents=True)
        for name in keep:
            (killed / name).write_bytes((whole.path / name).read_bytes())
        if "status.json" in keep:
            (killed / "status.json").write_text('{"state": "running", "step": 0}')
        assert resume(killed, show=False).state == "finished"
        assert same(weights(whole.path), weights(killed))
        assert (killed / "samples/real.npz").is_file()


def test_a_run_that_was_killed_after_its_last_checkpoint_says_that_it_finished(tmp_path):
    done = run(tmp_path, "x")
    before = (done.path / "metrics.jsonl").read_bytes()
    (done.path / "status.json").write_text('{"state": "running", "step": 0}')
    assert resume(done.path, show=False).state == "finished"
    assert json.loads((done.path / "status.json").read_text())["step"] == 6
    assert (done.path / "metrics.jsonl").read_bytes() == before
    with pytest.raises(SteadyganError, match="already made its 6 steps"):
        resume(done.path, show=False)


def test_watchers_are_told_in_order_and_of_the_end_in_any_case(tmp_path):
    class Diary(Watcher):
        def __init__(self):
            self.told = []

        def __getattribute__(self, name):
            if name in ("began", "sampled", "logged", "saved", "ended"):
                return lambda training, *more: self.told.append((name, training.step))
            return super().__getattribute__(name)

    diary, problem = Diary(), build("problem", "mixture3d")
    train(problem, replace(SMALL, steps=3), tmp_path / "x", show=False, watchers=[diary])
    assert diary.told == [
        *(("began", 0), ("saved", 0), ("sampled", 0)),
        *(("logged", 2), ("saved", 2)),
        *(("sampled", 3), ("logged", 3), ("saved", 3), ("ended", 3)),
    ]

    class Broken(Diary):
        def stepped(self, training):
            raise ZeroDivisionError("by whom?")

    broken = Broken()
    with pytest.raises(ZeroDivisionError):
        train(problem, SMALL, tmp_path / "y", show=False, watchers=[broken])
    assert broken.told[-1] == ("ended", 1)
    status = json.loads((tmp_path / "y/status.json").read_text())
    assert (status["state"], status["reason"]) == ("failed", "by whom?")


@pytest.mark.parametrize("conditional", [False, True])
def test_a_generator_is_loaded_as_a_module(tmp_path, conditional):
    problem = Images(data="digits", resolution=8, channels=1, conditional=conditional)
    small = {"network": "dcgan:width=4", "batch": 8, "steps": 1, "latent": 4, "ema": 0.5}
    done = run(tmp_path, "x", problem, **small)
    g = load_generator(done.path)
    assert isinstance(g, nn.Module) and not g.training
    assert (type(g.latent), g.latent) == (int, 4)
    assert (type(g.classes), g.classes) == (int, 10 if conditional else 0)
    z, y = torch.randn(3, 4), torch.tensor([0, 9, 4])
    x = g(z, y) if conditional else g(z)
    assert x.shape == (3, 1, 8, 8)
    averaged, own = (load_generator(done.path, averaged=a).state_dict() for a in (True, False))
    assert any(not torch.equal(averaged[key], own[key]) for key in own)
    tree = checkpoint.load(checkpoint.latest(done.path))
    assert all(torch.equal(value, tree["ema"][key]) for key, value in g.state_dict().items())
