"""The doctor on games whose answer is known, on a user's own file, on a run folder, and what its
page may not do."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from steadygan import Game, SteadyganError, build
from steadygan.analysis.doctor import diagnose, first
from steadygan.analysis.linearize import System, jacobian
from steadygan.analysis.optimizers import preconditioner
from steadygan.analysis.subjects import load_run, load_subject, load_user_gan
from steadygan.cli import main
from steadygan.core.dynamics import Alternating
from steadygan.core.players import PLAYERS, Batch, OptimizerPlayers
from steadygan.problems.networks import Point
from steadygan.report.diagnosis import write_diagnosis


def dirac(*regularizers, lr=0.1, dynamics="simultaneous", objective="minimax", **more):
    network = Point(theta=0.0, psi=0.0)
    zeros = torch.zeros(4, 1, dtype=torch.float64)
    generator, critic = network.generator((1,), 1).double(), network.critic((1,)).double()
    return diagnose(
        Game(objective, list(regularizers)),
        generator,
        critic,
        Batch(zeros, zeros),
        dynamics=dynamics,
        lr=lr,
        **more,
    )


def mlps(seed=0):
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    return (
        generator,
        critic,
        Batch(torch.randn(80, 2, dtype=torch.float64), torch.randn(80, 2, dtype=torch.float64)),
    )


def test_the_plain_dirac_gan_turns_and_a_penalty_is_the_cure():
    found = dirac()
    assert found.spectrum.stability == "unstable" and found.spectrum.max_stable_lr == 0
    assert found.spectrum.radius == pytest.approx(np.sqrt(1 + 0.01 * 0.25))
    assert sorted(e.value.imag for e in found.spectrum.field) == pytest.approx([-0.5, 0.5])
    said = " ".join(found.words())
    assert (
        "locally UNSTABLE" in said
        and "the game turns and nothing damps it" in said
        and "No learning rate" in said
    )
    assert (
        found.advice().startswith("add the regularizer r1:gamma=1")
        and found.words()[-1] == f"Try first: {found.advice()}"
    )
    assert found.alternatives["js:gamma=1"].largest_real == pytest.approx(-0.25, abs=1e-9)


@pytest.mark.parametrize(
    ("gamma", "limit"), [(0.4, 1.6), (2.5, 2 / (1.25 + np.sqrt(1.25**2 - 0.25)))]
)
def test_the_largest_stable_learning_rate_of_the_dirac_gan(gamma, limit):
    below, above = (dirac(f"r1:gamma={gamma}", lr=f * limit) for f in (0.98, 1.02))
    for found in (below, above):
        assert found.spectrum.max_stable_lr == pytest.approx(limit, rel=1e-9)
    assert below.spectrum.stability == "stable" and below.advice().startswith("nothing")
    assert (
        above.spectrum.stability == "unstable"
        and "smaller learning rate" in above.advice()
        and "oversteps" in above.advice()
    )


def test_on_the_circle_nothing_is_decided():
    found = dirac(dynamics="alternating")
    assert found.spectrum.stability == "undecided" and found.spectrum.radius == pytest.approx(1)
    assert (
        "neither stable nor unstable" in found.words()[0]
        and "add the regularizer" in found.advice()
    )


@pytest.mark.parametrize("dynamics", ["extragradient", "optimistic", "consensus:gamma=1"])
def test_dynamics_that_damp_are_found_stable(dynamics):
    found = dirac(dynamics=dynamics, lr=0.2)
    assert found.spectrum.stability == "stable"
    assert dirac(dynamics=dynamics, lr=6.0).spectrum.stability == "unstable"


def test_learning_rates_of_their_own():
    found = dirac("r1:gamma=0.4", lr={"generator": 0.3, "critic": 0.1})
    system = np.array([[0, -0.5 * 3], [0.5, -0.4]])
    assert sorted(e.value.imag for e in found.spectrum.field) == pytest.approx(
        sorted(np.linalg.eigvals(system).imag)
    )
    assert "0.3 (generator) and 0.1 (critic)" in found.words()[0]


@pytest.mark.parametrize("regularizer", ["wgan-gp", "dragan"])
def test_a_kink_has_no_spectrum_but_the_rest_is_told(regularizer):
    found = dirac(regularizer, objective="wasserstein")
    data = found.to_json()
    assert (
        data["spectrum"] is None and "kink" in data["refused"] and "No spectrum" in data["words"][0]
    )
    assert (
        data["slopes"]["real"]["mean"] == 0
        and data["critic"]["steps"] == 20
        and "r1 or gp0" in data["advice"]
    )
    json.dumps(data, allow_nan=False)


def trained(optimizer, lr, **settings):
    generator, critic, batch = mlps()
    optimizers = {
        n: optimizer(m.parameters(), lr, **settings)
        for n, m in zip(PLAYERS, (generator, critic), strict=True)
    }
    game = Game("nonsaturating", ["r1:gamma=1"])
    players = OptimizerPlayers(game, generator, critic, lambda: batch, optimizers=optimizers)
    for _ in range(5):
        Alternating().step(players)
    return game, generator, critic, batch, optimizers


def at_once(game, generator, critic, batch, optimizers):
    """Return the diagnosis of what was trained, of simultaneous steps."""
    return diagnose(
        game,
        generator,
        critic,
        batch,
        dynamics="simultaneous",
        optimizers=optimizers,
        alternatives=(),
    )


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (torch.optim.Adam, {"betas": (0.0, 0.9)}),
        (torch.optim.RMSprop, {}),
        (torch.optim.RMSprop, {"centered": True}),
    ],
)
def test_a_preconditioner_against_a_dense_computation(optimizer, settings):
    game, generator, critic, batch, optimizers = trained(optimizer, 1e-3, **settings)
    found = at_once(game, generator, critic, batch, optimizers)
    plain = System(game, "simultaneous", generator, critic, first(batch, 64), lr=1e-3)
    diagonal = []
    for name, network in zip(PLAYERS, (generator, critic), strict=True):
        for p in network.parameters():
            state = optimizers[name].state[p]
            if optimizer is torch.optim.Adam:
                second = state["exp_avg_sq"] / (1 - 0.9**5)
            else:
                second = state["square_avg"] - (state["grad_avg"] ** 2 if settings else 0)
            diagonal.append((1 / (second.sqrt() + 1e-8)).reshape(-1))
    dense = torch.cat(diagonal)[:, None] * jacobian(plain.field, plain.point())
    expected = np.linalg.eigvals(dense.numpy())
    assert len(expected) == len(found.spectrum.field) and found.spectrum.complete
    scale = abs(expected).max()
    for e in found.spectrum.field:
        assert abs(expected - e.value).min() < 1e-7 * scale
    assert "fixed diagonal" in found.preconditioner and found.lr == {
        "generator": 1e-3,
        "critic": 1e-3,
    }
    # The gradients' norms are those of the game, without the optimizer.
    assert found.speed["critic"] == pytest.approx(
        plain.field(plain.point().requires_grad_())[plain.split :].norm().item()
    )


class Own(torch.optim.SGD):
    """Somebody's own, whose moves nobody knows."""

    def step(self, closure=None):
        return None


def test_what_an_optimizer_does_that_is_not_counted_is_said():
    p = [nn.Parameter(torch.ones(2))]
    for optimizer, message in (
        (torch.optim.Adam(p), "no state yet and is not taken into account"),
        (torch.optim.SGD(p, 0.1), "plain gradient descent"),
        (torch.optim.SGD(p, 0.1, momentum=0.9), "the field's rates leave its momentum out"),
        (Own(p, 0.1), "Own is not taken into account"),
        (torch.optim.Adam([nn.Parameter(torch.ones(2))]), "other parameters"),
    ):
        diagonal, said = preconditioner(optimizer, p)
        assert diagonal is None and message in said
    said = trained(torch.optim.Adam, 1e-3)[4]["critic"]
    assert (
        "exp_avg and exp_avg_sq in the state of a step"
        in preconditioner(said, said.param_groups[0]["params"])[1]
    )


def test_what_an_optimizer_remembers_of_a_layer_that_died_long_ago():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1))
    batch = Batch(torch.randn(64, 2), torch.randn(64, 4))
    optimizers = {
        name: torch.optim.Adam(network.parameters(), 1e-3)
        for name, network in zip(PLAYERS, (generator, critic), strict=True)
    }
    players = OptimizerPlayers(
        Game("hinge", ["r1:gamma=1"]), generator, critic, lambda: batch, optimizers=optimizers
    )
    build("dynamics", "alternating").step(players)
    for memory in optimizers["generator"].state.values():
        memory["exp_avg"].fill_(1e-41)
        memory["exp_avg_sq"].fill_(0.0)
    game = Game("hinge", ["r1:gamma=1"])
    found = diagnose(
        game,
        generator,
        critic,
        batch,
        optimizers=optimizers,
        budget=20,
        alternatives=["js:gamma=1"],
    )
    assert found.spectrum is not None and len(found.alternatives) == 1
    assert all(np.isfinite(e.value) for e in found.spectrum.step)


def parted(parameters, lr, momentum=0.9):
    """Three groups: one stands still, one moves three times as fast as the last."""
    first, second, *rest = parameters
    groups = [{"params": [first], "lr": 0.0}, {"params": rest}, {"params": [second], "lr": 3 * lr}]
    return torch.optim.SGD(groups, lr, momentum=momentum)


OPTIMIZERS = [
    (parted, {}),
    (torch.optim.Adam, {"betas": (0.5, 0.9)}),
    (torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.1}),
    (torch.optim.RMSprop, {"momentum": 0.3, "centered": True}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.Adagrad, {}),
]


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
@pytest.mark.parametrize("dynamics", ["alternating:critic_steps=2", "extragradient"])
def test_a_step_is_that_of_the_optimizers_and_carries_their_state(kind, settings, dynamics):
    game, generator, critic, batch, optimizers = trained(kind, 1e-2, **settings)
    rates = {"generator": 1e-2, "critic": 1e-2}
    system = System(game, dynamics, generator, critic, batch, lr=rates, optimizers=optimizers)
    start = system.step_state(system.point())
    v = torch.randn(len(start), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v, e = v * system.units(start), 1e-6
    ahead, behind = (system.step((start + sign * e * v).requires_grad_()) for sign in (1, -1))
    numeric = (ahead - behind).detach() / (2 * e)
    exact = jacobian(system.step, start) @ v
    scale = system.units(start) * (numeric / system.units(start)).abs().max()
    assert ((exact - numeric) / scale).abs().max() < 1e-6
    expected = system.step(start.requires_grad_()).detach()
    players = OptimizerPlayers(game, generator, critic, lambda: batch, optimizers=optimizers)
    build("dynamics", dynamics).step(players)
    moved = [p.detach().reshape(-1) for net in (generator, critic) for p in net.parameters()]
    torch.testing.assert_close(expected[: system.size], torch.cat(moved), rtol=1e-12, atol=1e-15)
    kept = [state for o in optimizers.values() for state in o.state.values()]
    slots = torch.cat(
        [t.reshape(-1) for state in kept for t in state.values() if torch.is_tensor(t) and t.ndim]
    )
    assert len(expected) == system.size + len(slots)
    torch.testing.assert_close(expected[system.size :].sum(), slots.sum(), rtol=1e-10, atol=1e-15)


def test_the_field_moves_each_group_at_its_own_rate():
    game, generator, critic, batch, optimizers = trained(parted, 1e-2, momentum=0.0)
    found = at_once(game, generator, critic, batch, optimizers).spectrum
    rates = [np.array([e.value for e in each]) for each in (found.field, found.step)]
    np.testing.assert_allclose(*rates, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "settings", "lr", "stability"),
    [
        (torch.optim.Adam, {"betas": (0.5, 0.999)}, 3.0, "stable"),
        (torch.optim.Adam, {"betas": (0.5, 0.999)}, 5.0, "unstable"),
        (torch.optim.Adam, {"betas": (0.9, 0.999)}, 0.3, "stable"),
        (torch.optim.Adam, {"betas": (0.9, 0.999)}, 1.0, "unstable"),
        (torch.optim.RMSprop, {"alpha": 0.999, "momentum": 0.5}, 0.8, "stable"),
        (torch.optim.RMSprop, {"alpha": 0.999, "momentum": 0.5}, 2.5, "unstable"),
        (torch.optim.SGD, {"momentum": 0.5}, 1.0, "stable"),
        (torch.optim.SGD, {"momentum": 0.9}, 0.1, "unstable"),
    ],
)
def test_optimizers_with_their_memory_against_training_from_nearby(kind, settings, lr, stability):
    """The Dirac-GAN with R1 near rest; averages of squares are 1, as another batch left them."""
    game, steps = Game("minimax", ["r1:gamma=0.8"]), 120

    def players(offset):
        network, zeros = Point(theta=offset, psi=-0.6 * offset), torch.zeros(2, 1).double()
        nets = network.generator((1,), 1).double(), network.critic((1,)).double()
        optimizers = {}
        for name, net in zip(PLAYERS, nets, strict=True):
            optimizers[name] = kind(net.parameters(), lr, **settings)
            for p in net.parameters():
                p.grad = torch.zeros_like(p)
            optimizers[name].step()
            for state in optimizers[name].state.values():
                for key in {"exp_avg_sq", "square_avg"} & state.keys():
                    state[key].fill_(1.0)
                if "step" in state:
                    state["step"].fill_(10_000.0)
        return OptimizerPlayers(game, *nets, lambda: Batch(zeros, zeros), optimizers=optimizers)

    still, moving = players(0.0), players(1e-9)
    found = diagnose(game, still.generator, still.critic, still.draw(), optimizers=still.optimizers)
    assert found.spectrum.stability == stability
    sizes = []
    for _ in range(steps):
        Alternating().step(moving)
        values = [v for name in PLAYERS for v in moving.values(name).values()]
        sizes.append(torch.cat([v.detach().reshape(-1) for v in values]).norm().item())
    measured = (max(sizes[-20:]) / max(sizes[20:40])) ** (1 / (steps - 40))
    # Averages of squares fade by themselves; what is left are the players.
    radius = max(
        abs(1 + lr * e.value) for e in found.spectrum.step if abs(e.value * lr + 1e-3) > 1e-9
    )
    assert measured == pytest.approx(radius, abs=0.01 + 0.1 * (lr == 1.0))
    assert (measured > 1) == (stability == "unstable")


def test_the_caller_s_networks_and_optimizers_stay_as_they_are():
    game, generator, critic, batch, optimizers = trained(torch.optim.Adam, 1e-3)
    before = [p.clone() for net in (generator, critic) for p in net.parameters()]
    states = [state["exp_avg_sq"].clone() for state in optimizers["critic"].state.values()]
    found = diagnose(game, generator, critic, batch, optimizers=optimizers)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            before, [p for net in (generator, critic) for p in net.parameters()], strict=True
        )
    )
    assert all(
        torch.equal(a, s["exp_avg_sq"])
        for a, s in zip(states, optimizers["critic"].state.values(), strict=True)
    )
    assert all(p.grad is None for p in critic.parameters()) and found.samples == 64
    assert found.critic["loss_after"] < found.critic["loss"]


def test_no_learning_rate_is_refused():
    generator, critic, batch = mlps()
    with pytest.raises(SteadyganError, match="give lr=, or optimizers="):
        diagnose(Game(), generator, critic, batch)
    with pytest.raises(SteadyganError, match="generator's learning rate"):
        diagnose(Game(), generator, critic, batch, lr={"generator": 0.0, "critic": 1.0})


THEIRS = """
import torch
from torch import nn

class Third(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.a, self.b = nn.Linear(sizes[0], 6), nn.Linear(6, sizes[1])
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))

def make_game():
    torch.manual_seed(0)
    return dict(generator=Third((3, 2)), critic=Third((2, 1)), data=torch.randn(16, 2),
                latents=torch.randn(16, 3), objective="nonsaturating",
                regularizers=["r1:gamma=0.1"], lr=LR)
"""


def file(tmp_path, text, name="their_gan.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_user_s_own_file_through_the_command_line(tmp_path, capsys):
    path = file(tmp_path, THEIRS.replace("LR", "500.0"))
    page = tmp_path / "d.html"
    assert (
        main(["diagnose", str(path), "--json", "--regularizer", "gp0:gamma=3", "--out", str(page)])
        == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert data["spectrum"]["stability"] == "unstable" and list(data["alternatives"]) == [
        "gp0:gamma=3"
    ]
    assert {"re", "im", "residual", "converged"} == set(data["spectrum"]["field"][0])
    assert (
        data["parameters"] == {"generator": 38, "critic": 25}
        and data["samples"] == 16
        and data["precision"] == "float32"
    )
    text = page.read_text()
    assert "UNSTABLE" in text and "data:image/png;base64," in text and "default-src 'none'" in text
    assert not re.search(r"https?://|<script|src=\"(?!data:)", text)
    assert main(["diagnose", str(path)]) == 0
    assert "Try first: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"no function make_game\(\)"),
        (
            "def make_game(): return {}",
            r"lacks generator, critic, data, latents, objective, lr \(or optimizers\)",
        ),
        (
            THEIRS.replace("lr=LR", "learning_rate=1"),
            "lacks lr .* and has learning_rate, which nothing reads",
        ),
        (
            THEIRS.replace("torch.randn(16, 3)", "7").replace("LR", "1"),
            "latents is a tensor, its first axis the samples, not int",
        ),
        (
            THEIRS.replace("Third((2, 1))", "abs").replace("LR", "1"),
            "critic is a torch.nn.Module, not builtin_function_or_method",
        ),
        (
            THEIRS.replace("LR", "{'g': 1, 'd': 1}"),
            "lr names the players 'generator' and 'critic', not 'g', 'd'",
        ),
        (THEIRS.replace("nonsaturating", "nonsense").replace("LR", "1"), "nonsense"),
        ("1/0", "could not be run: ZeroDivisionError"),
    ],
)
def test_what_is_missing_in_a_file_is_told(tmp_path, capsys, text, message):
    path = file(tmp_path, text)
    with pytest.raises(SteadyganError, match=message):
        load_user_gan(path)
    assert main(["diagnose", str(path)]) == 2 and re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("(0.1, 0.2)", r"number, lr=0.001 or lr={.*}, not the tuple \(0.1, 0.2\)"),
        ("{'generator': 'fast', 'critic': 1}", "generator's .* number, .* not the str 'fast'"),
        ("None, optimizers=(1, 2)", "optimizers are torch's by the players' names.*not a tuple"),
        ("None, optimizers={'generator': 1, 'critic': 2}", "generator's optimizer .* not int"),
        ("1, labels=([0] * 16, [1] * 16)", "Labels are two tensors, .* not list, list"),
    ],
)
def test_what_is_of_another_type_in_a_file_is_told(tmp_path, capsys, given, message):
    path = file(tmp_path, THEIRS.replace("LR", given))
    assert main(["diagnose", str(path)]) == 2 and re.search(message, capsys.readouterr().err)


def test_an_object_serves_as_well_as_a_dictionary(tmp_path):
    text = THEIRS.replace(
        "return dict(", "from types import SimpleNamespace\n    return SimpleNamespace("
    ).replace("LR", "{'generator': 0.1, 'critic': 0.2}")
    subject = load_subject(file(tmp_path, text))
    assert subject.lr == {"generator": 0.1, "critic": 0.2} and subject.name == "their_gan.py"
    with pytest.raises(SteadyganError, match="There is no"):
        load_subject(tmp_path / "nowhere")
    with pytest.raises(SteadyganError, match="no run folder"):
        load_subject(tmp_path)


def test_a_run_folder_is_diagnosed_with_its_optimizers(tmp_path, capsys):
    run = str(tmp_path / "run")
    network = "mlp:width=4,depth=1"
    assert (
        main(
            [
                "train",
                "gaussian2d",
                "--network",
                network,
                "--steps",
                "6",
                "--batch",
                "16",
                "--regularizer",
                "r1:gamma=1,anneal=0.1",
                "--out",
                run,
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["diagnose", run, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["game"]["regularizer"][0].startswith("r1:") and data["samples"] == 16
    assert "fixed diagonal" in data["preconditioner"] and data["spectrum"]["complete"]
    subject = load_run(run)
    assert subject.progress == 1.0 and subject.optimizers["critic"].state


def test_nothing_in_a_name_escapes_into_the_page(tmp_path):
    data = dirac("r1:gamma=1").to_json()
    data["words"].insert(0, "<script>alert(1)</script>")
    data["game"]["objective"] = "</pre><img src=x onerror=alert(2)>"
    page = write_diagnosis("<b>bold</b> & 'quoted'", data, tmp_path / "d.html").read_text()
    assert (
        "<script>" not in page
        and "<img src=x" not in page
        and "<b>" not in page
        and "&lt;script&gt;" in page
    )
    with pytest.raises(SteadyganError, match="cannot be written"):
        write_diagnosis("x", data, tmp_path)


@pytest.mark.parametrize("wrapped", [False, True])
def test_attention_and_wrapped_critics_are_diagnosed_as_what_they_are(wrapped):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(2, 2, 2, batch_first=True, dropout=0.0)
    critic = nn.Sequential(nn.Unflatten(1, (2, 2)), layer, nn.Flatten(), nn.Linear(4, 1))
    generator, batch = nn.Linear(2, 4), Batch(torch.randn(4, 4), torch.randn(4, 2))
    given = nn.DataParallel(critic) if wrapped else critic
    found = diagnose(
        Game("nonsaturating", "r1:gamma=1"), generator, given, batch, lr=0.01, budget=8
    )
    sizes = sum(p.numel() for p in critic.parameters()), sum(p.numel() for p in layer.parameters())
    assert found.parameters["critic"] == sizes[0] > sizes[1]
    assert found.spectrum.field and found.slopes["real"]["mean"] > 0


def test_a_function_has_no_parameters_that_the_doctor_could_know():
    batch = Batch(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(SteadyganError, match="critic is a function"):
        diagnose(Game("minimax"), nn.Linear(1, 1), lambda x: x.sum(1), batch, lr=0.1)
