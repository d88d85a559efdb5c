"""The command that shows many runs as one table: table."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..core.errors import SteadyganError, printable
from .arguments import arg, flag
from .show import fits, say
from .show import table as show

if TYPE_CHECKING:
    from ..runs.table import Table as Runs

_LONG = 14  # characters of a run's name that are shown


@dataclass(frozen=True)
class Table:
    """Show runs as one table: what differs, how each ended, its last numbers, each GAN a row.

    A folder stands for all runs below it; the members of many GANs have a row each. Where runs
    differ by the seed only, means over seeds and their 95 % intervals (Student's t) follow; for
    programs they stand in every row. Settings of a spec have a column each, regularizer.gamma.

    Examples:
      steadygan table runs
      steadygan table runs/plain runs/js --csv --out runs.csv
      steadygan table runs --parquet --out runs.parquet
      steadygan table runs --json
    """

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        arg("DIR", "run folders, or folders that hold some"),
    ]
    csv: Annotated[bool, flag("comma-separated values")] = False
    parquet: Annotated[bool, flag("Parquet, by pyarrow; pip install 'steadygan[table]'")] = False
    json: Annotated[bool, flag("a list of objects")] = False
    out: Annotated[Path | None, arg("FILE", "where to", "standard output")] = None

    def run(self) -> int:
        """Return the exit status."""
        from ..runs.table import read_table

        formats = {"csv": _csv, "parquet": _parquet, "json": _json}
        asked = [name for name in formats if getattr(self, name)]
        if len(asked) > 1:
            raise SteadyganError(f"--{' and --'.join(asked)} are two formats: give one of them.")
        if self.out is not None and not asked:
            raise SteadyganError("--out needs a format: add --csv, --parquet or --json.")
        if self.parquet and self.out is None and sys.stdout.isatty():
            raise SteadyganError("Parquet is nothing to read in a terminal: add --out FILE.")
        if not self.paths:
            raise SteadyganError("table needs at least one folder.")
        found = read_table(self.paths)
        if not asked:
            show_runs(found)
            return 0
        content = formats[asked[0]](found.records())
        if self.out is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
        else:
            from ..runs.files import make_folder, whole

            make_folder(self.out.parent)
            with whole(self.out) as file:
                file.write(content)
            say(str(self.out))
        return 0


def show_runs(found: Runs) -> None:
    """Print every run, and what seeds of one setting come to.

    In a narrow terminal without the numbers that are the same in all, then without the last ones.
    """
    from ..runs.table import by_seed

    names = list(found.metrics)
    heads, cells = _runs(found, names)
    while len(names) > 1 and not fits(heads, cells):
        same = [n for n in names if len({str(row.metrics.get(n)) for row in found.rows}) == 1]
        names.remove((same or names)[-1])
        heads, cells = _runs(found, names)
    if not fits(heads, cells):
        names = list(found.metrics)
        heads, cells = _runs(found, names)
    show(heads, cells)
    left = [name for name in found.metrics if name not in names]
    if left:
        say(f"{', '.join(left)}: in a wider terminal, or by --csv or --json")
    many = [group for group in found.groups if len(by_seed(group)) > 1]
    if not many or not names:
        return
    say("")
    rows = []
    for group in many:
        settings = [_word(group[0].settings.get(name)) for name in found.differing]
        intervals = [found.interval(group, name) for name in names]
        said = [f"{i.mean:.3g}\n[{i.low:.3g}, {i.high:.3g}]" if i else "" for i in intervals]
        counts = sorted({i.seeds for i in intervals if i} or {len(by_seed(group))})
        rows.append([*(settings or ["all"]), " or ".join(map(str, counts)), *said])
    show(
        [*(found.shown or ["runs"]), "seeds", *names],
        rows,
        title="means over seeds, in brackets 95 % intervals",
    )


def _runs(found: Runs, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    heads = ["run", *found.shown, "seed", *metrics, "step", "state"]
    cells = [
        [
            _short(row.run) if row.member is None else f"{_short(row.run)} {row.member}",
            *(_word(row.settings.get(name)) for name in found.differing),
            _word(row.seed),
            *(_word(row.metrics.get(name)) for name in metrics),
            _word(row.step),
            row.state + (f": {row.reason}" if row.reason else ""),
        ]
        for row in found.rows
    ]
    return heads, cells


def _short(run: str) -> str:
    """Return a name of which both ends are left where it is long: a sweep's end in a mark."""
    return run if len(run) <= _LONG else f"{run[: _LONG - 9]}…{run[-8:]}"


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _csv(records: Sequence[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in (records[0], *(record.values() for record in records)):
        writer.writerow(map(_harmless, row))
    return file.getvalue().encode("utf-8", errors="replace")


def _harmless(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, and no terminal for a command."""
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value[:1] in tuple("=+-@\t\r") else value)


def _json(records: Sequence[dict[str, Any]]) -> bytes:
    return (json.dumps(records, indent=2) + "\n").encode()


def _parquet(records: Sequence[dict[str, Any]]) -> bytes:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise SteadyganError(
            "Parquet needs pyarrow: pip install 'steadygan[table]', or take --csv."
        ) from error
    columns = {}
    for name in records[0]:
        held = [record[name] for record in records]
        kinds = {float if isinstance(v, int | float) else type(v) for v in held if v is not None}
        if len(kinds) > 1:  # a number in one run, a word in another
            held = [None if v is None else str(v) for v in held]
        elif any(isinstance(v, float) for v in held):
            held = [None if v is None else float(v) for v in held]
        columns[name] = held
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()
