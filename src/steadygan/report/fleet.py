"""What the page about many GANs trained at once shows.

Bands over members, their last samples side by side, and a table of them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..core.errors import SteadyganError
from ..runs.reading import Run
from ..runs.samples import read_points, read_samples
from .figures import colours, scale
from .views import INK, QUIET, View, panel

MEMBERS = 64  # pictures of samples on a page
_TILES = 4  # images of a member across and down
_PLAYERS = {"optimizer": "", "critic_optimizer": "critic "}


def groups(run: Run) -> dict[str, list[int]]:
    """Return the members of each setting: what a member is besides its seed."""
    found: dict[str, list[int]] = {}
    for i, member in enumerate(run.members):
        found.setdefault(_setting(member), []).append(i)
    return found


def bands(run: Run) -> dict[str, Figure]:
    """Return every quantity drawn over the steps, by title.

    For each setting the median of its members that are still training, and their quartiles.
    """
    drawn = {}
    inks = _inks(run)
    for name, (steps, values) in {**run.metrics, **run.logged}.items():
        if name == "seconds" or not np.isfinite(values).any():
            continue
        drawn[name.replace("_", " ")] = figure = Figure(figsize=(3.1, 1.9), dpi=160)
        axes = panel(figure, 0.5, 0.36, 2.5, 1.42)
        shown = []
        for setting, members in groups(run).items():
            low, middle, high = quartiles(values[:, members])
            axes.fill_between(steps, low, high, color=inks[setting], alpha=0.2, linewidth=0)
            axes.plot(
                steps,
                middle,
                color=inks[setting],
                linewidth=1.3,
                marker="o" if len(steps) <= 30 else None,
                markersize=2.5,
            )
            shown += [low, high]
        axes.tick_params(labelsize=7.5, labelcolor=QUIET)
        axes.spines[["top", "right"]].set_visible(False)
        held = np.concatenate(shown)
        scale(axes, held[np.isfinite(held)])
        axes.set_xlabel("step", size=8, color=QUIET, labelpad=1)
    return drawn


def quartiles(values: np.ndarray) -> np.ndarray:
    """Return the quartiles (3, T) of values (T, K) over the members that have one.

    NaN where none has.

    >>> quartiles(np.array([[1.0, 2.0, 3.0, np.nan]])).ravel().tolist()
    [1.5, 2.0, 2.5]
    """
    rows = [row[np.isfinite(row)] for row in values]
    return np.array(
        [np.quantile(row, (0.25, 0.5, 0.75)) if len(row) else np.full(3, np.nan) for row in rows]
    ).T


def multiples(run: Run) -> Figure | None:
    """Return the last samples of the members, a small picture each; None without samples.

    Those of one setting are in one colour.
    """
    if not run.samples:
        return None
    samples, settings = _members(run.samples[-1].path, len(run.members))[:MEMBERS], _settings(run)
    inks = _inks(run)
    columns, width, gap, head = min(8, len(samples)), 1.05, 0.06, 0.2
    view = None
    if samples.ndim == 3:
        view = View.of(None if run.real is None else read_points(run.real), samples)
    height = width * (view.height if view else 1)
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(columns * (width + gap) + gap, rows * (height + head) + gap), dpi=150)
    for i, each in enumerate(samples):
        row, column = divmod(i, columns)
        left, top = (
            gap + column * (width + gap),
            rows * (height + head) + gap - row * (height + head),
        )
        ink = inks[settings[i]]
        if view:
            view.draw(figure, left, top - head - height, width, each, ink)
        else:
            panel(figure, left, top - head - height, width, height).imshow(
                _tiled(each), interpolation="antialiased", aspect="auto"
            )
        place = left / figure.get_figwidth(), (top - head + 0.04) / figure.get_figheight()
        figure.text(*place, f"{i}", size=7, weight="bold", color=ink)
        state = _ending(run, i).get("state")
        figure.text(
            place[0] + 0.22 / figure.get_figwidth(),
            place[1],
            "stopped" if state == "stopped" else "",
            size=6,
            color=INK,
        )
    return figure


def summary(run: Run) -> list[dict[str, Any]]:
    """Return a row for each setting.

    Its colour, how many members it has, how many stopped, and quartiles of the last metrics.
    """
    rows = []
    for setting, members in groups(run).items():
        stopped = sum(_ending(run, i).get("state") == "stopped" for i in members)
        last = {
            name: quartiles(values[-1:, members])[:, 0].tolist()
            for name, (_, values) in run.metrics.items()
        }
        rows.append(
            {
                "name": setting,
                "colour": _inks(run)[setting],
                "count": len(members),
                "stopped": stopped,
                "last": last,
            }
        )
    return rows


def table(run: Run) -> list[dict[str, Any]]:
    """Return a row for each member: setting, seed, how it ended and its last metrics."""
    inks = _inks(run)
    return [
        {
            "setting": setting,
            "colour": inks[setting],
            "seed": run.members[i].get("seed", 0),
            "state": _ending(run, i).get("state", "no status"),
            "step": _ending(run, i).get("step"),
            "reason": _ending(run, i).get("reason"),
            "last": [float(values[-1, i]) for _, values in run.metrics.values()],
        }
        for i, setting in enumerate(_settings(run))
    ]


def _settings(run: Run) -> list[str]:
    return [_setting(member) for member in run.members]


def _inks(run: Run) -> dict[str, str]:
    settings = groups(run)
    return dict(zip(settings, colours(len(settings)), strict=True))


def _ending(run: Run, i: int) -> dict[str, Any]:
    members = run.status.get("members")
    return (
        members[i]
        if isinstance(members, list) and i < len(members) and isinstance(members[i], dict)
        else {}
    )


def _setting(member: dict[str, Any]) -> str:
    """Return what a member is besides its seed, as one reads it."""
    words: list[str] = []
    for name, value in member.items():
        # Where the critic has the generator's optimizer, one of them says it.
        if name == "seed" or (name == "critic_optimizer" and value == member.get("optimizer")):
            continue
        text = " + ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(_PLAYERS.get(name, "") + (text or "unregularized"))
    return ", ".join(words) or "all members"


def _members(path: Path, count: int) -> np.ndarray:
    """Return samples (K, N, *event), float64.

    Raises:
        SteadyganError: For a file that does not hold them.
    """
    samples = read_samples(path)
    if samples.ndim < 3 or len(samples) != count:
        raise SteadyganError(
            f"{path} must hold `samples` of {count} members, not of shape {samples.shape};"
            " remove the file to report the rest"
        )
    return samples if samples.ndim in (3, 5) else samples.reshape(*samples.shape[:2], -1)


def _tiled(images: np.ndarray) -> np.ndarray:
    """Return the first images (N, C, H, W) in [-1, 1] as one picture (rows H, columns W, 3)."""
    few = np.nan_to_num(images[: _TILES**2])
    few = np.pad(few, ((0, _TILES**2 - len(few)), *[(0, 0)] * 3), constant_values=1.0)
    _, channels, height, width = few.shape
    grid = (
        few.reshape(_TILES, _TILES, channels, height, width)
        .transpose(0, 3, 1, 4, 2)
        .reshape(_TILES * height, _TILES * width, channels)
    )
    return np.clip((grid + 1) / 2, 0, 1).repeat(3 if channels == 1 else 1, axis=2)
