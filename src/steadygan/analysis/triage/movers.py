"""Whose parameters each optimizer moves, and which way."""

from __future__ import annotations

from ...core.errors import some
from ...core.players import OTHER, PLAYERS
from ..trials.change import Change
from .balance import FAST, OFF
from .fact import Fact
from .seen import Seen

STALLED = 1e-4
"""The share of a new optimizer's step below which one stands still."""


def movers(seen: Seen) -> Fact:
    """Return the fact of optimizers that move the other player, climb a loss, or stand still."""
    said, cure = _shared(seen) or _foreign(seen) or _climbing(seen) or _stalled(seen) or ("", "")
    wrong = bool(said)
    return Fact(
        "optimizers",
        float(wrong),
        0,
        wrong,
        said or "each optimizer moves its own player down its own loss",
        True,
        (Change(cure, {"optimizers": "own"}),) if wrong else (),
    )


def _shared(seen: Seen) -> tuple[str, str] | None:
    first, second = (
        {id(p): f"{name}.{key}" for key, p in seen.gan.networks[name].named_parameters()}
        for name in PLAYERS
    )
    both = [second[key] for key in first if key in second]
    if not both:
        return None
    return (
        f"both networks hold {some(both)}: what one player learns, the other undoes",
        "give each network parameters of its own",
    )


def _foreign(seen: Seen) -> tuple[str, str] | None:
    optimizers = seen.gan.optimizers
    # One optimizer of both players moves both at once, by gradients that the loop puts together.
    if not optimizers or optimizers["generator"] is optimizers["critic"]:
        return None
    for name in PLAYERS:
        held = {id(p) for group in optimizers[name].param_groups for p in group["params"]}
        other = OTHER[name]
        named = seen.gan.networks[other].named_parameters()
        theirs = [f"{other}.{key}" for key, p in named if id(p) in held]
        if theirs:
            return (
                f"the {name}'s optimizer holds the {other}'s {some(theirs)}: its steps move the"
                f" {other} the {name}'s way",
                f"build the {name}'s optimizer from the {name}'s parameters() alone",
            )
    return None


def _climbing(seen: Seen) -> tuple[str, str] | None:
    for name in PLAYERS:
        groups = seen.gan.optimizers[name].param_groups if seen.gan.optimizers else ()
        if any(group.get("maximize") for group in groups):
            return (
                f"the {name}'s optimizer climbs (maximize=True), and the game's losses are to be"
                " minimised, the critic's too",
                f"build the {name}'s optimizer without maximize, and let it minimise the game's"
                " loss",
            )
    return None


def _stalled(seen: Seen) -> tuple[str, str] | None:
    # Where players have converged, gradients fade faster than the memory of their squares.
    if not seen.gan.optimizers or not seen.off > OFF:
        return None
    # Rates that overstep fill a memory, too, and are what is wrong then.
    if any(move > FAST for move in seen.first_moves.values()):
        return None
    for name in PLAYERS:
        pace = seen.kept_pace[name]
        if pace < STALLED:
            return (
                f"the memory of the {name}'s optimizer is so large that a step goes {pace:.2g} as"
                f" far as a new optimizer's: the {name} stands still",
                f"start again with a weaker penalty or a smaller learning rate, or at least with a"
                f" new optimizer of the {name}",
            )
    return None


__all__ = ["movers"]
