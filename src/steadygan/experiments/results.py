"""Results on disk: one folder an experiment, scale and part.

With result.json, figure.png and its numbers as figure.csv, which result.json has as series.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
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

Results = Mapping[str, dict[str, Any]]
"""By the names of their folders; of an experiment the longest last."""

_BEFORE = {"whose": "papers", "known": "not said", "rule": "another day's"}
"""What a row does not say that is older than the rules."""


def folder_name(name: str, scale: str, part: Sequence[str] = ()) -> str:
    """Return the folder of a result: the experiment's name, the scale and the part.

    No scale where it is quick, no part where all of it was run; it is a heading of the page, too,
    and so without what links cannot have.

    >>> folder_name("roth-fig4", "quick"), folder_name("roth-fig4", "long", ["variances=0.1,1"])
    ('roth-fig4', 'roth-fig4-long-variances-0-1-1')
    """
    of = re.sub(r"[^a-z0-9]+", "-", "-".join(part).lower()).strip("-")
    return "-".join(filter(None, (name, "" if scale == "quick" else scale, of)))


def record(
    experiment: Experiment,
    scale: str,
    settings: Mapping[str, Any],
    seeds: int,
    findings: Findings,
    seconds: float,
    steps: int | None = None,
) -> dict[str, Any]:
    """Return the content of result.json.

    What was run, where, when and from which commit, and every row.
    """
    # Fleets train where Config's device=auto puts them.
    machine = environment("cuda" if torch.cuda.is_available() else "cpu")
    part = experiment.part(scale, settings)
    return {
        "name": experiment.name,
        "what": experiment.what,
        "source": experiment.source,
        "command": experiment.command(scale)
        + (f" --seeds {seeds}" if seeds else "")
        + (f" --steps {steps}" if steps else "")
        + (f" --only {shlex.join(part)}" if part else ""),
        "cost": experiment.cost[scale],
        "scale": scale,
        "part": list(part),
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
        _ = [held[key] for key in ("name", "scale", "settings", "seeds", "seconds", "date", "rows")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SteadyganError(
            f"{path} cannot be read as a result ({error}): remove it, or run the experiment again."
        ) from error
    return held


def gathered(root: Path) -> dict[str, dict[str, Any]]:
    """Return the results that lie in a folder, by their folders, which bear their names.

    In the order of the experiments; of each the longer after the shorter, by scale and then by
    iterations, that of more seeds after that of fewer, and the newer after the older.

    Raises:
        SteadyganError: For one that is damaged.
    """
    there = {path.parent.name: load(path.parent) for path in sorted(root.glob(f"*/{RESULT}"))}
    return _in_order({title: result for title, result in there.items() if result})


def _in_order(there: Results) -> dict[str, dict[str, Any]]:
    names = list(EXPERIMENTS)

    def turn(title: str) -> tuple[int, int, int, int, str]:
        result = there[title]
        lengths = [n for key, n in result["settings"].items() if key.endswith("steps")]
        place = names.index(result["name"]), KEPT.index(result["scale"])
        return *place, max(lengths, default=0), result["seeds"], result["date"]

    own = [
        title
        for title, result in there.items()
        if result["name"] in EXPERIMENTS
        and result["scale"] in KEPT
        and title == folder_name(result["name"], result["scale"], result.get("part", ()))
    ]
    return {title: there[title] for title in sorted(own, key=turn)}


def of(there: Results, name: str) -> list[str]:
    """Return the titles of an experiment's results, in their order."""
    return [title for title, result in there.items() if result["name"] == name]


def claims(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a result, which may be older than some of what they say."""
    return [{**_BEFORE, **row} for row in result["rows"]]


def counted(there: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the claims that count, each after the title of its result.

    Of each experiment those of its last result, the longest; and of one before those about
    something that the later were run without, such as one of four architectures.
    """
    for name, experiment in EXPERIMENTS.items():
        run: set[str] | None = None
        for title in reversed(of(there, name)):
            parts = experiment.about(there[title]["settings"])
            for row in claims(there[title]):
                if run is None or any(_names(row["claim"], part) for part in parts - run):
                    yield title, row
            run = parts if run is None else run | parts


def _names(claim: str, part: str) -> bool:
    """Return whether a claim is about a part, or about several of its kind.

    >>> _names("noise of variance 0.1 at its best", "variance 0.1"), _names("lines2d", "line2d")
    (True, False)
    >>> _names("5 critic steps, JS, γ = 1: learns", "5 critic step")
    True
    """
    return re.search(rf"(?<![\w.]){re.escape(part)}s?(?!\w|\.\d)", claim) is not None


def listed() -> list[dict[str, Any]]:
    """Return a record of every experiment.

    Name, what, source, cost, and the verdict of the claims that count, None without any: of one's
    own results and of those that come with the source.
    """
    there, own = gathered(COMMITTED), gathered(RUNS)
    there |= {t: r for t, r in own.items() if t not in there or r["date"] > there[t]["date"]}
    answers = list(counted(_in_order(there)))
    found = []
    for name, experiment in EXPERIMENTS.items():
        rows = [row for title, row in answers if there[title]["name"] == name]
        about = {
            "what": experiment.what,
            "source": experiment.source,
            "cost": experiment.cost["quick"],
        }
        found.append({"name": name, **about, "verdict": verdict(rows) if rows else None})
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
