"""Triage: the plain facts that a practitioner asks for first.

In a fixed order, each with its figure, its threshold and changes that can be tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ...core.registry import build
from ...runs.cures import PENALTIES
from ..gan import Gan
from ..trials.change import START_AGAIN, Change, penalty, rates, regularizer
from .balance import MORE_STEPS
from .fact import Fact
from .facts import FACTS
from .seen import LOOKED, Seen

TOY = 50
"""Games of fewer parameters are played for their mathematics."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep core's warning of a critic that does not see its samples, which is a fact here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the critic's output does not depend", UserWarning)
        yield


@quiet()
def triage(gan: Gan, count: int = LOOKED) -> list[Fact]:
    """Return every fact about a GAN, in the fixed order of ``facts.FACTS``.

    Where something is no finite number, nothing else can be said. Games of fewer parameters than
    ``TOY`` are played for their mathematics, on data that may be one point: of them only
    what is not finite and what bounds the logits is looked at.
    """
    seen, found = Seen.of(gan, count), list[Fact]()
    for look in FACTS[:2] if seen.size < TOY else FACTS:
        if (fact := look(seen)) is not None:
            found.append(fact if fact.wrong else replace(fact, cures=()))
            if fact.name == "non-finite" and fact.wrong:
                break
    return found


def cause(facts: Sequence[Fact]) -> Fact | None:
    """Return what explains the others: the first wrong fact that is a cause, else the first."""
    wrong = [fact for fact in facts if fact.wrong]
    return next((fact for fact in wrong if fact.certain), wrong[0] if wrong else None)


def to_try(gan: Gan, facts: Sequence[Fact], asked: Sequence[str] = ()) -> list[Change]:
    """Return the changes that a trial should compare, the most likely first.

    What is wrong is cured first; then come the alternatives that are tried in any case: the
    regularizers that are asked for, or else PENALTIES, a tenth of the learning rates, more critic
    steps, a moving average; against a cause that was seen only what is asked for. Where samples
    have become alike they start again, because such a GAN seldom comes back; to start again alone
    is one of them.
    """
    explains, found = cause(facts), list[Change]()
    wrong = [fact for fact in facts if fact.wrong]
    new = [name for name in asked if build("regularizer", name) not in gan.game.regularizers]
    standing = [
        *(regularizer(gan, name) for name in new),
        *(penalty(gan, name) for name in PENALTIES if not asked),
        rates(gan, 0.1),
        Change("keep a moving average of the generator: ema=0.99", {"ema": 0.99}),
    ]
    if "critic-won" not in [fact.name for fact in wrong]:
        standing.insert(-1, Change("more critic steps: alternating:critic_steps=5", MORE_STEPS))
    if explains is None:
        return standing
    if explains.certain:
        found = [*explains.cures[:3], START_AGAIN]
        if found[0].can_be_tried and not gan.game.regularizers:
            found.append(explains.cures[0].with_also(standing[0]))
        found += [regularizer(gan, name).and_anew() for name in new]
    else:
        found = [*(c for fact in wrong for c in fact.cures[:4]), *standing]
        if LOST & {fact.name for fact in wrong}:
            found = [c.and_anew() for c in found]
        found.insert(4, START_AGAIN)
    unique: dict[str, Change] = {}
    for change in found:
        unique.setdefault(repr(sorted(change.settings.items())), change)
    return [change for change in unique.values() if change.can_be_tried][:MOST]


def triable(gan: Gan) -> bool:
    """Return whether copies of a GAN can train at all: on finite data, and with parameters."""
    whole = all(t.isfinite().all() for t in gan.data[:2])
    return whole and all(any(True for _ in net.parameters()) for net in gan.networks.values())


LOST = {"no-spread", "gradients"}
"""Facts after which going on from the networks as they are seldom helps."""

MOST = 7
"""How many changes a trial compares at most."""

__all__ = ["LOOKED", "Fact", "cause", "quiet", "to_try", "triable", "triage"]
