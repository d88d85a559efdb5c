"""Every registered f-divergence against the definitions: convexity, the numeric supremum, duality
and the weight of Eq. 19."""

import math

import checks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from steadygan.core import SteadyganError, build, names
from steadygan.core.divergences import log_lambert

# Alpha has a setting, so it joins with several.
ALL = [*names("divergence"), *(f"alpha:alpha={a}" for a in (-1.5, -0.4, 0.3, 1.4, 2, 3.2))]
every = pytest.mark.parametrize("spelling", ALL)
RATIOS = torch.tensor([0.05, 0.2, 0.6, 1.0, 1.7, 4.0, 20.0], dtype=torch.float64)
RAW = torch.linspace(
    -3, 3, 13, dtype=torch.float64
)  # raw outputs; without 1 / (1 - a) of the alphas above
AT_ONE = {"gan": -2 * math.log(2)}


def derivative(function, x, order=1):
    """The derivative of an elementwise function by automatic differentiation."""
    x = x.detach().clone().requires_grad_()
    y = function(x)
    for _ in range(order):
        if not y.requires_grad:
            return torch.zeros_like(x)
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y.detach()


def close(found, expected, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def raw(divergence):
    """Raw outputs inside the guarded domain: alpha's f* is a tangent beyond it."""
    if not hasattr(divergence, "alpha"):
        return RAW
    a = divergence.alpha
    return RAW[(1 + RAW * (a - 1)) > 0.02]


@every
def test_f_is_convex_and_vanishes_at_one(spelling):
    divergence = build("divergence", spelling)
    assert divergence.f(torch.ones(1, dtype=torch.float64)).item() == pytest.approx(
        AT_ONE.get(spelling, 0.0), abs=1e-15
    )
    assert (derivative(divergence.f, RATIOS, 2) > 0).all()


@every
@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 50), st.floats(0.01, 50), st.floats(0, 1))
def test_f_lies_below_its_chords(spelling, u, w, share):
    f = build("divergence", spelling).f
    points = torch.tensor([u, w, share * u + (1 - share) * w], dtype=torch.float64)
    left, right, inside = f(points)
    assert inside <= share * left + (1 - share) * right + 1e-9 * (1 + left.abs() + right.abs())


@every
def test_slope_is_the_derivative_of_f(spelling):
    divergence = build("divergence", spelling)
    close(divergence.slope(RATIOS), derivative(divergence.f, RATIOS))


@every
def test_conjugate_is_the_numeric_supremum(spelling):
    """f*(t) = sup over u > 0 of ut - f(u), searched in log u without knowing where it is
    reached."""
    divergence = build("divergence", spelling)
    for ratio in torch.logspace(-1.3, 1.3, 14, dtype=torch.float64):
        t = divergence.slope(ratio)
        found = minimize_scalar(
            lambda log_u, t=t: (
                -(
                    math.exp(log_u) * t
                    - divergence.f(torch.tensor(log_u, dtype=torch.float64).exp())
                ).item()
            ),
            bounds=(-6, 6),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert divergence.conjugate(t).item() == pytest.approx(-found.fun, rel=1e-9, abs=1e-9)


@every
def test_second_derivatives_are_dual(spelling):
    divergence = build("divergence", spelling)
    close(
        derivative(divergence.conjugate, divergence.slope(RATIOS), 2),
        1 / derivative(divergence.f, RATIOS, 2),
        rtol=1e-7,
    )


@every
def test_first_derivatives_are_inverse(spelling):
    """f*'(f'(r)) = r: at the optimum f*' is the density ratio (Eq. 15)."""
    divergence = build("divergence", spelling)
    close(derivative(divergence.conjugate, divergence.slope(RATIOS)), RATIOS)


@every
def test_weight_is_what_the_chain_rule_gives(spelling):
    divergence = build("divergence", spelling)
    v = raw(divergence)
    expected = derivative(divergence.activation, v).square() * derivative(
        divergence.conjugate, divergence.activation(v), 2
    )
    close(divergence.weight(v), expected, rtol=1e-7)


@every
def test_root_is_that_of_the_weight(spelling):
    divergence = build("divergence", spelling)
    close(divergence.root(RAW).square(), divergence.weight(RAW))
    assert (divergence.root(RAW) >= 0).all()


@every
def test_fake_score_is_the_conjugate_after_the_activation(spelling):
    divergence = build("divergence", spelling)
    v = raw(divergence)
    close(divergence.fake_score(v), divergence.conjugate(divergence.activation(v)))


@every
def test_activation_is_increasing(spelling):
    assert (derivative(build("divergence", spelling).activation, RAW) > 0).all()


# The last column of the table in equations.md, at v and as a function of r = p/q where the critic
# is optimal.
WEIGHTS = {
    "kl": lambda v: v.exp(),
    "reverse-kl": lambda v: v * 0 + 1,
    "pearson": lambda v: v * 0 + 0.5,
    "neyman": lambda v: 0.5 * (-v / 2).exp(),
    "squared-hellinger": lambda v: 2 * v.exp(),
    "js": torch.sigmoid,
    "gan": torch.sigmoid,
}
IN_RATIO = {
    "kl": lambda r: r,
    "reverse-kl": lambda r: r**2,
    "pearson": lambda r: r * 0 + 0.5,
    "neyman": lambda r: r**3 / 2,
    "squared-hellinger": lambda r: 2 * r**1.5,
    "js": lambda r: r * (1 + r),
    "gan": lambda r: r * (1 + r),
    "jeffrey": lambda r: r**2 / (1 + r),
    "alpha": lambda r: r**1.5,
    "alpha:alpha=3.2": lambda r: r**-1.2,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_as_printed(name):
    close(build("divergence", name).weight(RAW), WEIGHTS[name](RAW))


@pytest.mark.parametrize("name", IN_RATIO)
def test_second_derivative_as_printed(name):
    divergence = build("divergence", name)
    close(
        derivative(divergence.conjugate, divergence.slope(RATIOS), 2),
        IN_RATIO[name](RATIOS),
        rtol=1e-7,
    )


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_confident_raw_outputs_stay_finite(spelling, dtype):
    """At |v| = 30 in single precision a sigmoid is 1 and exp(-v) is lost beside 1; value, weight
    and slopes must survive."""
    divergence = build("divergence", spelling)
    v = torch.tensor([-30.0, -12.0, 0.5, 12.0, 30.0], dtype=dtype)
    for function in (
        divergence.fake_score,
        divergence.activation,
        divergence.weight,
        divergence.root,
    ):
        assert function(v).dtype == dtype and function(v).isfinite().all()
        assert derivative(function, v).isfinite().all()
    assert (divergence.weight(v) >= 0).all()


@every
def test_third_derivatives_exist(spelling):
    """A penalty's gradient in the analysis differentiates the weight twice more."""
    divergence = build("divergence", spelling)
    v = torch.tensor([-0.4, 0.2, 0.35], dtype=torch.float64, requires_grad=True)
    for function in (divergence.weight, divergence.root, divergence.fake_score):
        # The square keeps a graph where the weight is constant.
        assert torch.autograd.gradcheck(lambda v, f=function: v.square() + f(v), v)
        assert torch.autograd.gradgradcheck(lambda v, f=function: v.square() + f(v), v)


# ------------------------------------------------------------ alpha


@pytest.mark.parametrize("eps", [1e-4, -1e-4])
def test_alpha_tends_to_kl_and_reverse_kl(eps):
    """a -> 1: u log u - (u - 1); a -> 0: -log u + u - 1, both to first order: half the distance,
    half the error."""
    kl, reverse = build("divergence", "kl"), build("divergence", "reverse-kl")
    u, t = RATIOS[RATIOS != 1], torch.tensor([-2.0, -0.5, 0.3, 0.7], dtype=torch.float64)

    def errors(distance):
        one, zero = (build("divergence", f"alpha:alpha={a + distance}") for a in (1, 0))
        # Adding c(u - 1) to f shifts the dual: f*(t - c) + c.
        yield one.f(u) - (kl.f(u) - (u - 1))
        yield zero.f(u) - (reverse.f(u) + u - 1)
        yield one.conjugate(t) - (kl.conjugate(t + 1) - 1)
        yield zero.conjugate(t) - (reverse.conjugate(t - 1) + 1)

    for full, half in zip(errors(eps), errors(eps / 2), strict=True):
        assert full.abs().max() < 0.05
        torch.testing.assert_close(full / half, torch.full_like(full, 2.0), rtol=2e-3, atol=0)


def test_alpha_two_is_half_pearson_and_minus_one_half_neyman():
    for a, name in ((2, "pearson"), (-1, "neyman")):
        close(
            build("divergence", f"alpha:alpha={a}").f(RATIOS),
            build("divergence", name).f(RATIOS) / 2,
        )


@pytest.mark.parametrize("a", [-1.5, -0.4, 0.3, 0.5, 1.4, 2.0, 3.2])
@pytest.mark.parametrize("ratio", [1e-4, 1e4])
def test_alpha_continues_as_its_tangent(a, ratio):
    """f* and f*' are continuous where the guard sets in, and f* is affine beyond."""
    divergence = build("divergence", f"alpha:alpha={a}")
    edge = divergence.slope(torch.tensor(ratio, dtype=torch.float64))
    outward = math.copysign(1e-3 * ratio ** (a - 1), ratio - 1)  # dt = r^(a-1) dr/r
    for side in (edge - outward, edge + outward):
        error = divergence.conjugate(side) - divergence.conjugate(edge) - ratio * (side - edge)
        assert (
            error.abs() < 5e-3 * ratio * abs(outward) + 1e-15
        )  # the curvature's share, quadratic in the step, and rounding
    beyond = edge + outward * torch.tensor([1.0, 1e3, 1e6], dtype=torch.float64)
    close(derivative(divergence.conjugate, beyond), torch.full_like(beyond, ratio))


@pytest.mark.parametrize("value", ["0", "1", "nan", "inf"])
def test_alpha_refuses_what_is_no_alpha_divergence(value):
    with pytest.raises(SteadyganError, match="alpha is any finite number but 0 and 1"):
        build("divergence", f"alpha:alpha={value}")


# ------------------------------------------------------------ the Lambert function in logs


@settings(deadline=None, max_examples=60)
@given(st.floats(-600, 600))
def test_log_lambert_solves_its_equation(y):
    x = log_lambert(torch.tensor(y, dtype=torch.float64))
    assert (x.exp() + x).item() == pytest.approx(y, rel=1e-13, abs=1e-13)
    if y < 700 and y > -30:
        assert x.exp().item() == pytest.approx(lambertw(math.exp(y)).real, rel=1e-12)


def test_log_lambert_has_three_derivatives():
    """x' = 1/(1 + W), x'' = -W/(1 + W)^3, x''' = W(2W - 1)/(1 + W)^5, far beyond where exp(y) can
    be written."""
    y = torch.tensor(
        [-800.0, -40.0, -3.0, 0.0, 0.9, 1.0, 1.1, 4.0, 50.0, 900.0], dtype=torch.float64
    )
    w = log_lambert(y).exp()
    close(derivative(log_lambert, y), 1 / (1 + w), rtol=1e-12, atol=0)
    close(derivative(log_lambert, y, 2), -w / (1 + w) ** 3, rtol=1e-9, atol=1e-14)
    close(derivative(log_lambert, y, 3), w * (2 * w - 1) / (1 + w) ** 5, rtol=1e-8, atol=1e-13)
    some = torch.tensor([-2.0, 0.3, 1.0, 6.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_lambert, some) and torch.autograd.gradgradcheck(
        log_lambert, some
    )


def test_log_lambert_in_single_precision():
    y = torch.tensor([-300.0, -1.0, 2.0, 80.0, 1000.0])
    x = log_lambert(y)
    assert x.dtype == torch.float32 and torch.allclose(x.exp() + x, y, rtol=1e-6)


@every
def test_documentation_and_spelling(spelling):
    divergence = build("divergence", spelling)
    checks.documents_itself(divergence)
    checks.spells_itself(divergence, "divergence")
