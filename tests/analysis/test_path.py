"""Path angle and norm against what the Dirac-GAN's field gives by hand."""

import math

import pytest
import torch

from steadygan import Game, SteadyganError
from steadygan.analysis.path import game_path
from steadygan.core.players import Batch
from steadygan.problems.networks import Point


def state(theta, psi):
    network = Point(theta=theta, psi=psi)
    return network.generator((1,), 1).double(), network.critic((1,)).double()


BATCH = Batch(torch.zeros(4, 1, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64))


@pytest.mark.parametrize("start", [(1.0, -1.0), (-0.3, 0.8)])
def test_wasserstein_rotation_is_across_every_line_to_the_equilibrium(start):
    path = game_path(Game("wasserstein"), state(*start), state(0.0, 0.0), BATCH, points=5)
    # v = (psi, -theta) is a right angle to (theta, psi), and as long as it.
    assert path.cosine == pytest.approx([0, 0, 0, 0, 0], abs=1e-12)
    assert path.norm == pytest.approx(
        [abs(1 - s) * math.hypot(*start) for s in path.share]
    ) and path.length == pytest.approx(math.hypot(*start))
    assert "rotate" in path.words()


def test_strong_damping_attracts_from_both_sides():
    gamma = 40.0
    path = game_path(
        Game("wasserstein", [f"r1:gamma={gamma}"]),
        state(0.0, 1.0),
        state(0.0, 0.0),
        BATCH,
        points=7,
    )
    # On theta = 0: v = (psi, -gamma psi), and the line is (0, -1).
    sign = [1, 1, 1, 1, 0, -1, -1]
    assert path.cosine == pytest.approx([c * gamma / math.hypot(1, gamma) for c in sign], abs=1e-12)
    assert path.share[4] == 1.0 and "attracts" in path.words()


def test_what_is_no_path_is_refused():
    with pytest.raises(SteadyganError, match="equal"):
        game_path(Game("minimax"), state(1.0, 2.0), state(1.0, 2.0), BATCH)
    wide = Point().generator((2,), 1).double(), Point().critic((2,)).double()
    with pytest.raises(SteadyganError, match="same networks"):
        game_path(Game("minimax"), wide, state(1.0, 2.0), BATCH)


def test_a_path_from_frozen_copies_that_ends_at_its_end():
    start = [network.requires_grad_(False) for network in state(1.0, -1.0)]
    path = game_path(Game("minimax"), start, state(0.0, 0.5), BATCH, beyond=0)
    assert path.share[-1] == 1 and "no points on both sides" in path.words()
