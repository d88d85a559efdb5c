"""What a sweep varies: lists, braces and ranges in the values of options, as a grid or as points.

Braces hold choices, ``r1:gamma={0.1,1}``, or a range, ``r1:gamma={0.01..10 log}``; ranges are for
points that are drawn. A range between whole numbers is one of whole numbers.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import numpy as np
from scipy.stats import qmc

from ..core.errors import SteadyganError
from ..core.registry import expand
from ..runs.settings import Value

Draw = Literal["grid", "random", "sobol"]

MOST = 10_000
"""How many points a sweep has at most."""

_RANGE = re.compile(r"\{\s*([^{},\s]+?)\.\.([^{},\s]+?)(\s+log)?\s*\}")
_HELD = re.compile("\0(.+?)\1")  # a range whose braces are put aside while the others expand


def points(
    values: Mapping[str, Value],
    several: Collection[str] = (),
    *,
    draw: Draw = "grid",
    count: int = 0,
    seed: int = 0,
) -> list[dict[str, Value]]:
    """Return the points of a sweep, each with one value an option.

    Args:
        values: What each option is given. A list is an axis, but for options in ``several``, which
            take a list as it is; braces are axes everywhere.
        several: The options that take several values.
        draw: All combinations; or points that are drawn, at random or from a scrambled Sobol
            sequence, whose first points stay the same when more are asked for.
        count: How many are drawn. Every drawn point is taken with each ``seed`` that is given.
        seed: Of the draw.

    Raises:
        SteadyganError: For an option without a value, ranges in a grid, braces that do not close,
            and too many points.

    >>> points({"regularizer": ("r1:gamma={0.1,1}",), "batch": ("8", "9")}, {"regularizer"})[1]
    {'regularizer': ('r1:gamma=0.1',), 'batch': '9'}
    >>> [p["lr"] for p in points({"lr": "{1e-4..1e-2 log}"}, draw="sobol", count=2, seed=1)]
    ['0.000373541', '0.00644503']
    """
    axes = {name: _axis(name, value, name in several) for name, value in values.items()}
    crossed = {name: axis for name, axis in axes.items() if draw == "grid" or name == "seed"}
    drawn = {name: axis for name, axis in axes.items() if name not in crossed}
    for name, axis in crossed.items():
        for text in itertools.chain(*axis):
            if _HELD.search(text):
                raise SteadyganError(
                    f"{name} has the range {_said(text)!r}, which a grid has no end of: add"
                    " --points N --draw sobol, or give values, such as {0.1,1}."
                )
    sizes = math.prod(len(axis) for axis in crossed.values())
    total = sizes * (count if draw != "grid" else 1)
    if total > MOST:
        raise SteadyganError(f"a sweep has at most {MOST:,} points, not {total:,}.")
    bases = list(_drawn(drawn, draw, count, seed)) if draw != "grid" else [{}]
    found = []
    for base in bases:
        for each in itertools.product(*crossed.values()):
            point = {**base, **dict(zip(crossed, each, strict=True))}
            found.append(
                {
                    name: point[name] if name in several else point[name][0]
                    for name in values  # in the order in which they were given
                }
            )
    return found


def varied(values: Mapping[str, Value], several: Collection[str] = ()) -> list[str]:
    """Return the options that have more than one value, or a range."""
    axes = {name: _axis(name, value, name in several) for name, value in values.items()}
    return [n for n, a in axes.items() if len(a) > 1 or any(map(_HELD.search, a[0]))]


def _axis(name: str, value: Value, several: bool) -> list[tuple[str, ...]]:
    """Return the choices of an option, each a tuple of texts; ranges stand in them put aside."""
    texts = (value,) if isinstance(value, str) else value
    if not texts and not several:
        raise SteadyganError(f"{name} is a list of nothing: give it a value, or leave it out.")
    opened = [expand(_RANGE.sub(_aside, text)) for text in texts]
    if several:
        return list(itertools.product(*opened))
    return [(text,) for each in opened for text in each]


def _drawn(
    axes: Mapping[str, list[tuple[str, ...]]], draw: Draw, count: int, seed: int
) -> Iterator[dict[str, tuple[str, ...]]]:
    if count < 1:
        raise SteadyganError(f"--draw {draw} needs --points N: how many are drawn.")
    if seed < 0:
        raise SteadyganError(f"--draw-seed must be at least 0, not {seed}.")
    # An axis takes a coordinate for its choice, and one for each range of the choice.
    ranges = {
        name: max(sum(len(_HELD.findall(text)) for text in choice) for choice in axis)
        for name, axis in axes.items()
    }
    wide = sum((len(axis) > 1) + ranges[name] for name, axis in axes.items())
    if not wide:
        raise SteadyganError("nothing varies: give a list, braces or a range, {0.01..10 log}.")
    if draw == "sobol":
        # A power of two is what the sequence is made for, and its first points are always the same.
        power = math.ceil(math.log2(count))
        cube = qmc.Sobol(wide, rng=np.random.default_rng(seed)).random_base2(power)[:count]
    else:
        cube = np.random.default_rng(seed).random((count, wide))
    for row in cube.tolist():
        place, point = iter(row), {}
        for name, axis in axes.items():
            pick = int(next(place) * len(axis)) if len(axis) > 1 else 0
            own = iter([next(place) for _ in range(ranges[name])])
            point[name] = tuple(_filled(text, own) for text in axis[pick])
        yield point


def _filled(text: str, own: Iterator[float]) -> str:
    return _HELD.sub(lambda match: _at(match[1], next(own)), text)


def _aside(match: re.Match[str]) -> str:
    low, high, log = match[1], match[2], match[3] or ""
    try:
        ends = float(low), float(high)
    except ValueError:
        raise SteadyganError(f"{match[0]} is no range: its ends must be numbers.") from None
    if not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
        raise SteadyganError(f"{match[0]} is no range: its first end must be the lower one.")
    if log and ends[0] <= 0:
        raise SteadyganError(f"{match[0]} has no logarithm: its ends must be positive.")
    return f"\0{low}..{high}{log}\1"


def _at(held: str, u: float) -> str:
    """Return the value of a range at u in [0, 1), to six digits."""
    ends, _, log = held.partition(" ")
    low, _, high = ends.partition("..")
    a, b = float(low), float(high)
    whole = all(re.fullmatch(r"[+-]?\d+", end) for end in (low, high))
    b += whole
    value = a * (b / a) ** u if log else a + u * (b - a)
    return str(min(math.floor(value), int(high))) if whole else f"{value:.6g}"


def _said(text: str) -> str:
    return _HELD.sub(r"{\1}", text)
