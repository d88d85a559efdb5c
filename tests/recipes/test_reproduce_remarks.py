"""What the remarks of Roth et al. are held against, computed another way."""

import math

import pytest
import torch

from steadygan.experiments.roth import remarks


def test_the_exact_distance_of_the_clipped_critics():
    ((gap, exact),) = remarks._clipped((1.0,), 30).values()
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert exact == pytest.approx((2 + 0.5 * z).abs().mean().item(), rel=0.02)
    assert 0 < gap < exact


def test_the_price_of_a_laplacian_grows_with_the_dimension():
    (row,), (dimensions, costs) = remarks._hessians((4, 16), 8)
    assert list(dimensions) == [4, 16] and costs[1] > 3 * costs[0] > 3
    assert float(row.measured) == pytest.approx(math.log(costs[1] / costs[0]) / math.log(4))


@pytest.mark.parametrize("wrong", [0.8, 1.2])
def test_noise_of_another_variance_is_seen(monkeypatch, wrong):
    (right,) = remarks._laplace()
    assert right.holds
    sqrt = math.sqrt
    monkeypatch.setattr(remarks.math, "sqrt", lambda x: wrong * sqrt(x))
    (row,) = remarks._laplace()
    assert not row.holds and float(row.measured) == pytest.approx(1.0, abs=0.15)
