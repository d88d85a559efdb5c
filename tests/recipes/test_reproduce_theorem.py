"""The general theorem on small GANs: assumptions by hand, and rates that a bug would miss."""

import math

import pytest

from steadygan.experiments.mescheder import theorem
from steadygan.experiments.mescheder.theorem import BLIND_CRITIC, BLIND_GENERATOR, POINT


def test_assumptions_by_hand():
    # Across the manifolds, v = (1, 1)/sqrt 2: h = (v . psi)^2, so h'' = 2 * 2 = 4; g = (t, t).
    assert theorem.assumptions(POINT) == pytest.approx((4.0, 2.0), rel=1e-6)
    assert abs(theorem.assumptions(BLIND_CRITIC)[0]) < 1e-9
    assert abs(theorem.assumptions(BLIND_GENERATOR)[1]) < 1e-9


@pytest.mark.parametrize("penalty", ["r1", "r2"])
def test_the_rate_of_a_point_by_hand(penalty):
    # u = psi1 + psi2 and t = theta1 + theta2 move by 2h times (-t/2 - gamma u) and u/2.
    h, gamma = 0.05, 0.7
    seen, radius, neutral = theorem.course(POINT, f"{penalty}:gamma={gamma}", h, 500)
    # Of 1 + 2h [[-gamma, -1/2], [1/2, 0]], complex: the modulus is the root of the determinant.
    expected = math.sqrt(1 - 2 * h * gamma + h * h)
    assert radius == pytest.approx(expected, rel=1e-9) and neutral == 2
    assert math.log(theorem.rate(seen)) == pytest.approx(math.log(expected), rel=0.01)
    _, other, _ = theorem.course(POINT, f"{penalty}:gamma={1.1 * gamma}", h, 1)
    assert abs(math.log(other) / math.log(expected) - 1) > 0.05
