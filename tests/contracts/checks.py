"""What every regularizer owes, as functions of one: ``test_regularizer_contract.py`` runs them on
the registry and on a user's own module.

Each check takes the regularizer with gamma = 0.7 and raises where the promise is broken. A third
party's entry joins by being registered.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re

import pytest
import torch
from torch import Tensor

from steadygan.core import Context, Game, SteadyganError, build, spec
from steadygan.core.regularizers import Regularizer
from steadygan.core.schedules import Cosine, Exponential
from steadygan.core.slopes import AUTOGRAD, FUNC
from support import Fixed

EVENTS = [(1,), (3,), (3, 8, 8)]
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def critic_of(x: Tensor) -> Tensor:
    """A smooth critic with another value and slope at every sample, for any event; slopes on both
    sides of 1."""
    flat = x.flatten(1)
    scale = (
        torch.linspace(0.4, 1.7, flat.shape[1], dtype=x.dtype, device=x.device)
        * 2.5
        / flat.shape[1] ** 0.5
    )
    return (flat * scale).tanh().sum(1) + 0.3 * (flat * scale).sum(1).sin() + 0.2


def batches(
    event: tuple[int, ...] = (3,), dtype: torch.dtype = torch.float64, n: int = 6
) -> tuple[Tensor, Tensor]:
    """Real and generated samples that differ in mean, in spread and from sample to sample."""
    rng = torch.Generator().manual_seed(3)
    real, fake = (torch.randn(n, *event, generator=rng, dtype=dtype) for _ in range(2))
    return 0.7 * real + 0.3, 0.4 * fake - 0.6


def penalty(
    regularizer: Regularizer,
    critic=critic_of,
    real=None,
    fake=None,
    *,
    seed: int = 5,
    event=(3,),
    **context,
) -> Tensor:
    """The penalty through the game, with every draw from one seed unless ``rng`` is given."""
    if real is None or fake is None:
        real, fake = batches(event)
    context.setdefault("rng", torch.Generator().manual_seed(seed))
    return (
        Game("wasserstein", [regularizer])
        .critic_terms(critic, real, fake, at=Context(**context))
        .penalty
    )


MEMORIES = [
    {},
    {
        "lecam.real": torch.tensor(0.4, dtype=torch.float64),
        "lecam.fake": torch.tensor(-0.9, dtype=torch.float64),
    },
]


def is_finite_and_not_negative(regularizer: Regularizer) -> None:
    for event in EVENTS:
        for dtype in (torch.float32, torch.float64):
            for device in DEVICES:
                real, fake = (x.to(device) for x in batches(event, dtype))
                value = penalty(regularizer, real=real, fake=fake).detach()
                assert value.shape == () and value.dtype == dtype and value.device.type == device
                assert (
                    math.isfinite(value) and value > 0
                )  # the critic's slopes differ from sample to sample: no penalty may miss them


def is_as_declared_for_a_constant_critic(regularizer: Regularizer) -> None:
    """gamma/2 w target^2 at each point, since the norm is 0 there; nothing for one-sided penalties
    and for those without a gradient."""
    target = (
        0.0 if getattr(regularizer, "one_sided", False) else getattr(regularizer, "target", 0.0)
    )
    logit = torch.tensor([1.3], dtype=torch.float64)
    weights = [regularizer.weight(point, logit) if target else None for point in regularizer.where]
    expected = 0.7 / 2 * target**2 * sum(1.0 if w is None else w.item() for w in weights)
    for event in EVENTS:
        for critic in (
            lambda x: torch.full((len(x),), 1.3, dtype=x.dtype),
            lambda x: 0 * x.flatten(1).sum(1) + 1.3,
        ):
            real, fake = batches(event)
            assert penalty(regularizer, critic, real, fake).item() == pytest.approx(
                expected, abs=1e-14
            )


def is_linear_in_gamma(regularizer: Regularizer) -> None:
    for memory in MEMORIES:
        base = penalty(regularizer, memory=memory)
        for gamma in (0.0, 0.35, 2.1):
            scaled = penalty(dataclasses.replace(regularizer, gamma=gamma), memory=memory)
            torch.testing.assert_close(scaled, base * gamma / 0.7, rtol=1e-13, atol=0)


def takes_gamma_as_number_tensor_and_schedule(regularizer: Regularizer) -> None:
    number = penalty(regularizer)
    forms = [
        (torch.tensor(0.7, dtype=torch.float64), None),
        (Exponential(7.0, 0.01), 0.5),  # 7 * 0.01**0.5 = 0.7
        (Cosine(1.0, 0.4), 0.5),  # half way between 1 and 0.4
    ]
    for gamma, progress in forms:
        torch.testing.assert_close(
            penalty(dataclasses.replace(regularizer, gamma=gamma), progress=progress),
            number,
            rtol=1e-13,
            atol=0,
        )
    gamma = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    value = penalty(dataclasses.replace(regularizer, gamma=gamma))
    (slope,) = torch.autograd.grad(
        value, gamma
    )  # a fleet's members differ in gamma, and may be differentiated in it
    torch.testing.assert_close(slope, value.detach() / 0.7)


def refuses_an_annealed_gamma_without_progress(regularizer: Regularizer) -> None:
    annealed = type(regularizer)(gamma=2.0, anneal=0.01)
    with pytest.raises(SteadyganError, match="progress"):
        penalty(annealed)
    ratio = penalty(annealed, progress=1.0) / penalty(annealed, progress=0.0)
    assert ratio.item() == pytest.approx(0.01, rel=1e-12)


def refuses_a_gamma_that_is_no_strength(regularizer: Regularizer) -> None:
    for gamma in (-1.0, math.nan, math.inf):
        with pytest.raises(SteadyganError, match="gamma"):
            type(regularizer)(gamma=gamma)
    with pytest.raises(SteadyganError, match="0-d"):
        type(regularizer)(gamma=torch.ones(2))


def has_right_second_derivatives(regularizer: Regularizer) -> None:
    """Of samples and of the critic's parameters: training differentiates the penalty, the analysis
    that gradient again."""
    # A seed whose slopes lie on both sides of 1, the kink of one-sided penalties, and away from it;
    # asserted below.
    rng = torch.Generator().manual_seed(6)
    w = (torch.randn(3, 2, generator=rng, dtype=torch.float64) * 1.2).requires_grad_()
    u = torch.tensor([1.4, -0.9, 1.1], dtype=torch.float64, requires_grad=True)
    real, fake = (0.8 * torch.randn(3, 2, generator=rng, dtype=torch.float64) for _ in range(2))

    def value(real: Tensor, fake: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return penalty(regularizer, lambda x: (x @ w.T).tanh() @ u, real, fake)

    if getattr(regularizer, "one_sided", False):
        terms = Game("wasserstein", [regularizer]).critic_terms(
            lambda x: (x @ w.T).tanh() @ u,
            real,
            fake,
            at=Context(rng=torch.Generator().manual_seed(5)),
        )
        norms = torch.cat([terms.scores[p].gradient.norm(dim=1) for p in regularizer.where])
        assert ((norms - regularizer.target).abs() > 0.02).all() and (
            norms > regularizer.target
        ).any()
    inputs = (real.requires_grad_(), fake.requires_grad_(), w, u)
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


def depends_on_the_batch_as_a_set(regularizer: Regularizer) -> None:
    """Permuting real, fake and draws together changes nothing."""
    for event in EVENTS:
        real, fake = batches(event)
        draws = torch.rand(
            6, real[0].numel(), generator=torch.Generator().manual_seed(2), dtype=torch.float64
        )
        order = torch.tensor([4, 0, 5, 2, 1, 3])
        base = penalty(regularizer, real=real, fake=fake, rng=Fixed(uniforms=draws, normals=draws))
        same = penalty(
            regularizer,
            real=real[order],
            fake=fake[order],
            rng=Fixed(uniforms=draws[order], normals=draws[order]),
        )
        torch.testing.assert_close(same, base, rtol=1e-13, atol=0)


def leaves_the_caller_alone(regularizer: Regularizer) -> None:
    """Samples keep flags, values and ``.grad``; the critic's ``.grad`` stays; with a generator the
    global random state stays."""
    critic = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
    ).double()
    for p in critic.parameters():
        p.grad = torch.full_like(p, 7.0)
    real, fake = batches()
    leaf = fake.clone().requires_grad_()
    for theirs in (fake, leaf, leaf * 1.0):
        before = [(x, x.clone(), x.requires_grad, x.is_leaf) for x in (real, theirs)]
        state = torch.get_rng_state()
        loss = Game("wasserstein", [regularizer]).critic_loss(
            critic, real, theirs, at=Context(rng=torch.Generator().manual_seed(0))
        )
        torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True)
        assert torch.equal(torch.get_rng_state(), state)
        for x, value, requires, is_leaf in before:
            assert torch.equal(x, value) and x.requires_grad == requires and x.is_leaf == is_leaf
        assert real.grad is None and leaf.grad is None
        assert all((p.grad == 7.0).all() and p.requires_grad for p in critic.parameters())


def works_without_a_graph(regularizer: Regularizer) -> None:
    """Under no_grad, as a logger evaluates it, the value is the same and carries no graph."""
    with torch.no_grad():
        silent = penalty(regularizer)
    assert not silent.requires_grad
    torch.testing.assert_close(silent, penalty(regularizer).detach())


def keeps_the_mixed_derivative(regularizer: Regularizer) -> None:
    """d v_psi / d theta through a live fake, against central differences: what a game that detaches
    would silently lose."""
    theta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    psi = torch.tensor([1.9, -0.7], dtype=torch.float64, requires_grad=True)
    real, z = batches((2,))

    def critic_gradient(theta: Tensor) -> Tensor:
        fake = theta * z + theta.square()
        loss = Game("minimax", [regularizer]).critic_loss(
            lambda x: (x * psi).tanh().sum(1),
            real,
            fake,
            at=Context(rng=torch.Generator().manual_seed(4)),
        )
        return torch.autograd.grad(loss, psi, create_graph=True)[0]

    exact = torch.stack(
        [torch.autograd.grad(g, theta, retain_graph=True)[0] for g in critic_gradient(theta)]
    )
    h = 1e-5
    numeric = (critic_gradient(theta + h) - critic_gradient(theta - h)).detach() / (2 * h)
    assert numeric.abs().min() > 1e-3
    torch.testing.assert_close(exact, numeric, rtol=1e-6, atol=1e-8)


def agrees_between_ways_to_slopes(regularizer: Regularizer) -> None:
    real, fake = batches((3, 8, 8))
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    found = []
    for slopes in (AUTOGRAD, FUNC):
        loss = Game("wasserstein", [regularizer]).critic_loss(
            lambda x: critic_of(w * x),
            real,
            fake,
            at=Context(rng=torch.Generator().manual_seed(4)),
            slopes=slopes,
        )
        found.append(torch.stack([loss, *torch.autograd.grad(loss, w)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-13, atol=0)


def documents_itself(item: object) -> None:
    """One line, formula, units, reference and an example that pytest runs as a doctest."""
    text = inspect.getdoc(type(item)) or ""
    first = text.splitlines()[0]
    assert first.endswith((".", ":", "?")) and len(first) < 140, first
    assert "Reference:" in text and re.search(r"\b(19|20)\d\d\b", text.split("Reference:")[1]), (
        "no reference with a year"
    )
    assert ">>> " in text, "no example"


def has_formula_and_units(regularizer: Regularizer) -> None:
    text = inspect.getdoc(type(regularizer)) or ""
    assert "gamma/2" in text.splitlines()[0], (
        "the first line states the formula in the convention gamma/2"
    )
    assert re.search(r"\bgamma: .*(unit|logit)", text), "the docstring says in which units gamma is"


def spells_itself(item: object, kind: str = "regularizer") -> None:
    again = build(kind, spec(item))
    assert again == item and spec(again) == spec(item) and type(again) is type(item)


REGULARIZER_CHECKS = [
    is_finite_and_not_negative,
    is_as_declared_for_a_constant_critic,
    is_linear_in_gamma,
    takes_gamma_as_number_tensor_and_schedule,
    refuses_an_annealed_gamma_without_progress,
    refuses_a_gamma_that_is_no_strength,
    has_right_second_derivatives,
    depends_on_the_batch_as_a_set,
    leaves_the_caller_alone,
    works_without_a_graph,
    keeps_the_mixed_derivative,
    agrees_between_ways_to_slopes,
    documents_itself,
    has_formula_and_units,
    spells_itself,
]
