"""What can be measured of a set of samples, by name, as ``--metrics`` spells it.

A metric is a registered class that declares its numbers: what each is called, and which side of it
is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch

from ..core.errors import SteadyganError
from ..core.registry import base, build, names, register
from . import distances
from .cache import Measured, cached, measure
from .distances import (
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
from .features import Features, Progress
from .lpips import Lpips
from .statistics import Statistics

Better = Literal["less", "more"] | None


@dataclass(frozen=True)
class Pair:
    """Real and generated samples as metrics take them, and their features.

    The raw ones are images (N, C, H, W) uint8 or vectors (N, D).
    """

    real: np.ndarray
    generated: np.ndarray
    x: Measured
    y: Measured

    @cached_property
    def manifolds(self) -> tuple[distances.PrecisionRecall, distances.DensityCoverage]:
        """Both records of balls around samples, whose distances are computed once."""
        return distances.manifolds(self.x.features, self.y.features)


class Number(NamedTuple):
    """A number that a metric gives.

    ``title`` is its name for people, {} being the features; ``better`` is which side is better,
    None where neither is; ``fid`` is what it may be called where the features are the network of
    the FID, to which the names of the FID, the KID and the inception score belong.
    """

    title: str
    better: Better
    fid: str = ""

    def name(self, features: str) -> str:
        """Return what it is called in these features.

        >>> fd = number("fd")
        >>> fd.name("inception-2015"), fd.name("effnet-lite0")
        ('FID', 'FD (effnet-lite0)')
        """
        if features == "inception-2015" and self.fid:
            return self.fid
        return self.title.format(features)


@base("metric")
class Metric:
    """Base of every metric: a registered frozen dataclass that turns a ``Pair`` into records."""

    @property
    def numbers(self) -> Mapping[str, Number]:
        """What it gives, by key."""
        raise NotImplementedError

    def check(self, features: Features, event: tuple[int, ...]) -> None:
        """Refuse samples that it cannot measure, before any time is spent.

        Args:
            features: What images are compared in.
            event: The shape of a sample.

        Raises:
            SteadyganError: With what to do instead.
        """

    def records(self, pair: Pair) -> dict[str, Record]:
        """Measure.

        Args:
            pair: Real and generated samples.

        Returns:
            Records: one that holds one estimate by that number's key, one that holds several by any
            name, with the numbers' keys as its fields.
        """
        raise NotImplementedError

    def while_training(self) -> Metric:
        """Return the metric that a run takes of itself, where this one takes too long."""
        return self


@register("metric", "fd")
@dataclass(frozen=True)
class FD(Metric):
    """Fréchet distance |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)), and at N → ∞.

    With ``extrapolate`` also the value at infinitely many samples. In squared units of the
    features. Reference: Heusel et al. 2017, arXiv:1706.08500; Chong and Forsyth 2020,
    arXiv:1911.07023.
    """

    extrapolate: bool = True

    @property
    def numbers(self) -> Mapping[str, Number]:
        """Its numbers by key."""
        found = {"fd": Number("FD ({})", "less", "FID")}
        limit = {"fd_infinity": Number("FD at N → ∞ ({})", "less", "FID at N → ∞")}
        return found | limit if self.extrapolate else found

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the records; below 16 samples there is nothing to extrapolate."""
        x, y = pair.x.features, pair.y.features
        if not self.extrapolate:
            # The real side is summed up once and for all: with all of a large data set it would
            # otherwise take most of the time.
            return {"fd": frechet_distance(pair.x.statistics, y)}
        found: dict[str, Record] = {"fd": frechet_distance(x, y)}
        if len(x) == len(y) >= 16:
            found["fd_infinity"] = frechet_extrapolation(x, y)
        return found

    def while_training(self) -> Metric:
        """Return the distance alone; extrapolating takes several times as long."""
        return replace(self, extrapolate=False)


@register("metric", "kid")
@dataclass(frozen=True)
class KID(Metric):
    """Kernel distance: the squared MMD with the kernel (<a, b>/D + 1)^3, unbiased at every N.

    Reference: Bińkowski et al. 2018, arXiv:1801.01401.
    """

    numbers: ClassVar = {"kid": Number("kernel distance ({})", "less", "KID")}

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        return {"kid": kernel_distance(pair.x.features, pair.y.features)}


@register("metric", "precision-recall")
@dataclass(frozen=True)
class PrecisionRecall(Metric):
    """Share of generated samples among the real ones, and of real ones among the generated ones.

    Reference: Kynkäänniemi et al. 2019, arXiv:1904.06991.
    """

    numbers: ClassVar = {
        "precision": Number("precision ({})", "more"),
        "recall": Number("recall ({})", "more"),
    }

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        x, y = pair.x.features, pair.y.features
        shared = min(len(x), len(y)) > 5  # what the balls of the density need
        return {"precision-recall": pair.manifolds[0] if shared else precision_recall(x, y)}


@register("metric", "density-coverage")
@dataclass(frozen=True)
class DensityCoverage(Metric):
    """How many real balls hold a generated sample, and the share of real balls that hold any.

    Reference: Naeem et al. 2020, arXiv:2002.09797.
    """

    numbers: ClassVar = {
        "density": Number("density ({})", None),
        "coverage": Number("coverage ({})", "more"),
    }

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        return {"density-coverage": pair.manifolds[1]}


@register("metric", "inception-score")
@dataclass(frozen=True)
class InceptionScore(Metric):
    """exp(E KL(p(k|y) || p(k))) of class probabilities; it never looks at real data.

    Reference: Salimans et al. 2016, arXiv:1606.03498.
    """

    numbers: ClassVar = {
        "inception_score": Number("classifier score ({})", "more", "inception score")
    }

    def check(self, features: Features, event: tuple[int, ...]) -> None:
        """Refuse features that know no classes."""
        if not (features.classes and len(event) == 3):
            raise SteadyganError(
                "inception-score needs class probabilities of images: take --features"
                " inception-2015 or effnet-lite0."
            )

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        assert pair.y.probabilities is not None
        return {"inception_score": inception_score(pair.y.probabilities)}


@register("metric", "lpips")
@dataclass(frozen=True)
class LpipsDiversity(Metric):
    """Mean LPIPS distance of disjoint pairs of generated images, beside that of the real ones.

    Reference: Zhang et al. 2018, arXiv:1801.03924.
    """

    numbers: ClassVar = {
        "lpips": Number("LPIPS diversity", None),
        "lpips_of_real": Number("LPIPS diversity of the real", None),
    }

    def check(self, features: Features, event: tuple[int, ...]) -> None:
        """Refuse vectors, images that are too small, and weights that are missing."""
        if len(event) != 3:
            raise SteadyganError(
                "lpips is for images, and these samples are vectors: take energy or"
                " sliced-wasserstein."
            )
        Lpips().check(*event[1:])

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        distance = Lpips()
        return {
            "lpips": lpips_diversity(pair.generated, distance),
            "lpips_of_real": lpips_diversity(pair.real, distance),
        }


@register("metric", "sliced-wasserstein")
@dataclass(frozen=True)
class SlicedWasserstein(Metric):
    """Mean over directions u of the Wasserstein-1 distance of <x, u> and <y, u>.

    In units of the features. Reference: Bonneel et al. 2015.
    """

    numbers: ClassVar = {"sliced_wasserstein": Number("sliced Wasserstein ({})", "less")}

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        return {"sliced_wasserstein": sliced_wasserstein(pair.x.features, pair.y.features)}


@register("metric", "energy")
@dataclass(frozen=True)
class Energy(Metric):
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'|, 0 only for equal distributions.

    In units of the features. Reference: Székely and Rizzo 2013.
    """

    numbers: ClassVar = {"energy": Number("energy distance ({})", "less")}

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        return {"energy": energy_distance(pair.x.features, pair.y.features)}


@register("metric", "memorisation")
@dataclass(frozen=True)
class Memorisation(Metric):
    """Share of generated samples that are suspiciously near a training sample.

    Reference: Alaa et al. 2022, arXiv:2102.08921.
    """

    numbers: ClassVar = {"copied": Number("copied ({})", "less")}

    def records(self, pair: Pair) -> dict[str, Record]:
        """Return the record of this pair."""
        return {"copied": nearest_neighbours(pair.x.features, pair.y.features)}


def number(key: str) -> Number:
    """Return what a metric declares of one of its numbers.

    Args:
        key: Of the number, ``fd_infinity``.

    Returns:
        The number.

    Raises:
        SteadyganError: Where no metric, or more than one, gives a number of that key.

    >>> number("recall").better
    'more'
    """
    metrics = (build("metric", name) for name in names("metric"))
    found: list[Number] = [metric.numbers[key] for metric in metrics if key in metric.numbers]
    if len(found) != 1:
        raise SteadyganError(
            f"{len(found) or 'no'} metrics give a number {key!r}, and one must: the keys of a"
            " metric's numbers are its own."
        )
    return found[0]


def build_metrics(given: Sequence[str] | str) -> tuple[Metric, ...]:
    """Return metrics, each once.

    Args:
        given: Their names, or one text with commas between them.

    Returns:
        The metrics.

    Raises:
        SteadyganError: For an unknown one, with the choices, and where none is named.
    """
    listed = given.split(",") if isinstance(given, str) else given
    wanted = dict.fromkeys(name.strip() for name in listed if name.strip())
    if not wanted:
        raise SteadyganError(f"no metric was named; there are: {', '.join(names('metric'))}.")
    return tuple(build("metric", name) for name in wanted)


def compute(
    pair: Pair, metrics: Sequence[Metric | str], progress: Progress | None = None
) -> tuple[dict[str, Estimate], dict[str, Record]]:
    """Return the numbers of metrics by key, and the whole records.

    Args:
        pair: Real and generated samples.
        metrics: The metrics, or their names.
        progress: Is told ``(done, total)`` after each metric.

    Returns:
        Every estimate by its key, and every record by its name.
    """
    records: dict[str, Record] = {}
    for done, metric in enumerate(metrics, start=1):
        records |= build("metric", metric).records(pair)
        if progress is not None:
            progress(done, len(metrics))
    numbers = {
        key if len(record.estimates) == 1 else part: estimate
        for key, record in records.items()
        for part, estimate in record.estimates.items()
    }
    return numbers, records


def take(
    samples: np.ndarray, features: Features, progress: Progress | None = None, keep: bool = True
) -> Measured:
    """Return what metrics take of samples.

    Args:
        samples: Images (N, C, H, W) uint8, or vectors (N, D).
        features: What images are compared in; vectors are compared as they are.
        progress: Is told ``(done, total)`` after each batch.
        keep: Whether features of images come from the cache, or go there.

    Returns:
        The features and their statistics.
    """
    if samples.ndim == 4:
        return (cached if keep else measure)(samples, features, progress)
    vectors = torch.as_tensor(samples).double()
    return Measured(vectors, None, Statistics.of(vectors))
