"""What an experiment is: a frozen spec of one figure or table of the papers, and the findings of
running it, expected beside measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..core.errors import SteadyganError, unknown

SCALES = ("quick", "paper", "tiny")
"""quick: minutes on two CPU cores. paper: the paper's own size. tiny: a smoke test, whose verdicts
mean nothing."""


@dataclass(frozen=True)
class Row:
    """One claim: what is expected and who says so, how far off it may be, what was measured, and
    whether it holds.

    holds: None where this run cannot decide it; ``why`` then says why, and also explains what does
    not hold.
    """

    claim: str
    expected: str
    source: str
    tolerance: str
    measured: str
    holds: bool | None
    why: str = ""


@dataclass(frozen=True)
class Findings:
    """What running an experiment gave.

    picture, data: the kind of figure and the plain arrays it is drawn from
    (report/reproduction.py). notes: what a reader must know.
    seconds: of training, also in earlier calls that this one went on from.
    """

    rows: tuple[Row, ...]
    picture: str
    data: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """Whether the claims hold, in words."""
        return verdict([row.holds for row in self.rows])

    def to_json(self) -> dict[str, Any]:
        """Return verdict, rows and notes as plain data."""
        return {
            "verdict": self.verdict,
            "rows": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Experiment:
    """One figure, table or claim of the papers.

    what: what it shows. source: where the papers have it. scales: the settings at each of
    ``SCALES``; ``seeds`` among them where anything is random. cost: how long that takes, in words.
    run: settings, number of seeds and a folder for what takes long -> findings. Raises
    SteadyganError unless every scale has its settings and its cost.
    """

    name: str
    what: str
    source: str
    scales: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, str]
    run: Callable[[Mapping[str, Any], int, Path], Findings]

    def __post_init__(self) -> None:
        if set(self.scales) != set(SCALES) or set(self.cost) != set(SCALES):
            raise SteadyganError(
                f"The experiment {self.name} needs settings and cost at each of"
                f" {', '.join(SCALES)}."
            )

    def command(self, scale: str = "quick") -> str:
        """Return the command line that runs it."""
        return f"steadygan reproduce {self.name}" + (
            "" if scale == "quick" else f" --scale {scale}"
        )

    def settings(self, scale: str, data: tuple[str, str] | None = None) -> Mapping[str, Any]:
        """Return the settings at a scale, with other training and test images where ``data`` names
        some.

        Raises SteadyganError for a scale that there is not, and for data where the experiment makes
        its own.
        """
        if scale not in self.scales:
            raise unknown("scale", scale, SCALES)
        if data is None:
            return self.scales[scale]
        if "data" not in self.scales[scale]:
            raise SteadyganError(f"{self.name} makes its own data: leave --data out.")
        return {**self.scales[scale], "data": data}

    def seeds(self, scale: str, asked: int | None = None) -> int:
        """Return how many seeds it takes, 0 where nothing is random; raises SteadyganError for a
        number that makes no sense."""
        usual = self.settings(scale).get("seeds", 0)
        if asked is None:
            return int(usual)
        if not usual:
            raise SteadyganError(f"Nothing in {self.name} is random: leave --seeds out.")
        if asked < 1:
            raise SteadyganError(f"--seeds must be at least 1, not {asked}.")
        return asked


def verdict(holds: Sequence[bool | None]) -> str:
    """Return what the rows' verdicts come to.

    >>> verdict([True, True]), verdict([True, None, False])
    ('holds', '1 of 3 hold, 1 not, 1 undecided')
    """
    yes, no = holds.count(True), holds.count(False)
    if yes == len(holds):
        return "holds"
    if no == len(holds):
        return "does not hold"
    open_ = len(holds) - yes - no
    return (
        f"{yes} of {len(holds)} hold"
        + (f", {no} not" if no else "")
        + (f", {open_} undecided" if open_ else "")
    )


def number(
    claim: str, source: str, expected: float, measured: float, within: float, why: str = ""
) -> Row:
    """Return the row of a claim that a number has a value, to within an absolute tolerance in its
    own units.

    >>> number("the damping", "Eq. 1", 1.0, 1.2, within=0.1).holds
    False
    """
    holds = bool(abs(measured - expected) <= within)
    return Row(
        claim,
        f"{expected:.7g}",
        source,
        f"± {within:.2g}",
        f"{measured:.7g}",
        holds,
        "" if holds else why,
    )


def printed(claim: str, source: str, text: str, measured: float, why: str = "") -> Row:
    """Return the row of a claim that a number rounds to what was printed: it may be 0.6 units of
    the last printed digit away.

    >>> printed("the radius", "table", "2.6e4", 25_610.0).holds, printed("the radius", "table", ".64", 0.65).holds
    (True, False)
    """
    unit = 10.0 ** int(Decimal(text).as_tuple().exponent)
    holds = bool(math.isfinite(measured) and abs(measured - float(text)) <= 0.6 * unit)
    return Row(
        claim,
        text,
        source,
        "0.6 units of the last digit",
        f"{measured:.3g}",
        holds,
        "" if holds else why,
    )


def bound(claim: str, source: str, expected: str, worst: float, limit: float, why: str = "") -> Row:
    """Return the row of a claim that two sides agree: the worst of their differences must not
    exceed a limit, in their own units.

    >>> bound("the two sides", "Eq. 2", "equal", worst=3e-16, limit=1e-12).measured
    'largest difference 3e-16'
    """
    holds = bool(worst <= limit)
    return Row(
        claim,
        expected,
        source,
        f"{limit:.0e}",
        f"largest difference {worst:.2g}",
        holds,
        "" if holds else why,
    )
