"""Strengths over time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygan.core import SteadyganError
from steadygan.core.schedules import SCHEDULES, Cosine, Exponential, Schedule, strength, strength_at


def test_exponential_annealing_is_that_of_the_papers_code():
    """gamma_t = gamma_0 alpha^(t/T), alpha = 0.01: it ends at 1 % of the start."""
    schedule = Exponential(2.0, 0.01)
    assert [strength_at(schedule, t) for t in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(
        [2.0, 2 * 0.01**0.25, 0.2, 0.02], rel=1e-12
    )


def test_cosine_annealing():
    schedule = Cosine(2.0, 0.1)
    expected = [2.0, 2 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2), 1.1, 0.2]
    assert [strength_at(schedule, t) for t in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("cls", SCHEDULES.values())
@settings(deadline=None, max_examples=50)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 10), st.floats(0, 1), st.floats(0, 1))
def test_schedules_run_monotonically_from_start_to_factor(cls, start, factor, one, other):
    schedule = cls(start, factor)
    assert schedule(0.0) == pytest.approx(start) and schedule(1.0) == pytest.approx(start * factor)
    early, late = sorted((one, other))
    change = (schedule(late) - schedule(early)) * math.copysign(1, factor - 1)
    assert change >= -1e-12 * start * max(factor, 1)


@pytest.mark.parametrize("progress", [None, -0.01, 1.01, math.nan])
def test_progress_is_a_share(progress):
    with pytest.raises(SteadyganError, match="progress"):
        strength_at(Exponential(1.0, 0.5), progress)


def test_constants_need_no_progress():
    tensor = torch.tensor(3.0)
    assert strength_at(2.5, None) == 2.5 and strength_at(tensor, None) is tensor


@pytest.mark.parametrize(
    "start, factor",
    [(-1.0, 0.5), (math.nan, 0.5), (math.inf, 0.5), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan)],
)
@pytest.mark.parametrize("cls", SCHEDULES.values())
def test_refuses_what_is_no_annealing(cls, start, factor):
    with pytest.raises(SteadyganError):
        cls(start, factor)


def test_strength_folds_anneal_into_a_schedule():
    assert strength(2, None, "exponential", "gamma") == 2.0 and isinstance(
        strength(2, None, "exponential", "gamma"), float
    )
    assert strength(2, 0.01, "exponential", "gamma") == Exponential(2.0, 0.01)
    assert strength(2, 0.01, "cosine", "gamma") == Cosine(2.0, 0.01)
    assert strength(Cosine(1.0, 0.5), None, "exponential", "gamma") == Cosine(1.0, 0.5)
    for value in (Exponential(1.0, 0.5), torch.tensor(1.0)):
        with pytest.raises(SteadyganError, match="gamma"):
            strength(
                value, 0.01, "exponential", "gamma"
            )  # annealed twice, or by two members differently
    with pytest.raises(SteadyganError, match="0-d"):
        strength(torch.ones(2), None, "exponential", "gamma")
    with pytest.raises(SteadyganError, match="Unknown schedule 'linear'"):
        strength(1.0, None, "linear", "gamma")


def test_names():
    assert all(issubclass(cls, Schedule) and cls.name == name for name, cls in SCHEDULES.items())
