"""Trials: the same steps as a plain loop, many at once as one by one, ranked by paired intervals,
kept when they are interrupted, and never an advice that did worse."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from steadygan import Batch, Game, SteadyganError, diagnose
from steadygan.analysis import trials
from steadygan.analysis.blind import BLIND, seeing, sight
from steadygan.analysis.doctor import first
from steadygan.analysis.gan import Gan
from steadygan.analysis.looks import gap
from steadygan.analysis.subjects import load_subjects
from steadygan.analysis.triage.seen import Seen
from steadygan.analysis.trials import AS_IT_IS, Arm, Change, Trial, seconds_of, trial
from steadygan.analysis.trials.arms import Group, Ruler, at_seed, grouped
from steadygan.analysis.trials.change import rates, regularizer, without_end
from steadygan.cli import main
from steadygan.core.context import Context, Samples
from steadygan.core.players import PLAYERS
from steadygan.runs import checkpoint

AS = Change(AS_IT_IS)


def adam(network, lr):
    return torch.optim.Adam(network.parameters(), lr, betas=(0.5, 0.9))


def parted(network, lr):
    """An optimizer of two groups, the last layer first, and another rate for the others."""
    ends, rest = list(network[-1].parameters()), list(network[:-1].parameters())
    groups = [{"params": ends, "weight_decay": 0.5}, {"params": rest, "lr": 5 * lr}]
    return torch.optim.AdamW(groups, lr, betas=(0.5, 0.9))


def gan(lr=2e-3, steps=3, norm=False, optimizer=adam):
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(16) if norm else nn.Identity()
    networks = {
        "generator": nn.Sequential(nn.Linear(2, 16), middle, nn.ReLU(), nn.Linear(16, 2)),
        "critic": nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)),
    }
    optimizers = {n: optimizer(m, lr) for n, m in networks.items()}
    data, game = torch.randn(128, 2) * 0.3 + 1, Game("nonsaturating", ["r1:gamma=1"])
    found = Gan(
        game,
        *networks.values(),
        Batch(data, torch.randn(32, 2)),
        dict.fromkeys(PLAYERS, lr),
        optimizers=optimizers,
        batch=16,
    )
    for _ in range(steps):
        step(found, data[:16], torch.randn(16, 2), data[16:32], torch.randn(16, 2))
    return found


def step(found, x, z, x2, z2):
    """One step of a plain loop."""
    g, d, (og, od) = found.generator, found.critic, found.optimizers.values()
    od.zero_grad()
    found.game.critic_loss(d, x, g(z).detach()).backward()
    od.step()
    og.zero_grad()
    found.game.generator_loss(d, x2, g(z2)).backward()
    og.step()


def values(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("optimizer", [adam, parted])
def test_going_on_is_a_plain_loop_that_goes_on(optimizer):
    found = gan(optimizer=optimizer)
    made = [at_seed(found, 0, AS, seed) for seed in range(5, 9)]
    group = Group(made[:1]) if optimizer is adam else next(grouped(made))
    for _ in range(4):
        group.advance()
    rng = torch.Generator().manual_seed(1005)
    for _ in range(4):
        given = []
        for _ in range(2):
            picked = torch.randint(128, (16,), generator=rng)
            given += [found.data.real[picked], found.latents(16, rng)]
        step(found, *given)
    for name in PLAYERS:
        mine = values(getattr(group.players, name))
        torch.testing.assert_close(mine, values(found.networks[name]), rtol=1e-4, atol=1e-6)


def test_an_optimizer_in_groups_goes_on_by_name_and_at_rates_in_proportion():
    found = gan(optimizer=parted)
    slower = rates(found, 0.1).applied(found)
    held = slower.optimizer("critic", slower.critic, new=False)
    assert [group["lr"] for group in held.param_groups] == pytest.approx([2e-4, 1e-3])
    here = found.networks, first(found.data, 16)
    gained = gap(found.game, *here, Context, found.critic, found.optimizers, found.lr, 1)
    assert gained["loss_after"] < gained["loss"]


@pytest.mark.parametrize("change", [AS, Change("again", {"anew": list(PLAYERS)})])
def test_many_at_once_are_the_same_as_one_by_one(change):
    found = gan()
    slower = rates(found, 0.1)
    settings = {**change.settings, **slower.settings}
    made = [at_seed(found, 0, change, s) for s in range(2)]
    made += [at_seed(found, 1, Change("slower", settings), s) for s in range(2)]
    (many,) = grouped(made)
    alone = [Group([at_seed(found, m.arm, m.change, m.seed)]) for m in made]
    for _ in range(5):
        for group in (many, *alone):
            group.advance()
    assert many.players.alive.all()
    for x, one in zip(many.samples(), alone, strict=True):
        torch.testing.assert_close(x, one.samples()[0], rtol=1e-3, atol=1e-5)


def test_batch_normalisation_is_tried_at_once_and_the_user_s_stays():
    found = gan(norm=True)
    before = values(found.generator), found.generator[1].running_mean.clone()
    (group,) = grouped([at_seed(found, 0, AS, s) for s in range(4)])
    group.advance()
    assert torch.equal(before[0], values(found.generator))
    assert torch.equal(before[1], found.generator[1].running_mean)
    moved = group.players.generator.get_buffer("1.running_mean")
    assert all(not torch.equal(before[1], each) for each in moved)
    alone = Group(group.members[2:3])
    alone.advance()
    torch.testing.assert_close(alone.players.generator[1].running_mean, moved[2])


def tried(found, steps):
    """The diagnosis of a GAN whose trial takes so many steps of two seeds."""
    return diagnose(
        found.game,
        found.generator,
        found.critic,
        found.data,
        optimizers=found.optimizers,
        budget=2,
        critic_steps=0,
        trial=60,
        trial_steps=steps,
        trial_seeds=2,
    )


def advised(made):
    """The arm of the change that is advised."""
    return next(a for a in made.trial.arms if a.settings == dict(made.change.settings))


def test_a_critic_that_does_not_see_where_samples_lie_is_given_its_sight():
    found = gan(steps=0)
    critic = nn.Sequential(
        *(nn.Linear(2, 24), nn.BatchNorm1d(24), nn.LeakyReLU(0.2)),
        *(nn.Linear(24, 24), nn.BatchNorm1d(24), nn.LeakyReLU(0.2), nn.Linear(24, 1)),
    )
    rate = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.9))
    both = {"generator": found.optimizers["generator"], "critic": rate}
    made = tried(replace(found, critic=critic, optimizers=both), steps=200)
    assert made.cause == "blind-critic" and "batch normalisation out" in made.advice()
    assert "sight" in made.change.settings
    assert isinstance(critic[1], nn.BatchNorm1d) and not critic[1]._forward_hooks
    assert advised(made).mean < 0.5 * made.trial.base.mean


class _Standardized(nn.Module):
    """Takes out mean and spread of each feature over the batch, by no module of torch's."""

    def forward(self, x):
        return (x - x.mean(0)) / x.std(0)


def test_sight_is_of_the_whole_batch():
    x = Samples(torch.randn(64, 2) * 0.3 + 1)
    end = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(8, 1))
    norms = {
        "batch": (nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), end), True),
        "its own": (nn.Sequential(_Standardized(), nn.Linear(2, 8), end), True),
        "evaluation": (nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), end).eval(), False),
        "of a sample": (nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 8), end), False),
        "later": (nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.BatchNorm1d(8), end), False),
    }
    for norm, hides in norms.values():
        torch.manual_seed(0)
        assert (sight(norm, x) < BLIND) is hides
    assert sight(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0), Zero()), x) is None
    assert sight(seeing(norms["batch"][0], x), x) > BLIND
    with pytest.raises(SteadyganError, match="no module"):
        seeing(norms["its own"][0], x)


class Zero(nn.Module):
    """The same logit for all."""

    def forward(self, x):
        return 0 * x


def test_a_learning_rate_that_is_too_high_is_mended_by_a_smaller_one():
    made = tried(gan(lr=20.0, steps=40), steps=40)
    assert made.cause == "rates" and "smaller learning rates" in made.advice()
    assert (
        advised(made).mean < 0.5 * made.trial.base.mean
        and made.trial.steps == 40
        and made.trial.whole
    )
    data = json.dumps(made.to_json(), allow_nan=False)
    assert '"cause": "rates"' in data and '"distances"' in data


def test_intervals_are_student_s_over_pairs():
    mean, half = trials._difference([1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert mean == pytest.approx(1 / 3)
    assert half == pytest.approx(4.302652730 * 1.527525232 / 3**0.5, rel=1e-8)
    ten = trials._difference([-1.0, 1.0] * 5, [0.0] * 10)
    assert ten == pytest.approx((0.0, 2.262157163 * (10 / 9) ** 0.5 / 10**0.5), rel=1e-8)


def made(*arms):
    return Trial([*arms], 20, 2, 1.0, 1.0, 0.1)


def test_data_that_lie_one_class_after_the_other_are_seen_whole():
    around = torch.linspace(0, 2 * torch.pi, 6001)[:-1]
    data = torch.stack([around.cos(), around.sin()], 1)
    ruler = Ruler(data)
    assert ruler.floor < 0.05 and ruler(data[::12]) < 0.05
    assert Ruler(data[:1000]).floor < 0.01
    latents, labels = torch.randn(6000, 2), torch.arange(6000)
    found = replace(gan(), data=Batch(data, latents, (labels, labels)))
    for batch in (Seen.of(found, 200).batch, first(found.data, 200)):
        torch.testing.assert_close(batch.real, data[batch.labels[0]])
        torch.testing.assert_close(batch.latent, latents[batch.labels[1]])
        assert batch.real.mean(0).norm() < 0.2


def test_what_did_worse_is_never_advised():
    base = Arm(AS_IT_IS, {}, [1.0, 1.0])
    worse = Arm("b", {"ema": 0.9}, [1.2, 1.2], (0.2, 0.1))
    unsure = Arm("c", {"ema": 0.8}, [0.8, 0.9], (-0.15, 0.2))
    small = Arm("d", {"ema": 0.7}, [0.95, 0.95], (-0.05, 0.01))
    better = Arm("e", {"ema": 0.6}, [0.5, 0.6], (-0.45, 0.1))
    assert made(base, worse, unsure).best is None and made(base, small).best is small
    assert made(better, base, worse).best is better
    game = Game("wasserstein", ["wgan-gp"])  # which has no spectrum that would take its time
    found = diagnose(game, *gan().networks.values(), gan().data, lr=1e-3, critic_steps=0)
    lacking = replace(found, facts=[], trial=made(unsure, small, base))
    assert lacking.advice().startswith("nothing: of 2 changes") and lacking.change is None
    assert replace(found, facts=[], trial=made(better, base)).change.words == "e"
    few = replace(made(better, base), steps=3)
    assert replace(found, facts=[], trial=few).change is None
    # What is only nearer because it ran away for fewer steps is no cure.
    again = Arm("start again", {"anew": ["generator", "critic"]}, [0.3, 0.3], (-0.7, 0.1))
    late = Arm("f", {"ema": 0.5, "anew": ["generator", "critic"]}, [0.4, 0.4], (-0.6, 0.1))
    soon = Arm("g", {"ema": 0.4, "anew": ["generator", "critic"]}, [0.2, 0.2], (-0.8, 0.1))
    assert replace(found, facts=[], trial=made(again, late, better, base)).change.words == "e"
    assert replace(found, facts=[], trial=made(soon, again, base)).change.words == "g"


def test_ctrl_c_keeps_what_was_measured():
    calls = []

    def tell(done, total):
        calls.append(done)
        if len(calls) == 30:
            raise KeyboardInterrupt

    found = trial(gan(), [], 60, steps=50, seeds=2, tell=tell)
    assert found.steps == 20 and not found.whole and "interrupted" in found.notes[-1]
    assert len(found.arms) == 1 and found.base.mean < 10


def test_a_budget_is_kept_and_makes_sense():
    assert [seconds_of(b) for b in (3, "3", "2m", "1.5h")] == [3, 3, 120, 5400]
    for budget in ("soon", "-3s", 0, float("inf")):
        with pytest.raises(SteadyganError, match="budget"):
            seconds_of(budget)
    found = trial(gan(), [regularizer(gan(), "js:gamma=1")], 0.2, seeds=2)
    assert 0 < found.steps < 1000 and not found.whole and found.seconds < 20


class Half(nn.Module):
    def forward(self, x):
        return (torch.tanh(x) + 1) / 2


def test_a_critic_without_its_end_gives_what_went_into_it():
    body, x = nn.Linear(2, 1), torch.randn(5, 2)
    for end in (nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.ReLU6(), Half()):
        critic = nn.Sequential(body, end, nn.Flatten(0))
        torch.testing.assert_close(without_end(critic, Samples(x))(x), body(x).flatten())
    for critic in (body, nn.Sequential(body, nn.Sigmoid(), nn.Hardtanh())):
        with pytest.raises(SteadyganError, match="no module"):
            without_end(critic, Samples(x))
        assert not any(m._forward_hooks for m in critic.modules())


def test_the_end_of_a_critic_that_takes_labels_is_left_out_too():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.of, self.by, self.end = nn.Linear(2, 1), nn.Embedding(3, 1), nn.Sigmoid()

        def forward(self, x, y):
            return self.end(self.of(x) + self.by(y))

    critic, samples = Critic(), Samples(torch.randn(5, 2), torch.tensor([0, 2, 1, 1, 0]))
    before = torch.logit(critic(samples.x, samples.labels))
    torch.testing.assert_close(without_end(critic, samples)(samples.x, samples.labels), before)


def test_a_regularizer_takes_the_place_of_one_of_its_kind():
    found = regularizer(gan(), "r1:gamma=5").settings["regularizers"]
    assert found == ["r1:gamma=5"]
    assert regularizer(gan(), "js:gamma=2").settings["regularizers"][-1] == "js:gamma=2"


THEIRS = """
import torch
from torch import nn

def make_game():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    critic = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.Linear(8, 1), nn.Sigmoid())
    return dict(generator=generator, critic=critic, data=torch.randn(64, 2),
                latents=torch.randn(16, 3), objective="nonsaturating", regularizers=["wgan-gp"],
                lr=0.05)
"""


def test_a_trial_through_the_command_line(tmp_path, capsys):
    path = tmp_path / "theirs.py"
    path.write_text(THEIRS)
    assert main(["diagnose", str(path), "--trial", "1s", "--budget", "2"]) == 0
    said = capsys.readouterr().out
    assert "as it is" in said and "seeds each" in said and "Try first: " in said
    assert main(["diagnose", str(path), "--trial", "soon"]) == 2
    assert "a time such as 90s, 5m" in capsys.readouterr().err


def test_members_of_many_gans_are_diagnosed(tmp_path, capsys):
    run = str(tmp_path / "run")
    argv = ["train", "ring2d", "--network", "mlp:width=4,depth=1", "--batch", "8", "--steps", "4"]
    assert main([*argv, "--regularizer", "r1:gamma={0.1,2}", "--out", run]) == 0
    capsys.readouterr()
    first, second = load_subjects(run)
    assert [s.game.strengths() for s in (first, second)] == [
        {"regularizers.0.gamma": 0.1},
        {"regularizers.0.gamma": 2.0},
    ]
    tree = checkpoint.load(checkpoint.latest(tmp_path / "run"))
    for key, value in tree["critic"].items():
        assert torch.equal(second.critic.state_dict()[key], value[1]), key
    moments = list(second.optimizers["critic"].state.values())
    assert torch.equal(
        moments[0]["exp_avg"], tree["optimizer"]["critic"]["state"]["0"]["exp_avg"][1]
    )
    begun = second.fresh(3), second.fresh(4)
    assert not torch.equal(values(begun[0][0]), values(begun[1][0]))
    assert main(["diagnose", run, "--json", "--member", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["game"]["regularizer"] == ["r1:gamma=2"]
    assert main(["diagnose", run, "--member", "4"]) == 2
    assert "members 0 to 1" in capsys.readouterr().err


def test_a_batch_to_look_at_has_as_many_latents_and_labels_as_real_samples():
    y = torch.arange(100)
    whole = Batch(torch.randn(100, 2), torch.randn(16, 3), (y, y))
    assert [len(t) for t in (*first(whole, 64)[:2], *first(whole, 64).labels)] == [16] * 4
    assert len(first(whole, 8).latent) == 8
