"""Names trouble while it happens, once for each kind."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

KINDS: dict[str, str] = {
    "non-finite": "a loss or a parameter is no longer a finite number; the run always stops there",
    "exploding-gradient": "the critic's input gradient is far above what it was: often seen just"
    " before a collapse",
    "critic-won": "the critic separates real from generated samples almost perfectly, so the"
    " generator has no direction left",
    "mode-loss": "modes that the generator had covered are gone",
    "collapse": "images, or those of one class, hardly differ from each other: the generator makes"
    " the same one whatever the latents are",
}


class Warning(NamedTuple):
    """One named trouble: the step at which it was seen, its kind and what was measured."""

    step: int
    kind: str
    message: str


class Monitor:
    """Watches the logged figures of a run; each kind of trouble is named once.

    indifferent: the critic's loss where it cannot tell real from generated (all logits 0); 0 where
    the objective has no such floor.
    """

    GRADIENT_FACTOR = 20.0
    GRADIENT_FLOOR = 10.0
    WON = 0.02
    WINDOW = 20
    SPREAD = 0.25
    YOUNG = 500

    def __init__(self, indifferent: float = 0.0) -> None:
        self._indifferent = indifferent
        self._losses: deque[float] = deque(maxlen=5)
        self._slopes: deque[float] = deque(maxlen=200)
        self._most_modes = self._last_modes = 0.0
        self._last_spread: float | None = None
        self._named: set[str] = set()

    def observe(self, step: int, row: Mapping[str, float | None]) -> list[Warning]:
        """Look at one logged step, with its losses, gradient norms and metrics; return what is
        newly wrong."""
        found: dict[str, str] = {}
        bad = [
            name
            for name in ("critic_loss", "penalty", "generator_loss")
            if not math.isfinite(row.get(name) or 0.0)
        ]
        if bad:
            found["non-finite"] = f"{' and '.join(bad)} is not a finite number"
        slope = max(
            (row.get(name) or 0.0 for name in ("gradient_norm_real", "gradient_norm_fake")),
            default=0.0,
        )
        usual = median(self._slopes) if len(self._slopes) >= self.WINDOW else math.inf
        if slope > max(self.GRADIENT_FACTOR * usual, self.GRADIENT_FLOOR):
            found["exploding-gradient"] = (
                f"the critic's input gradient has norm {slope:.3g}, {slope / usual:.0f} times"
                " its median"
            )
        self._slopes.append(slope)
        self._losses.append(row.get("critic_loss") or 0.0)
        if (
            self._indifferent > 0
            and len(self._losses) == self._losses.maxlen
            and median(self._losses) < self.WON * self._indifferent
        ):
            found["critic-won"] = (
                f"the critic's loss is {median(self._losses):.2g}; {self._indifferent:.3g} is a"
                " critic that cannot tell real from generated"
            )
        modes = row.get("modes")
        if modes is not None:
            # Two evaluations in a row, both ways: one snapshot can hit a transient.
            if max(modes, self._last_modes) < self._most_modes:
                found["mode-loss"] = f"{modes:g} modes are covered, {self._most_modes:g} were"
            self._most_modes = max(self._most_modes, min(modes, self._last_modes))
            self._last_modes = modes
        of_class = row.get("least_spread")
        spread = row.get("spread") if of_class is None else of_class
        if spread is not None and math.isfinite(spread):
            # A young generator blurs everything too; a slow one spreads more at each evaluation.
            last, self._last_spread = self._last_spread, spread
            if step >= self.YOUNG and last is not None and spread <= last < self.SPREAD:
                found["collapse"] = (
                    f"samples{'' if of_class is None else ' of one class'} spread {spread:.2g}"
                    " times as widely as real ones"
                )
        new = [
            Warning(step, kind, message)
            for kind, message in found.items()
            if kind not in self._named
        ]
        self._named.update(found)
        return new

    def state(self) -> dict[str, object]:
        """Return what was seen so far, as plain data."""
        return {
            "losses": list(self._losses),
            "slopes": list(self._slopes),
            "most_modes": self._most_modes,
            "last_modes": self._last_modes,
            "last_spread": self._last_spread,
            "named": sorted(self._named),
        }

    def restore(self, state: dict[str, object]) -> None:
        """Continue from a saved state."""
        self._losses.extend(state["losses"])  # type: ignore[arg-type]
        self._slopes.extend(state["slopes"])  # type: ignore[arg-type]
        self._most_modes, self._last_modes = float(state["most_modes"]), float(state["last_modes"])  # type: ignore[arg-type]
        self._last_spread = state.get("last_spread")  # type: ignore[assignment]
        self._named = set(state["named"])  # type: ignore[call-overload]
