"""What can be measured of a set of samples, by name, as ``--metrics`` spells it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import SteadyganError, unknown
from .cache import Measured, cached, measure
from .distances import (
    density_coverage,
    energy_distance,
    frechet_distance,
    frechet_extrapolation,
    inception_score,
    kernel_distance,
    lpips_diversity,
    nearest_neighbours,
    precision_recall,
    sliced_wasserstein,
)
from .estimate import Estimate, Record
from .features import Features, Progress, to_bytes
from .lpips import Lpips
from .statistics import Statistics

Better = Literal["less", "more"] | None


class Pair(NamedTuple):
    """Real and generated samples as metrics take them: the raw ones, images (N, C, H, W) uint8 or
    vectors (N, D), and their features."""

    real: np.ndarray
    generated: np.ndarray
    x: Measured
    y: Measured


def _fd(pair: Pair) -> dict[str, Record]:
    x, y = pair.x.features, pair.y.features
    found: dict[str, Record] = {"fd": frechet_distance(x, y)}
    # At infinitely many samples; below 16 there is nothing to fit.
    return found | ({"fd_infinity": frechet_extrapolation(x, y)} if len(x) == len(y) >= 16 else {})


def _scores(pair: Pair) -> dict[str, Record]:
    assert pair.y.probabilities is not None
    return {"inception_score": inception_score(pair.y.probabilities)}


def _lpips(pair: Pair) -> dict[str, Record]:
    distance = Lpips()
    return {
        "lpips": lpips_diversity(pair.generated, distance),
        "lpips_of_real": lpips_diversity(pair.real, distance),
    }


class Metric(NamedTuple):
    """The keys of the numbers that a metric gives, and how: each record by its key, or by the
    metric's name where it holds several."""

    keys: tuple[str, ...]
    records: Callable[[Pair], dict[str, Record]]


METRICS: dict[str, Metric] = {
    "fd": Metric(("fd", "fd_infinity"), _fd),
    "kid": Metric(
        ("kid",), lambda pair: {"kid": kernel_distance(pair.x.features, pair.y.features)}
    ),
    "precision-recall": Metric(
        ("precision", "recall"),
        lambda pair: {"precision-recall": precision_recall(pair.x.features, pair.y.features)},
    ),
    "density-coverage": Metric(
        ("density", "coverage"),
        lambda pair: {"density-coverage": density_coverage(pair.x.features, pair.y.features)},
    ),
    "inception-score": Metric(("inception_score",), _scores),
    "lpips": Metric(("lpips", "lpips_of_real"), _lpips),
    "sliced-wasserstein": Metric(
        ("sliced_wasserstein",),
        lambda pair: {"sliced_wasserstein": sliced_wasserstein(pair.x.features, pair.y.features)},
    ),
    "energy": Metric(
        ("energy",), lambda pair: {"energy": energy_distance(pair.x.features, pair.y.features)}
    ),
    "memorisation": Metric(
        ("copied",), lambda pair: {"copied": nearest_neighbours(pair.x.features, pair.y.features)}
    ),
}

# Every number that a metric gives: its name for people, {} being the features, and which way is
# better where one way is.
_FID = {
    "fd": "FID",
    "fd_infinity": "FID at N → ∞",
    "kid": "KID",
    "inception_score": "inception score",
}
NUMBERS: dict[str, tuple[str, Better]] = {
    "fd": ("FD ({})", "less"),
    "fd_infinity": ("FD at N → ∞ ({})", "less"),
    "kid": ("kernel distance ({})", "less"),
    "precision": ("precision ({})", "more"),
    "recall": ("recall ({})", "more"),
    "density": ("density ({})", None),
    "coverage": ("coverage ({})", "more"),
    "inception_score": ("classifier score ({})", "more"),
    "lpips": ("LPIPS diversity", None),
    "lpips_of_real": ("LPIPS diversity of the real", None),
    "sliced_wasserstein": ("sliced Wasserstein ({})", "less"),
    "energy": ("energy distance ({})", "less"),
    "copied": ("copied ({})", "less"),
}


def number_name(key: str, features: str) -> str:
    """Return what a number may be called: the names of the FID, the KID and the inception score
    belong to the FID's network alone.

    >>> number_name("fd", "inception-2015"), number_name("fd", "effnet-lite0")
    ('FID', 'FD (effnet-lite0)')
    """
    return (
        _FID[key]
        if features == "inception-2015" and key in _FID
        else NUMBERS[key][0].format(features)
    )


def check_metrics(given: Sequence[str] | str) -> tuple[str, ...]:
    """Return the names of metrics, each once.

    Args:
        given: The names, or one text with commas between them.

    Returns:
        The names.

    Raises:
        SteadyganError: For an unknown one, with the choices, and where none is named.
    """
    listed = given.split(",") if isinstance(given, str) else given
    names = [name.strip() for name in listed if name.strip()]
    for name in names:
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
    if not names:
        raise SteadyganError(f"no metric was named; there are: {', '.join(METRICS)}.")
    return tuple(dict.fromkeys(names))


def check_possible(metrics: Sequence[str], features: Features, event: tuple[int, ...]) -> None:
    """Raise SteadyganError, with what to do, for a metric that samples of a shape cannot have;
    before any time is spent."""
    if "inception-score" in metrics and not (features.classes and len(event) == 3):
        raise SteadyganError(
            "inception-score needs class probabilities of images: take --features inception-2015"
            " or effnet-lite0."
        )
    if "lpips" in metrics:
        if len(event) != 3:
            raise SteadyganError(
                "lpips is for images, and these samples are vectors: take energy or"
                " sliced-wasserstein."
            )
        Lpips().check(*event[1:])


def compute(
    pair: Pair, metrics: Sequence[str], progress: Progress | None = None
) -> tuple[dict[str, Estimate], dict[str, Record]]:
    """Return the numbers of these metrics by key, and the whole records; ``progress(done, total)``
    after each metric."""
    records: dict[str, Record] = {}
    for done, name in enumerate(check_metrics(metrics), start=1):
        records |= METRICS[name].records(pair)
        if progress is not None:
            progress(done, len(metrics))
    return _numbers(records), records


def take(
    samples: np.ndarray, features: Features, progress: Progress | None = None, keep: bool = True
) -> Measured:
    """Return what metrics take of samples: the features of images (N, C, H, W) uint8, or vectors
    (N, D) as they are.

    With ``keep`` the features of images come from the cache, or go there.
    """
    if samples.ndim == 4:
        return (cached if keep else measure)(samples, features, progress)
    vectors = torch.as_tensor(samples).double()
    return Measured(vectors, None, Statistics.of(vectors))


class Evaluator:
    """Measures samples against real ones whose features are taken once: for use while training,
    every k steps.

    ``real`` are images (N, C, H, W) uint8 or vectors (N, D); call it with samples (n, *event),
    images in [-1, 1], for a plain {number: value}. Samples that are not finite are infinitely bad
    (inf where less is better, else 0), never an exception, so that a run which blows up goes on to
    say so. ``better`` tells which way each number is better, ``improves`` whether a checkpoint is
    the best yet.
    Values are comparable at equal n only: draw ``size`` samples, as many as there are real ones,
    each time.

    >>> from steadygan.evaluation.features import Pixels
    >>> evaluator = Evaluator(np.random.default_rng(0).integers(0, 256, (40, 1, 2, 2), dtype=np.uint8), Pixels(), ("kid",))
    >>> evaluator.better["kid"], evaluator(torch.ones(40, 1, 2, 2))["kid"] > evaluator(torch.rand(40, 1, 2, 2) * 2 - 1)["kid"]
    ('less', True)
    """

    def __init__(
        self,
        real: np.ndarray,
        features: Features,
        metrics: Sequence[str] = ("fd",),
        progress: Progress | None = None,
    ) -> None:
        self._metrics = check_metrics(metrics)
        check_possible(self._metrics, features, real.shape[1:])
        self._real, self._features = real, features
        self._x = take(real, features, progress)

    @property
    def better(self) -> dict[str, Better]:
        """Which way each of its numbers is better, None where neither is."""
        return {
            key: NUMBERS[key][1]
            for name in self._metrics
            for key in METRICS[name].keys
            if key != "fd_infinity"
        }

    @property
    def size(self) -> int:
        """How many real samples there are."""
        return len(self._real)

    def improves(self, found: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        """Return whether the first number that has a better side is better than that of the best so
        far; anything is better than None."""
        key = next((key for key, better in self.better.items() if better is not None), None)
        if key is None:
            raise SteadyganError(
                f"{', '.join(self._metrics)}: none of these has a better side, so there is no"
                " best checkpoint; add fd."
            )
        return best is None or (
            found[key] < best[key] if self.better[key] == "less" else found[key] > best[key]
        )

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Return the values of the numbers; the distance extrapolated in 1/N, which takes several
        times as long, is left out."""
        if not samples.isfinite().all():
            return {
                key: math.inf if better == "less" else 0.0 for key, better in self.better.items()
            }
        generated = (to_bytes(samples) if samples.ndim == 4 else samples).cpu().numpy()
        pair = Pair(self._real, generated, self._x, take(generated, self._features, keep=False))
        records: dict[str, Record] = {}
        for name in self._metrics:
            # The real side is summed up once and for all: with all of a large data set it would
            # otherwise take most of the time.
            records |= (
                {"fd": frechet_distance(pair.x.statistics, pair.y.features)}
                if name == "fd"
                else METRICS[name].records(pair)
            )
        return {key: estimate.value for key, estimate in _numbers(records).items()}


def _numbers(records: Mapping[str, Record]) -> dict[str, Estimate]:
    """Return every estimate by its key: the record's where it holds one, else its own."""
    return {
        key if len(record.estimates) == 1 else part: estimate
        for key, record in records.items()
        for part, estimate in record.estimates.items()
    }
