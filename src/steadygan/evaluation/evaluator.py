"""What measures samples again and again against the same real ones: while a run trains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ..core.errors import SteadyganError
from ..runs.format import Ranged
from .features import Features, Progress, to_bytes
from .metrics import Better, Pair, build_metrics, compute, take


class Evaluator:
    """Measures samples against real ones whose features are taken once.

    Call it with samples (n, *event), images in [-1, 1], for a plain {number: value}. Samples that
    are not finite are infinitely bad (inf where less is better, else 0), never an exception, so
    that a run which blows up goes on to say so. Values are comparable at equal n only: draw
    ``size`` samples, as many as there are real ones, each time.

    Args:
        real: Images (N, C, H, W) uint8, or vectors (N, D).
        features: What images are compared in.
        metrics: Names of metrics; the first number that has a better side says which samples are
            the best.
        progress: Is told ``(done, total)`` while the features are taken.

    Raises:
        SteadyganError: For unknown metrics, and for those that the samples cannot have.

    >>> import numpy
    >>> from steadygan.evaluation.features import Pixels
    >>> pixels = numpy.random.default_rng(0).integers(0, 256, (40, 1, 2, 2), dtype="uint8")
    >>> evaluator = Evaluator(pixels, Pixels(), ("kid",))
    >>> white, noise = torch.ones(40, 1, 2, 2), torch.rand(40, 1, 2, 2) * 2 - 1
    >>> evaluator.better["kid"], evaluator(white)["kid"] > evaluator(noise)["kid"]
    ('less', True)
    """

    def __init__(
        self,
        real: np.ndarray,
        features: Features,
        metrics: Sequence[str] | str = ("fd",),
        progress: Progress | None = None,
    ) -> None:
        self._metrics = [metric.while_training() for metric in build_metrics(metrics)]
        for metric in self._metrics:
            metric.check(features, real.shape[1:])
        self._real, self._features = real, features
        self._x = take(real, features, progress)

    @property
    def better(self) -> dict[str, Better]:
        """Which way each of its numbers is better, None where neither is."""
        return {k: number.better for m in self._metrics for k, number in m.numbers.items()}

    @property
    def size(self) -> int:
        """How many real samples there are."""
        return len(self._real)

    def improves(self, found: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        """Return whether samples are the best so far, by the first number that has a better side.

        Args:
            found: Their numbers.
            best: Those of the best so far; anything is better than None.

        Raises:
            SteadyganError: Where no number has a better side.
        """
        key = next((key for key, better in self.better.items() if better is not None), None)
        if key is None:
            raise SteadyganError(
                f"{', '.join(self.better)}: none of these has a better side, so there is no best"
                " checkpoint; add fd."
            )
        return best is None or (
            found[key] < best[key] if self.better[key] == "less" else found[key] > best[key]
        )

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Return the values of the numbers, each with its interval.

        Args:
            samples: Generated samples (n, *event), images in [-1, 1].
        """
        if not samples.isfinite().all():
            return {
                key: math.inf if better == "less" else 0.0 for key, better in self.better.items()
            }
        generated = (to_bytes(samples) if samples.ndim == 4 else samples).cpu().numpy()
        pair = Pair(self._real, generated, self._x, take(generated, self._features, keep=False))
        found = compute(pair, self._metrics)[0]
        return {key: Ranged(*estimate) for key, estimate in found.items()}
