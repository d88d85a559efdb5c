"""The monitor names each trouble once, when the figures show it and not before."""

import math
from dataclasses import replace

import pytest
import torch

from steadygan.problems.images import Images
from steadygan.problems.measures import spread
from steadygan.problems.networks import blocks
from steadygan.runs.config import Config
from steadygan.runs.monitor import Monitor
from steadygan.training import train

DIGITS = Images(data="digits", resolution=8, channels=1, flip=False, conditional=True)


def row(**given):
    return {
        "critic_loss": 1.3,
        "penalty": 0.0,
        "generator_loss": 0.7,
        "gradient_norm_real": 1.0,
        "gradient_norm_fake": 1.0,
    } | given


def kinds(monitor, rows, first=0):
    return [
        (w.step, w.kind) for step, r in enumerate(rows, first) for w in monitor.observe(step, r)
    ]


def test_a_healthy_run_is_left_in_peace():
    healthy = [row(gradient_norm_real=1 + 0.5 * math.sin(i), modes=min(i, 7)) for i in range(100)]
    assert kinds(Monitor(2 * math.log(2)), healthy) == []


def test_a_loss_that_is_not_finite_is_named_once():
    assert kinds(Monitor(), [row(), row(generator_loss=math.nan), row(critic_loss=math.inf)]) == [
        (1, "non-finite")
    ]
    lost = [row(critic_loss=math.nan, gradient_norm_real=math.nan, modes=3.0) for _ in range(30)]
    assert kinds(Monitor(1.4), lost) == [(0, "non-finite")]


def test_a_gradient_that_bursts_is_named_and_a_slow_rise_is_not():
    burst = [row() for _ in range(30)] + [row(gradient_norm_fake=51.0)]
    assert kinds(Monitor(), burst) == [(30, "exploding-gradient")]
    rise = [row(gradient_norm_real=1.02**i, gradient_norm_fake=0.0) for i in range(250)]
    assert kinds(Monitor(), rise) == []


def test_a_burst_before_anything_is_known_is_no_burst():
    assert kinds(Monitor(), [row(gradient_norm_real=500.0)] * 3) == []


def test_a_critic_that_has_won_is_named_where_the_objective_has_a_floor():
    won = [row() for _ in range(10)] + [row(critic_loss=0.004) for _ in range(6)]
    assert kinds(Monitor(2 * math.log(2)), won) == [(12, "critic-won")]
    assert kinds(Monitor(0.0), won) == []
    assert kinds(Monitor(0.0), [row(critic_loss=-3.0) for _ in range(9)]) == []


def test_lost_modes_are_named_but_one_bad_snapshot_is_not():
    def modes(*values):
        return kinds(Monitor(), [row(modes=v) for v in values])

    assert modes(2, 5, 7, 7, 3, 7, 7) == []
    assert modes(2, 5, 7, 7, 3, 4, 4) == [(5, "mode-loss")]
    assert modes(7, 3, 3, 3) == []  # seven were seen once only: they never were the run's


def test_steps_without_metrics_do_not_count_as_lost_modes():
    assert kinds(Monitor(), [row(modes=7), row(), row(modes=7), row(), row()]) == []


def test_a_restored_monitor_says_nothing_twice_and_keeps_its_window():
    first = Monitor(1.4)
    rows = [row() for _ in range(30)] + [row(gradient_norm_real=99.0)]
    kinds(first, rows)
    second = Monitor(1.4)
    second.restore(first.state())
    assert second.state() == first.state()
    assert kinds(second, [row(gradient_norm_real=99.0)]) == []


# Samples that lose their spread


def spreads(*values, first=1000):
    return kinds(Monitor(), [row(spread=v) for v in values], first)


def test_samples_that_stay_or_become_alike_are_named_and_a_young_generator_is_not():
    assert spreads(0.06, 0.05) == [(1001, "collapse")]
    assert spreads(0.8, 0.6, 0.2, 0.1) == [(1003, "collapse")]
    assert spreads(0.06, 0.05, 0.05, first=997) == []
    assert spreads(0.06, 0.05, 0.05, first=998) == [(1000, "collapse")]
    assert spreads(0.01, 0.06, 0.18, 0.2, 0.5, 0.9) == []
    assert spreads(0.3, 0.26, 0.3, 0.26) == []
    assert spreads(0.8, 0.1, 0.8, 0.1, 0.8) == []  # one bad snapshot, twice
    assert spreads(math.nan, 0.1, math.nan, 0.11) == []


def test_one_class_that_collapses_is_enough():
    rows = [row(spread=0.7, least_spread=v) for v in (0.6, 0.1, 0.04)]
    monitor = Monitor()
    (warning,) = [w for step, r in enumerate(rows, 1000) for w in monitor.observe(step, r)]
    assert warning.kind == "collapse" and "of one class spread 0.04 times" in warning.message


def test_the_spread_is_remembered_and_older_runs_had_none():
    first, second = Monitor(), Monitor()
    kinds(first, [row(spread=0.1)])
    second.restore(first.state())
    assert kinds(second, [row(spread=0.1)], 1000) == [(1000, "collapse")]
    older = {k: v for k, v in first.state().items() if k != "last_spread"}
    third = Monitor()
    third.restore(older)
    assert kinds(third, [row(spread=0.1)], 1000) == []


def test_spread_is_the_mean_of_the_components_deviations():
    x = torch.tensor([[[0.0, 5.0]], [[3.0, 5.0]], [[3.0, 6.5]]])
    assert spread(x) == pytest.approx((math.sqrt(3) + math.sqrt(0.75)) / 2)


def test_real_images_spread_as_real_ones_do():
    x, y = DIGITS.stream(seed=1).draw(1797)
    within = DIGITS.measure(x, None, y)
    assert within["spread"] == pytest.approx(1, abs=0.02)
    assert 0.9 < within["least_spread"] <= within["spread"]
    assert tuple(within) == DIGITS.numbers == ("spread", "least_spread")
    assert DIGITS.measure(x, None) == pytest.approx({"spread": 1}, abs=0.02)
    assert replace(DIGITS, conditional=False).numbers == ("spread",)
    assert DIGITS.measure(x / 2, None, y)["spread"] == pytest.approx(within["spread"] / 2)


def test_one_image_a_class_has_no_spread_although_the_images_differ():
    x, y = DIGITS.stream(seed=1).draw(1797)
    means = torch.stack([x[y == c].mean(0) for c in range(10)])
    alike = means[y] + 0.001 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert DIGITS.measure(alike, None)["spread"] > 0.5
    found = DIGITS.measure(alike, None, y)
    assert found["least_spread"] <= found["spread"] < 0.01
    # One class alone that has collapsed: what the average hides.
    one = torch.where((y == 3)[:, None, None, None], alike, x)
    found = DIGITS.measure(one, None, y)
    assert found["least_spread"] < 0.01 and found["spread"] == pytest.approx(0.9, abs=0.02)
    # A class of one sample says nothing of itself.
    first = torch.cat([torch.where(y == 3)[0][:1], torch.where(y != 3)[0]])
    assert DIGITS.measure(one[first], None, y[first])["least_spread"] > 0.9


def test_a_run_whose_latents_are_drowned_is_stopped_where_that_was_asked_for(tmp_path, monkeypatch):
    config = Config(
        network="mlp:width=32,activation=leaky-relu",
        batch=16,
        latent=4,
        steps=60,
        log_every=100,
        evaluate_every=25,
        stop_on=("collapse",),
    )
    monkeypatch.setattr(Monitor, "YOUNG", 50)
    free = train(DIGITS, config, tmp_path / "free", show=False)
    forward = blocks.Generator.forward
    monkeypatch.setattr(blocks.Generator, "forward", lambda self, z, y: forward(self, 0 * z, y))
    drowned = train(DIGITS, config, tmp_path / "drowned", show=False)
    assert (free.state, drowned.state, drowned.step) == ("finished", "stopped", 50)
    assert "collapse" in drowned.reason


def test_a_critic_without_a_slope_is_named_unless_it_has_no_opinion():
    flat = {"gradient_norm_real": 0.0, "gradient_norm_fake": 0.0}
    lost = [row() for _ in range(3)] + [row(critic_loss=1e30, **flat) for _ in range(9)]
    assert kinds(Monitor(2 * math.log(2)), lost) == [(7, "flat-critic")]
    rest = [row(critic_loss=2 * math.log(2), **flat) for _ in range(30)]
    assert kinds(Monitor(2 * math.log(2)), rest) == []
    seen = [row(critic_loss=1e30, gradient_norm_real=0.0) for _ in range(30)]
    assert kinds(Monitor(2 * math.log(2)), seen) == []
