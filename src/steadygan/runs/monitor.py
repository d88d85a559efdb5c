"""Names trouble while it happens, once for each kind."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

NON_FINITE, STANDSTILL = DEAD = ("non-finite", "standstill")
"""The kinds after which nothing can go on; a run always stops there."""

MOVED = "gamma-moved"
"""What is told beside trouble, every time: how a gamma that training finds has moved, and why."""

KINDS: dict[str, str] = {
    NON_FINITE: "a loss or a parameter is no longer a finite number; the run always stops there",
    STANDSTILL: "one player does not move any more while the other does; the run stops there",
    "flat-critic": "the critic's input gradient is 0 at every sample: it tells the generator"
    " nothing, and is told nothing by a penalty on it",
    "exploding-gradient": "the critic's input gradient is far above what it was: often seen just"
    " before a collapse",
    "critic-won": "the critic separates real from generated samples almost perfectly, so the"
    " generator has no direction left",
    "mode-loss": "modes that the generator had covered are gone",
    "collapse": "images, or those of one class, hardly differ from each other: the generator makes"
    " the same one whatever the latents are",
    "augment-limit": "augmentation is as strong as it may be, and the critic is still too certain"
    " of real images: there are too few of them",
}


class Warning(NamedTuple):
    """One named trouble: the step at which it was seen, its kind and what was measured."""

    step: int
    kind: str
    message: str

    def of(self, member: int) -> Warning:
        """Return the warning that says which of many GANs is in trouble.

        >>> Warning(9, "collapse", "all alike").of(3).message
        'member 3: all alike'
        """
        return self._replace(message=f"member {member}: {self.message}")


def concerns(message: str, member: int) -> bool:
    """Return whether a warning's message is of a member of many GANs.

    >>> concerns("member 3: all alike", 3), concerns("member 31: all alike", 3)
    (True, False)
    """
    return message.startswith(f"member {member}: ")


class Monitor:
    """Watches the logged figures of a run; each kind of trouble is named once.

    Args:
        indifferent: The critic's loss where it cannot tell real from generated (all logits 0); 0
            where the objective has no such floor.
        strongest: The most that the probability of an augmentation can be, where one is found.
    """

    # An input gradient bursts at this many times its median, and above this norm.
    GRADIENT_FACTOR, GRADIENT_FLOOR = 20.0, 10.0
    # Logged steps before there is a median.
    WINDOW = 20
    # So many rows in a row without any slope are no accident.
    FLAT = 5
    # The share of an undecided critic's loss below which it has won.
    WON = 0.02
    # The share of the real spread below which samples have collapsed, and the steps that a
    # generator gets to rise above it: healthy ones were seen to take 350.
    SPREAD, YOUNG = 0.25, 1000

    def __init__(self, indifferent: float = 0.0, strongest: float = math.inf) -> None:
        self._indifferent, self._strongest = indifferent, strongest
        self._losses: deque[float] = deque(maxlen=5)
        self._slopes: deque[float] = deque(maxlen=200)
        self._most_modes = self._last_modes = 0.0
        self._last_spread: float | None = None
        self._named: set[str] = set()

    def observe(self, step: int, row: Mapping[str, float | None]) -> list[Warning]:
        """Return what is newly wrong.

        Args:
            step: Which one was logged.
            row: Its losses, gradient norms and, where it was evaluated, metrics.
        """
        looks = {
            "non-finite": self._non_finite(row),
            "exploding-gradient": self._exploding(row),
            "flat-critic": self._flat(row),
            "critic-won": self._won(row),
            "mode-loss": self._mode_loss(row),
            "collapse": self._collapse(step, row),
            "augment-limit": self._at_limit(row),
        }
        found = {kind: message for kind, message in looks.items() if message}
        new = [Warning(step, kind, found[kind]) for kind in found if kind not in self._named]
        self._named.update(found)
        return new

    def _non_finite(self, row: Mapping[str, float | None]) -> str | None:
        losses = ("critic_loss", "penalty", "generator_loss")
        bad = [name for name in losses if not math.isfinite(row.get(name) or 0.0)]
        return f"{' and '.join(bad)} is not a finite number" if bad else None

    def _exploding(self, row: Mapping[str, float | None]) -> str | None:
        slope = max(row.get(f"gradient_norm_{point}") or 0.0 for point in ("real", "fake"))
        usual = median(self._slopes) if len(self._slopes) >= self.WINDOW else math.inf
        self._slopes.append(slope)
        if not slope > max(self.GRADIENT_FACTOR * usual, self.GRADIENT_FLOOR):
            return None
        return (
            f"the critic's input gradient has norm {slope:.3g}, {slope / usual:.0f} times its"
            " median"
        )

    def _flat(self, row: Mapping[str, float | None]) -> str | None:
        last = list(self._slopes)[-self.FLAT :]
        if any(last) or len(last) < self.FLAT or row.get("gradient_norm_real") is None:
            return None
        # At an equilibrium it is 0 as well, and the loss that of a critic without opinion.
        loss = row.get("critic_loss") or 0.0
        if abs(loss - self._indifferent) <= 1e-3 * max(self._indifferent, 1.0):
            return None
        return (
            f"the critic's input gradient is 0 at every sample, while its loss is {loss:.3g};"
            f" {self._indifferent:.3g} is a critic that cannot tell real from generated"
        )

    def _won(self, row: Mapping[str, float | None]) -> str | None:
        self._losses.append(row.get("critic_loss") or 0.0)
        usual, known = median(self._losses), len(self._losses) == self._losses.maxlen
        if not (known and self._indifferent > 0 and usual < self.WON * self._indifferent):
            return None
        return (
            f"the critic's loss is {usual:.2g}; {self._indifferent:.3g} is a critic that cannot"
            " tell real from generated"
        )

    def _mode_loss(self, row: Mapping[str, float | None]) -> str | None:
        modes = row.get("modes")
        if modes is None:
            return None
        last, most, self._last_modes = self._last_modes, self._most_modes, modes
        # Two evaluations in a row, both ways: one snapshot can hit a transient.
        self._most_modes = max(most, min(modes, last))
        return f"{modes:g} modes are covered, {most:g} were" if max(modes, last) < most else None

    def _collapse(self, step: int, row: Mapping[str, float | None]) -> str | None:
        of_class = row.get("least_spread")
        spread = row.get("spread") if of_class is None else of_class
        if spread is None or not math.isfinite(spread):
            return None
        last, self._last_spread = self._last_spread, spread
        # A slow generator spreads little too, but more at each evaluation.
        if step < self.YOUNG or last is None or not spread <= last < self.SPREAD:
            return None
        whose = "samples" if of_class is None else "samples of one class"
        return f"{whose} spread {spread:.2g} times as widely as real ones"

    def _at_limit(self, row: Mapping[str, float | None]) -> str | None:
        p, sign = row.get("augment") or 0.0, row.get("augment_sign") or 0.0
        # Compared in single precision, in which p is found.
        if not p >= self._strongest * (1 - 1e-6):
            return None
        return f"augmentation has reached its most, p = {p:.2g}; r_t is {sign:.2f}"

    def state(self) -> dict[str, Any]:
        """Return what was seen so far, as plain data."""
        return {
            "losses": list(self._losses),
            "slopes": list(self._slopes),
            "most_modes": self._most_modes,
            "last_modes": self._last_modes,
            "last_spread": self._last_spread,
            "named": sorted(self._named),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._losses.extend(state["losses"])
        self._slopes.extend(state["slopes"])
        self._most_modes, self._last_modes = float(state["most_modes"]), float(state["last_modes"])
        self._last_spread = state.get("last_spread")
        self._named = set(state["named"])
