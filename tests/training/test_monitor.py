"""The monitor names each trouble once, when the figures show it and not before."""

import math

from steadygan.runs.monitor import Monitor


def row(**given):
    return {
        "critic_loss": 1.3,
        "penalty": 0.0,
        "generator_loss": 0.7,
        "gradient_norm_real": 1.0,
        "gradient_norm_fake": 1.0,
    } | given


def kinds(monitor, rows):
    return [(w.step, w.kind) for step, r in enumerate(rows) for w in monitor.observe(step, r)]


def test_a_healthy_run_is_left_in_peace():
    healthy = [row(gradient_norm_real=1 + 0.5 * math.sin(i), modes=min(i, 7)) for i in range(100)]
    assert kinds(Monitor(2 * math.log(2)), healthy) == []


def test_a_loss_that_is_not_finite_is_named_once():
    assert kinds(Monitor(), [row(), row(generator_loss=math.nan), row(critic_loss=math.inf)]) == [
        (1, "non-finite")
    ]


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
