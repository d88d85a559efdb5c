"""The plain facts of the triage: each fault by its name, figures against closed forms, and nothing
of the caller's changed."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from steadygan import Batch, Game, SteadyganError
from steadygan.analysis.doctor import diagnose
from steadygan.analysis.gan import Gan
from steadygan.analysis.triage import cause, to_try, triage
from steadygan.analysis.triage.facts import FACTS
from steadygan.analysis.triage.seen import Seen
from steadygan.analysis.trials.change import Change
from steadygan.core.players import PLAYERS
from steadygan.runs.cures import CURES, PENALTIES, advised
from steadygan.runs.monitor import KINDS


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()


def gan(generator=None, critic=None, *, lr=3e-3, scale=1.0, data=None, game=None, **more):
    torch.manual_seed(0)
    made = {
        "generator": generator
        or nn.Sequential(nn.Linear(4, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 2)),
        "critic": critic or nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1)),
    }
    real = scale * (torch.randn(256, 2) * 0.5 + 2) if data is None else data
    rates = lr if isinstance(lr, dict) else dict.fromkeys(PLAYERS, lr)
    optimizers = {
        name: torch.optim.Adam(made[name].parameters(), rates[name], betas=(0.5, 0.9))
        for name in PLAYERS
    }
    latent = torch.randn(64, 4)
    found = Gan(
        game or Game("nonsaturating", ["r1:gamma=1"]),
        *made.values(),
        Batch(real, latent),
        rates,
        optimizers=optimizers,
        **more,
    )
    return found


def facts(patient):
    return {fact.name: fact for fact in triage(patient)}


class Half(nn.Module):
    """(tanh + 1)/2, which makes numbers from 0 to 1."""

    def forward(self, x):
        return (torch.tanh(x) + 1) / 2


def hurt(network, what):
    with torch.no_grad():
        what(network)
    return network


def mlp(*more, n=4, out=2):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(n, 24), nn.ReLU(), nn.Linear(24, out), *more)


FAULTS = {
    "non-finite": lambda: gan(hurt(mlp(), lambda g: g[0].weight[0, 0].fill_(math.nan))),
    "bounded-logits": lambda: gan(critic=mlp(nn.Sigmoid(), n=2, out=1)),
    "frozen": lambda: gan(critic=mlp(n=2, out=1).requires_grad_(False)),
    "eval-mode": lambda: gan(gan().generator.eval()),
    "detached": lambda: gan(critic=nn.Sequential(Cut(), *mlp(n=2, out=1))),
    "blind-critic": lambda: gan(
        critic=nn.Sequential(
            nn.Linear(2, 24, bias=False), nn.BatchNorm1d(24), nn.LeakyReLU(0.2), nn.Linear(24, 1)
        )
    ),
    "data-variety": lambda: gan(data=torch.randn(8, 2).repeat(32, 1)),
    "scale": lambda: gan(scale=100.0),
    "rates": lambda: gan(lr=0.3),
    "gamma": lambda: gan(game=Game("nonsaturating", ["r1:gamma=10000"])),
    "dead-generator": lambda: gan(hurt(mlp(), lambda g: g[0].bias.fill_(-99.0))),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_no_other_cause(name):
    found = triage(FAULTS[name]())
    named = cause(found)
    assert named.name == name and named.wrong and named.cures
    others = [fact.name for fact in found if fact.certain and fact.wrong]
    assert others == [name] or name in ("frozen", "detached", "scale")
    order = [fact.name for fact in found]
    assert order == sorted(order, key=ORDER.index)


ORDER = [
    *("non-finite", "bounded-logits", "optimizers", "frozen", "eval-mode", "detached"),
    *("blind-critic", "data-variety"),
    *(
        "swapped",
        "scale",
        "rates",
        "dead-generator",
        "gamma",
        "critic-won",
        "critic-weak",
        "no-spread",
    ),
    *("gradients", "saturated"),
]


def test_all_facts_are_in_the_order_and_say_figure_and_threshold():
    assert len(FACTS) == len(ORDER)
    for fact in triage(gan()):
        assert fact.figure is None or math.isfinite(fact.figure)
        assert fact.sentence and math.isfinite(fact.threshold)
        assert fact.wrong == bool(fact.cures)


class Slope(nn.Module):
    """D(x) = w x0, with parameters enough to be no toy."""

    def __init__(self, w):
        super().__init__()
        self.w, self.rest = nn.Parameter(torch.tensor(float(w))), nn.Parameter(torch.zeros(60))

    def forward(self, x):
        return self.w * x[:, 0] + 0 * self.rest.sum()


def adam(*networks, lr=3e-3, **more):
    return torch.optim.Adam([p for net in networks for p in net.parameters()], lr, **more)


def moved_by(generator, critic, **more):
    """A GAN with optimizers of its own: functions of (generator, critic)."""
    patient = gan(mlp(), **more)
    players = patient.generator, patient.critic
    made = {"generator": generator(*players), "critic": critic(*players)}
    return replace(patient, optimizers=made)


def stuck(G, D):
    optimizer = adam(D)
    for p in D.parameters():
        p.grad = torch.full_like(p, 1e15)
    before = [p.detach().clone() for p in D.parameters()]
    optimizer.step(), optimizer.zero_grad()
    for p, b in zip(D.parameters(), before, strict=True):
        p.data.copy_(b)
    for state in optimizer.state.values():
        state["exp_avg"].zero_()
    return optimizer


def sharing():
    critic = mlp(n=2, out=1)
    return gan(nn.Sequential(nn.Linear(4, 2), critic[0], nn.Linear(24, 2)), critic)


OPTIMIZERS = {
    "holds the generator's generator.0.weight": lambda: moved_by(
        lambda G, D: adam(G), lambda G, D: adam(G)
    ),
    "holds the critic's critic.0.weight": lambda: moved_by(
        lambda G, D: adam(G, D), lambda G, D: adam(D)
    ),
    "both networks hold critic.0.weight": sharing,
    "the critic's optimizer climbs": lambda: moved_by(
        lambda G, D: adam(G), lambda G, D: adam(D, maximize=True)
    ),
    "the critic stands still": lambda: moved_by(lambda G, D: adam(G), stuck),
}


@pytest.mark.parametrize("words", OPTIMIZERS)
def test_what_optimizers_move_wrongly_is_the_cause(words):
    patient = OPTIMIZERS[words]()
    named = cause(triage(patient))
    assert named.name == "optimizers" and words in named.sentence
    assert not facts(gan(mlp()))["optimizers"].wrong


def test_rates_that_overstep_are_the_cause_and_not_the_memory_that_they_fill():
    fast = {"generator": 1.0, "critic": 3e-3}
    found = triage(moved_by(lambda G, D: stuck(D, G), stuck, lr=fast))
    assert cause(found).name == "rates"


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_who_keeps_no_memory_is_not_known_to_have_stood_still(momentum):
    patient = moved_by(
        lambda G, D: adam(G), lambda G, D: torch.optim.SGD(D.parameters(), 0.01, momentum)
    )
    patient.generator(patient.data.latent).sum().backward()
    patient.optimizers["generator"].step()
    found = facts(patient)["detached"]
    assert found.wrong == ("the critic never got" in found.sentence) == (momentum > 0)


def test_one_optimizer_of_both_players_is_no_fault():
    patient = gan(mlp())
    both = adam(patient.generator, patient.critic)
    patient = replace(patient, optimizers={"generator": both, "critic": both})
    assert not facts(patient)["optimizers"].wrong


def seen_by(patient, **more):
    return diagnose(
        patient.game,
        patient.generator,
        patient.critic,
        patient.data,
        alternatives=(),
        critic_steps=0,
        budget=2,
        **({"optimizers": patient.optimizers} | more),
    )


@pytest.mark.parametrize("name", PLAYERS)
def test_a_player_at_a_rate_of_0_is_frozen_and_not_refused(name):
    patient = gan(mlp(), lr={**dict.fromkeys(PLAYERS, 3e-3), name: 0.0})
    found = seen_by(patient)
    assert found.cause == "frozen" and f"the {name} cannot move" in " ".join(found.words()).lower()
    with pytest.raises(SteadyganError, match="learning rate is a finite number > 0"):
        seen_by(patient, optimizers=None, lr=patient.lr)


def test_a_first_group_at_a_rate_of_0_is_a_frozen_part():
    patient = gan(mlp())
    last = list(patient.critic[2].parameters())
    groups = [{"params": patient.critic[0].parameters(), "lr": 0.0}, {"params": last}]
    optimizers = {"generator": adam(patient.generator), "critic": torch.optim.Adam(groups, 3e-3)}
    found = seen_by(patient, optimizers=optimizers)
    assert found.cause == "frozen" and found.lr["critic"] == 3e-3


FEATURES = {
    "layer": lambda critic: critic[0].requires_grad_(False),
    "weight": lambda critic: critic[0].weight.requires_grad_(False),
    "network": lambda critic: critic.requires_grad_(False),
}


@pytest.mark.parametrize(
    ("what", "known", "wrong"),
    [
        ("layer", "rest", False),
        ("layer", "all", True),
        ("layer", "none", False),
        ("weight", "rest", False),
        ("weight", "none", True),
        ("network", "all", True),
        ("network", "none", True),
    ],
)
def test_fixed_features_are_meant_where_the_rest_trains(what, known, wrong):
    patient = gan(mlp())
    FEATURES[what](patient.critic)
    rest = [p for p in patient.critic.parameters() if p.requires_grad or known == "all"]
    given = {"optimizers": None, "lr": 1e-3}
    if known != "none":
        made = adam(patient.generator), torch.optim.Adam(rest, 3e-3)
        given = {"optimizers": dict(zip(PLAYERS, made, strict=True))}
    found = seen_by(patient, **given)
    assert (found.cause == "frozen") == wrong
    assert wrong or found.spectrum.field


class Bare(nn.Module):
    """A player without parameters."""

    def forward(self, x):
        return x[:, :2] if x.shape[1] == 4 else x.sum(1)


@pytest.mark.parametrize("name", PLAYERS)
def test_a_player_without_parameters_is_named_and_no_trial_is_made(name):
    patient = replace(gan(mlp()), **{name: Bare()})
    found = seen_by(patient, optimizers=None, lr=1e-3, trial=1)
    assert found.cause == "frozen" and f"the {name} has no parameters" in found.words()[0].lower()
    assert found.trial is None


@pytest.mark.parametrize("which", ["data", "latents"])
def test_what_is_given_and_not_finite_is_told_from_a_training_that_diverged(which):
    patient = gan(mlp())
    patient.data[which == "latents"][3, 0] = math.nan
    found = seen_by(patient, trial=1)
    assert found.cause == "non-finite" and which in found.change.words and found.trial is None
    assert not any(sentence.endswith("..") for sentence in found.words())
    assert "lr" not in found.change.settings


class Steep(nn.Module):
    """A root at 0, whose value is finite and whose derivative is not."""

    def __init__(self):
        super().__init__()
        self.net = mlp(n=2, out=1)

    def forward(self, x):
        return self.net(x) + (0 * self.net(x)).abs().sqrt()


def test_gradients_and_losses_that_are_not_finite_are_named():
    patient = gan(mlp(), Steep(), game=Game("nonsaturating"))
    found = cause(triage(patient))
    # All eight: the generator's come through the critic.
    assert found.figure == 8 and "the gradient of generator.0.weight" in found.sentence
    huge = hurt(mlp(n=2, out=1), lambda d: d[2].bias.fill_(1e4))
    found = cause(triage(gan(mlp(), huge, game=Game("f-gan:divergence=kl"))))
    assert found.name == "non-finite" and "the critic's loss" in found.sentence


DEAD = {
    "start again": lambda: hurt(mlp(n=2, out=1), lambda d: d[0].bias.fill_(-99.0)),
    "take away what makes": lambda: mlp(nn.LayerNorm(1), n=2, out=1),
}


@pytest.mark.parametrize("cure", DEAD)
def test_a_dead_critic_is_no_dead_generator(cure):
    found = triage(gan(mlp(), DEAD[cure]()))
    assert cause(found).name == "detached" and "the same for every sample" in cause(found).sentence
    assert cause(found).cures[0].words.startswith(cure)
    assert not {f.name: f for f in found}["dead-generator"].wrong


class Branched(nn.Module):
    """A critic with a part that D(x) does not use; ``cut`` detaches the features, too."""

    def __init__(self, cut=False):
        super().__init__()
        self.body, self.head = nn.Linear(2, 24), nn.Linear(24, 1)
        self.spare = nn.Sequential(nn.Linear(24, 24), nn.BatchNorm1d(24), nn.Linear(24, 4))
        self.cut = cut

    def forward(self, x):
        h = torch.relu(self.body(x))
        return self.head(h.detach() if self.cut else h) + (1e-3 * x.sum(1, keepdim=True))


@pytest.mark.parametrize("training", [True, False])
def test_a_part_that_the_critic_does_not_use_is_no_fault(training):
    patient = gan(mlp(), Branched().train(training))
    found = seen_by(patient)
    assert found.cause not in ("detached", "eval-mode") and found.spectrum.field
    cut = facts(gan(mlp(), Branched(cut=True).train(training)))["detached"]
    assert cut.wrong and "body.weight, critic.body.bias:" in cut.sentence


def test_parameters_without_any_use_are_a_fault():
    idle = Slope(1.0)
    idle.forward = lambda x: x[:, 0]
    assert facts(gan(mlp(), idle))["detached"].wrong


def test_a_critic_that_starts_flat_is_not_dead():
    flat = hurt(mlp(n=2, out=1), lambda d: d[2].weight.zero_())
    found = facts(gan(mlp(), flat))
    assert not found["detached"].wrong and not found["dead-generator"].wrong


class Round(nn.Module):
    def forward(self, x):
        return (127 * x).round() / 127


def test_rounding_is_not_cured_by_another_start():
    found = cause(triage(gan(mlp(Round()))))
    assert found.name == "dead-generator" and "no derivative" in found.cures[0].words


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.NAdam, torch.optim.LBFGS])
def test_a_first_step_is_that_of_the_optimizer_s_own_kind(kind):
    patient = gan(mlp(), fresh=lambda seed: (mlp(), mlp(n=2, out=1)))
    networks = patient.generator, patient.critic
    made = {n: kind(net.parameters(), lr=1e-3) for n, net in zip(PLAYERS, networks, strict=True)}
    moves = Seen.of(replace(patient, optimizers=made, lr=dict.fromkeys(PLAYERS, 1e-3))).first_moves
    weights = torch.cat([p.detach().flatten() for p in mlp().parameters() if p.ndim > 1])
    like_adam = 1e-3 * math.sqrt(len(weights)) / weights.norm().item()
    if kind is torch.optim.LBFGS:  # its steps need a closure: gradient descent is assumed
        assert 0 < moves["generator"] < 0.1 * like_adam
    else:
        assert moves["generator"] == pytest.approx(like_adam, rel=0.25)


def test_a_rate_below_all_rounding_is_small_and_said_to_be():
    found = facts(gan(mlp(), lr={"generator": 3e-3, "critic": 1e-21}))["rates"]
    assert found.wrong and 1e-22 < found.figure < 1e-18
    assert found.cures[0].settings["lr"]["critic"] == pytest.approx(1e-20)
    assert found.cures[1].settings["lr"]["critic"] == pytest.approx(0.01, rel=0.9)


@pytest.mark.parametrize("lr", [1e-6, 0.3])
def test_rates_with_which_samples_are_near_the_data_are_no_fault(lr):
    generator = mlp()
    near = generator(torch.randn(256, 4)).detach()
    assert not facts(gan(generator, lr=lr, data=near))["rates"].wrong
    assert facts(gan(generator, lr=lr, data=near + 9))["rates"].wrong


def test_rates_are_raised_by_no_more_than_ten_before_a_trial():
    found = cause(triage(gan(mlp(), lr=1e-6)))
    assert found.name == "rates"
    tried = [change.settings["lr"]["critic"] for change in found.cures]
    assert tried[0] == pytest.approx(1e-5) and min(tried[1:]) > 1e-4


class Scales(nn.Module):
    """Layers and logits of three parts, as DAC's and pix2pixHD's critics return them."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([mlp(n=2, out=4) for _ in range(3)])

    def forward(self, x):
        return [[h := part[:2](x), part[2](h)] for part in self.parts]


def test_lists_of_logits_are_read_as_the_game_says():
    patient = gan(mlp(), Scales(), game=Game("hinge", "r1:gamma=1", outputs="each:reading=last"))
    own = patient.game, patient.generator, patient.critic, patient.data
    found = diagnose(*own, optimizers=patient.optimizers, budget=1, critic_steps=0)
    assert found.cause != "non-finite" and found.spectrum is not None
    changed = Change("", {"sight": True, "regularizers": ["r1:gamma=2"]}).applied(patient)
    assert changed.game == Game("hinge", "r1:gamma=2", outputs="each:reading=last")
    with pytest.raises(SteadyganError, match="bounds the critic is no module"):
        Change("", {"logits": True}).applied(patient)


def test_a_critic_of_many_logits_is_held_against_losses_that_add_up():
    """Three outputs of a logit and its negative: their mean is 0, whatever they are."""
    patient = gan(mlp(), Slope(1.0), game=Game("nonsaturating", ["r1:gamma=0.7"]))
    single, one = Seen.of(patient), facts(patient)["gamma"].figure

    class Twice(Slope):
        def forward(self, x):
            logits = super().forward(x)
            return [torch.stack([logits, -logits], 1)] * 3

    seen = Seen.of(gan(mlp(), Twice(1.0), game=patient.game))
    assert seen.indifferent == pytest.approx(3 * single.indifferent)
    assert seen.terms[0] == pytest.approx(seen.swapped_loss)
    both = torch.cat([*single.logits, *(-x for x in single.logits)])
    assert seen.variance == pytest.approx(3 * both.var().item(), rel=1e-4)
    found = facts(seen.gan)["gamma"]
    assert not found.wrong and 0.1 * one < found.figure < 10 * one


@pytest.mark.parametrize("slow", PLAYERS)
def test_who_comes_after_is_raised_by_no_more_than_ten_before_a_trial(slow):
    """A critic that has won, or one that says nothing: each a thousand times behind the other."""
    lr = {name: 3e-6 if name == slow else 3e-3 for name in PLAYERS}
    name, critic = ("critic-won", Slope(9)) if slow == "generator" else ("critic-weak", None)
    found = facts(gan(mlp(), critic, lr=lr, game=Game("nonsaturating")))[name]
    raised = [c.settings["lr"][slow] for c in found.cures if "lr" in c.settings]
    assert raised[0] == pytest.approx(3e-5) and max(raised) > 4e-5


@pytest.mark.parametrize("now", [1, 1.0, 7])
def test_no_penalty_is_advised_that_is_there_or_weaker_than_it(now):
    patient = gan(mlp(), Slope(9.0), game=Game("nonsaturating", [f"r1:gamma={now}"]))
    found = facts(patient)["critic-won"]
    first = next(c.settings["regularizers"] for c in found.cures if "regularizers" in c.settings)
    assert first == [f"r1:gamma={10 * now:g}"]
    for asked, tried in (((), first), ((f"r1:gamma={now}",), None)):
        held = [c.settings.get("regularizers") for c in to_try(patient, [], asked)]
        assert held[0] == tried and [f"r1:gamma={now}"] not in held


def test_half_precision_moves_as_single_does():
    single, half = gan(mlp(), lr=1e-5), gan(mlp().half(), mlp(n=2, out=1).half(), lr=1e-5)
    half = replace(half, data=Batch(*(t.half() for t in half.data[:2])))
    assert facts(half)["rates"].figure == pytest.approx(facts(single)["rates"].figure, rel=0.3)


@pytest.mark.parametrize(
    ("data", "latents", "words"),
    [
        (
            torch.randn(64, 3),
            torch.randn(64, 4),
            r"critic fails on real samples of shape \(64, 3\)",
        ),
        (torch.ones(64, 2, dtype=torch.uint8), torch.randn(64, 4), "torch.uint8"),
        (torch.randn(64, 2), torch.randn(64, 5), "generator fails on latents"),
        (torch.randn(64, 2), torch.randn(64, 4).double(), "torch.float64"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_a_sentence(data, latents, words):
    patient = replace(gan(mlp()), data=Batch(data, latents))
    with pytest.raises(SteadyganError, match=words):
        seen_by(patient)


@pytest.mark.parametrize("counts", [(64,), (10, 64), (64, 0), (64, 64, 64)])
def test_labels_that_are_not_those_of_the_samples_are_refused(counts):
    labels = tuple(torch.zeros(count, dtype=torch.long) for count in counts)
    data = Batch(torch.randn(64, 2), torch.randn(64, 4), labels)
    with pytest.raises(SteadyganError, match="Labels are two tensors, those of the 64 real"):
        seen_by(replace(gan(mlp()), data=data))


@pytest.mark.parametrize("what", ["lr", "optimizers"])
def test_a_player_that_is_left_out_is_named(what):
    patient = gan(mlp())
    given = {"lr": {"generator": 0.1}, "optimizers": {"generator": adam(patient.generator)}}
    with pytest.raises(SteadyganError, match=f"{what} names both players.* lacks critic"):
        seen_by(patient, **({"optimizers": None} | {what: given[what]}))


def test_a_critic_whose_loss_is_undecided_has_not_won():
    patient = gan(mlp(), hurt(Slope(1e-3), lambda d: None))
    found = facts(patient)
    assert found["critic-won"].figure > 0.985 and found["critic-weak"].wrong
    assert not found["critic-won"].wrong


def test_instance_normalisation_in_evaluation_mode_is_looked_at():
    norm = nn.InstanceNorm1d(6, track_running_stats=True)
    generator = mlp(nn.Unflatten(1, (6, 4)), norm, nn.Flatten(), nn.Linear(24, 2), out=24)
    hurt(generator, lambda g: g[2].weight.mul_(30.0))
    found = facts(gan(generator.eval()))["eval-mode"]
    assert found.wrong and "generator.4" in found.sentence
    assert not facts(gan(generator.train()))["eval-mode"].wrong


@pytest.mark.parametrize("end", [nn.Tanh(), nn.ReLU(), Half(), nn.Softplus()])
def test_data_that_the_generator_cannot_make_are_named(end):
    fits, beyond = (torch.rand(256, 2) * 0.9 + least for least in (0.05, -1.4))
    assert not facts(gan(mlp(end), data=fits))["scale"].wrong
    found = facts(gan(mlp(end), data=beyond))["scale"]
    assert found.wrong and "outside of what the generator makes" in found.sentence


@pytest.mark.parametrize("w", [1.0, 1e-3])
def test_how_stiff_a_penalty_is_knows_nothing_of_the_critic_s_size(w):
    patient = gan(mlp(), Slope(w), game=Game("nonsaturating", ["r1:gamma=0.7"]))
    both = torch.cat([patient.data.real[:, 0], Seen.of(patient).fake[:, 0]]).double()
    assert facts(patient)["gamma"].figure == pytest.approx(0.7 / (both.var().item() / 4), rel=1e-4)


def test_the_order_of_logits_against_all_pairs():
    seen = Seen.of(gan(mlp(), Slope(1.0)))
    real, fake = seen.batch.real[:, 0], seen.fake[:, 0]
    pairs = [(r > f) for r in real.tolist() for f in fake.tolist()]
    assert seen.order == pytest.approx(sum(pairs) / len(pairs), abs=1e-9)
    assert facts(gan(mlp(), Slope(-1.0)))["critic-won"].figure == pytest.approx(1 - seen.order)


def test_a_first_step_of_adam_is_the_learning_rate_in_every_weight():
    patient = gan(mlp(), lr={"generator": 1e-3, "critic": 1e-4}, fresh=lambda seed: networks())

    def networks():
        return mlp(), mlp(n=2, out=1)

    moves = Seen.of(patient).first_moves
    for name, network, lr in zip(PLAYERS, networks(), (1e-3, 1e-4), strict=True):
        weights = torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim > 1])
        expected = lr * math.sqrt(len(weights)) / weights.norm().item()
        assert 0.8 * expected < moves[name] < 1.001 * expected  # less where a unit is never on


def test_swapped_labels_are_told_from_a_critic_that_comes_after():
    patient, late = gan(mlp()), gan(mlp())
    for one, there in ((patient, True), (late, False)):
        optimizer = torch.optim.Adam(one.critic.parameters(), 0.05)
        for _ in range(120 if there else 0):
            optimizer.zero_grad()
            fake = one.generator(torch.randn(64, 4)).detach()
            Game("nonsaturating").critic_loss(one.critic, fake, one.data.real).backward()
            optimizer.step()
    found = facts(patient)["swapped"]
    assert found.wrong and found.figure < 0.01 and not facts(late)["swapped"].wrong


def test_nothing_of_the_caller_s_is_changed():
    patient = gan()
    before = {k: v.clone() for k, v in patient.generator.state_dict().items()}
    random = torch.get_rng_state()
    triage(patient)
    for key, value in patient.generator.state_dict().items():
        assert torch.equal(before[key], value), key
    assert torch.equal(random, torch.get_rng_state())
    assert all(p.grad is None for p in patient.critic.parameters())
    assert patient.generator.training


class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, z, y):
        return self.net(z) * (y.reshape(len(z), -1)[:, 0] != 1)[:, None]


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp(n=2, out=1)

    def forward(self, x, y):
        return self.net(x).squeeze(1)


THREE = torch.arange(256) % 3


@pytest.mark.parametrize(
    ("y", "named"),
    [
        (THREE, "class 1 "),
        (THREE[:, None], "class 1 "),
        (nn.functional.one_hot(THREE, 3), "class 1 0 0 "),
        (torch.stack([THREE, THREE % 2], 1)[:, :, None], "class 1 1 "),
    ],
)
def test_samples_of_one_class_that_are_alike_are_seen(y, named):
    patient = gan(Labelled(), Judge())
    patient = replace(patient, data=Batch(*patient.data[:2], (y, y)))
    found = facts(patient)["no-spread"]
    assert found.wrong and named in found.sentence and found.figure == 0


def test_captions_are_no_classes():
    patient, words = gan(Labelled(), Judge()), torch.randint(2, 99, (256, 7))
    for other in (words, words[:, :5]):
        patient = replace(patient, data=Batch(*patient.data[:2], (words, other)))
        assert Seen.of(patient).class_spread is None


def test_the_words_begin_with_the_facts_and_the_doctor_names_a_change():
    patient = FAULTS["scale"]()
    found = diagnose(
        patient.game,
        patient.generator.eval(),
        patient.critic,
        patient.data,
        optimizers=patient.optimizers,
        budget=2,
        critic_steps=0,
    )
    assert found.cause in ("scale", "eval-mode") and found.words()[-1].startswith("Try first: ")
    assert found.alternatives == {}
    assert found.change.settings and found.change.words in found.advice()


def test_warnings_of_a_run_advise_the_penalties_that_the_doctor_tries():
    assert set(CURES) == set(KINDS) and advised("gamma", "moved to 2") == "moved to 2"
    assert all(name in CURES["critic-won"] for name in PENALTIES)
    assert advised("collapse", "alike").startswith("alike; try a gradient penalty (r1:gamma=1")
    assert all(advised(kind, "x", penalized=True).count("r1:") == 0 for kind in KINDS)


def test_what_is_tried_begins_with_the_cures_and_holds_what_is_asked_for():
    patient = FAULTS["rates"]()
    made = to_try(patient, triage(patient), ["r2:gamma=3"])
    assert made[0].settings["lr"]["critic"] < 0.1 and set(made[0].settings) == {"lr", "anew"}
    assert made[-1].settings == {"regularizers": ["r1:gamma=1", "r2:gamma=3"], "anew": [*PLAYERS]}
    assert [change.words for change in made].count("start again") == 1
    well = to_try(patient, [])
    assert well[0].settings == {"regularizers": ["r1:gamma=10"]} and "ema" in well[-1].settings
    assert all("anew" not in change.settings and change.can_be_tried for change in well)
