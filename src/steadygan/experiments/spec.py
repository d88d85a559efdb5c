"""What an experiment is: a frozen spec of one figure or table of the papers.

And the findings of running it, expected beside measured.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ..core.errors import SteadyganError, unknown
from .rules import FACT, WITHIN, Rule

SCALES = ("quick", "long", "paper", "tiny")
"""quick: minutes on two CPU cores. long: the papers' length, or as
near as hours on one CPU core come. paper: the
papers' own size, for a GPU where it is images. tiny: a smoke test, whose verdicts mean nothing. An
experiment has quick and tiny, and of the others those that differ."""

Whose = Literal["papers", "ours"]
"""Who claims something: one of the two papers, or this project."""

Known = Literal["from the seed text", "from the authors' code", "derived here", "recalled"]
"""Where an expected value comes from. The seed text is that of the papers with their formulas lost;
recalled is from the literature, not re-read."""


class Source(NamedTuple):
    """Where a claim stands, whose it is, and where its expected value is known from."""

    where: str
    whose: Whose = "papers"
    known: Known = "from the seed text"


@dataclass(frozen=True)
class Row:
    """One claim: its source, what is expected, and by which rule it is judged.

    And what was measured, and whether it ``holds``: None where this run cannot decide it. ``why``
    then says why, and also what was measured of that which does not hold. ``tolerance`` is what the
    rule is given, in words.
    """

    claim: str
    source: Source
    rule: Rule
    expected: str
    tolerance: str
    measured: str
    holds: bool | None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "claim": self.claim,
            "expected": self.expected,
            "source": self.source.where,
            "whose": self.source.whose,
            "known": self.source.known,
            "rule": self.rule.name,
            "tolerance": self.tolerance,
            "measured": self.measured,
            "holds": self.holds,
            "why": self.why,
        }


@dataclass(frozen=True)
class Findings:
    """What running an experiment gave.

    Attributes:
        rows: Its claims.
        picture: The kind of figure.
        data: The plain arrays that it is drawn from (report/reproduction.py).
        notes: What a reader must know.
        seconds: Of training, also in earlier calls that this one went on from.
    """

    rows: tuple[Row, ...]
    picture: str
    data: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return verdict, rows and notes as plain data."""
        rows = [row.to_json() for row in self.rows]
        return {
            "verdict": verdict(rows),
            "rows": rows,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Experiment:
    """One figure, table or claim of the papers.

    Attributes:
        name: As one asks for it.
        what: What it shows.
        source: Where the papers have it.
        scales: The settings at each of ``SCALES``; ``seeds`` among them where anything is random.
        cost: How long that takes, in words.
        run: Settings, number of seeds and a folder for what takes long -> findings.
        papers: Sizes of the papers' own runs, where its largest scale has others.
        rest: What would decide what its long scale leaves open, and how long that takes.
        parts: The settings of whose values some can be run without the others, and how claims name
            such a value, as in "variance {}".

    Raises:
        SteadyganError: Unless every scale has its settings and its cost.
    """

    name: str
    what: str
    source: str
    scales: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, str]
    run: Callable[[Mapping[str, Any], int, Path], Findings]
    papers: Mapping[str, Any] = field(default_factory=dict)
    rest: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = set(self.scales)
        if there != set(self.cost) or not {"quick", "tiny"} <= there <= set(SCALES):
            raise SteadyganError(
                f"The experiment {self.name} needs settings and cost at quick and tiny, and both"
                f" wherever it has others of {', '.join(SCALES)}."
            )

    def command(self, scale: str = "quick") -> str:
        """Return the command line that runs it."""
        return f"steadygan reproduce {self.name}" + (
            "" if scale == "quick" else f" --scale {scale}"
        )

    @property
    def size(self) -> dict[str, Any]:
        """Batch, resolution, width, length and rates of the papers' own runs, as far as known."""
        there = [scale for scale in SCALES if scale in self.scales and scale != "tiny"]
        largest = self.scales[there[-1]]
        sizes = ("batch", "batches", "resolution", "width", "widths", "steps", "sgd", "rmsprop")
        return {key: largest[key] for key in sizes if key in largest} | dict(self.papers)

    def about(self, settings: Mapping[str, Any]) -> set[str]:
        """Return what claims name of the parts that settings have.

        >>> own = {"quick": {}, "tiny": {}}
        >>> one = Experiment("e", "", "", own, own, print, parts={"variances": "variance {}"})
        >>> sorted(one.about({"variances": ["0.1", "1"], "batch": 16}))
        ['variance 0.1', 'variance 1']
        """
        return {
            words.format(value)
            for key, words in self.parts.items()
            for value in settings.get(key, ())
        }

    def part(self, scale: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return which part of a scale settings are, as in "variances=0.1,1"; () for all of it."""
        own = {key: tuple(settings.get(key, self.scales[scale][key])) for key in self.parts}
        return tuple(
            f"{key}={','.join(map(str, values))}"
            for key, values in own.items()
            if values != tuple(self.scales[scale][key])
        )

    def settings(
        self,
        scale: str,
        data: tuple[str, str] | None = None,
        steps: int | None = None,
        only: Sequence[str] = (),
    ) -> Mapping[str, Any]:
        """Return the settings at a scale.

        Args:
            scale: By its name.
            data: Other training and test images.
            steps: Every length is at least that.
            only: The parts to be run, as in "variances=0.1,1"; all of what is not named.

        Raises:
            SteadyganError: For a scale or a part that there is not, for data where the experiment
                makes its own, and for a length that lengthens nothing.
        """
        if scale not in self.scales:
            raise unknown("scale", scale, [each for each in SCALES if each in self.scales])
        settings = self.scales[scale]
        if data is not None:
            if "data" not in settings:
                raise SteadyganError(f"{self.name} makes its own data: leave --data out.")
            settings = {**settings, "data": data}
        if steps is not None:
            lengths = {key: value for key, value in settings.items() if key.endswith("steps")}
            if "seeds" not in settings or not lengths:
                raise SteadyganError(f"{self.name} trains nothing: leave --steps out.")
            if steps < min(lengths.values()):
                raise SteadyganError(
                    f"--steps lengthens what is trained: at least {min(lengths.values())} at"
                    f" scale {scale}, not {steps}."
                )
            settings = {**settings, **{key: max(steps, n) for key, n in lengths.items()}}
        parts: dict[str, list[str]] = {}
        for each in only:
            key, _, values = each.partition("=")
            parts.setdefault(key, []).extend(value.strip() for value in values.split(","))
        return {**settings, **{key: self._part(settings, key, v) for key, v in parts.items()}}

    def _part(
        self, settings: Mapping[str, Any], key: str, wanted: Sequence[str]
    ) -> tuple[Any, ...]:
        if key not in self.parts:
            known = [f"{each}={','.join(map(str, settings[each]))}" for each in self.parts]
            raise SteadyganError(
                f"{self.name} cannot be run by parts of {key!r}: "
                + (f"all of it is --only {shlex.join(known)}." if known else "leave --only out.")
            )
        there = {str(value): value for value in settings[key]}
        for value in wanted:
            if value not in there:
                raise unknown(f"part of {key}", value, there)
        return tuple(value for name, value in there.items() if name in wanted)

    def seeds(self, scale: str, asked: int | None = None) -> int:
        """Return how many seeds it takes, 0 where nothing is random.

        Raises:
            SteadyganError: For a number that makes no sense.
        """
        usual = self.settings(scale).get("seeds", 0)
        if asked is None:
            return int(usual)
        if not usual:
            raise SteadyganError(f"Nothing in {self.name} is random: leave --seeds out.")
        if asked < 1:
            raise SteadyganError(f"--seeds must be at least 1, not {asked}.")
        return asked


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what rows come to, as plain data.

    The papers' claims and ours apart where there are both.

    >>> verdict([{"whose": "papers", "holds": True}, {"whose": "ours", "holds": False}])
    'papers: holds; ours: does not hold'
    """
    counts = {whose: tally(rows, whose) for whose in get_args(Whose)}
    there = {whose: each for whose, each in counts.items() if sum(each)}
    return "; ".join(
        f"{whose}: {words(*each)}" if len(there) > 1 else words(*each)
        for whose, each in there.items()
    )


def tally(rows: Sequence[Mapping[str, Any]], whose: str) -> tuple[int, int, int]:
    """Return how many claims of the papers or of ours hold, do not, and are undecided."""
    holds = [row["holds"] for row in rows if row.get("whose", "papers") == whose]
    return holds.count(True), holds.count(False), holds.count(None)


def words(yes: int, no: int, undecided: int) -> str:
    """Return a tally in words.

    >>> words(2, 0, 0), words(1, 1, 1)
    ('holds', '1 of 3 hold, 1 not, 1 undecided')
    """
    count = yes + no + undecided
    if count in (yes, no):
        return "holds" if yes else "does not hold"
    return (
        f"{yes} of {count} hold"
        + (f", {no} not" if no else "")
        + (f", {undecided} undecided" if undecided else "")
    )


def number(
    claim: str, source: Source, expected: float, measured: float | None, within: float
) -> Row:
    """Return the row of a claim that a number has a value.

    Args:
        claim: In words.
        source: Where it stands.
        expected: The value.
        measured: The number; None where this run does not measure it.
        within: The absolute tolerance, in the number's own units.

    >>> number("the damping", Source("Eq. 1"), 1.0, 1.2, within=0.1).holds
    False
    """
    found = "not measured" if measured is None else f"{measured:.7g}"
    holds = WITHIN(measured, expected, within)
    return Row(claim, source, WITHIN, f"{expected:.7g}", f"± {within:.2g}", found, holds)


def printed(claim: str, source: Source, text: str, measured: float) -> Row:
    """Return the row of a claim that a number rounds to what was printed.

    It may be 0.6 units of the last printed digit away.

    >>> one = Source("table")
    >>> [printed("radius", one, *each).holds for each in (("2.6e4", 25_610.0), (".64", 0.65))]
    [True, False]
    """
    within = 0.6 * 10.0 ** int(Decimal(text).as_tuple().exponent)
    holds = WITHIN(measured, float(text), within)
    return Row(claim, source, WITHIN, text, "0.6 units of the last digit", f"{measured:.3g}", holds)


def bound(claim: str, source: Source, expected: str, worst: float, limit: float) -> Row:
    """Return the row of a claim that two sides agree.

    The worst of their differences must not exceed a limit, in their own units.

    >>> bound("the two sides", Source("Eq. 2"), "equal", worst=3e-16, limit=1e-12).measured
    'largest difference 3e-16'
    """
    holds = WITHIN(worst, 0.0, limit)
    found = f"largest difference {worst:.2g}"
    return Row(claim, source, WITHIN, expected, f"{limit:.0e}", found, holds)


def fact(
    claim: str, source: Source, expected: str, tolerance: str, measured: str, holds: bool | None
) -> Row:
    """Return the row of a claim that is so or not so, as computed."""
    return Row(claim, source, FACT, expected, tolerance, measured, FACT(holds))
