"""What helps against what is named while something trains.

The doctor's triage knows the same troubles, and has the same changes tried.
"""

from __future__ import annotations

PENALTIES = ("r1:gamma=1", "js:gamma=1")
"""The gradient penalties that are tried first."""

_PENALTY = f"a gradient penalty ({' or '.join(PENALTIES)})"
_STRONGER = "a stronger gradient penalty (ten times its gamma, and not annealed)"

CURES: dict[str, str] = {
    "non-finite": "start again with a tenth of the learning rates, or of gamma",
    "standstill": "start again with a learning rate above rounding, and a penalty so weak that the"
    " memory of the critic's optimizer does not overflow",
    "flat-critic": "start again with a tenth of the learning rates, or of gamma",
    "exploding-gradient": f"{_PENALTY}, or a tenth of the learning rates",
    "critic-won": f"{_PENALTY}, a tenth of the critic's learning rate or no more critic steps than"
    " the generator's, from the start",
    "mode-loss": f"{_PENALTY}, or a tenth of the learning rates",
    "augment-limit": f"more images, a smaller critic or {_PENALTY}",
    "collapse": f"{_PENALTY}, or a tenth of the learning rates, from the start",
}
"""By the kind of a warning, in words."""


def cures(kind: str, *, penalized: bool = False) -> str:
    """Return what to try against a kind of trouble; empty where nothing is left to try.

    Args:
        kind: Of the warning.
        penalized: Whether there is a gradient penalty already.
    """
    cure = CURES.get(kind, "")
    return cure.replace(_PENALTY, _STRONGER) if penalized else cure


def advised(kind: str, message: str, *, penalized: bool = False) -> str:
    """Return what was seen with what to try.

    >>> advised("non-finite", "the loss is nan")
    'the loss is nan; try to start again with a tenth of the learning rates, or of gamma'
    """
    cure = cures(kind, penalized=penalized)
    if not cure:  # what was done about it is told
        return message
    return f"{message}; try {'to ' if cure.startswith('start') else ''}{cure}"


__all__ = ["CURES", "PENALTIES", "advised", "cures"]
