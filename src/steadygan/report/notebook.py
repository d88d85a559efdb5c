"""What notebooks show of runs, tables and diagnoses: HTML that loads nothing, all of it escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..runs.monitor import MOVED
from ..runs.reading import Run
from ..runs.samples import read_shown
from ..runs.table import Table
from .diagnosis import eigenvalue_picture
from .figures import colours, curves, png
from .fleet import bands, multiples, summary
from .page import embedded, number, page, source, verdict, words
from .views import View, scatter, views

if TYPE_CHECKING:
    from pathlib import Path

_ROWS = 200  # of a table: more of them are for programs


class Found(Protocol):
    """A diagnosis, as ``analysis`` makes it."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""


class Ended(Protocol):
    """How a run ended, as ``training`` says it."""

    path: Path


def run(run: Run) -> str:
    """Return what a notebook shows of a run: how far it is, numbers, samples, curves, warnings."""
    told = verdict(run)
    named = [w for w in run.warnings if w.kind != MOVED]
    rows = [(f"{w.step:,}", w.kind, w.message) for w in named[-20:]]
    parts = [words(run.settings.get("problem")), told["steps"], told["time"], told["reason"]]
    return fragment(
        f"{run.name}: {run.title}",
        badge=told["state"],
        about=" · ".join(part for part in parts if part),
        numbers={} if run.members else told["last"],
        pictures=[*(_fleet(run) if run.members else _single(run))],
        tables=[
            *([_members(run)] if run.members else []),
            *([(("step", "warning", "what it means, and what to try"), rows)] if rows else []),
        ],
        settings={k: v for k, v in run.settings.items() if not k.startswith("environment.")},
    )


def outcome(ended: Ended) -> str:
    """Return what a notebook shows of a run that ended."""
    return run(Run.read(ended.path))


def table(found: Table) -> str:
    """Return what a notebook shows of a table of runs."""
    records = found.records()
    heads = list(dict.fromkeys(name for record in records for name in record))
    rows = [[_cell(record.get(name)) for name in heads] for record in records[:_ROWS]]
    more = f"the first {_ROWS} of {len(records):,}; 'steadygan table --csv' has all"
    return fragment(
        f"{len(records):,} runs",
        about=more if len(records) > _ROWS else "",
        tables=[(heads, rows)],
    )


def diagnosis(found: Found) -> str:
    """Return what a notebook shows of a diagnosis: the advice, the words, eigenvalues, facts."""
    told = found.to_json()
    spectrum = told["spectrum"]
    wrong = [
        (fact["name"], _cell(fact["figure"]), _cell(fact["threshold"]), fact["sentence"])
        for fact in told["facts"]
        if fact["wrong"]
    ]
    return fragment(
        "diagnosis",
        badge=spectrum["stability"] if spectrum else "no spectrum",
        sentences=[f"Try first: {told['advice']}", *told["words"][:-1], *told["notes"]],
        pictures=[("eigenvalues", source(png(eigenvalue_picture(told))), "wide")]
        if spectrum
        else [],
        tables=[(("fact", "figure", "threshold", "what it says"), wrong)] if wrong else [],
    )


def fragment(
    title: str,
    *,
    badge: str = "",
    about: str = "",
    sentences: Iterable[str] = (),
    numbers: Mapping[str, float] | None = None,
    pictures: Sequence[tuple[str, str, str]] = (),
    tables: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]] = (),
    settings: Mapping[str, Any] | None = None,
) -> str:
    """Return a piece of HTML, in the colours of the notebook.

    Args:
        title: What it is about.
        badge: Beside it.
        about: Below it, in small letters.
        sentences: Paragraphs.
        numbers: By name.
        pictures: Each one's caption, source and class: curve, pixels or wide.
        tables: Each one's heads and rows.
        settings: Folded away.
    """
    return page(
        "notebook.html.jinja",
        title=title,
        badge=badge,
        about=about,
        sentences=list(sentences),
        numbers=numbers or {},
        pictures=list(pictures),
        tables=list(tables),
        settings=settings or {},
    )


def _single(run: Run) -> Iterable[tuple[str, str, str]]:
    if run.samples:
        last = run.samples[-1]
        shown = read_shown(last.path)
        caption = f"samples at step {last.step:,}"
        if isinstance(shown, np.ndarray):
            view = views([run], [[last]])[0] or View.of(None, [shown])
            yield caption, source(png(scatter(shown, view, colours(1)[0]))), "points"
        else:
            yield caption, embedded(last.path), "pixels"
    if run.real is not None and run.real.suffix == ".png":
        yield "real", embedded(run.real), "pixels"
    for title, figure in curves([run]).items():
        yield title, source(png(figure)), "curve"


def _fleet(run: Run) -> Iterable[tuple[str, str, str]]:
    for title, figure in bands(run).items():
        yield title, source(png(figure)), "curve"
    pictures = multiples(run)
    if pictures is not None:
        yield "last samples of the members", source(png(pictures)), "wide"


def _members(run: Run) -> tuple[list[str], list[list[str]]]:
    """Return a row for each setting of many GANs, with medians and quartiles of the metrics."""
    rows = [
        [
            row["name"],
            str(row["count"]),
            str(row["stopped"]),
            *(f"{number(m)} [{number(a)}, {number(b)}]" for a, m, b in row["last"].values()),
        ]
        for row in summary(run)
    ]
    return ["setting", "members", "stopped early", *run.metrics], rows


def _cell(value: Any) -> str:
    return number(value) if isinstance(value, float) else words(value)
