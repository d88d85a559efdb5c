"""The page about all results: do the two papers hold?

By which rules, what was run and what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..runs.files import make_folder, write_text
from .registry import EXPERIMENTS
from .results import FIGURE, NUMBERS, Results, claims, counted, gathered, of, publish
from .rules import RULES
from .spec import Experiment, tally, verdict

_SIGN = {True: "yes", False: "**no**", None: "undecided"}
_WHOSE = {"papers": "the papers'", "ours": "ours"}

SCHEDULE = (
    "roth-fig4",
    "roth-cost",
    "mescheder-2d",
    "roth-fig2-fig3",
    "roth-fig6",
    "roth-generator-regularized",
    "roth-annealing",
    "mescheder-images",
    "roth-crosstest",
    "roth-survival",
    "roth-latent15",
    "roth-f-divergences",
    "roth-learning-rates",
    "atlas",
    "atlas-images",
    "roth-fig1",
)
"""What is trained for long, by what decides most an hour."""

IN_SHORT = "in-short.md"
"""What the results say in words, written by hand beside the page that begins with it."""


def write(docs: Path) -> Path:
    """Gather the latest results under docs/reproduction, and write docs/index.md about them.

    Returns:
        The page.
    """
    shelf = publish(docs)
    make_folder(docs)
    page = docs / "index.md"
    write_text(page, index(shelf))
    return page


def index(shelf: Path) -> str:
    """Return the page about the results in a folder.

    Totals, a table of all experiments, the schedule, the rules, then every claim of each; what was
    not run is said.
    """
    there = gathered(shelf)
    lines = [
        "# The two papers, claim by claim",
        "",
        "Roth, Lucchi, Nowozin and Hofmann 2017 (arXiv 1705.09367), and Mescheder, Geiger and"
        " Nowozin 2018 (arXiv 1801.04406).",
        "Run one with `steadygan reproduce NAME`; what it measured stands here, whether the"
        " claim holds or not. This page is made by",
        "`steadygan reproduce --index docs/results`.",
        "",
        *_in_short(shelf.parent / IN_SHORT),
        *_totals(there),
        *_overview(there, shelf),
        *_schedule(there),
        *_rules(),
    ]
    for title, result in there.items():
        lines += _section(title, result, (shelf / title / NUMBERS).is_file())
    others = sorted(path.parent.name for path in shelf.parent.glob("*/README.md"))
    if others:
        lines += ["", "## Further results", "", *(f"* [{n}]({n}/README.md)" for n in others)]
    return "\n".join(lines) + "\n"


def _in_short(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return ["## In short", "", path.read_text(encoding="utf-8").strip(), ""]


def _totals(there: Results) -> list[str]:
    rows = [(title, row, _departs(there[title], row)) for title, row in counted(there)]
    lines = [
        "## Do they hold?",
        "",
        "| claims | hold | do not | undecided | of all |",
        "|---|---|---|---|---|",
    ]
    kinds = {
        "the papers', computed": ("papers", False, None),
        "the papers', of trainings at their own size": ("papers", True, False),
        "the papers', of smaller or shorter trainings": ("papers", True, True),
        "ours, computed": ("ours", False, None),
        "ours, of trainings": ("ours", True, None),
    }
    for words, (whose, trained, small) in kinds.items():
        counts = tally(
            [
                row
                for _, row, size in rows
                if _of_trainings(row) is trained and small in (None, bool(size))
            ],
            whose,
        )
        lines.append(_line(words, *map(str, counts), str(sum(counts))))
    wrong = [each for each in rows if each[1]["holds"] is False]
    papers = [each for each in wrong if each[1]["whose"] == "papers"]
    lists = {
        "What does not hold of what the papers claim:": [each for each in papers if not each[-1]],
        "What does not hold of it in smaller or shorter trainings, which say what happens there and"
        " are no evidence against the papers:": [each for each in papers if each[-1]],
        "What does not hold of ours:": [each for each in wrong if each[1]["whose"] == "ours"],
    }
    return [
        *lines,
        "",
        "Computed is what one run on any machine answers: formulas, eigenvalues, costs. Claims of"
        " trainings take seeds and a length, which their rules name; what is short of them is",
        "undecided, whichever way it points, and so is an interval that holds the bar;"
        " [the schedule](#the-schedule) has the hours of the next step. Their own size is the"
        " batch, the network, the rates and the length of the papers or of the authors' code, for",
        "Figure 1's regularized runs 100,000 iterations, because the rule asks for 60,000. Of an"
        " experiment that was run at several scales or lengths, or in parts, the longest result"
        " counts, and for what that was run without",
        "(such as one of four architectures) the next longest. Expected values are *from the seed"
        " text* (the papers' text as this project has it, without its formulas),",
        "*from the authors' code*, *derived here* or *recalled* from the literature and not"
        " re-read; what a claim is judged by stands under [the rules](#the-rules).",
        "",
        *chain(*([head, "", *_listed(there, each), ""] for head, each in lists.items() if each)),
        "## The experiments",
        "",
    ]


def _listed(there: Results, rows: Iterable[tuple[str, Mapping[str, Any], str]]) -> list[str]:
    """Return claims and what was measured as a list below each experiment."""
    lines: dict[str, list[str]] = {}
    for title, row, size in rows:
        head = f"* [`{there[title]['name']}`](#{title}){size and f' ({size})'}"
        lines.setdefault(head, []).append(
            f"    * {row['claim']}. Expected {row['expected']}; measured {row['measured']}."
        )
    return [line for head, claims in lines.items() for line in (head, *claims)]


def _departs(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Return in which sizes the trainings behind a claim differ from the papers' own, in words."""
    if not _of_trainings(row):
        return ""
    own = EXPERIMENTS[result["name"]].size
    return ", ".join(
        f"{key} {_plain(here)} instead of {_plain(own[key])}"
        for key, here in result["settings"].items()
        if key in own and _plain(here) != _plain(own[key])
    )


def _plain(size: Any) -> str:
    return f"{size:,}" if isinstance(size, int) else ", ".join(map(str, size)) or "none"


def _of_trainings(row: Mapping[str, Any]) -> bool:
    """Return whether a claim is judged by runs over seeds; those older than the rules all are."""
    rule = RULES.get(row["rule"])
    return rule is None or rule.seeds > 0


def _overview(there: Results, shelf: Path) -> list[str]:
    lines = [
        "| experiment | what | source | verdict | took | picture, its numbers |",
        "|---|---|---|---|---|---|",
    ]
    count = Counter(title for title, _ in counted(there))
    for name, experiment in EXPERIMENTS.items():
        titles = of(there, name)
        for title in titles:
            result, rest = there[title], {t: count[t] for t in titles if t != title and count[t]}
            lines.append(
                _line(
                    f"[`{title}`](#{title})",
                    experiment.what,
                    experiment.source,
                    verdict(result["rows"])
                    + _without(result)
                    + _counts(count[title], len(result["rows"]), rest),
                    _took(result),
                    _files(shelf / title),
                )
            )
        if not titles:
            about = experiment.what, experiment.source, "not run yet", experiment.cost["quick"]
            lines.append(_line(f"`{name}`", *about, ""))
    return lines


def _without(result: Mapping[str, Any]) -> str:
    """Return what of its scale a result was run without, in brackets."""
    experiment = EXPERIMENTS[result["name"]]
    whole = experiment.about(experiment.scales[result["scale"]])
    left = sorted(whole - experiment.about(result["settings"]))
    return f" (without {', '.join(left)})" if left else ""


def _counts(here: int, of_all: int, others: Iterable[str]) -> str:
    """Return which results count where not every claim of this one does.

    >>> _counts(5, 5, ["b"]), _counts(0, 5, ["b"])
    ('', '; [`b`](#b) counts')
    >>> _counts(2, 5, ["b", "c"])
    '; 2 of its 5 claims count, the others in [`b`](#b) and [`c`](#c)'
    """
    links = " and ".join(f"[`{title}`](#{title})" for title in others)
    if here == of_all:
        return ""
    return (
        f"; {here} of its {of_all} claims count, the others in {links}"
        if here
        else f"; {links} counts"
    )


def _took(result: Mapping[str, Any]) -> str:
    """Return how long the trainings or the calculation took, and on what.

    >>> _took({"seconds": 5400, "environment": {"device": "cpu"}})
    '1.5 hours of a busy core'
    """
    seconds = result["seconds"]
    units = ("hours", 3600) if seconds >= 3600 else ("minutes", 60) if seconds >= 60 else ("s", 1)
    where = result["environment"].get("gpu")
    on = f"an {where} with others beside it" if where else "a busy core"
    return f"{seconds / units[1]:.2g} {units[0]} of {on}"


def _files(held: Path) -> str:
    numbers = f", [CSV](reproduction/{held.name}/{NUMBERS})" if (held / NUMBERS).is_file() else ""
    return f"[picture](reproduction/{held.name}/{FIGURE}){numbers}"


def _schedule(there: Results) -> list[str]:
    """Return what is trained for long, in which order, and what is left."""
    lines = [
        "",
        "## The schedule",
        "",
        "What is trained at the papers' length or as near as that comes, what has open claims"
        " first, then by what decides most an hour of a core; each goes on where it stopped, and"
        " takes more `--seeds` and `--steps`. Undecided is what the results that count leave open"
        " of the papers' claims and of ours.",
        "",
        "| experiment | settings | cost | run | undecided |",
        "|---|---|---|---|---|",
    ]
    answers = list(counted(there))
    rows_of = {
        name: [row for title, row in answers if there[title]["name"] == name] for name in SCHEDULE
    }
    # What is not run yet has no rows, and all of its claims are open.
    settled = {
        name: bool(rows) and all(r["holds"] is not None for r in rows)
        for name, rows in rows_of.items()
    }
    for name in sorted(SCHEDULE, key=settled.__getitem__):
        experiment = EXPERIMENTS[name]
        scale = "long" if "long" in experiment.scales else "quick"
        results = [there[t] for t in of(there, name) if there[t]["scale"] == scale]
        left = {whose: tally(rows_of[name], whose)[2] for whose in _WHOSE}
        open_ = ", ".join(f"{count} of {_WHOSE[whose]}" for whose, count in left.items())
        if experiment.rest and results and left["papers"]:
            open_ += f"; {experiment.rest}"
        lines.append(
            _line(
                f"`{name}`",
                _size(experiment.scales[scale]),
                experiment.cost[scale],
                _done(experiment, scale, results) or _instead(there, name),
                open_,
            )
        )
    return lines


def _done(experiment: Experiment, scale: str, results: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of a scale was run, "" for nothing."""
    if not results:
        return ""
    wanted, seeds = experiment.seeds(scale), max(result["seeds"] for result in results)
    state = "all of it" if seeds >= wanted else f"{seeds} of {wanted} seeds"
    there = set().union(*(experiment.about(result["settings"]) for result in results))
    if left := sorted(experiment.about(experiment.scales[scale]) - there):
        state += f" but {', '.join(left)}"
    steps = experiment.scales[scale].get("steps", 0)
    if (made := results[-1]["settings"].get("steps", steps)) < steps:
        state += f" at {made:,} of {steps:,} iterations"
    return f"{state}, {max(result['date'] for result in results)[:10]}"


def _instead(there: Results, name: str) -> str:
    """Return what counts of an experiment that was not run at the scale of the schedule."""
    if not (titles := of(there, name)):
        return "not yet"
    title, result = titles[-1], there[titles[-1]]
    steps = max((n for key, n in result["settings"].items() if key.endswith("steps")), default=0)
    return f"not yet; [`{title}`](#{title}) has steps {steps:,}, seeds {result['seeds']}"


def _rules() -> list[str]:
    return [
        "",
        "## The rules",
        "",
        "Fixed in `experiments/rules.py`, each with a test of every answer. Results that are older"
        " were judged by them afterwards, and say so.",
        "",
        "| rule | yes | no | undecided | seeds |",
        "|---|---|---|---|---|",
        *(
            _line(f"*{rule.name}*", rule.yes, rule.no, rule.undecided, str(rule.seeds or "none"))
            for rule in RULES.values()
        ),
    ]


def _section(title: str, result: Mapping[str, Any], numbers: bool) -> list[str]:
    machine = result["environment"]
    # Those of the scale are others where --seeds was given.
    seeds = {"seeds": result["seeds"]} if result["seeds"] else {}
    settings = _settings({**result["settings"], **seeds})
    lines = [
        "",
        f"## {title}",
        "",
        f"{result['what'][0].upper()}{result['what'][1:]}:"
        f" **{verdict(result['rows'])}{_without(result)}.**",
        "",
        f"`{result['command']}`; made on {result['date'][:10]} in {result['seconds']:.0f} s with"
        f" torch {machine['torch']} on"
        f" {machine.get('gpu', machine['device'])}, {machine['threads']} thread(s) of a shared"
        " machine."
        + (f" Settings: {settings}." if settings else "")
        + (
            f" The picture's numbers: [{NUMBERS}](reproduction/{title}/{NUMBERS})."
            if numbers
            else " Its picture is older than the files of numbers: run again, it has one."
        ),
        "",
        f"![{result['what']}](reproduction/{title}/{FIGURE})",
        "",
        "| claim | whose | expected | known | source | rule | measured | holds? |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in claims(result):
        sign = _SIGN[row["holds"]] + (f": {row['why']}" if row["why"] else "")
        lines.append(
            _line(
                row["claim"],
                _WHOSE[row["whose"]],
                row["expected"],
                row["known"],
                row["source"],
                f"*{row['rule']}*: {row['tolerance']}",
                row["measured"],
                sign,
            )
        )
    return [*lines, "", *(f"* {note}" for note in result["notes"])]


def _size(settings: Mapping[str, Any]) -> str:
    """Return the settings that say how much is trained."""
    named = ("batch", "resolution", "width", "widths")
    return ", ".join(
        f"{key.replace('_', ' ')} {_number(value)}"
        for key, value in settings.items()
        if (key in named and not (key == "width" and "widths" in settings))
        or key.endswith(("steps", "seeds"))
    )


def _number(value: Any) -> str:
    if isinstance(value, Mapping):
        return " and ".join(f"{key} with {n} seeds" for key, n in value.items())
    return f"{value:,}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value not in ([], ()))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
