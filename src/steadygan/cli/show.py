"""What commands print: tables that fit the terminal, and text from outside made harmless."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.errors import printable

_ENOUGH = 24  # columns in which a sentence can be read


class _Output(Console):
    """A console that leaves a broken pipe to whoever calls."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise what was raised, instead of ending the process."""
        raise


def console(stderr: bool = False) -> Console:
    """Return a console for standard output, or for standard error."""
    return _Output(stderr=stderr, highlight=False)


def say(*lines: str, stderr: bool = False) -> None:
    """Print lines as they are, unwrapped."""
    for line in lines:
        print(printable(line), file=sys.stderr if stderr else sys.stdout)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    colours: Sequence[str] | None = None,
) -> None:
    """Print rows in columns where whole words fit into them, else one row below the other.

    Args:
        heads: What each column is called; the first one names the rows.
        rows: The cells of each row, lines of a cell separated by newlines.
        title: Printed above.
        colours: A style of each row's last cell.
    """
    out = console()
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [_needed(cells) for cells in zip(heads, *clean, strict=True)]
    if title:
        out.print(Text(printable(title), "bold"), soft_wrap=True)
    styles = list(colours or [""] * len(rows))
    if fits(heads, clean):
        shown = Table(box=None, padding=(0, 2, 0, 0))
        for head, width in zip(heads, widths, strict=True):
            shown.add_column(Text(printable(head)), min_width=width)
        for row, style in zip(clean, styles, strict=True):
            shown.add_row(Text(row[0], "cyan"), *map(Text, row[1:-1]), Text(row[-1], style))
        out.print(shown)
        return
    heads = [printable(head).replace("\n", ", ") for head in heads]
    indent = max(map(len, heads[1:])) + 4
    for row, style in zip(clean, styles, strict=True):
        out.print(Text(row[0].replace("\n", ", "), "cyan"), soft_wrap=True)
        for i, (head, cell) in enumerate(zip(heads[1:], row[1:], strict=True), start=2):
            if cell:
                text = textwrap.fill(
                    cell.replace("\n", ", "),
                    max(out.width, indent + _ENOUGH),
                    initial_indent=f"  {head}".ljust(indent),
                    subsequent_indent=" " * indent,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
                out.print(Text(text, style if i == len(row) else ""), soft_wrap=True)


def fits(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether rows fit into the terminal as columns."""
    widths = [_needed(cells) for cells in zip(heads, *rows, strict=True)]
    return sum(widths) + 2 * len(widths) <= console().width


def _needed(cells: Sequence[str]) -> int:
    """Return the width in which a column can be read: its longest word, and of a sentence some."""
    lines = [line for cell in cells for line in cell.splitlines()]
    words = [word for line in lines for word in line.split()]
    return max(max(map(len, words), default=0), min(max(map(len, lines), default=0), _ENOUGH))


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while something takes its time; it is gone afterwards.

    Args:
        name: What takes its time.

    Yields:
        A function that moves the bar: ``tell(done, total)``.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    err = console(stderr=True)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as shown:
        task = shown.add_task(printable(name), total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
