"""What the auditor names: a bug, its evidence and its mend, from the events of a trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...core.players import OTHER, Name
from .events import Backward, Step
from .trace import Trace

EVEN = 0.5
"""Pulls on real and on generated samples that are so near each other, as a share, are alike."""

PATIENCE = 101
"""So many critic steps without one of the generator are more than any usual schedule has: the
first WGAN has 100."""

FOLLOWS = 11
"""Steps in which what follows others does so at least once: some follow every tenth."""


@dataclass(frozen=True)
class Finding:
    """One bug of a training loop: its name, what was seen, and how to mend it."""

    name: str
    evidence: str
    mend: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence} Mend: {self.mend}"


def findings(trace: Trace, moved: dict[Name, bool]) -> Iterator[Finding]:
    """Yield what a trace shows, each bug once.

    Args:
        trace: what happened in the loop.
        moved: whether any of a network's parameters changed from beginning to end.

    Yields:
        the bugs.
    """
    _attribute(trace)
    yield from _standing(trace, moved)
    yield from _held(trace)
    yield from _unseen(trace)
    for name in ("critic", "generator"):
        yield from _gradients(trace, name)
    yield from _scaling(trace)
    yield from _sides(trace)
    yield from _penalties(trace)
    doubled = frozenset().union(*(b.mark.doubled for b in trace.backwards))
    if doubled:
        yield Finding(
            "sigmoid-before-logit-loss",
            "the critic's outputs went through a sigmoid and then into a loss that takes logits"
            " (binary_cross_entropy_with_logits, softplus or a second sigmoid): it sees numbers in"
            " (0, 1) as logits, so that it can never be sure.",
            "remove the sigmoid at the end of the critic, or before the loss.",
        )


def lost(
    start: dict[Name, tuple[float, ...]], end: dict[Name, tuple[float, ...]]
) -> Iterator[Finding]:
    """Yield players whose parameters left the finite numbers, by their sums before and after."""
    for name in start:
        if all(map(math.isfinite, start[name])) and not all(map(math.isfinite, end[name])):
            yield Finding(
                f"{name}-not-finite",
                f"the {name}'s parameters were finite numbers at the start and are not any more.",
                "look at its loss and gradients before each step: a root or a norm at 0, a"
                " logarithm of 0, or a learning rate that is too high.",
            )


def _attribute(trace: Trace) -> None:
    """Say of each backward whose loss it was: of those before a step, the one who stepped.

    Where both step after the same backwards, the critic's is the one that leaves the generator
    alone, or else the one that pulls on real samples.
    """
    done = 0
    for i, step in enumerate(trace.steps):
        group = trace.backwards[done : step.until]
        both = any(s.until == step.until and s.player != step.player for s in trace.steps[i + 1 :])
        real = sum(b.pull("real") for b in group)
        for b in group:
            # One that pulls generated samples to where the others pull real ones is the
            # generator's, who has not stepped.
            alone = step.player == "critic" and "generator" in b.wrote and not b.pull("real")
            whose: Name = "generator" if alone and b.pull("fake") * real > 0 else step.player
            b.purpose = b.purpose or (None if both else whose)
        if both:
            _divide(group, step.player)
        done = step.until


def _divide(group: list[Backward], first: Name) -> None:
    open_ = [b for b in group if b.purpose is None]
    writing = [b for b in open_ if "generator" in b.wrote]
    if len(open_) == 1 and writing:
        return  # one loss for both players: nothing can be told
    if len(writing) < len(open_):
        for b in open_:
            b.purpose = "generator" if b in writing else "critic"
    elif any(b.pull("real") for b in open_) and not all(b.pull("real") for b in open_):
        for b in open_:
            b.purpose = "critic" if b.pull("real") else "generator"
    else:
        for i, b in enumerate(open_):
            b.purpose = first if i < len(open_) / 2 else OTHER[first]


def _steps(trace: Trace, name: Name) -> list[Step]:
    return [s for s in trace.steps if s.player == name]


def _standing(trace: Trace, moved: dict[Name, bool]) -> Iterator[Finding]:
    for name in ("critic", "generator"):
        mine, others = _steps(trace, name), _steps(trace, OTHER[name])
        real = [s for s in mine if not s.skipped]
        own = {i for i, b in enumerate(trace.backwards) if b.purpose != OTHER[name]}
        left = {i for i in own if name in trace.backwards[i].wrote} - trace.kept(name)
        # Gradients that are still held may be gathered for a step to come.
        enough = 2 if name == "critic" else FOLLOWS if left else PATIENCE
        if not mine and len(others) >= enough:
            yield Finding(
                f"{name}-never-steps",
                f"the {OTHER[name]}'s optimizer stepped {len(others)} times, the {name}'s not"
                " once.",
                f"call the {name}'s optimizer's step() after its backward.",
            )
        elif real and not any(s.owned for s in real):
            yield Finding(
                f"{name}-never-steps",
                f"the {name}'s optimizer stepped {len(real)} times but holds none of the {name}'s"
                " parameters.",
                f"build it from the {name}'s parameters().",
            )
        elif real and not any(s.used for s in real):
            cleared = any(b.purpose == name and name in b.wrote for b in trace.backwards)
            if cleared:
                continue  # cleared before use, which is named elsewhere
            yield Finding(
                f"{name}-gets-no-gradient",
                f"in {len(real)} steps no gradient had reached any of the {name}'s parameters.",
                "the generator's loss must see live samples: critic(fake), not"
                " critic(fake.detach()) or samples made under no_grad."
                if name == "generator"
                else "take the critic's loss outside of no_grad, with requires_grad on its"
                " parameters.",
            )
        elif late := _without(real):
            yield Finding(
                f"{name}-gets-no-gradient",
                f"in the last {late} of {len(real)} steps no gradient had reached any of the"
                f" {name}'s parameters, and before one had.",
                f"switch the {name}'s requires_grad on again before its own loss.",
            )
        elif len(real) > 1 and not moved[name]:
            yield Finding(
                f"{name}-never-moves",
                f"its optimizer stepped {len(real)} times and not one parameter changed.",
                "look at its learning rate, and whether its optimizer was built before the"
                " parameters were replaced.",
            )


def _without(steps: list[Step]) -> int:
    """Return how many of the last steps had no gradient, where those are all but the first few."""
    last = next((i for i in reversed(range(len(steps))) if steps[i].used), -1)
    count = len(steps) - 1 - last
    return count if count > 2 and count >= 2 * len(steps) / 3 else 0


def _held(trace: Trace) -> Iterator[Finding]:
    """Yield optimizers that hold parameters of the other player."""
    first, second = trace.optimizers.values()
    if first is second:
        return  # one for both, by gradients that the loop puts together
    for name, optimizer in trace.optimizers.items():
        held = [trace.owner.get(id(p)) for group in optimizer.param_groups for p in group["params"]]
        theirs = held.count(OTHER[name])
        if theirs and name in held and _steps(trace, name):
            yield Finding(
                "optimizer-holds-the-other-player",
                f"the {name}'s optimizer holds {theirs} of the {OTHER[name]}'s parameters too, and"
                f" its steps move them the {name}'s way.",
                f"build it from the {name}'s parameters() alone.",
            )


def _unseen(trace: Trace) -> Iterator[Finding]:
    """Yield a critic that trains on generated samples only, where it was called."""
    steps = [s for s in _steps(trace, "critic") if s.used]
    kinds = {kind for call in trace.calls for kind, _ in call.rows}
    if len(steps) > 1 and kinds == {"fake"}:
        yield Finding(
            "critic-sees-no-real",
            f"in {len(steps)} steps of the critic every sample that it was shown came from the"
            " generator.",
            "add the loss on real samples to the critic's.",
        )


def _gradients(trace: Trace, name: Name) -> Iterator[Finding]:
    """Yield what is wrong with the gradients that a player's steps used."""
    other, backwards, mine = OTHER[name], trace.backwards, _steps(trace, name)
    stale = [s for s in mine if any(b < s.since for b in s.used if backwards[b].purpose == name)]
    foreign = [s for s in mine if any(backwards[b].purpose == other for b in s.used)]
    lost = [
        s
        for s in mine
        if s.owned
        and not s.skipped
        and any(
            backwards[b].purpose == name and name in backwards[b].wrote and b not in s.used
            for b in range(_begun(trace, s), s.until)
        )
    ]
    if stale:
        yield Finding(
            "gradients-not-cleared",
            f"{len(stale)} of {len(mine)} steps of the {name} used gradients that an earlier step"
            " had used already.",
            f"clear the {name}'s gradients (zero_grad) once for each of its steps, before its first"
            " backward.",
        )
    if lost:
        yield Finding(
            "gradients-cleared-before-use",
            f"before {len(lost)} of {len(mine)} steps of the {name} gradients of its own loss were"
            " cleared and not used.",
            f"call zero_grad before the {name}'s backward, never between backward and step, and"
            " when gradients are accumulated only once for each step.",
        )
    if foreign and not stale and name == "critic":
        yield Finding(
            "generator-gradients-in-critic-step",
            f"{len(foreign)} of {len(mine)} steps of the critic used gradients that the generator's"
            " backward had left in it.",
            "clear the critic's gradients before its own backward, or switch its requires_grad off"
            " for the generator's.",
        )
    if name == "generator":
        leaking = [b for b in backwards if b.purpose == "critic" and "generator" in b.wrote]
        if leaking:
            used = f"{len(foreign)} of {len(mine)} steps of the generator used them"
            yield Finding(
                "missing-detach",
                f"{len(leaking)} backwards of the critic's loss went on into the generator;"
                f" {used if foreign else 'its steps did not use that, so it only costs time'}.",
                "give the critic's loss critic(fake.detach()).",
            )


def _begun(trace: Trace, step: Step) -> int:
    """Return from which backward on a step's own are lost if it does not use them.

    What came before the other player's step, or moved the parameters as an extrapolation does, was
    of another turn, in which this player did not step.
    """
    theirs = {s.until for s in _steps(trace, OTHER[step.player])}
    turns = {n for n in theirs | trace.moves[step.player] if n < step.until}
    return max({step.since, *turns})


def _scaling(trace: Trace) -> Iterator[Finding]:
    for step in trace.steps:
        used = [trace.backwards[b] for b in step.used if not trace.backwards[b].weighed]
        factors = {b.mark.scale for b in used if b.mark.calls or b.mark.scale != 1.0}
        if step.unscaled and 1.0 in factors:
            yield Finding(
                "unscaled-loss-under-scaler",
                f"the scaler took its factor out of the {step.player}'s gradients, and a loss that"
                " they came from had never been given it: the step is too small by that factor.",
                "call scaler.scale(loss).backward() for every loss, or"
                " critic_backward(..., scale=scaler).",
            )
            return
        if not step.unscaled and any(f != 1.0 for f in factors):
            yield Finding(
                "scaled-gradients-in-step",
                f"the {step.player} stepped with gradients that still had the scaler's factor"
                f" {max(factors):g}.",
                "step through scaler.step(optimizer).",
            )
            return


def _as_real(pull: float, pulls: dict[str, float], steps: int) -> bool:
    """Return whether a pull is nearer to the critic's mean one on real samples than on others.

    Least squares pull outputs down that are above both labels, on real samples too.
    """
    real, fake = pulls["real"] / steps, pulls["fake"] / steps
    return real * fake > 0 and abs(pull - real) < abs(pull - fake)


def _climbs(trace: Trace, name: Name) -> bool:
    return any(group.get("maximize") for group in trace.optimizers[name].param_groups)


def _sides(trace: Trace) -> Iterator[Finding]:
    """Yield a swap of real and fake, by the directions in which the losses pull logits."""
    same = apart = helps = fights = direction = 0
    pulls = {"real": 0.0, "fake": 0.0}
    way = {name: -1 if _climbs(trace, name) else 1 for name in ("critic", "generator")}
    steps = _steps(trace, "critic")
    for step in steps:
        mine = [b for b in trace.backwards[step.since : step.until] if b.purpose == "critic"]
        if any("unknown" in b.pulls for b in mine):
            continue
        real, fake = (way["critic"] * sum(b.pull(kind) for b in mine) for kind in ("real", "fake"))
        if real * fake:
            # Least squares pull both up where all outputs lie below both labels, one of them less.
            even = min(abs(real), abs(fake)) > EVEN * max(abs(real), abs(fake))
            same, apart = same + (real * fake > 0 and even), apart + (real * fake < 0)
        pulls = {"real": pulls["real"] + real, "fake": pulls["fake"] + fake}
        if fake - real and fake:
            direction += 1 if fake > real else -1
    for b in trace.backwards:
        if b.purpose == "generator" and b.pull("fake") and direction:
            pull = way["generator"] * b.pull("fake")
            agrees = pull * direction > 0 and not _as_real(pull, pulls, len(steps))
            helps, fights = helps + agrees, fights + (not agrees)
    if same > apart:
        yield Finding(
            "real-and-fake-on-one-side",
            f"in {same} of {same + apart} steps the critic's loss pulled real and generated samples"
            " in the same direction: it cannot learn to tell them apart.",
            "give real and generated samples opposite labels in the critic's loss.",
        )
    elif helps > fights:
        yield Finding(
            "real-and-fake-swapped",
            f"in {helps} of {helps + fights} backwards the generator's loss pulled the critic's"
            " output on generated samples the same way as the critic's own loss: the players do"
            " not play against each other.",
            "the generator's loss wants its samples taken for real: swap the labels, or the sign,"
            " in one of the two losses.",
        )


def _penalties(trace: Trace) -> Iterator[Finding]:
    """Yield what is wrong with gradient penalties that belong to a loss."""
    marks = [*(b.mark for b in trace.backwards), *trace.differentiated]
    live, whole, ragged, swollen = (
        frozenset().union(*(getattr(m, kind) for m in marks))
        for kind in ("live", "whole", "ragged", "swollen")
    )
    dead = {index: why for m in marks for index, why in m.dead if index not in m.live}
    wrong = {
        i: s.variable
        for i, s in enumerate(trace.slopes)
        if s.variable != "input" and (i in live or i in dead)
    }
    for kind, what in {"parameters": "the critic's parameters", "other": "another tensor"}.items():
        if kind in wrong.values():
            yield Finding(
                "penalty-of-the-wrong-variable",
                f"a penalty takes the critic's gradient with respect to {what}, not to the samples"
                " that the critic saw.",
                "torch.autograd.grad(critic(x).sum(), x, create_graph=True) with the very x that"
                " the critic was called with, x.requires_grad_() before the call.",
            )
    for index, why in dead.items():
        if index not in wrong:
            yield Finding(
                "penalty-without-gradient",
                f"a gradient penalty is in the loss but does not reach the critic's parameters: its"
                f" graph was lost ({why}).",
                "take it with create_graph=True, outside of no_grad, without detach or item().",
            )
            break
    idle = [
        i
        for i, s in enumerate(trace.slopes)
        if s.graph and not (i in live or i in dead) and i not in wrong
    ]
    if idle and not dead:
        yield Finding(
            "penalty-never-in-a-loss",
            f"{len(idle)} input gradients were taken with create_graph=True, and no loss that was"
            " differentiated depends on them.",
            "add the penalty to the critic's loss as a tensor (not as a number by item() or"
            " float()), before its backward.",
        )
    if whole:
        yield Finding(
            "penalty-of-the-whole-batch",
            "a penalty takes one norm of the gradients of all samples together.",
            "take a norm for each sample: gradient.flatten(1).norm(dim=1), then the mean.",
        )
    if ragged - whole:
        yield Finding(
            "penalty-of-part-of-a-sample",
            "a penalty takes norms over some axes of each sample only, such as the channels of each"
            " pixel.",
            "take a norm for each sample: gradient.flatten(1).norm(dim=1).",
        )
    if swollen & (live | frozenset(dead)):
        yield Finding(
            "penalty-with-the-scaler's-factor",
            "a penalty takes the norm of gradients that still have the gradient scaler's factor.",
            "divide the input gradient by scaler.get_scale() before its norm is taken.",
        )
