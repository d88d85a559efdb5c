"""The HTML page about one run or several.

One file that holds its pictures and loads nothing from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ..core.errors import SteadyganError
from ..runs.files import make_folder, write_text
from ..runs.format import REPORT
from ..runs.monitor import MOVED
from ..runs.reading import Run, Series, part
from ..runs.samples import read_picture, read_shown
from ..runs.table import better
from .crosstest import crosstests, picture
from .evaluation import evaluation_tables
from .figures import colours, curves, png
from .fleet import MEMBERS, bands, multiples, summary, table
from .views import aligned, scatter, views

_HERE = Path(__file__).parent
_ABOUT = (
    "steadygan",
    "git",
)  # with the environment, what a run was made with rather than what it does
_FRAMES = 10  # moments of training that the page shows


def write_report(
    folders: str | Path | Iterable[str | Path], path: str | Path | None = None
) -> Path:
    """Write the page about one run folder or several.

    Runs of different problems may stand side by side: each keeps its own view of the samples. Many
    GANs trained at once fill a page of their own.

    Args:
        folders: The run folders.
        path: Where the page goes. Without it, one run's page is its own report.html, and that of
            several lies in the folder that holds them all.

    Returns:
        The page's path.

    Raises:
        SteadyganError: For a folder that is no run.

    Example: write_report(["runs/plain", "runs/js"], "comparison.html")
    """
    folders = [folders] if isinstance(folders, str | os.PathLike) else folders
    places = list(dict.fromkeys(Path(folder).resolve() for folder in folders))
    if not places:
        raise SteadyganError("a report needs at least one run folder; `steadygan train` makes them")
    runs = [Run.read(place) for place in places]
    many = [run for run in runs if run.members]
    if many and len(runs) > 1:
        raise SteadyganError(
            f"{many[0].folder} holds many GANs trained at once, which fill a page of their own:"
            " report it alone"
        )
    common = (
        places[0]
        if len(places) == 1
        else Path(os.path.commonpath([place.parent for place in places]))
    )
    path = Path(path) if path is not None else common / REPORT
    if path.is_dir():
        raise SteadyganError(f"{path} is a folder; give the file to write, such as {path / REPORT}")
    text = _fleet_page(many[0]) if many else _page(runs, common)
    make_folder(path.parent)
    write_text(path, text)
    return path


def _page(runs: Sequence[Run], common: Path) -> str:
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [run.folder.relative_to(common).as_posix() for run in runs]
    script, style = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    frames, caption = _frames(runs)
    heads = [
        {
            "name": name,
            "colour": colour,
            "title": run.title,
            "frames": row,
            "real": embedded(run.real) if run.real and run.real.suffix == ".png" else None,
            "config": json.dumps(run.config, indent=2, ensure_ascii=False),
            "command": shlex.join(map(str, command))
            if isinstance(command := run.config.get("command"), list)
            else None,
            "environment": _environment(run),
            "started": words(run.config["started"]) if "started" in run.config else None,
            "warnings": run.warnings,
            **verdict(run),
        }
        for run, name, colour, row in zip(runs, names, colours(len(runs)), frames, strict=True)
    ]
    return _template("template.html.jinja").render(
        heads=heads,
        problems=list(dict.fromkeys(words(run.settings.get("problem")) for run in runs)),
        differing=differing(runs),
        shared=shared(runs),
        caption=caption,
        curves=[(title, source(png(figure))) for title, figure in curves(runs).items()],
        metrics=_metrics(runs),
        evaluations=evaluation_tables(runs),
        crosstests=[(kept, source(png(picture(kept)))) for kept in crosstests(runs)],
        style=Markup(style),
        script=Markup(script),
        # Only this very script may run: even a string that slipped through the escaping could not.
        fingerprint=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _fleet_page(run: Run) -> str:
    pictures, same = multiples(run), part(run.config, "config")
    varied = {name for member in run.members for name in member}
    return page(
        "fleet.html.jinja",
        name=run.folder.name,
        problem=part(run.config, "problem").get("name"),
        state=words(run.status.get("state")),
        reason=run.status.get("reason"),
        steps=run.status.get("step"),
        time=duration(run.status.get("seconds")),
        metrics=list(run.metrics),
        summary=summary(run),
        shared={
            name: value
            for name, value in same.items()
            if name not in varied and value not in (None, [])
        },
        bands=[(title, source(png(figure))) for title, figure in bands(run).items()],
        pictures=None if pictures is None else source(png(pictures)),
        shown=min(len(run.members), MEMBERS),
        drawn=len(run.config.get("event", [])) != 3,
        members=table(run),
        config=json.dumps(run.config, indent=2, ensure_ascii=False),
        command=shlex.join(map(str, command))
        if isinstance(command := run.config.get("command"), list)
        else None,
    )


def page(template: str, **values: Any) -> str:
    """Return a page without scripts, in the style of all."""
    style = Markup((_HERE / "page.css").read_text(encoding="utf-8"))
    return _template(template).render(**values, style=style)


def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, words=words)
    return environment.get_template(name)


def _frames(runs: Sequence[Run]) -> tuple[list[list[dict[str, Any] | None]], str]:
    """Return each run's pictures at the moments shown, and how to read them.

    None where a run has none.
    """
    rows = aligned(runs, _FRAMES)
    seen = views(runs, rows)
    frames: list[list[dict[str, Any] | None]] = []
    for row, view, colour in zip(rows, seen, colours(len(runs)), strict=True):
        frames.append([])
        for held in row:
            if held is None:
                frames[-1].append(None)
            elif held.path.suffix == ".png":
                frames[-1].append(
                    {"step": held.step, "source": embedded(held.path), "drawn": False}
                )
            else:
                shown = read_shown(held.path)
                assert view is not None and isinstance(shown, np.ndarray)
                picture = png(scatter(shown, view, colour))
                frames[-1].append({"step": held.step, "source": source(picture), "drawn": True})
    captions = dict.fromkeys(view.caption for view in seen if view and view.caption)
    grey = ["grey: real samples"] if any(view and len(view.real) for view in seen) else []
    return frames, "; ".join([*grey, *captions])


def source(picture: bytes) -> str:
    """Return a PNG as the source of an image on a page."""
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def embedded(path: Path) -> str:
    """Return a PNG of a run folder as the source of an image on a page.

    Raises:
        SteadyganError: For what is no picture, whatever its name.
    """
    read_picture(path)
    return source(path.read_bytes())


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, each with its value in every run."""
    settings = [run.settings for run in runs]
    held = {
        name: [each.get(name) for each in settings]
        for name in dict.fromkeys(name for each in settings for name in each)
    }
    return {
        name: values for name, values in held.items() if any(value != values[0] for value in values)
    }


def shared(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the settings of the problem and the training that are the same in all runs.

    Without the empty ones.
    """
    apart = differing(runs)
    return {
        name: value
        for name, value in runs[0].settings.items()
        if name not in apart
        and name not in _ABOUT
        and not name.startswith("environment.")
        and value not in (None, [])
    }


def verdict(run: Run) -> dict[str, Any]:
    """Return what became of a run.

    State, steps, time, last metrics, warnings by kind, and which parts are not there.
    """
    state, planned = run.status.get("state"), run.settings.get("steps")
    # The status of a run that goes on, or was killed, is as old as its start: the last line of its
    # metrics knows better.
    step, seconds = run.status.get("step"), run.status.get("seconds")
    if state in (None, "running") and (clock := run.logged.get("seconds")) is not None:
        step, seconds = int(clock.steps[-1]), clock.values[-1]
    parts = {"status": run.status, "metrics": run.logged or run.metrics, "samples": run.samples}
    return {
        "state": words(state) if state else "no status",
        "mood": {"finished": "good", "running": "busy", "failed": "bad"}.get(
            state if isinstance(state, str) else "", "idle"
        ),
        "reason": run.status.get("reason"),
        "steps": "no steps yet"
        if not step
        else f"{words(step)} of {words(planned)} steps"
        if planned
        else f"{words(step)} steps",
        "time": duration(seconds),
        "last": {name: series.values[-1] for name, series in run.metrics.items()},
        "alarms": Counter(
            warning.kind for warning in run.warnings if warning.kind != MOVED
        ).most_common(),
        "missing": [name for name, part in parts.items() if not part],
    }


def _environment(run: Run) -> list[str]:
    """Return what the run was made with: versions, machine, sizes of the networks."""
    parts = {
        **{
            name: value
            for name, value in run.settings.items()
            if name in _ABOUT or name.startswith("environment.")
        },
        **{
            f"parameters of the {player}": count
            for player, count in part(run.config, "parameters").items()
        },
    }
    return [f"{name.removeprefix('environment.')} {words(value)}" for name, value in parts.items()]


_SIDES: dict[Any, str] = {max: "higher is better", min: "lower is better"}


def _metrics(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a row for each metric.

    Which way is better, and for each run that has it the last, median and best value. A cell
    ``leads`` where its median is the best, and all were measured alike.
    """
    rows = []
    for name in dict.fromkeys(name for run in runs for name in run.metrics):
        side = better(name)
        having = {i: run for i, run in enumerate(runs) if name in run.metrics}
        cells = {i: _cell(run.metrics[name], side) for i, run in having.items()}
        first, *others = map(_protocol, having.values())
        alike = all(other == first for other in others)
        medians = [cell["median"] for cell in cells.values() if math.isfinite(cell["median"])]
        leader = side(medians) if side and alike and len(medians) > 1 else None
        for cell in cells.values():
            cell["leads"] = cell["median"] == leader
        rows.append(
            {
                "name": name,
                "better": "" if side is None else _SIDES[side],
                "cells": cells,
            }
        )
    return rows


def _protocol(run: Run) -> dict[str, Any]:
    """Return what a run's numbers depend on besides its networks."""
    how = {name: run.settings.get(name) for name in ("features", "metrics_samples", "metrics_data")}
    return {**part(run.config, "problem"), **how}


def _cell(series: Series, better: Callable[[Iterable[float]], float] | None) -> dict[str, Any]:
    half = series.last_half()
    finite = np.isfinite(series.values)
    best = better(series.values[finite]) if better and finite.any() else None
    return {
        "last": series.values[-1],
        "median": float(np.median(half[~np.isnan(half)])) if not np.isnan(half).all() else math.nan,
        "best": best,
        "step": int(series.steps[series.values == best][0]) if best is not None else None,
    }


def number(value: float) -> str:
    """Return a number with four significant digits.

    >>> number(1234567), number(0.0123456), number(7.0), number(float("nan"))
    ('1,234,567', '0.01235', '7', 'not finite')
    """
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def words(value: Any) -> str:
    """Return a value of a configuration as one reads it, to its last digit.

    >>> words(["js:gamma=0.1", "lecam"]), words(None), words(3000)
    ('js:gamma=0.1, lecam', '–', '3,000')
    """
    if value is None or value == []:
        return "–"
    if isinstance(value, list):
        return ", ".join(map(words, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: Any) -> str | None:
    """Return seconds as one says them, None where they are not known.

    >>> duration(93.1), duration(7384), duration(0.42)
    ('1 min 33 s', '2 h 3 min', '0.4 s')
    """
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return None
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )
