"""Results on disk: one folder an experiment with result.json and figure.png, and the page that
lists them all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..core.errors import SteadyganError
from ..runs.environment import commit, environment
from .registry import EXPERIMENTS
from .spec import Experiment, Findings

RUNS = Path("runs/reproduction")
"""Where results go unless one says otherwise, a folder each."""

COMMITTED = Path(__file__).parents[3] / "docs/results/reproduction"
"""The results that come with the source; there is no such folder in an installed package."""

RESULT, FIGURE = "result.json", "figure.png"
_SIGN = {True: "yes", False: "**no**", None: "undecided"}


def folder_name(name: str, scale: str) -> str:
    """Return the folder of a result: the experiment's name, with the scale where that is not
    quick."""
    return name if scale == "quick" else f"{name}-{scale}"


def record(
    experiment: Experiment,
    scale: str,
    settings: Mapping[str, Any],
    seeds: int,
    findings: Findings,
    seconds: float,
) -> dict[str, Any]:
    """Return the content of result.json: what was run, where, when and from which commit, and every
    row."""
    # Fleets train where Config's device=auto puts them.
    at = environment("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "name": experiment.name,
        "what": experiment.what,
        "source": experiment.source,
        "command": experiment.command(scale) + (f" --seeds {seeds}" if seeds else ""),
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
        "environment": at,
    }


def load(folder: Path) -> dict[str, Any] | None:
    """Return a result, None where there is none; raises SteadyganError for one that is damaged."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        held: dict[str, Any] = json.loads(path.read_text())
        _ = held["date"], held["verdict"], held["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SteadyganError(
            f"{path} cannot be read as a result ({error}): remove it, or run the experiment again."
        ) from error
    return held


def newest(name: str, scale: str = "quick") -> dict[str, Any] | None:
    """Return the latest result of an experiment, one's own or the one that comes with the source;
    None without any."""
    held = [found for root in (RUNS, COMMITTED) if (found := load(root / folder_name(name, scale)))]
    return max(held, key=lambda result: result["date"], default=None)


def listed() -> list[dict[str, Any]]:
    """Return a record of every experiment: name, what, source, cost, and the verdict of its latest
    result, None without one."""
    found = []
    for name, experiment in EXPERIMENTS.items():
        result = newest(name)
        verdict = None if result is None else result["verdict"]
        about = {
            "what": experiment.what,
            "source": experiment.source,
            "cost": experiment.cost["quick"],
        }
        found.append({"name": name, **about, "verdict": verdict})
    return found


def publish(docs: Path) -> Path:
    """Copy the latest results under ``RUNS`` into docs/reproduction and write docs/index.md about
    all that are there."""
    shelf = docs / "reproduction"
    for name in EXPERIMENTS:
        for scale in ("quick", "paper"):
            own, kept = RUNS / folder_name(name, scale), shelf / folder_name(name, scale)
            ours, theirs = load(own), load(kept)
            if ours and (theirs is None or ours["date"] > theirs["date"]):
                kept.mkdir(parents=True, exist_ok=True)
                for file in (RESULT, FIGURE):
                    shutil.copyfile(own / file, kept / file)
    docs.mkdir(parents=True, exist_ok=True)
    page = docs / "index.md"
    page.write_text(index(shelf))
    return page


def index(shelf: Path) -> str:
    """Return the page about the results in a folder: a table of all experiments, then every claim
    of each; what was not run is said."""
    held = {
        (name, scale): load(shelf / folder_name(name, scale))
        for name in EXPERIMENTS
        for scale in ("quick", "paper")
    }
    there = {key: result for key, result in held.items() if result}
    lines = [
        "# The two papers, claim by claim",
        "",
        "Roth, Lucchi, Nowozin and Hofmann 2017 (arXiv 1705.09367), and Mescheder, Geiger and"
        " Nowozin 2018 (arXiv 1801.04406).",
        "Run one with `steadygan reproduce NAME`; what it measured stands here, whether the"
        " claim holds or not. This page is made by",
        "`steadygan reproduce --index docs/results`.",
        "",
        "| experiment | what | source | verdict | cost | picture |",
        "|---|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        scales = [scale for scale in ("quick", "paper") if (name, scale) in there]
        for scale in scales or ["quick"]:
            result = there.get((name, scale))
            title = folder_name(name, scale)
            verdict = result["verdict"] if result else "not run yet"
            picture = f"[picture](reproduction/{title}/{FIGURE})" if result else ""
            link = f"[`{title}`](#{title})" if result else f"`{title}`"
            lines.append(
                _line(
                    link,
                    experiment.what,
                    experiment.source,
                    verdict,
                    experiment.cost[scale],
                    picture,
                )
            )
    for (name, scale), result in there.items():
        lines += _section(folder_name(name, scale), result)
    others = sorted(path.parent.name for path in shelf.parent.glob("*/README.md"))
    lines += (
        ["", "## Further results", "", *(f"* [{name}]({name}/README.md)" for name in others)]
        if others
        else []
    )
    return "\n".join(lines) + "\n"


def _section(title: str, result: Mapping[str, Any]) -> list[str]:
    at, settings = (
        result["environment"],
        ", ".join(f"{key} {value}" for key, value in result["settings"].items() if value != []),
    )
    lines = [
        "",
        f"## {title}",
        "",
        f"{result['what'][0].upper()}{result['what'][1:]}: **{result['verdict']}.**",
        "",
        f"`{result['command']}`; made on {result['date'][:10]} in {result['seconds']:.0f} s with"
        f" torch {at['torch']} on"
        f" {at['device']}, {at['threads']} thread(s) of a shared machine."
        + (f" Settings: {settings}." if settings else ""),
        "",
        f"![{result['what']}](reproduction/{title}/{FIGURE})",
        "",
        "| claim | expected | source | tolerance | measured | holds? |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        sign = _SIGN[row["holds"]] + (f": {row['why']}" if row["why"] else "")
        lines.append(
            _line(
                row["claim"],
                row["expected"],
                row["source"],
                row["tolerance"],
                row["measured"],
                sign,
            )
        )
    return [*lines, "", *(f"* {note}" for note in result["notes"])]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
