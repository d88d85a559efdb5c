"""Results on disk: one folder an experiment and scale.

With result.json, figure.png and its numbers as figure.csv, which result.json has as series.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
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


def folder_name(name: str, scale: str) -> str:
    """Return the folder of a result.

    The experiment's name, with the scale where that is not quick.
    """
    return name if scale == "quick" else f"{name}-{scale}"


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


def newest(name: str) -> dict[str, Any] | None:
    """Return the latest result of an experiment at its longest scale that has one.

    One's own or the one that comes with the source; None without any.
    """
    for scale in reversed(KEPT):
        held = [
            each for root in (RUNS, COMMITTED) if (each := load(root / folder_name(name, scale)))
        ]
        if held:
            return max(held, key=lambda result: result["date"])
    return None


def listed() -> list[dict[str, Any]]:
    """Return a record of every experiment.

    Name, what, source, cost, and the verdict of its latest result, None without one.
    """
    found = []
    for name, experiment in EXPERIMENTS.items():
        result = newest(name)
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
    for name in EXPERIMENTS:
        for scale in KEPT:
            own, kept = RUNS / folder_name(name, scale), shelf / folder_name(name, scale)
            ours, theirs = load(own), load(kept)
            if ours and (theirs is None or ours["date"] > theirs["date"]):
                make_folder(kept)
                for part in (RESULT, FIGURE, NUMBERS):
                    if (own / part).is_file():
                        with whole(kept / part) as file:
                            file.write((own / part).read_bytes())
    return shelf
