"""The 2-D experiments: what counts as lost, near and fallen; that the choice of a cell never sees
what is reported; exact transport."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import ot
import pytest
import torch

from steadygan import SteadyganError, build
from steadygan.experiments import fleets
from steadygan.experiments.mescheder import plane as mescheder_2d
from steadygan.experiments.mescheder.grid import METHODS, Cell, cells
from steadygan.experiments.mescheder.plane import (
    Result,
    against,
    difference,
    nearness,
    robustness,
)
from steadygan.experiments.spec import Source
from steadygan.problems.measures import sliced_wasserstein, wasserstein
from steadygan.report.reproduction import draw, save_small

TINY = mescheder_2d.EXPERIMENT.settings("tiny")
BY_NAME = {method.name: method for method in METHODS}


@pytest.mark.parametrize("problem", ["gaussian2d", "lines2d"])
def test_exact_transport_against_an_independent_implementation(problem):
    x, y = (build("problem", problem).stream(seed).draw(80).x.double() for seed in (1, 2))
    y = 1.5 * y + 0.3
    weights = np.full(80, 1 / 80)
    expected = ot.emd2(weights, weights, ot.dist(x.numpy(), y.numpy(), metric="euclidean"))
    assert wasserstein(x, y) == pytest.approx(expected, rel=1e-9) and wasserstein(
        x, y
    ) > sliced_wasserstein(x, y)
    assert wasserstein(x, x[torch.randperm(80)]) == pytest.approx(0, abs=1e-12)
    assert wasserstein(x, x + torch.tensor([3.0, 4.0])) == pytest.approx(5)
    assert wasserstein(x, torch.full_like(x, math.nan)) == math.inf
    with pytest.raises(SteadyganError, match="one shape"):
        wasserstein(x, y[:40])


def test_one_point_and_real_samples_are_where_they_must_be():
    circle = build("problem", "circle2d")
    assert mescheder_2d.point(circle, 4000) == pytest.approx(1.0, abs=0.01)
    assert mescheder_2d.floor(circle, 400, 4) < 0.15
    assert mescheder_2d.floor(circle, 400, 4) > mescheder_2d.floor(circle, 1200, 4) > 0.02


# ------------------------------------------------------------ the grid


def test_the_papers_grid():
    whole = cells(mescheder_2d.EXPERIMENT.settings("long"))
    counts = {method.name: sum(cell.method is method for cell in whole) for method in METHODS}
    assert counts == {**dict.fromkeys(BY_NAME, 24), "unregularized": 8, "consensus": 12}
    assert {cell.strength for cell in whole if cell.method.name == "R1"} == {1, 10, 100}
    assert {cell.rate for cell in whole if cell.kind == "rmsprop"} == {
        "5e-5",
        "1e-4",
        "2e-4",
        "5e-4",
    }


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_is_the_game_that_it_says(method):
    config = (
        Cell(method, 7.0, "rmsprop", "1e-4")
        .config(TINY, seed=3)
        .resolve(build("problem", "line2d"))
    )
    strengths = config.game().strengths()
    on = {key: value for key, value in strengths.items() if value}
    expected = {
        "unregularized": {},
        "R1": {"regularizers.0.gamma": 7.0},
        "R2": {"regularizers.1.gamma": 7.0},
        "JS": {"regularizers.2.gamma": 7.0},
        "instance noise": {"smoothing.sigma": 7.0},
        "consensus": {},
    }
    if method.name.startswith("WGAN-GP"):
        assert on == {"regularizers.0.gamma": 7.0} and config.objective == "wasserstein"
        assert (
            f"critic_steps={method.name.split()[1]}" in config.dynamics
            or config.dynamics == "alternating"
        )
    else:
        assert on == expected[method.name] and config.objective == "nonsaturating"
    assert ("gamma=7" in config.dynamics) == (method.name == "consensus") and config.seed == 3


def test_a_method_of_the_common_structure_is_the_method_alone(tmp_path):
    """Zeros for the penalties that are not meant change nothing: R1 beside R2, JS and noise of
    strength 0 is R1."""
    problem, cell = build("problem", "line2d"), Cell(BY_NAME["R1"], 10.0, "rmsprop", "5e-4")
    common = cell.config({**TINY, "steps": 5}, seed=2)
    alone = replace(common, regularizer=("r1:gamma=10",), smoothing=None)
    ends = [
        fleets.fleet(problem, [config], tmp_path / name)[0]
        for name, config in {"common": common, "alone": alone}.items()
    ]
    np.testing.assert_allclose(ends[0].samples(5), ends[1].samples(5), rtol=1e-5, atol=1e-6)
    plain = fleets.fleet(
        problem, [replace(common, regularizer=(), smoothing=None)], tmp_path / "plain"
    )[0]
    assert np.abs(plain.samples(5) - ends[0].samples(5)).max() > 1e-6


def test_every_structure_trains_and_seeds_that_choose_do_not_report(tmp_path, monkeypatch):
    settings = {**TINY, "sgd": ("5e-2",), "alone": 2, "seeds": 2}
    asked = []
    trained = mescheder_2d.trained

    def spy(problem, wanted, settings, out):
        asked.append([seed for _, seed in wanted])
        return trained(problem, wanted, settings, out)

    monkeypatch.setattr(mescheder_2d, "trained", spy)
    result = mescheder_2d.study(build("problem", "line2d"), settings, 2, tmp_path)
    assert {*asked[0]} == {0} and {*asked[1]} == {1, 2}
    ends = (
        "nonsaturating-alternating",
        "wasserstein-alternating-critic_steps-1",
        "wasserstein-alternating-critic_steps-5",
    )
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {
        *(f"{kind}-{end}" for kind in ("sgd", "rmsprop") for end in ends),
        *(f"rmsprop-nonsaturating-consensus-gamma-{gamma}" for gamma in ("1", "0.1")),
    }
    assert all(math.isfinite(value) for value in result.grid.values()) and all(
        len(values) == 2 for values in result.final.values()
    )
    for name, cell in result.best.items():
        assert result.grid[cell] == min(
            value for other, value in result.grid.items() if other.method.name == name
        )


# ------------------------------------------------------------ claims


def result(**final):
    """A result in which every method has distances around 0.1, the floor, but those given."""
    around = [0.09, 0.095, 0.1, 0.1, 0.105, 0.11]
    grid = {Cell(method, s, "rmsprop", "1e-4"): 0.1 for method in METHODS for s in method.strengths}
    best = {cell.method.name: cell for cell in grid}
    usual = {name: around[i:] + around[:i] for i, name in enumerate(BY_NAME)}
    return Result(grid, 0.1, 1.0, best, {**usual, **final}, usual, 0.1)


SOURCE = Source("")


FAR = [0.5, 0.52, 0.48, 0.51, 0.49, 0.5]
WIDE = [0.05, 0.9, 0.1, 0.06, 0.07, 0.1]


def lost(ours="R1", **final):
    return against("line2d", result(**final), ours, SOURCE)


def test_a_method_that_is_farther_loses_and_a_method_that_is_as_far_does_not():
    assert lost().holds is True and lost(unregularized=FAR).holds is True
    assert lost(R1=FAR).holds is False and "R1 0.5 (0.48 to 0.52)" in lost(R1=FAR).why
    assert lost("R2", R1=FAR).holds is True


def test_more_noise_is_not_more_yes():
    assert lost(R1=WIDE).holds is None
    assert lost(unregularized=WIDE).holds is None, "nor where the other one's is noise"
    # Surely farther, but by less than half of the distance of real samples: as near.
    assert lost(R1=[0.13, 0.131, 0.129, 0.13, 0.13, 0.13]).holds is True
    assert lost(R1=[0.16, 0.161, 0.159, 0.16, 0.16, 0.16]).holds is False


def test_fewer_than_six_seeds_decide_nothing():
    few = {name: [0.1] * 5 for name in BY_NAME}
    assert lost(**few).holds is None and nearness("line2d", result(**few), SOURCE).holds is None


def test_a_seed_that_blew_up_loses_against_one_that_did_not():
    blown = [0.1, 0.1, math.inf, 0.1, 0.1, 0.1]
    assert lost(R1=blown).holds is False and lost(unregularized=blown).holds is True
    assert lost(R1=blown, unregularized=blown).holds is False  # not against WGAN-GP
    assert nearness("line2d", result(R1=blown), SOURCE).holds is False


def test_the_averages_are_judged_apart():
    held = result(R1=FAR)
    assert against("line2d", held, "R1", SOURCE).holds is False
    assert against("line2d", held.by_average(), "R1", SOURCE).holds is True


def test_welchs_interval_against_scipy():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 2, 7), rng.normal(0.5, 0.3, 5)
    found, expected = difference(a, b), ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert math.isnan(difference([1, math.inf], [math.inf, 1]).value)


def test_near_the_floor():
    def near(problem="line2d", **final):
        return nearness(problem, result(**final), SOURCE)

    assert near(unregularized=[9.0] * 6).holds is True
    assert near("gaussian2d", unregularized=[9.0] * 6).holds is False, (
        "on a density the unregularized GAN must come near too"
    )
    row = near(R2=[0.3] * 6)
    assert row.holds is False and "R2 0.3 (0.3 to 0.3)" in row.why and "R2 0.3 [" in row.measured
    assert near(R2=[0.05, 0.5, 0.05, 0.5, 0.05, 0.05]).holds is None


def test_cells_that_fell():
    held = result()
    grid = dict(held.grid)
    for cell, value in zip(
        (c for c in grid if c.method.name == "R2"), (math.inf, 1.2, 0.15), strict=True
    ):
        grid[cell] = value
    said = robustness("R2", {"line2d": replace(held, grid=grid)})
    assert said.startswith(
        "R2: of 3 cells 1 blew up, 1 are no nearer to the data than the best single point, 1"
        " come near."
    )


def test_the_picture_with_cells_that_blew_up(tmp_path):
    held = result(consensus=[math.inf] * 6, unregularized=[0.1])
    grid = {
        cell: math.inf if cell.method.name == "JS" else value for cell, value in held.grid.items()
    }
    data = mescheder_2d.picture({name: replace(held, grid=grid) for name in ("line2d", "circle2d")})
    path = save_small(draw("intervals", data), tmp_path / "figure.png")
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("panels", [1, 4])
def test_the_caption_stays_within_the_picture(panels):
    group = {"R1": {"interval": (0.2, 0.1, 0.3), "faint": [0.2]}}
    one = {"title": "gaussian2d", "floor": 0.1, "groups": group}
    data = mescheder_2d.picture({}) | {"panels": [one] * panels}
    figure = draw("intervals", data)
    figure.canvas.draw()
    assert figure.get_supxlabel().replace("\n", " ") == data["caption"]
    box, (width, height) = figure._supxlabel.get_window_extent(), figure.canvas.get_width_height()
    assert 0 < box.x0 < box.x1 < width and 0 < box.y0 < box.y1 < height


def test_a_fleet_that_fell_as_a_whole_counts_as_infinitely_far(tmp_path):
    member = fleets.Member("", 0, np.array([2]), {}, Path(tmp_path), 0)
    assert mescheder_2d.distance(build("problem", "line2d"), member, 8, 0, True) == math.inf


def test_settings_of_the_result_are_plain_data():
    json.dumps(
        {scale: dict(settings) for scale, settings in mescheder_2d.EXPERIMENT.scales.items()}
    )
