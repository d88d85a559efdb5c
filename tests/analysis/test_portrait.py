"""Many Dirac-GANs in one batch against one at a time, against formulas and against the radii of
equations.md."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from steadygan import Game, SteadyganError, build
from steadygan.analysis import portrait
from steadygan.analysis.batch import shared
from steadygan.analysis.convergence import NODES, Quadrature
from steadygan.analysis.portrait import basin, field, mesh, simulate, spectrum
from steadygan.cli import main
from steadygan.core import Batch, Context, OptimizerPlayers
from steadygan.core.constraints import Constraint
from steadygan.core.dynamics import Dynamics
from steadygan.core.objectives import Minimax
from steadygan.core.players import PLAYERS
from steadygan.core.registry import register, unregister
from steadygan.core.regularizers import R1, Regularizer
from steadygan.problems.networks import Point
from steadygan.report import portraits
from support import specs

STARTS = [[1.0, -1.0], [0.25, 0.75], [-0.5, 0.125]]
DYNAMICS = [
    "simultaneous",
    "alternating:critic_steps=2,generator_steps=2,order=generator-first",
    "consensus:gamma=0.7",
    "consensus:gamma=0.7,alternating=true,critic_steps=2",
    "extragradient",
    "optimistic",
    "unrolled:steps=3",
    "unrolled:steps=2,step_size=0.3,backprop=false",
]


def one_by_one(game, dynamics, h, steps, starts=STARTS):
    """Each trajectory on its own: the point network, mean losses, a plain optimizer."""
    paths = []
    for theta, psi in starts:
        network = Point(theta=theta, psi=psi)
        nets = network.generator((1,), 1).double(), network.critic((1,)).double()
        nodes = 1 if game.smoothing is None else NODES
        zeros = torch.zeros(nodes**2, 1, dtype=torch.float64)
        optimizers = {
            name: torch.optim.SGD(net.parameters(), lr=h)
            for name, net in zip(PLAYERS, nets, strict=True)
        }
        context = Context(progress=0.0, rng=Quadrature(nodes))
        players = OptimizerPlayers(
            game, *nets, lambda zeros=zeros: Batch(zeros, zeros), context, optimizers=optimizers
        )
        path = [[theta, psi]]
        for _ in range(steps):
            build("dynamics", dynamics).step(players)
            path.append([nets[0].theta.item(), nets[1].psi.item()])
        paths.append(path)
    return np.array(paths).transpose(1, 0, 2)


def agree(game, dynamics, h=0.2, steps=5):
    found = simulate(game, dynamics, STARTS, h, steps).numpy()
    np.testing.assert_allclose(found, one_by_one(game, dynamics, h, steps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_one_batch_is_one_trajectory_at_a_time(dynamics):
    for objective in specs("objective"):
        agree(Game(objective), dynamics)


@pytest.mark.parametrize(
    "regularizer",
    [
        "js",
        "f-gan:divergence=kl",
        "r1r2",
        "gp0",
        "wgan-gp:gamma=0.7",
        "wgan-lp",
        "dragan:gamma=0.7",
        "lecam",
    ],
)
def test_with_every_kind_of_penalty(regularizer):
    agree(Game("minimax", [regularizer]), "consensus:gamma=0.5")
    agree(
        Game("wasserstein", ["r2:gamma=0.3", regularizer], constraint="clip:c=0.9"),
        "alternating:critic_steps=2",
    )


@pytest.mark.parametrize(
    "smoothing",
    [
        "instance-noise:sigma=0.7",
        "explicit-noise:variance=0.3",
        "explicit-noise:variance=0.3,nsr=4",
    ],
)
def test_with_noise(smoothing):
    agree(Game("relativistic", ["js:gamma=0.4"], smoothing), "alternating", steps=3)
    agree(
        Game("minimax", ["dragan:gamma=0.7"], smoothing), "unrolled:steps=2,step_size=0.3", steps=3
    )


def test_annealed_strengths_run_with_the_steps():
    """gamma falls from 2 to 0.02: by the formula of the field, with progress k/T."""
    theta, psi, steps = 1.0, -1.0, 20
    for k in range(steps):
        s = 1 / (1 + math.exp(-theta * psi))
        theta, psi = theta + 0.1 * psi * s, psi + 0.1 * (-theta * s - 2 * 0.01 ** (k / steps) * psi)
    found = simulate(
        Game("minimax", "r1:gamma=2,anneal=0.01"), "simultaneous", [[1.0, -1.0]], 0.1, steps
    )[-1, 0]
    assert found.tolist() == pytest.approx([theta, psi], abs=1e-12)


# equations.md, section 2: generator first, h = 0.2, from (1, -1); simultaneous | alternating;
# test_dirac_radii.py has all of them
RADII = [
    (Game("minimax"), [(3.10, 0.006), (1.42, 0.006)]),
    (Game("wasserstein", "wgan-gp:gamma=0.7"), [(1.80, 0.006)]),
    (Game("minimax", "r1:gamma=0.3"), [(2.6e-6, 6e-8), (2.3e-7, 6e-9)]),
]


@pytest.mark.parametrize(("game", "expected"), RADII)
def test_radii_after_500_steps(game, expected):
    columns = "simultaneous", "alternating:order=generator-first"
    for dynamics, (radius, within) in zip(columns, expected, strict=False):
        assert float(basin(game, dynamics, [[1.0, -1.0]], 0.2, 500)) == pytest.approx(
            radius, abs=within
        )


def test_basins():
    grid = mesh(3.0, 10).view(-1, 2)
    before = grid.norm(dim=1)
    assert (
        basin(Game("minimax", "r1:gamma=1"), "simultaneous", grid, 0.2, 200) < 0.05 * before
    ).all()
    assert torch.allclose(
        basin(Game("wasserstein"), "simultaneous", grid, 0.2, 200), before * 1.04**100, rtol=1e-10
    )
    assert basin(Game("least-squares"), "simultaneous", [[50.0, 50.0]], 1.0, 300).item() == math.inf


def test_fields_follow_their_formulas():
    grid = mesh(2.0, 7)
    theta, psi = grid.unbind(-1)
    s = torch.sigmoid(theta * psi)
    v = torch.stack([psi * s, -theta * s - 0.7 * psi], dim=-1)
    torch.testing.assert_close(
        field(Game("minimax", "r1:gamma=0.7"), "alternating", grid), v, rtol=1e-12, atol=1e-12
    )
    ds, square = s * (1 - s), theta**2 + psi**2
    pulled = [
        psi * s - s * s * theta - s * ds * psi * square,
        -theta * s - s * s * psi - s * ds * theta * square,
    ]
    torch.testing.assert_close(
        field(Game("minimax"), "consensus:gamma=1", grid),
        torch.stack(pulled, dim=-1),
        rtol=1e-12,
        atol=1e-12,
    )
    flat = grid.view(-1, 2)
    for objective in ("relativistic-average", "hinge"):
        step = simulate(Game(objective), "unrolled:steps=2", flat, 0.3, 1)
        torch.testing.assert_close(
            field(Game(objective), "unrolled:steps=2", flat, lr=0.3),
            (step[1] - step[0]) / 0.3,
            rtol=1e-9,
            atol=1e-12,
        )


def test_who_shares_a_batch():
    simultaneous = build("dynamics", "simultaneous")
    for game in (
        Game("relativistic-average"),
        Game("minimax", "lecam"),
        Game(smoothing="explicit-noise:nsr=2"),
    ):
        assert shared(game, simultaneous)
        with pytest.raises(
            SteadyganError,
            match=r"one by one.*at most 100,000 trajectory-steps, for example 200 starts",
        ):
            simulate(game, simultaneous, torch.zeros(1000, 2), 0.1, 500)
    for game in (
        Game("relativistic", "js"),
        Game(smoothing="explicit-noise"),
        Game("minimax", "dragan", constraint="clip"),
    ):
        assert not shared(game, simultaneous)


def test_what_is_not_declared_is_seen(request):
    numbers = itertools.count()

    def registered(kind, base, **body):
        name = f"mine-{next(numbers)}"
        made = type(name, (base,), {"__doc__": "Anything. Reference: none 2031.", **body})
        request.addfinalizer(lambda: unregister(made))
        return register(kind, name)(dataclass(frozen=True)(made))()

    plain, alternating = Game("minimax", "r1"), build("dynamics", "alternating")
    assert not shared(Game("minimax", [registered("regularizer", R1)]), alternating)

    def spread(self, scores, context):
        return scores["fake"].logits.std(correction=0)

    drawn = registered("objective", Minimax, critic=lambda self, r, f: f.mean().exp())
    assert "declares no couples" in shared(Game(drawn), alternating)
    assert shared(
        Game("minimax", [registered("regularizer", Regularizer, penalty=spread)]), alternating
    )
    unit = registered("constraint", Constraint, project=lambda self, p: p / p.norm())
    assert shared(replace(plain, constraint=unit), alternating)

    def step(self, players):
        for name in PLAYERS:
            g = players.gradient(name, players.draw())
            size = sum(value.square().sum() for value in g.values()).sqrt()
            players.move(name, {key: value / (1 + size) for key, value in g.items()})

    assert shared(plain, registered("dynamics", Dynamics, step=step))
    agree(Game("minimax", [registered("regularizer", Regularizer, penalty=spread)]), "optimistic")


@pytest.mark.parametrize(
    ("starts", "settings", "message"),
    [
        ([1.0, 2.0], {}, r"shape \(N, 2\)"),
        ([[1.0, math.nan]], {}, "finite"),
        ([[1.0, 1.0]], {"steps": 0}, "steps must be"),
        ([[1.0, 1.0]], {"every": 0}, "every must be"),
        ([[1.0, 1.0]], {"lr": -0.1}, "learning rate"),
    ],
)
def test_bad_input_is_refused(starts, settings, message):
    with pytest.raises(SteadyganError, match=message):
        simulate(Game(), "simultaneous", starts, **{"lr": 0.1, "steps": 2, **settings})


def test_paths_are_plain_and_kept_as_often_as_asked():
    game = Game("minimax", "r1")
    all_of_it = simulate(game, "simultaneous", STARTS, {"generator": 0.1, "critic": 0.02}, 7)
    assert (
        all_of_it.shape == (8, 3, 2)
        and all_of_it.dtype == torch.float64
        and not all_of_it.requires_grad
    )
    assert torch.equal(
        simulate(game, "simultaneous", STARTS, {"generator": 0.1, "critic": 0.02}, 7, every=3),
        all_of_it[::3],
    )


def test_the_rate_is_what_trajectories_show():
    game = Game("minimax", "r1:gamma=1.2")
    late = simulate(game, "simultaneous", [[1.0, -1.0]], 0.2, 300)[:, 0].norm(dim=1)
    assert float(late[300] / late[299]) == pytest.approx(
        max(map(abs, spectrum(game, "simultaneous", 0.2))), abs=1e-6
    )


def test_figures(tmp_path):
    seen = portrait.portrait(
        Game("wasserstein", "wgan-gp:gamma=0.7"), "simultaneous", 0.2, steps=20
    )
    lost = seen._replace(path=np.array([[1.0, -1.0], [np.inf, np.nan]]))
    panels = [
        portraits.Panel("a $title", "b" * 80, "word " * 60, *seen, c) for c in (True, None, False)
    ] + [portraits.Panel("", "", "", *lost)]
    sheet = portraits.portrait_sheet(panels, columns=3)
    assert len(sheet.axes) == 4
    for figure in (
        portraits.spectrum_figure({"a": [0.9 + 0.1j, 0.9 - 0.1j], "b": [1.0]}),
        portraits.rate_figure({"a": (np.array([1.0, 2.0]), np.array([0.9, 1.1]))}, "γ"),
        portraits.basin_figure(np.array([[0.0, np.inf], [1.0, 1e9]]), 2.0, "basin"),
    ):
        assert isinstance(figure, Figure)
        assert portraits.save_figure(figure, tmp_path / "sub" / "a.png").stat().st_size > 3000
    for name in ("a.pdf", "b.SVG"):
        assert portraits.save_figure(sheet, tmp_path / name).stat().st_size > 3000
    with pytest.raises(SteadyganError, match="nothing to draw"):
        portraits.portrait_sheet([])


def test_analyze_draws(tmp_path, capsys):
    out = tmp_path / "dirac.png"
    argv = [
        "analyze",
        "dirac",
        "--regularizer",
        "{r1:gamma=1,dragan}",
        "--dynamics",
        "simultaneous",
        "--json",
    ]
    assert main([*argv, "--plot", str(out)]) == 0
    assert out.read_bytes()[:4] == b"\x89PNG" and "dirac.png" in capsys.readouterr().err


def test_a_bad_ending_is_told_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "steadygan.analysis.convergence.analyze_dirac", lambda *_: pytest.fail("worked first")
    )
    assert main(["analyze", "dirac", "--plot", str(tmp_path / "dirac.jpg")]) == 2
    assert ".png, .pdf or .svg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dynamics", "anneal"),
    [
        ("optimistic", ",anneal=0.1"),
        *(
            pytest.param(d, a, marks=pytest.mark.slow)
            for d in DYNAMICS
            for a in ("", ",anneal=0.1,schedule=cosine")
        ),
    ],
)
def test_compiled_is_eager(dynamics, anneal):
    game = Game(
        "nonsaturating", f"js:gamma=0.7{anneal}", f"instance-noise:sigma=0.3{anneal}", "clip:c=0.9"
    )
    eager, compiled = (
        simulate(game, dynamics, STARTS, {"generator": 0.2, "critic": 0.3}, 9, every=3, compiled=c)
        for c in (False, True)
    )
    np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-12, atol=1e-12)


def test_what_shares_a_batch_is_not_compiled():
    with pytest.raises(SteadyganError, match=r"LeCam.*cannot be compiled"):
        simulate(Game("minimax", "lecam"), "simultaneous", STARTS, 0.1, 2, compiled=True)
