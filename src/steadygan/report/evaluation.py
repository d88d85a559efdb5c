"""The evaluations of runs, as `steadygan evaluate` kept them.

One table for those that may be compared, each number with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..runs.format import EVALUATION
from ..runs.reading import Run, read_evaluations

_PROTOCOL = ("identity", "preparation", "fingerprint", "samples", "seed")
_ARROWS = {"less": "↓", "more": "↑"}


def evaluation_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a table for each protocol.

    What was compared, the names of the numbers, and a row for each run and step that has them.
    Numbers of other features, data or numbers of samples are never in one table. A cell ``leads``
    where its whole interval is better than those of all other rows.

    Raises:
        SteadyganError: For a damaged evaluation.json.
    """
    groups: dict[tuple[Any, ...], list[tuple[int, dict[str, Any]]]] = {}
    for i, run in enumerate(runs):
        for found in read_evaluations(run.folder / EVALUATION):
            groups.setdefault(protocol(found), []).append((i, found))
    return [_table(group) for group in groups.values()]


def protocol(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what evaluations must share to be compared."""
    return tuple(found[key] for key in _PROTOCOL)


def _table(group: Sequence[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    first = group[0][1]
    heads = {key: number for _, found in group for key, number in found["numbers"].items()}
    return {
        "averages": any(found["average"] != "kept" for _, found in group),
        "about": f"{first['samples']:,} samples each against {first['data']}, features"
        f" {first['features']} "
        f"(resizing: {first['preparation']}), seed {first['seed']}",
        "heads": [
            f"{number['name']} {_ARROWS.get(number['better'], '')}".strip()
            for number in heads.values()
        ],
        "rows": [
            {
                "run": i,
                "step": found["step"],
                "average": found["average"],
                "cells": [
                    _cell(found, key, [other for _, other in group if other is not found])
                    for key in heads
                ],
                "notes": found["notes"],
            }
            for i, found in group
        ],
    }


def _cell(
    found: dict[str, Any], key: str, others: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    number = found["numbers"].get(key)
    if number is None:
        return None
    rivals = [other["numbers"][key] for other in others if key in other["numbers"]]
    leads = {
        "less": all(number["high"] < rival["low"] for rival in rivals),
        "more": all(number["low"] > rival["high"] for rival in rivals),
    }.get(number["better"], False)
    return {
        "value": number["value"],
        "low": number["low"],
        "high": number["high"],
        "leads": bool(rivals) and leads,
    }
