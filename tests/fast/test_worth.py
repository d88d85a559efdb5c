"""Merging costs bookkeeping: which critics are large enough, by what their layers multiply."""

import pytest
import torch
from critics import MERGED, Of, conv
from torch import nn

from steadygan import Config, Game
from steadygan.core.gradients import choice, critic_backward
from steadygan.training.decision import settle


@pytest.fixture(autouse=True)
def _as_it_is(monkeypatch):
    monkeypatch.setattr(choice, "WORTH", 15e6)


def mlp(width):
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 1, bias=False))


def path(critic, penalty, rows, *event):
    real, fake = torch.randn(2, rows, *event)
    found = critic_backward(Game("nonsaturating", penalty), critic, real, fake)
    assert bool(found.why) == (found.path != "merged")
    return found.path, found.why


# A row of the perceptron costs 17 * 1000 multiplications.
IMAGE = (3, 64, 64)
ONE_CHANNEL = lambda: nn.Sequential(  # noqa: E731
    nn.Conv2d(3, 1, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 64, 1)
)


@pytest.mark.parametrize(
    ("penalty", "rows", "expected"),
    [
        ("r1:gamma=1", 882, "joined"),
        ("r1:gamma=1", 883, "merged"),
        ("gp0:gamma=1", 882, "joined"),
        ("gp0:gamma=1", 883, "merged"),
        ("js:gamma=1", 441, "joined"),
        ("js:gamma=1", 442, "merged"),
    ],
)
def test_layers_are_counted_at_the_rows_of_penalties(penalty, rows, expected):
    found, why = path(Of(lambda self, x: self.body(x), body=mlp(1000)), penalty, rows, 16)
    assert found == expected
    assert expected == "merged" or "merging pays from 15 million" in why


def test_convolutions_are_worth_it_where_penalties_look_at_several_points():
    each = 3 * 9 * 64 * 64 + 64 * 64
    rows = -int(-15e6 // each)
    assert path(ONE_CHANNEL(), "r1:gamma=1", rows - 1, *IMAGE)[0] == "joined"
    assert path(ONE_CHANNEL(), "r1:gamma=1", rows, *IMAGE)[0] == "merged"
    assert path(ONE_CHANNEL(), "js:gamma=1", 2, *IMAGE)[0] == "merged"
    assert path(ONE_CHANNEL(), ["r1:gamma=1", "gp0:gamma=1"], 2, *IMAGE)[0] == "merged"


def test_transposed_layers_multiply_where_their_input_is():
    def critic():
        up = nn.ConvTranspose2d(3, 5, 4, 2, 1)  # 64 positions meet 3 * 5 * 16 weights
        head = nn.Linear(512, 1, bias=False)
        return nn.Sequential(up, nn.ReLU(), conv(5, 2), nn.Flatten(), head)

    rows = -int(-15e6 // (64 * 3 * 5 * 16 + 256 * 5 * 2 * 9 + 512))
    assert path(critic(), "r2:gamma=1", rows - 1, 3, 8, 8)[0] == "joined"
    assert path(critic(), "r2:gamma=1", rows, 3, 8, 8)[0] == "merged"


def test_a_smaller_last_batch_or_sequence_is_no_reason_to_look_again(monkeypatch):
    critic, looked = MERGED["plain"](), []
    look = choice._decide
    monkeypatch.setattr(choice, "_decide", lambda *given: looked.append(1) or look(*given))
    for rows in (64, 64, 100, 127, 40, 64):
        assert path(critic, "r1:gamma=1", rows, 3, 8, 8)[0] == "joined"
    assert len(looked) == 2
    assert path(critic, "r1:gamma=1", 8192, 3, 8, 8)[0] == "merged"
    pooled = nn.Sequential(nn.Conv1d(3, 1, 4), nn.AdaptiveAvgPool1d(1))
    for length in (100, 64, 127, 111):
        assert path(pooled, "r1:gamma=1", 8, 3, length)[0] == "joined"
    assert len(looked) == 4


def test_a_run_is_settled_with_its_whole_batch():
    for rows, expected in ((8, "joined"), (1024, "merged")):
        config = Config(batch=rows, device="cpu")
        critic = Of(lambda self, x: self.body(x), body=mlp(1000))
        assert settle(Game("nonsaturating", "r1"), critic, config, (16,), 0).path == expected


def test_a_path_by_name_is_taken_at_any_size():
    real, fake = torch.randn(2, 4, 3, 8, 8)
    found = critic_backward(Game("minimax", "r1"), MERGED["plain"](), real, fake, path="merged")
    assert (found.path, found.why) == ("merged", "")
