"""What the networks are given: how many different samples, and of what size."""

from __future__ import annotations

import math

from ..trials.change import Change
from .fact import Fact
from .seen import Seen

LARGE, SMALL = 15.0, 0.03
"""The spread of data for which networks that start at size 1 are not made."""


def data_variety(seen: Seen) -> Fact:
    """Return the fact of how many of the real samples are different ones."""
    rows = seen.gan.data.real[:2048].flatten(1)
    share = len(rows.unique(dim=0)) / len(rows)
    centre = rows.double()
    scale = float(centre.abs().mean())
    varied = float((centre - centre.mean(0)).abs().mean()) / max(scale, 1e-12)
    figure = min(share, varied / 1e-3)
    wrong = figure < 0.5
    said = f"{share:.0%} of the real samples are different ones"
    if varied < 1e-3:
        said = f"the real samples hardly differ: by {varied:.1g} of their size"
    if len(rows) < 2:
        said = "there is only one real sample: nothing can be said of how they differ"
    cure = Change("look at the loader: shuffle it, and let it pass all the data", {"data": "all"})
    return Fact("data-variety", figure, 0.5, wrong, said, True, (cure,))


def scale(seen: Seen) -> Fact:
    """Return the fact of data outside of what the generator can make, or far from size 1."""
    real = seen.batch.real.double()
    size = float((real - real.mean(0)).square().mean().sqrt())
    middle = float(real.mean())
    low, high = seen.reach
    width = 1e-3 * max(high - low, 1) if math.isfinite(high - low) else 1e-3
    outside = float(((real < low - width) | (real > high + width)).double().mean())
    figure = max(size / LARGE, SMALL / max(size, 1e-12), abs(middle) / (20 * max(size, 1e-12)))
    figure = max(figure, outside / 0.01)
    said = f"data have a spread of {size:.3g} around {middle:.3g}"
    if outside > 0.01:
        least, most = (f"{what} {end:g}" for what, end in (("at least", low), ("at most", high)))
        ends = most if low == -math.inf else least if high == math.inf else f"{low:g} to {high:g}"
        said += f"; {outside:.0%} of their values lie outside of what the generator makes, {ends}"
    shift, factor = _to(float(real.min()), float(real.max()), low, high, middle, size)
    cure = Change(
        f"bring the data to the networks' scale: (x - {shift:.3g})/{factor:.3g}",
        {"scale": [shift, factor]},
    )
    return Fact("scale", figure, 1.0, figure > 1, said, True, (cure.and_anew(), cure))


def _to(
    least: float, most: float, low: float, high: float, middle: float, size: float
) -> tuple[float, float]:
    """Return (shift, factor) that bring data into the range, or to mean 0 and spread 1."""
    if math.isfinite(high - low):
        factor = (most - least) / (high - low) or 1.0
        return least - low * factor, factor
    if math.isfinite(low):
        return least - low * size, size or 1.0
    if math.isfinite(high):
        return most - high * size, size or 1.0
    return middle, size or 1.0
