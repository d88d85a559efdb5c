"""The outcome of one evaluation, how a run folder keeps it, and when two may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from ..core.errors import SteadyganError
from ..runs import lock
from ..runs.files import write_json
from ..runs.format import EVALUATION, EVALUATION_LOCK
from ..runs.reading import read_evaluations as read
from .estimate import Estimate
from .metrics import number


@dataclass(frozen=True)
class Protocol:
    """What two evaluations must share to be compared.

    Features and their preparation, the real samples, and the number of samples.

    ``data`` is only where the real samples lay; their ``fingerprint`` is what counts, as is the
    ``identity`` of the features, which knows the content of their file.
    """

    features: str
    identity: str
    preparation: str
    data: str = field(compare=False)
    fingerprint: str
    event: tuple[int, ...]
    samples: int
    seed: int


_SHARED = tuple(f.name for f in fields(Protocol) if f.compare)
_SAME = ("step", "average", *_SHARED)
_SAID = {"identity": "the file of the features"}


@dataclass(frozen=True)
class Evaluation:
    """The ``numbers`` of one set of samples by key, and the whole ``records`` as plain data.

    ``step`` is the checkpoint's, ``average`` says which weights of the generator it was.
    """

    name: str
    step: int | None
    protocol: Protocol
    numbers: dict[str, Estimate]
    records: dict[str, Any]
    notes: tuple[str, ...] = ()
    average: str = "kept"

    @property
    def title(self) -> str:
        """The name, with the step where there is one, and the average where it is another."""
        return titled(self.name, self.step, self.average)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: each number as {value, low, high, name, better}.

        So it can be shown without this package.
        """
        numbers = {
            key: {
                **estimate._asdict(),
                "name": number(key).name(self.protocol.features),
                "better": number(key).better,
            }
            for key, estimate in self.numbers.items()
        }
        return {
            "name": self.name,
            "step": self.step,
            "average": self.average,
            **asdict(self.protocol),
            "numbers": numbers,
            "records": self.records,
            "notes": list(self.notes),
        }


def titled(name: str, step: int | None, average: str) -> str:
    """Return what a set of samples is called.

    >>> titled("js", 100, "kept"), titled("js", 100, "sigma=0.1")
    ('js at 100', 'js at 100 (ema sigma=0.1)')
    """
    where = name if step is None else f"{name} at {step}"
    return where if average == "kept" else f"{where} (ema {average})"


def comparable(evaluations: Sequence[Evaluation]) -> None:
    """Raise SteadyganError where evaluations differ in anything besides what was evaluated.

    Most numbers depend on how many samples they are taken of, so those of 1,000 and of 5,000
    samples say nothing about each other.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        for key in _SHARED:
            if (value := getattr(other.protocol, key)) != (there := getattr(first.protocol, key)):
                raise SteadyganError(
                    f"{first.name} and {other.name} cannot be compared: {_SAID.get(key, key)} is"
                    f" {there!r} for one and {value!r} for the other. "
                    "Evaluate both in one command."
                )


def ranking(
    evaluations: Sequence[Evaluation], key: str, better: Literal["less", "more"] = "less"
) -> str:
    """Return the names from the best value of a number to the worst.

    '<' or '>' where intervals are apart, '≈' where they overlap.
    """
    comparable(evaluations)
    sign = "<" if better == "less" else ">"
    order = sorted(evaluations, key=lambda e: e.numbers[key].value, reverse=better == "more")
    said = order[0].title
    for one, other in pairwise(order):
        lower, higher = (one, other) if better == "less" else (other, one)
        said += f" {sign if lower.numbers[key].below(higher.numbers[key]) else '≈'} {other.title}"
    return said


def store(folder: Path, evaluation: Evaluation) -> Path:
    """Add an evaluation to the ``evaluation.json`` of a run folder, atomically.

    One of the same step and average under the same protocol is brought up to date: numbers that
    were taken again are replaced, the others stay.

    Args:
        folder: Of the run.
        evaluation: What is added.

    Returns:
        The file.
    """
    path, new = folder / EVALUATION, evaluation.to_json()
    with lock.held(folder, EVALUATION_LOCK, wait=True):  # others may measure the same run
        known = read(path)
        for old in known:
            if all(_plain(old.get(key)) == _plain(new[key]) for key in _SAME):
                for part in ("numbers", "records"):
                    new[part] = {**old[part], **new[part]}
                known.remove(old)
                break
        known = sorted(
            [*known, new],
            key=lambda e: (e["features"], e["data"], e["samples"], e["step"] or 0, e["average"]),
        )
        write_json(path, {"evaluations": known})
    return path


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


__all__ = ["Evaluation", "Protocol", "comparable", "ranking", "read", "store", "titled"]
