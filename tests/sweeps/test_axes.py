"""What a sweep varies: grids, and points whose first ones stay when more are drawn."""

import math

import numpy as np
import pytest

from steadygan.core import SteadyganError
from steadygan.sweeps import points

SEVERAL = {"regularizer"}


def test_a_grid_is_every_combination_of_lists_and_braces():
    given = {
        "problem": "ring2d",
        "seed": ("0", "5"),
        "regularizer": ("{r1:gamma={0.1,1},js}", "lecam"),
        "network": "{mlp,mlp:width=8}",
    }
    found = points(given, SEVERAL)
    assert len(found) == 2 * 3 * 2 and all(list(point) == list(given) for point in found)
    assert len({str(point) for point in found}) == 12
    assert {p["regularizer"] for p in found} == {
        ("r1:gamma=0.1", "lecam"),
        ("r1:gamma=1", "lecam"),
        ("js", "lecam"),
    }
    assert points({"batch": "8"}) == [{"batch": "8"}]


@pytest.mark.parametrize("draw", ["random", "sobol"])
def test_drawn_points_fill_ranges_evenly_on_their_scale(draw):
    given = {
        "optimizer": "adam:lr={1e-4..1e-2 log},beta1={0..0.9}",
        "batch": "{3..6}",
        "dynamics": ("alternating", "simultaneous"),
    }
    found = points(given, draw=draw, count=256, seed=3)
    rates, betas = zip(
        *(
            [float(part.partition("=")[2]) for part in p["optimizer"].split(":")[1].split(",")]
            for p in found
        ),
        strict=True,
    )
    assert min(rates) >= 1e-4 and max(rates) < 1e-2 and min(betas) >= 0 and max(betas) < 0.9
    assert np.mean(np.log10(rates)) == pytest.approx(-3, abs=0.15)  # a linear scale gives -2.4
    assert np.mean(betas) == pytest.approx(0.45, abs=0.07)
    counts = {n: sum(p["batch"] == n for p in found) for n in "3456"}
    assert all(40 < count < 90 for count in counts.values())  # both ends, and nothing else
    assert 90 < sum(p["dynamics"] == "alternating" for p in found) < 166
    more = points(given, draw=draw, count=300, seed=3)
    assert more[:256] == found and points(given, draw=draw, count=256, seed=4) != found


def test_every_drawn_point_is_taken_with_every_seed():
    found = points({"lr": "{1..2.5}", "seed": ("7", "8")}, draw="sobol", count=3)
    assert [p["seed"] for p in found] == ["7", "8"] * 3
    assert len({p["lr"] for p in found}) == 3


@pytest.mark.parametrize(
    ("given", "how", "words"),
    [
        ({"batch": "{1..9}"}, {}, "--points N"),
        ({"batch": "{9..1}"}, {"draw": "sobol", "count": 2}, "lower one"),
        ({"lr": "{0..1 log}"}, {"draw": "sobol", "count": 2}, "positive"),
        ({"lr": "{a..b}"}, {"draw": "sobol", "count": 2}, "numbers"),
        ({"lr": f"{{0..{math.inf}}}"}, {"draw": "sobol", "count": 2}, "range"),
        ({"lr": "1"}, {"draw": "random", "count": 2}, "nothing varies"),
        ({"seed": "{1..9}"}, {"draw": "random", "count": 2}, "seed has the range"),
        ({"lr": "{1,2"}, {}, "does not close"),
        ({"a": tuple("0123456789") * 11, "b": tuple("0123456789") * 10}, {}, "at most 10,000"),
    ],
)
def test_what_is_no_sweep_is_refused(given, how, words):
    with pytest.raises(SteadyganError, match=words):
        points(given, **how)
