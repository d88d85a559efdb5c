"""How the players stand against each other, and how fast they move."""

from __future__ import annotations

from ...core.players import PLAYERS, Name
from ...core.registry import build
from ...runs.cures import PENALTIES
from ...runs.monitor import Monitor
from ..trials.change import START_AGAIN, Change, penalty, rates, strengths
from .fact import Fact
from .seen import Seen

OFF = 0.3
"""Samples this far from the data, in distances of a point at the data's mean, are plainly off: only
then does a suspicion count."""

PLAINLY = 0.6
"""Samples this far from the data every critic can tell."""

WON = 0.985
"""The share of pairs that a critic tells apart beyond which it has won."""

WEAK = 0.05
"""The distance from an undecided critic's loss below which it says nothing, as a share of it."""

BEHIND = 0.1
"""A critic that moves so much less than the generator comes after it."""

STIFF = 100.0
"""How much stiffer or softer than the loss a penalty is when gamma is far off."""

EVENLY, MORE_STEPS = {"dynamics": "alternating"}, {"dynamics": "alternating:critic_steps=5"}

EVEN, HUGE = 1e5, 1e3
"""The ratio of two layers' gradients, and the size of one, beyond which they vanish or explode."""

FAST, SLOW, AIM = 0.25, 2e-4, 0.03
"""The share of their size by which a first step of a good learning rate moves the weights: not
above, not below, and about."""

AT_ONCE = 10.0
"""By how much a learning rate is raised at a time: some networks learn though their steps are
small beside weights that are large."""


def swapped(seen: Seen) -> Fact:
    """Return the fact of a critic that was trained with real and generated exchanged."""
    own, other = seen.terms[0], seen.swapped_loss
    base = seen.indifferent or 1.0
    wrong = seen.order < 0.25 and own > 1.5 * base and other < 0.25 * base
    said = (
        f"in {seen.order:.0%} of the pairs the critic's logit is larger on the real sample; its"
        f" loss is {own:.3g}, and {other:.3g} with real and generated exchanged"
    )
    cure = Change(
        "exchange real and generated in the critic's loss: logits are large on real",
        {"swap": True},
    )
    return Fact("swapped", seen.order, 0.25, wrong, said, True, (cure,))


def critic_won(seen: Seen) -> Fact:
    """Return the fact of a critic that tells real from generated almost perfectly."""
    # One whose loss is that of a critic that cannot tell says nothing yet, whatever its order.
    floor = seen.indifferent
    silent = floor > 0 and abs(1 - seen.terms[0] / floor) < WEAK and seen.off > PLAINLY
    wrong = seen.order > WON and seen.off > OFF and not silent
    said = (
        f"the critic has won: in {seen.order:.1%} of the pairs its logit is larger on the real"
        f" sample, and its loss is {seen.terms[0]:.3g}"
    )
    gan, ahead = seen.gan, _ahead(seen)
    damped = penalty(gan, PENALTIES[0])
    cures = [
        damped,
        rates(gan, {"critic": 0.1}),
        rates(gan, {"generator": AT_ONCE}),
        *(c for f in (10, 100) if (c := strengths(gan, f)) is not None),
    ]
    if _turns(seen) > 1:
        evenly = Change("one critic step for each of the generator's", EVENLY)
        cures[1:1] = [evenly.with_also(damped), evenly]
    if ahead > 3:
        cures[:0] = [c.with_also(damped) for c in _raised(seen, "generator", ahead)]
    return Fact("critic-won", seen.order, WON, wrong, said, False, tuple(cures))


def critic_weak(seen: Seen) -> Fact:
    """Return the fact of a critic that cannot tell samples that are plainly off."""
    floor, own = seen.indifferent, seen.terms[0]
    figure = abs(1 - own / floor) if floor > 0 else abs(2 * seen.order - 1)
    pace = _turns(seen) * min(_ahead(seen), 1.0)
    seldom = pace <= BEHIND and seen.off > OFF
    wrong = seldom or (seen.off > PLAINLY and (figure < WEAK or seen.order < 0.25))
    said = (
        f"samples are {seen.off:.2g} of the data's own width away from the data, and the critic"
        f" does not say so: its loss is within {figure:.2g} of that of one that cannot tell, in"
        f" {seen.order:.0%} of the pairs its logit is larger on the real sample"
    )
    if seldom:
        said = f"the generator moves {1 / pace:.0f} times as far as the critic"
    gan, ahead = seen.gan, _ahead(seen)
    cures = [
        *_raised(seen, "critic", max(AT_ONCE, 1 / ahead)),
        Change("more critic steps: alternating:critic_steps=5", MORE_STEPS),
        rates(gan, {"generator": 0.1}),
        rates(gan, {"critic": 100.0}),
    ]
    if seldom:
        evenly = Change("one critic step for each of the generator's", EVENLY)
        cures[:0] = [evenly, evenly.with_also(cures[0])] if _turns(seen) < 1 else []
    return Fact("critic-weak", figure, WEAK, wrong, said, seldom, tuple(cures))


def gamma(seen: Seen) -> Fact | None:
    """Return the fact of a penalty that rules the critic, or that it does not feel.

    Its figure is 2 penalty / (variance of the logits / 4): how much stiffer the penalty is than the
    loss against logits that grow. Both are quadratic in the critic, whatever its size is now.
    """
    if strengths(seen.gan, 1.0) is None:
        return None
    figure = 2 * seen.terms[1] / max(seen.variance / 4, 1e-30)
    heavy = figure > STIFF and seen.off > OFF
    light = figure < 1 / STIFF and seen.off > OFF
    said = f"against growing logits the penalty is {figure:.2g} times as stiff as the loss"
    least = min(0.001, 1 / max(figure, 1.0))
    factors = (least, 10 * least, 100 * least) if heavy else (1000.0, 100.0, 10.0)
    cures = [c for f in factors if (c := strengths(seen.gan, f)) is not None]
    limit = 1 / STIFF if light else STIFF
    return Fact("gamma", figure, limit, heavy or light, said, True, tuple(cures))


def rates_of_change(seen: Seen) -> Fact:
    """Return the fact of learning rates far from what a step can take."""
    moves = seen.first_moves
    fast = [name for name in PLAYERS if moves[name] > FAST]
    # A player that no gradient reaches is another fact's.
    slow = [name for name in PLAYERS if 0 < moves[name] < SLOW and not fast]
    said = " and ".join(
        f"a first step at {seen.gan.lr[name]:g} moves the {name}'s weights by {moves[name]:.2g} of"
        " their size"
        for name in PLAYERS
    )
    # Rates with which samples came near the data are good, whatever the weights' size.
    wrong = bool(fast or slow) and seen.off > OFF
    if wrong:
        said += f": {FAST:g} and more oversteps" if fast else f": below {SLOW:g} nothing is learnt"
    cures = []
    if wrong:
        # One factor, so that the ratio of both stays where both are off.
        factor = AIM / max(moves[name] for name in fast or slow)
        factors = (factor, 0.3 * factor, 0.1 * factor) if fast else (AT_ONCE, factor, 0.1 * factor)
        cures = [rates(seen.gan, dict.fromkeys(fast or slow, f)).and_anew() for f in factors]
    figure = max(moves.values()) if fast or not slow else min(moves[name] for name in slow)
    limit = FAST if fast or not slow else SLOW
    return Fact("rates", figure, limit, wrong, said, True, tuple(cures))


def no_spread(seen: Seen) -> Fact:
    """Return the fact of samples that hardly differ from each other."""
    real, fake = seen.spreads
    figure = fake / max(real, 1e-12)
    said = f"samples spread {figure:.2g} times as widely as data"
    if seen.class_spread and seen.class_spread[0] < figure:
        figure, label = seen.class_spread
        said = f"samples of class {label} spread {figure:.2g} times as widely as its data"
    gan = seen.gan
    cures = (
        penalty(gan, PENALTIES[0]),
        penalty(gan, PENALTIES[1]),
        rates(gan, 0.1),
    )
    wrong = figure < Monitor.SPREAD
    return Fact("no-spread", figure, Monitor.SPREAD, wrong, said, False, cures)


def gradients(seen: Seen) -> Fact:
    """Return the fact of gradients that vanish or explode on their way through the layers."""
    sizes = {
        f"{name}.{key}": float(g.square().mean().sqrt())
        for name in PLAYERS
        for key, g in seen.pulls[name].items()
        if g is not None and g.ndim > 1
    }
    if not sizes:
        return Fact("gradients", None, EVEN, False, "there are no layers to compare")
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    figure = sizes[most] / max(sizes[least], 1e-30)
    wrong = figure > EVEN or sizes[most] > HUGE
    said = (
        f"gradients are {sizes[least]:.2g} at {least} and {sizes[most]:.2g} at {most}, a ratio of"
        f" {figure:.2g}"
    )
    cures = (penalty(seen.gan, PENALTIES[0]), rates(seen.gan, 0.1), START_AGAIN)
    return Fact("gradients", figure, EVEN, wrong, said, False, cures)


def _raised(seen: Seen, name: Name, factor: float) -> list[Change]:
    """Return the changes that raise a player's rate by a factor, and first by no more at a time."""
    return [rates(seen.gan, {name: f}) for f in dict.fromkeys((min(factor, AT_ONCE), factor))]


def _ahead(seen: Seen) -> float:
    """Return how many times as far as the generator's a step moves the critic's weights."""
    moves = seen.first_moves
    return max(moves["critic"], 1e-9) / max(moves["generator"], 1e-9)


def _turns(seen: Seen) -> float:
    """Return how many steps the critic makes for each of the generator's."""
    dynamics = build("dynamics", seen.gan.dynamics)
    steps: float = getattr(dynamics, "critic_steps", 1) / getattr(dynamics, "generator_steps", 1)
    return steps
