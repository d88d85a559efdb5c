"""What the page about many GANs trained at once shows: bands over members, their last samples side
by side, and a table of them all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..core.errors import SteadyganError
from .figures import colours, scale
from .runs import LOGGED, json_lines, json_object, part, points, step_of
from .views import INK, QUIET, View, panel

MEMBERS = 64  # pictures of samples on a page
_TILES = 4  # images of a member across and down
_PLAYERS = {"optimizer": "", "critic_optimizer": "critic "}


@dataclass(frozen=True)
class FleetRun:
    """A fleet's folder. ``figures`` holds every quantity at its steps: (T,) and values (T, K), NaN
    where a member had none.

    ``settings`` names for each member what it is besides its seed; ``measured`` are the names of
    the problem's metrics.
    """

    folder: Path
    config: dict[str, Any]
    status: dict[str, Any]
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    figures: dict[str, tuple[np.ndarray, np.ndarray]]
    measured: tuple[str, ...]
    samples: Path | None

    @classmethod
    def read(cls, folder: Path) -> FleetRun:
        """Read a fleet's folder; raises SteadyganError where it is damaged."""
        config = json_object(folder / "config.json")
        members = part(config, "fleet").get("members")
        if not isinstance(members, list) or not members:
            raise SteadyganError(
                f"{folder / 'config.json'} names no members of its fleet; restore it or train"
                " the fleet again"
            )
        columns: dict[str, dict[int, list[float]]] = {}
        measured: dict[str, None] = {}
        for at, line in json_lines(folder / "metrics.jsonl"):
            metrics, step = part(line, "metrics"), step_of(line, at)
            measured |= dict.fromkeys(metrics)
            held = {
                name: line[name] for name in LOGGED if isinstance(line.get(name), list)
            } | metrics
            for name, values in held.items():
                columns.setdefault(name, {})[step] = _row(values, len(members), f"{at}: {name}")
        figures = {}
        for name, rows in columns.items():
            steps = sorted(rows)
            figures[name] = np.array(steps), np.array([rows[step] for step in steps])
        found = sorted(folder.glob("samples/step-*.npz"))
        return cls(
            folder=folder,
            config=config,
            status=json_object(folder / "status.json"),
            settings=tuple(_setting(member) for member in members),
            seeds=tuple(member.get("seed", 0) for member in members),
            figures=figures,
            measured=tuple(measured),
            samples=found[-1] if found else None,
        )

    @property
    def groups(self) -> dict[str, list[int]]:
        """The members of each setting."""
        found: dict[str, list[int]] = {}
        for i, setting in enumerate(self.settings):
            found.setdefault(setting, []).append(i)
        return found


def is_fleet(folder: Path) -> bool:
    """Return whether a folder holds many GANs trained at once."""
    return (folder / "config.json").is_file() and "fleet" in json_object(folder / "config.json")


def bands(run: FleetRun) -> dict[str, Figure]:
    """Draw every quantity over the steps: for each setting the median of its members that are still
    training, and their quartiles."""
    drawn = {}
    inks = dict(zip(run.groups, colours(len(run.groups)), strict=True))
    for name in (*run.measured, *(name for name in LOGGED if name in run.figures)):
        steps, values = run.figures[name]
        if not np.isfinite(values).any():
            continue
        drawn[name.replace("_", " ")] = figure = Figure(figsize=(3.1, 1.9), dpi=160)
        axes = panel(figure, 0.5, 0.36, 2.5, 1.42)
        shown = []
        for setting, members in run.groups.items():
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
    """Return the quartiles (3, T) of values (T, K) over the members that have one; NaN where none
    has.

    >>> quartiles(np.array([[1.0, 2.0, 3.0, np.nan]])).ravel().tolist()
    [1.5, 2.0, 2.5]
    """
    rows = [row[np.isfinite(row)] for row in values]
    return np.array(
        [np.quantile(row, (0.25, 0.5, 0.75)) if len(row) else np.full(3, np.nan) for row in rows]
    ).T


def multiples(run: FleetRun) -> Figure | None:
    """Draw the last samples of the members, a small picture each, those of one setting in one
    colour; None without samples."""
    if run.samples is None:
        return None
    samples = _members(run.samples, len(run.settings))[:MEMBERS]
    inks = dict(zip(run.groups, colours(len(run.groups)), strict=True))
    columns, width, gap, head = min(8, len(samples)), 1.05, 0.06, 0.2
    view = None
    if samples.ndim == 3:
        real = run.folder / "samples/real.npz"
        view = View.of(points(real) if real.is_file() else None, samples)
    height = width * (view.height if view else 1)
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(columns * (width + gap) + gap, rows * (height + head) + gap), dpi=150)
    for i, each in enumerate(samples):
        row, column = divmod(i, columns)
        left, top = (
            gap + column * (width + gap),
            rows * (height + head) + gap - row * (height + head),
        )
        ink = inks[run.settings[i]]
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


def summary(run: FleetRun) -> list[dict[str, Any]]:
    """Return a row for each setting: its colour, how many members it has, how many stopped, and
    quartiles of the last metrics."""
    rows = []
    for (setting, members), colour in zip(
        run.groups.items(), colours(len(run.groups)), strict=True
    ):
        stopped = sum(_ending(run, i).get("state") == "stopped" for i in members)
        last = {
            name: quartiles(run.figures[name][1][-1:, members])[:, 0].tolist()
            for name in run.measured
        }
        rows.append(
            {
                "name": setting,
                "colour": colour,
                "count": len(members),
                "stopped": stopped,
                "last": last,
            }
        )
    return rows


def table(run: FleetRun) -> list[dict[str, Any]]:
    """Return a row for each member: setting, seed, how it ended and its last metrics."""
    inks = dict(zip(run.groups, colours(len(run.groups)), strict=True))
    return [
        {
            "setting": setting,
            "colour": inks[setting],
            "seed": run.seeds[i],
            "state": _ending(run, i).get("state", "no status"),
            "step": _ending(run, i).get("step"),
            "reason": _ending(run, i).get("reason"),
            "last": [float(run.figures[name][1][-1, i]) for name in run.measured],
        }
        for i, setting in enumerate(run.settings)
    ]


def _row(values: Any, count: int, what: str) -> list[float]:
    if (
        not isinstance(values, list)
        or len(values) != count
        or not all(value is None or isinstance(value, int | float) for value in values)
    ):
        raise SteadyganError(
            f"{what} must hold a number or null for each of the {count} members; the file is"
            " damaged: remove that line"
        )
    return [np.nan if value is None else float(value) for value in values]


def _ending(run: FleetRun, i: int) -> dict[str, Any]:
    members = run.status.get("members")
    return (
        members[i]
        if isinstance(members, list) and i < len(members) and isinstance(members[i], dict)
        else {}
    )


def _setting(member: dict[str, Any]) -> str:
    """What a member is besides its seed, as one reads it."""
    words: list[str] = []
    for name, value in member.items():
        # Where the critic has the generator's optimizer, one of them says it.
        if name == "seed" or (name == "critic_optimizer" and value == member.get("optimizer")):
            continue
        text = " + ".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(_PLAYERS.get(name, "") + (text or "unregularized"))
    return ", ".join(words) or "all members"


def _members(path: Path, count: int) -> np.ndarray:
    """Return samples (K, N, *event), float64; raises SteadyganError for a file that does not hold
    them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            samples = np.asarray(held["samples"], dtype=np.float64)
    except Exception as error:  # numpy, zipfile and the file system each have their own
        raise SteadyganError(
            f"{path} cannot be read as samples ({error}); remove the file to report the rest"
        ) from error
    if samples.ndim < 3 or len(samples) != count:
        raise SteadyganError(
            f"{path} must hold `samples` of {count} members, not of shape {samples.shape};"
            " remove the file to report the rest"
        )
    return samples if samples.ndim in (3, 5) else samples.reshape(*samples.shape[:2], -1)


def _tiled(images: np.ndarray) -> np.ndarray:
    """Tile the first images (N, C, H, W) in [-1, 1] into one picture (rows H, columns W, 3)."""
    few = np.nan_to_num(images[: _TILES**2])
    few = np.pad(few, ((0, _TILES**2 - len(few)), *[(0, 0)] * 3), constant_values=1.0)
    _, channels, height, width = few.shape
    grid = (
        few.reshape(_TILES, _TILES, channels, height, width)
        .transpose(0, 3, 1, 4, 2)
        .reshape(_TILES * height, _TILES * width, channels)
    )
    return np.clip((grid + 1) / 2, 0, 1).repeat(3 if channels == 1 else 1, axis=2)
