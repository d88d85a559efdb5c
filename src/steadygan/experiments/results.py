"""Results on disk: one folder an experiment, scale and part.

With result.json, figure.png and its numbers as figure.csv, which result.json has as series.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..core.errors import SteadyganError
from ..runs.environment import commit, environment
from ..runs.files import make_folder, whole
from .registry import EXPERIMENTS
from .spec import SCALES, Experiment, Findings, verdict

RUNS = Path("runs/reproduction")
"""Where results go unless one says otherwise, a folder each."""

COMMITTED = Path(__file__).parents[3] / "docs/results/reproduction"
"""The results that come with the source; there is no such folder in an installed package."""

RESULT, FIGURE, NUMBERS = "result.json", "figure.png", "figure.csv"
KEPT = tuple(scale for scale in SCALES if scale != "tiny")
"""The scales whose results are published."""


def folder_name(name: str, scale: str, only: Sequence[str] = ()) -> str:
    """Return the folder of a result: the experiment's name, the scale and the part.

    No scale where it is quick, no part where all of it was run; it is a heading of the page, too,
    and so without what links cannot have.

    >>> folder_name("roth-fig4", "quick"), folder_name("roth-fig4", "long", ["variances=0.1,1"])
    ('roth-fig4', 'roth-fig4-long-variances-0-1-1')
    """
    part = re.sub(r"[^a-z0-9]+", "-", "-".join(only).lower()).strip("-")
    return "-".join(filter(None, (name, "" if scale == "quick" else scale, part)))


def record(
    experiment: Experiment,
    scale: str,
    settings: Mapping[str, Any],
    seeds: int,
    findings: Findings,
    seconds: float,
    steps: int | None = None,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of result.json.

    What was run, where, when and from which commit, and every row.
    """
    # Fleets train where Config's device=auto puts them.
    machine = environment("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "name": experiment.name,
        "what": experiment.what,
        "source": experiment.source,
        "command": experiment.command(scale)
        + (f" --seeds {seeds}" if seeds else "")
        + (f" --steps {steps}" if steps else "")
        + (f" --only {shlex.join(only)}" if only else ""),
        "cost": experiment.cost[scale],
        "scale": scale,
        "settings": {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in settings.items()
        },
        "seeds": seeds,
        **findings.to_json(),
        "seconds": round(max(seconds, findings.seconds), 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": commit(),
        "environment": machine,
    }


def text(result: Mapping[str, Any]) -> str:
    """Return the text of result.json; each row of its series, the figure's numbers, is a line."""
    lines = ",\n    ".join(json.dumps(row, ensure_ascii=False) for row in result["series"])
    # Within a string its quotes would be escaped.
    whole_of = json.dumps({**result, "series": []}, indent=2, ensure_ascii=False)
    return whole_of.replace('"series": []', f'"series": [\n    {lines}\n  ]') + "\n"


def load(folder: Path) -> dict[str, Any] | None:
    """Return a result, None where there is none.

    Raises:
        SteadyganError: For one that is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = held["date"], held["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SteadyganError(
            f"{path} cannot be read as a result ({error}): remove it, or run the experiment again."
        ) from error
    return held


def gathered(root: Path) -> dict[str, dict[str, Any]]:
    """Return the results that lie in a folder, by the names of their own folders.

    In the order of the experiments; of each the longer after the shorter, by scale and then by
    iterations, and the newer after the older.

    Raises:
        SteadyganError: For one that is damaged.
    """
    there = {path.parent.name: load(path.parent) for path in sorted(root.glob(f"*/{RESULT}"))}
    names = list(EXPERIMENTS)

    def turn(result: Mapping[str, Any]) -> tuple[int, int, int, str]:
        lengths = [n for key, n in result["settings"].items() if key.endswith("steps")]
        scale = KEPT.index(result["scale"])
        return names.index(result["name"]), scale, max(lengths, default=0), result["date"]

    kept = {
        title: result
        for title, result in there.items()
        if result and result.get("name") in EXPERIMENTS and result.get("scale") in KEPT
    }
    return dict(sorted(kept.items(), key=lambda item: turn(item[1])))


def newest(held: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """Return the latest of the results of an experiment at its longest scale; None without any."""
    own = [result for result in held if result["name"] == name]
    return max(own, key=lambda r: (KEPT.index(r["scale"]), r["date"]), default=None)


def listed() -> list[dict[str, Any]]:
    """Return a record of every experiment.

    Name, what, source, cost, and the verdict of its latest result, None without one.
    """
    found = []
    held = [*gathered(RUNS).values(), *gathered(COMMITTED).values()]
    for name, experiment in EXPERIMENTS.items():
        result = newest(held, name)
        about = {
            "what": experiment.what,
            "source": experiment.source,
            "cost": experiment.cost["quick"],
        }
        found.append(
            {"name": name, **about, "verdict": None if result is None else verdict(result["rows"])}
        )
    return found


def publish(docs: Path) -> Path:
    """Copy the latest results under ``RUNS`` into docs/reproduction.

    Returns:
        That folder.
    """
    shelf = docs / "reproduction"
    for title, ours in gathered(RUNS).items():
        own, kept = RUNS / title, shelf / title
        theirs = load(kept)
        if theirs is None or ours["date"] > theirs["date"]:
            make_folder(kept)
            for part in (RESULT, FIGURE, NUMBERS):
                if (own / part).is_file():
                    with whole(kept / part) as file:
                        file.write((own / part).read_bytes())
    return shelf
