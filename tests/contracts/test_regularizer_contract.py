"""Every registered regularizer, through every promise; then a user's own module, through the
same."""

import dataclasses
import importlib.util

import checks
import pytest
import torch

from steadygan.core import Context, Game, build, names, unregister
from steadygan.core.registry import lookup
from steadygan.core.scores import Scores
from support import Fixed, specs

ALL = specs("regularizer")


@pytest.mark.parametrize("spelling", ALL)
@pytest.mark.parametrize("check", checks.REGULARIZER_CHECKS, ids=lambda check: check.__name__)
def test_regularizer(check, spelling):
    check(dataclasses.replace(build("regularizer", spelling), gamma=0.7))


@pytest.mark.parametrize("spelling", ALL)
def test_defaults_are_a_spec(spelling):
    checks.spells_itself(build("regularizer", spelling))


CONSTANT = {"wgan-gp": 0.35, "dragan": 0.35}


@pytest.mark.parametrize("name", names("regularizer"))
def test_value_for_a_constant_critic_in_numbers(name):
    """The same as the contract, but from the papers and not from the class: gamma/2 for the two
    that ask for norm 1, else 0."""
    value = checks.penalty(build("regularizer", f"{name}:gamma=0.7"), lambda x: 0 * x.sum(1) - 2)
    assert value.item() == pytest.approx(CONSTANT.get(name, 0.0), abs=1e-14)


# At a linear critic D(x) = w.x with ||w|| = 5 every norm is known, so each penalty has a value on
# paper.
LINEAR = {
    "r1": lambda g, real, fake: g / 2 * 25,
    "r2": lambda g, real, fake: g / 2 * 25,
    "r1r2": lambda g, real, fake: g / 2 * 50,
    "gp0": lambda g, real, fake: g / 2 * 25,
    "wgan-gp": lambda g, real, fake: g / 2 * 16,
    "wgan-lp": lambda g, real, fake: g / 2 * 16,
    "dragan": lambda g, real, fake: g / 2 * 16,
    "js": lambda g, real, fake: (
        g
        / 2
        * 25
        * ((1 / (1 + real.exp())).square().mean() + (1 / (1 + (-fake).exp())).square().mean())
    ),
    "f-gan": lambda g, real, fake: g / 2 * 25 * (1 / (1 + (-fake).exp())).mean(),
    "lecam": lambda g, real, fake: (
        g / 2 * ((real - fake.mean()).square().mean() + (fake - real.mean()).square().mean())
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_value_at_a_linear_critic(name):
    real, fake = checks.batches((2,))
    w = torch.tensor([3.0, -4.0], dtype=torch.float64)
    value = checks.penalty(build("regularizer", f"{name}:gamma=0.7"), lambda x: x @ w, real, fake)
    assert value.item() == pytest.approx(float(LINEAR[name](0.7, real @ w, fake @ w)), rel=1e-13)


@pytest.mark.parametrize("divergence", names("divergence"))
def test_f_gan_weighs_fakes_by_its_divergence(divergence):
    real, fake = checks.batches((2,))
    w = torch.tensor([0.3, -0.4], dtype=torch.float64)
    value = checks.penalty(
        build("regularizer", f"f-gan:gamma=0.7,divergence={divergence}"),
        lambda x: x @ w,
        real,
        fake,
    )
    torch.testing.assert_close(
        value,
        0.35 * 0.25 * build("divergence", divergence).weight(fake @ w).mean(),
        rtol=1e-13,
        atol=0,
    )


def test_one_sided_penalty_ignores_small_slopes():
    real, fake = checks.batches((2,))
    w = torch.tensor([0.3, -0.4], dtype=torch.float64)
    assert checks.penalty(build("regularizer", "wgan-lp"), lambda x: x @ w, real, fake) == 0
    assert checks.penalty(
        build("regularizer", "wgan-gp:gamma=2"), lambda x: x @ w, real, fake
    ).item() == pytest.approx(0.25)


# ------------------------------------------------------------ where a penalty looks


def test_between_interpolates_pair_by_pair():
    real, fake = checks.batches((3, 2, 2))
    u = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
    x = (
        Game("wasserstein", ["gp0"])
        .points(real, fake, at=Context(rng=Fixed(uniforms=u)))["between"]
        .x
    )
    for i in range(6):
        torch.testing.assert_close(x[i], u[i] * real[i] + (1 - u[i]) * fake[i])


def test_around_real_moves_every_component_by_up_to_half_the_spread():
    real, fake = checks.batches((3, 4, 4), n=50)
    x = (
        Game("wasserstein", ["dragan"])
        .points(real, fake, at=Context(rng=torch.Generator().manual_seed(0)))["around-real"]
        .x
    )
    moved = (x - real) / (real.var(correction=0).sqrt() / 2)
    assert 0 <= moved.min() < 0.01 and 0.99 < moved.max() <= 1
    assert moved.mean().item() == pytest.approx(
        0.5, abs=0.02
    ) and moved.var().item() == pytest.approx(1 / 12, abs=0.005)
    assert moved.flatten(1).std(1).min() > 0.2  # per component, not one draw a sample


def test_the_caller_learns_which_batches_cannot_be_interpolated():
    real, fake = checks.batches()
    with pytest.raises(ValueError, match="batches of one size"):
        Game("wasserstein", ["gp0"]).critic_loss(checks.critic_of, real, fake[:4])


def test_real_and_generated_batches_may_differ_in_size():
    """Penalties on their own points need no pairs: each mean is over its own batch."""
    real, fake = checks.batches((2,))
    w = torch.tensor([3.0, -4.0], dtype=torch.float64)
    value = checks.penalty(build("regularizer", "js:gamma=0.7"), lambda x: x @ w, real, fake[:2])
    torch.testing.assert_close(value, LINEAR["js"](0.7, real @ w, fake[:2] @ w))


# ------------------------------------------------------------ memory


def test_lecam_anchors_each_side_to_the_other_sides_average():
    real, fake = torch.tensor([1.0, 4.0]), torch.tensor([-2.0, 0.5])
    scores = {"real": Scores(real[:, None], real), "fake": Scores(fake[:, None], fake)}
    memory = {"lecam.real": torch.tensor(2.0), "lecam.fake": torch.tensor(-1.0)}
    lecam = build("regularizer", "lecam:gamma=0.6,decay=0.9")
    expected = 0.3 * ((4 + 25) / 2 + (16 + 2.25) / 2)
    assert lecam.penalty(scores, Context(memory=memory)).item() == pytest.approx(expected, rel=1e-6)
    after = lecam.observe(scores, memory)
    assert after["lecam.real"].item() == pytest.approx(0.9 * 2.0 + 0.1 * 2.5) and after[
        "lecam.fake"
    ].item() == pytest.approx(-0.9 - 0.075)
    assert memory == {
        "lecam.real": torch.tensor(2.0),
        "lecam.fake": torch.tensor(-1.0),
    }  # pure: the caller's memory stays
    first = lecam.observe(scores, {})  # starts at the first means: no pull towards 0
    assert first["lecam.real"].item() == pytest.approx(2.5) and first[
        "lecam.fake"
    ].item() == pytest.approx(-0.75)


def test_memory_carries_no_graph():
    real, fake = checks.batches()
    game = Game("wasserstein", ["lecam"])
    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    terms = game.critic_terms(lambda x: x @ w, real, fake)
    assert terms.penalty.requires_grad and not any(
        m.requires_grad for m in game.observe(terms.scores, {}).values()
    )


# ------------------------------------------------------------ a user's own

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

from steadygan.core import register
from steadygan.core.regularizers import GradientPenalty


@register("regularizer", "mine")
@dataclass(frozen=True)
class Mine(GradientPenalty):
    """Mine: gamma/2 D^2 (||grad D|| - {target})^2, the mean over fakes plus that around real ones.

    gamma: in squared units of the samples. Reference: nobody 2031.

    >>> build("regularizer", "mine:gamma=3").target
    {target}
    """

    where: ClassVar[tuple[str, ...]] = ("fake", "around-real")
    target: ClassVar[float] = {target}

    def weight(self, point, logits):
        return logits.square()
'''


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "my_module.py"
    path.write_text(MODULE.format(target=2.0))
    found = importlib.util.spec_from_file_location("my_module", path)
    found.loader.exec_module(importlib.util.module_from_spec(found))
    yield build("regularizer", "mine:gamma=0.7")
    unregister(lookup("regularizer", "mine"))


@pytest.mark.parametrize("check", checks.REGULARIZER_CHECKS, ids=lambda check: check.__name__)
def test_a_users_own_module_joins_the_contract(check, mine):
    assert "mine" in names("regularizer")
    check(mine)


def without_half(right, scores, context):
    return 2 * right(scores, context)


def not_linear_in_gamma(right, scores, context):
    return right(scores, context).square()


def detaching_its_gradients(right, scores, context):
    return right(
        {
            name: s._replace(gradient=None if s.gradient is None else s.gradient.detach())
            for name, s in scores.items()
        },
        context,
    )


def detaching_its_logits(right, scores, context):
    return right(
        {name: s._replace(logits=s.logits.detach()) for name, s in scores.items()}, context
    )


MISTAKES = {
    without_half: checks.is_as_declared_for_a_constant_critic,
    not_linear_in_gamma: checks.is_linear_in_gamma,
    detaching_its_gradients: checks.has_right_second_derivatives,
    detaching_its_logits: checks.has_right_second_derivatives,
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_the_contract_catches_a_users_mistake(mistake, mine):
    right = mine.penalty
    type(mine).penalty = lambda self, scores, context: mistake(right, scores, context)
    with pytest.raises((AssertionError, RuntimeError)):  # GradcheckError is a RuntimeError
        MISTAKES[mistake](mine)
