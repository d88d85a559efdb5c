"""Cross-testing: each discriminator on its own samples and on those of every other model.

A discriminator says how good its own generator's samples are only to itself. Across models it
becomes a comparison: the better model's discriminator rejects the other's samples, and its samples
pass the other's discriminator.

Reference: Roth et al. 2017, section 5.5; after Im et al. 2016, "Generative adversarial metric".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..core.errors import SteadyganError
from .estimate import Estimate, Points, normal, plain, share_of
from .features import Progress

RESAMPLES = 1000
"""How many bootstrap samples the ranking's intervals are made of."""


@dataclass(frozen=True)
class CrossTest:
    """What R models' discriminators say of R models' samples.

    Logits are large on real samples, thresholds at 0.

    confusion: of each model, columns real and generated, rows accepted and rejected, each column
    adding up to 1. false_positives[i][j]: share of model j's samples that discriminator i takes for
    real. false_negatives[i]: share of test samples that it takes for generated. auc[i][j]:
    probability that it puts a test sample above one of model j's; a bias cannot decide it.
    scores: of each model, the mean over the others of (how often its samples pass their
    discriminator) - (how often theirs pass its own), from -1 to 1; scores_auc: the same of 1 - AUC.
    places: the place of each by its score, with the bootstrap's interval.
    verdict: what follows, in words.
    """

    names: tuple[str, ...]
    confusion: list[list[list[float]]]
    false_positives: list[list[Estimate]]
    false_negatives: list[Estimate]
    auc: list[list[Estimate]]
    scores: list[Estimate]
    scores_auc: list[Estimate]
    places: list[Estimate]
    verdict: str
    samples: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; an estimate is {value, low, high}."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


def judged(
    critics: Sequence[Callable[[Tensor], Tensor]],
    real: Tensor,
    samples: Sequence[Tensor],
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what ``cross_test`` takes.

    Each critic's logits of the test samples, (R, N), and of every model's samples, (R, R, M).

    ``progress(done, total)`` is called after each critic.
    """
    # A file may have them by class, and batch normalisation must see them mixed, as in training.
    mixed = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))
    back = mixed.argsort()
    own, theirs = [], []
    for done, critic in enumerate(critics, start=1):
        own.append(critic(real[mixed])[back])
        theirs.append(torch.stack([critic(x) for x in samples]))
        if progress is not None:
            progress(done, len(critics))
    return torch.stack(own), torch.stack(theirs)


def cross_test(names: Sequence[str], real: Points, generated: Points, seed: int = 0) -> CrossTest:
    r"""Return the cross-test of R models from logits.

    real: (R, N), discriminator i at N test samples; generated: (R, R, M), discriminator i at M
    samples of model j. The score of model j is :math:`\frac{1}{R-1} \sum_{i \ne j} (FP_{ij} -
    FP_{ji})`; for two models it is one false-positive rate minus the other.

    Shares have Wilson's 95 % intervals, AUCs DeLong's, scores and places those of a bootstrap over
    test samples and over each model's samples. Raises SteadyganError for fewer than two models, for
    shapes that do not fit, and for logits that are not finite.

    >>> knows = [[3.0, 3.0], [1.0, -1.0]]
    >>> guesses = [[[-3.0, -3.0], [-3.0, -3.0]], [[1.0, 1.0], [1.0, -1.0]]]
    >>> cross_test(["knows", "guesses"], torch.tensor(knows), torch.tensor(guesses)).confusion
    [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]

    Reference: Roth et al. 2017, section 5.5; DeLong et al. 1988 for the AUC's error.
    """
    x, y = (torch.as_tensor(t).detach().cpu().double() for t in (real, generated))
    count = len(names)
    if count < 2:
        raise SteadyganError("a cross-test compares at least two models.")
    if (
        x.ndim != 2
        or len(x) != count
        or y.ndim != 3
        or y.shape[:2] != (count, count)
        or x.shape[1] < 2
        or y.shape[2] < 2
    ):
        raise SteadyganError(
            f"{count} models need logits ({count}, N) and ({count}, {count}, M), not"
            f" {tuple(x.shape)} and {tuple(y.shape)}."
        )
    if not (x.isfinite().all() and y.isfinite().all()):
        raise SteadyganError(
            "a discriminator's logits are not finite: the run has diverged, or its samples have."
        )
    accepted, rejected = y > 0, x <= 0
    passes = [[share_of(accepted[i, j]) for j in range(count)] for i in range(count)]
    misses = [share_of(rejected[i]) for i in range(count)]
    areas, by_real, by_generated = _areas(x, y)
    rng = torch.Generator().manual_seed(seed)
    weights = [_resampled(y.shape[2], rng) for _ in range(count)]
    spread = torch.stack(
        [accepted[:, j].double() @ weights[j] for j in range(count)], dim=1
    )  # (R, R, resamples)
    real_weights = _resampled(x.shape[1], rng)
    # The AUC's bootstrap to first order, by its influence functions: exact resampling would sort
    # every resample.
    shift = torch.stack(
        [by_generated[:, j] @ (weights[j] - 1 / y.shape[2]) for j in range(count)], dim=1
    )
    spread_auc = areas[..., None] + by_real @ (real_weights - 1 / x.shape[1]) + shift
    point = torch.tensor([[p.value for p in row] for row in passes], dtype=torch.float64)
    scores = _score(point[..., None])[:, 0], _score(spread)
    scores_auc = _score(1 - areas[..., None])[:, 0], _score(1 - spread_auc)
    found = [_interval(*pair) for pair in zip(*scores, strict=True)]
    return CrossTest(
        tuple(names),
        [
            [[1 - m.value, p[i].value], [m.value, 1 - p[i].value]]
            for i, (m, p) in enumerate(zip(misses, passes, strict=True))
        ],
        passes,
        misses,
        [
            [
                normal(areas[i, j].item(), _error(by_real[i, j], by_generated[i, j]))
                for j in range(count)
            ]
            for i in range(count)
        ],
        found,
        [_interval(*pair) for pair in zip(*scores_auc, strict=True)],
        [
            _interval(*pair)
            for pair in zip(_places(scores[0][:, None])[:, 0], _places(scores[1]), strict=True)
        ],
        _verdict(names, found, scores[1]),
        (x.shape[1], y.shape[2]),
    )


def _areas(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return AUCs (R, R), and each sample's part in them.

    Of test samples (R, R, N), of generated ones (R, R, M).
    """
    count = len(x)
    by_real = torch.stack(
        [torch.stack([_below(x[i], y[i, j]) for j in range(count)]) for i in range(count)]
    )
    by_generated = torch.stack(
        [torch.stack([1 - _below(y[i, j], x[i]) for j in range(count)]) for i in range(count)]
    )
    return by_real.mean(2), by_real, by_generated


def _below(a: Tensor, b: Tensor) -> Tensor:
    """Return for each of a the share of b that lies below it, ties counted half.

    (N,), (M,) -> (N,).
    """
    b = b.sort().values
    return (torch.searchsorted(b, a) + torch.searchsorted(b, a, right=True)).double() / (2 * len(b))


def _error(by_real: Tensor, by_generated: Tensor) -> float:
    return float((by_real.var() / len(by_real) + by_generated.var() / len(by_generated)).sqrt())


def _resampled(n: int, rng: torch.Generator) -> Tensor:
    """Return bootstrap weights (n, RESAMPLES), each column adding up to 1."""
    drawn = torch.randint(n, (n, RESAMPLES), generator=rng)
    return (
        torch.zeros(n, RESAMPLES, dtype=torch.float64).scatter_add_(
            0, drawn, torch.ones(n, RESAMPLES, dtype=torch.float64)
        )
        / n
    )


def _score(passes: Tensor) -> Tensor:
    """Return (R, B) of (R, R, B), [i, j] how model j's samples fare with discriminator i."""
    off = ~torch.eye(len(passes), dtype=torch.bool)[..., None]
    return ((passes - passes.transpose(0, 1)) * off).sum(0) / (len(passes) - 1)


def _places(scores: Tensor) -> Tensor:
    """Return places (R, B) from 1; equal scores share the mean of their places."""
    above = (scores[None] > scores[:, None]).sum(1)
    level = (scores[None] == scores[:, None]).sum(1)
    return 1 + above.double() + (level.double() - 1) / 2


def _interval(value: Tensor, resamples: Tensor) -> Estimate:
    low, high = resamples.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Estimate(value.item(), low.item(), high.item())


def _verdict(names: Sequence[str], scores: list[Estimate], resamples: Tensor) -> str:
    order = sorted(range(len(names)), key=lambda i: -scores[i].value)
    said = names[order[0]]
    for one, other in pairwise(order):
        # The difference of two scores, not their intervals: they are made of the same samples.
        apart = (resamples[one] - resamples[other]).quantile(0.025) > 0
        said += f" {'beats' if apart else '≈'} {names[other]}"
    return said if "beats" in said else f"undecided: {said}"
