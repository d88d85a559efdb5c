"""Cross-testing against arithmetic: an oracle pair, counting, a brute-force AUC, and a bootstrap
that covers what it says."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from steadygan import SteadyganError
from steadygan.evaluation.crosstest import cross_test, judged

RNG = np.random.default_rng(0)


def normal(*shape, shift=0.0):
    return shift + RNG.standard_normal(shape)


def test_one_that_knows_and_one_that_guesses():
    n = 400
    real = np.stack([np.full(n, 5.0), np.tile([1.0, -1.0], n // 2)])
    generated = np.stack(
        [np.full((2, n), -5.0), np.tile([1.0, 1.0, -1.0, -1.0], n // 4) * np.ones((2, 1))]
    )
    found = cross_test(["knows", "guesses"], real, generated)
    assert found.confusion == [[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]]
    assert [[p.value for p in row] for row in found.false_positives] == [[0.0, 0.0], [0.5, 0.5]]
    assert [m.value for m in found.false_negatives] == [0.0, 0.5]
    assert [[a.value for a in row] for row in found.auc] == [[1.0, 1.0], [0.5, 0.5]]
    # The samples of "knows" pass half of the time, those of "guesses" never: 0.5 - 0 and back.
    assert [s.value for s in found.scores] == [0.5, -0.5]
    assert [s.value for s in found.scores_auc] == [0.5, -0.5]
    assert [p.value for p in found.places] == [1.0, 2.0] and found.verdict == "knows beats guesses"
    assert 0.44 < found.scores[0].low < 0.5 < found.scores[0].high < 0.56


def test_the_papers_table():
    # CIFAR-10, as equations.md recalls it: the regularized one rejects the other's samples, the
    # unregularized accepts the regularized.
    n, logits = 10_000, {True: 1.0, False: -1.0}
    take = lambda share: np.array([logits[i < round(share * n)] for i in range(n)])  # noqa: E731
    real = np.stack([take(0.9688), take(1.0)])
    generated = np.stack([np.stack([take(0.0002), take(0.0)]), np.stack([take(1.0), take(0.0013)])])
    found = cross_test(["regularized", "unregularized"], real, generated)
    np.testing.assert_allclose(
        found.confusion, [[[0.9688, 0.0002], [0.0312, 0.9998]], [[1.0, 0.0013], [0.0, 0.9987]]]
    )
    assert found.verdict == "regularized beats unregularized" and found.scores[0].value == 1.0


def test_three_models_by_brute_force():
    real, generated = (
        normal(3, 50, shift=0.6),
        normal(3, 3, 40) - np.array([0.2, 0.0, 0.9])[None, :, None],
    )
    real[0, :5] = generated[0, 1, :5] = 0.25  # ties
    found = cross_test("abc", real, generated, seed=1)
    for i, j in itertools.product(range(3), repeat=2):
        pairs = [(a > b) + (a == b) / 2 for a in real[i] for b in generated[i, j]]
        assert found.auc[i][j].value == pytest.approx(np.mean(pairs), abs=1e-12)
        assert found.false_positives[i][j].value == pytest.approx(np.mean(generated[i, j] > 0))
        assert found.auc[i][j].low < found.auc[i][j].value < found.auc[i][j].high
    fp = np.array([[p.value for p in row] for row in found.false_positives])
    for j in range(3):
        others = [i for i in range(3) if i != j]
        assert found.scores[j].value == pytest.approx(
            np.mean([fp[i, j] - fp[j, i] for i in others])
        )
    assert sum(s.value for s in found.scores) == pytest.approx(0, abs=1e-12)
    assert sorted(p.value for p in found.places) == [1, 2, 3]


def test_batches_are_of_all_classes_though_a_file_has_them_one_after_the_other():
    by_class = torch.tensor([0.0] * 32 + [1.0] * 32)[:, None] + torch.arange(64)[:, None] / 1000
    norm = nn.BatchNorm1d(1)
    critics = [
        torch.flatten,
        lambda x: torch.cat([norm(part) for part in x.split(16)]).flatten(),
    ]
    (alone, together), _ = judged(critics, by_class, [torch.zeros(2, 1)] * 2)
    assert torch.equal(alone, by_class.flatten())  # in the file's order
    # A batch of one class would have its mean at 0.
    assert torch.equal(together > 0, by_class.flatten() >= 1)


def test_a_bias_decides_the_threshold_and_not_the_area():
    real, generated = normal(2, 300, shift=1.0), normal(2, 2, 300)
    plain = cross_test("ab", real, generated)
    biased = cross_test(
        "ab", real + np.array([[0], [3]]), generated + np.array([0, 3])[:, None, None]
    )
    assert [[a.value for a in row] for row in plain.auc] == [
        [a.value for a in row] for row in biased.auc
    ]
    assert plain.verdict.startswith("undecided") and biased.verdict == "a beats b"
    assert abs(biased.scores_auc[0].value) < 0.1


def test_renaming_models_renames_the_result():
    real, generated = normal(3, 60), normal(3, 3, 70)
    order = [2, 0, 1]
    one, two = (
        cross_test("abc", real, generated),
        cross_test("cab", real[order], generated[order][:, order]),
    )
    for i, k in enumerate(order):
        assert two.scores[i].value == pytest.approx(one.scores[k].value)
        assert [a.value for a in two.auc[i]] == pytest.approx([one.auc[k][m].value for m in order])


def test_intervals_cover():
    # 200 experiments with the true score known: 95 % intervals hold it in 95 % of them, give or
    # take three standard errors.
    rng, inside = np.random.default_rng(3), [0, 0]
    for seed in range(200):
        real = rng.standard_normal((2, 120)) + 1
        generated = (
            rng.standard_normal((2, 2, 120)) + np.array([[0.0, -0.3], [0.4, 0.0]])[..., None]
        )
        found = cross_test("ab", real, generated, seed=seed)
        true = norm.cdf(0.4) - norm.cdf(-0.3)
        inside[0] += found.scores[0].low <= true <= found.scores[0].high
        area = norm.cdf((1 - 0.4) / 2**0.5)
        inside[1] += found.auc[1][0].low <= area <= found.auc[1][0].high
    assert all(0.90 <= count / 200 <= 0.995 for count in inside), inside


@pytest.mark.parametrize(
    ("names", "real", "generated", "why"),
    [
        ("a", (1, 5), (1, 1, 5), "at least two"),
        ("ab", (2, 5), (2, 3, 5), "need logits"),
        ("ab", (2, 1), (2, 2, 5), "need logits"),
        ("abc", (2, 5), (2, 2, 5), "need logits"),
    ],
)
def test_what_cannot_be_compared_is_refused(names, real, generated, why):
    with pytest.raises(SteadyganError, match=why):
        cross_test(names, torch.zeros(real), torch.zeros(generated))


def test_a_diverged_discriminator_is_refused():
    with pytest.raises(SteadyganError, match="not finite"):
        cross_test("ab", torch.full((2, 5), torch.nan), torch.zeros(2, 2, 5))
