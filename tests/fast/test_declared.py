"""A critic whose layer says that it couples samples takes the separate path from the start."""

import copy

import pytest
import torch
from critics import EVENT, body, conv
from torch import nn

from steadygan import Game, SteadyganError
from steadygan.core import gradients
from steadygan.core.couples import Couples
from steadygan.core.gradients import critic_backward

GAME = Game("nonsaturating", "js:gamma=0.7")


class Quiet(nn.Module):
    """Centres batches that are larger than what the check on a copy looks at."""

    couples = Couples("mean of the batch", "batch")

    def forward(self, x):
        return x - x.mean(0) if len(x) > 2 * gradients.choice.ROWS else x


def critic_of():
    torch.manual_seed(1)
    return body(nn.Sequential(conv(), Quiet()), nn.ReLU()).double()


def gradient(critic, path="auto"):
    """(record, flat gradient) on a copy of the critic, for 20 samples of each kind."""
    critic, rng = copy.deepcopy(critic), torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 20, *EVENT, generator=rng, dtype=torch.float64)
    found = critic_backward(GAME, critic, real, 0.6 * fake - 0.4, path=path)
    return found, torch.cat([p.grad.flatten() for p in critic.parameters()])


def test_no_faster_path_is_tried(monkeypatch):
    critic = critic_of()
    monkeypatch.setattr(gradients.backward, "remember", None)  # no step falls back
    found, mine = gradient(critic)
    assert found.path == "separate"
    assert found.why == "its layer 2.1 (Quiet) couples samples, by mean of the batch"
    assert torch.equal(mine, gradient(critic, "separate")[1])


@pytest.mark.parametrize("path", ["joined", "merged"])
def test_a_faster_path_by_name_is_refused(monkeypatch, path):
    # On a few samples, where nothing but the declaration tells.
    monkeypatch.setattr(gradients.choice, "ROWS", 100)
    with pytest.raises(SteadyganError, match=r"layer 2.1 \(Quiet\) couples samples"):
        gradient(critic_of(), path)


def test_what_couples_without_a_word_is_seen_at_the_step_that_does_it(monkeypatch):
    monkeypatch.setattr(Quiet, "couples", None)
    found, mine = gradient(critic_of())
    assert found.path == "separate" and "mean runs over the batch" in found.why
    reference = gradient(critic_of(), "separate")[1]
    assert reference.norm() > 1e-3
    torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-11)
