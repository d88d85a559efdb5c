"""Other codebases' strengths against the table of equations.md, then against the very penalties;
and the constraint."""

import math

import checks
import pytest
import torch

from steadygan.core import CONVENTIONS, Game, SteadyganError, build, convert_gamma
from steadygan.core.scores import Scores

# gamma (this project: gamma/2 E||grad D||^2) that equals strength 10 in each convention.
TABLE = {
    "roth": 10,
    "stylegan2-ada": 10,
    "r3gan": 10,
    "studiogan": 10,
    "gan-stability": 20,
    "wgan-gp": 20,
    "wgan-lp": 20,
    "dragan": 20,
    "lecam": 20,
    "lucidrains-stylegan2": 5,  # 10 E||grad D||^2 on both batches, in one of four steps
    "soundstream": 20,
    "apt": 2 * 10 * 0.01**2,
    "fastgen": 2 * 10 * 0.1**2,
    "self-forcing": 10,
    "stable-audio": 10 * 0.05**2,
}


def test_the_table_is_complete():
    assert {name: convert_gamma(name, 10) for name in CONVENTIONS} == pytest.approx(TABLE)


# Each codebase's own expression, for slopes g (B, d), logits on real and on fake samples, and its
# strength c.
THEIRS = {
    "gan-stability": ("r1", lambda g, real, fake, c: c * g.square().sum(1).mean()),
    "stylegan2-ada": ("r1", lambda g, real, fake, c: c / 2 * g.square().sum(1).mean()),
    "studiogan": ("r1", lambda g, real, fake, c: c / 2 * g.square().sum(1).mean()),
    "lucidrains-stylegan2": (
        "r1r2",
        lambda g, real, fake, c: c * (g.square().sum(1).mean() + g.square().sum(1).mean()) / 4,
    ),
    "soundstream": ("r1", lambda g, real, fake, c: c * (g.norm(dim=1) - 0.0).square().mean()),
    "r3gan": (
        "r1r2",
        lambda g, real, fake, c: c / 2 * (g.square().sum(1).mean() + g.square().sum(1).mean()),
    ),
    "wgan-gp": ("wgan-gp", lambda g, real, fake, c: c * (g.norm(dim=1) - 1).square().mean()),
    "wgan-lp": ("wgan-lp", lambda g, real, fake, c: c * (g.norm(dim=1) - 1).relu().square().mean()),
    "dragan": ("dragan", lambda g, real, fake, c: c * (g.norm(dim=1) - 1).square().mean()),
    "lecam": (
        "lecam",
        lambda g, real, fake, c: (
            c * ((real - fake.mean()).square().mean() + (fake - real.mean()).square().mean())
        ),
    ),
    "roth": (
        "js",
        lambda g, real, fake, c: (
            c
            / 2
            * (((1 - real.sigmoid()).square() + fake.sigmoid().square()) * g.square().sum(1)).mean()
        ),
    ),
}


# What those add that move samples by noise, from logits (B, K) before and after, for each batch.
MOVED = {
    "apt": lambda d, sigma, c: c * d.square().sum(1).mean(),
    "fastgen": lambda d, sigma, c: c * d.square().mean(),
    "self-forcing": lambda d, sigma, c: 0.5 * c * (d / sigma).square().mean(),
    "stable-audio": lambda d, sigma, c: c * d.square().sum(1).mean() / 2,
}


@pytest.mark.parametrize(("source", "theirs"), MOVED.items())
@pytest.mark.parametrize("positions", [1, 3])
def test_noise_that_others_add_comes_to_the_same_at_the_same_draws(source, theirs, positions):
    if source == "apt" and positions > 1:
        pytest.skip("its critic has one logit")
    (real, fake), weight = checks.batches(), torch.tensor([[1.3, -0.4, 2.0]] * positions).double()
    critic = lambda x: (x @ (weight.T + torch.arange(positions))).tanh()  # noqa: E731
    uniforms = torch.rand(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    signs = 2 * (uniforms < 0.5).double() - 1
    sigma, names = 0.3, CONVENTIONS[source].regularizer.split(", ")
    gamma = convert_gamma(source, 0.35, positions=positions, sigma=sigma)
    game = Game("wasserstein", [f"{name}:gamma={gamma},sigma={sigma}" for name in names])
    found = game.critic_terms(
        critic, real, fake, at=checks.Context(rng=checks.Fixed(None, uniforms))
    )
    samples = (real, fake)[: len(names)]
    expected = sum(theirs(critic(x + sigma * signs) - critic(x), sigma, 0.35) for x in samples)
    torch.testing.assert_close(found.penalty, expected)
    with pytest.raises(SteadyganError, match="each logit"):
        convert_gamma(source, 1, outputs="mean")
    with pytest.raises(SteadyganError, match="no sigma"):
        convert_gamma("r3gan", 1, sigma=0.1)


@pytest.mark.parametrize("source", [name for name in CONVENTIONS if name not in MOVED])
def test_converted_strengths_give_the_same_penalty(source):
    real, fake = checks.batches()
    g = torch.linspace(-1.3, 2.1, 18, dtype=torch.float64).reshape(6, 3)
    name, theirs = THEIRS[source]
    assert name == CONVENTIONS[source].regularizer
    logits = {
        "real": checks.critic_of(real),
        "fake": checks.critic_of(fake),
        "between": real[:, 0],
        "around-real": real[:, 0],
    }
    scores = {point: Scores(real, value, g) for point, value in logits.items()}
    ours = build("regularizer", f"{name}:gamma={convert_gamma(source, 0.35)}").penalty(
        scores, checks.Context()
    )
    torch.testing.assert_close(ours, theirs(g, logits["real"], logits["fake"], 0.35))


class Apart(torch.nn.Module):
    """Three logits that look at one coordinate each."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = torch.tensor(slopes, dtype=torch.float64)

    def forward(self, x):
        return x * self.slopes


@pytest.mark.parametrize("rule", ["sum", "mean", "each"])
def test_the_sum_of_many_logits_that_public_codes_penalize(rule):
    """Their autograd.grad(out.sum(), x), squared, against each rule at the gamma that is told."""
    (real, fake), critic = checks.batches(), Apart([1.3, -0.4, 2.0])
    x = real.clone().requires_grad_()
    (g,) = torch.autograd.grad(critic(x).sum(), x)
    theirs = 0.35 * g.square().sum(1).mean()
    gamma = convert_gamma("gan-stability", 0.35, outputs=rule, positions=3)
    game = Game("wasserstein", f"r1:gamma={gamma}", outputs=rule)
    torch.testing.assert_close(game.critic_terms(critic, real, fake).penalty, theirs)


def test_what_has_no_such_relation():
    assert convert_gamma("wgan-gp", 10, outputs="sum", positions=9) == 20
    for source in ("wgan-gp", "wgan-lp", "dragan", "lecam"):
        with pytest.raises(SteadyganError, match="no multiple"):
            convert_gamma(source, 10, outputs="each", positions=9)
    with pytest.raises(SteadyganError, match="rule for many outputs"):
        convert_gamma("roth", 1, outputs="every")
    with pytest.raises(SteadyganError, match="one logit a sample or more"):
        convert_gamma("roth", 1, positions=0)


def test_unknown_sources_and_strengths_are_refused():
    with pytest.raises(SteadyganError, match="nearest first: stylegan2-ada"):
        convert_gamma("stylegan", 10)
    for bad in (-1, math.nan, math.inf):
        with pytest.raises(SteadyganError, match="strength"):
            convert_gamma("roth", bad)


# ------------------------------------------------------------ constraint


def test_clip_is_the_nearest_point_of_the_box():
    clip = build("constraint", "clip:c=0.25")
    p = torch.tensor([-3.0, -0.25, 0.1, 0.3])
    assert torch.equal(clip.project(p), torch.tensor([-0.25, -0.25, 0.1, 0.25]))
    assert torch.equal(clip.project(clip.project(p)), clip.project(p))
    checks.documents_itself(clip)


def test_constrain_acts_in_place_on_the_critic():
    critic = torch.nn.Linear(3, 2)
    with torch.no_grad():
        critic.weight.copy_(torch.tensor([[1.0, -2.0, 0.001], [0.5, -0.005, 0.3]]))
    weight = critic.weight
    Game("wasserstein", constraint="clip:c=0.01").constrain(critic)
    assert critic.weight is weight and weight.requires_grad
    torch.testing.assert_close(
        weight.detach(), torch.tensor([[0.01, -0.01, 0.001], [0.01, -0.005, 0.01]])
    )
    Game("wasserstein").constrain(critic)  # without a constraint nothing happens
