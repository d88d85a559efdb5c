"""What is given to a game: batches with their labels, as they come; and what cannot be right, which
is refused in a sentence."""

import pytest
import torch
from critics import PENALIZED, Of
from torch import nn
from torch.nn import functional as F

from steadygan import Game, SteadyganError
from steadygan.core import Context
from steadygan.core.gradients import critic_backward

JS = Game("nonsaturating", "js:gamma=0.7")
Y = torch.tensor([0, 1, 2, 3])


def critic(**parts):
    torch.manual_seed(1)
    body = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    return Of(lambda self, x, *y: self.body(x), body=body, **parts)


def data(*event):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, *(event or (3,)), generator=rng)


def both(game, network, *given, **settings):
    """Return the loss and the gradients of both ways to them."""
    parameters, found = list(network.parameters()), []
    game.critic_loss(network, *given, **settings).backward()
    for _ in range(2):
        found.append([p.grad for p in parameters])
        for p in parameters:
            p.grad = None
        if len(found) == 1:
            record = critic_backward(game, network, *given, **settings)
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    return record


# ------------------------------------------------------------ batches as they come


@pytest.mark.parametrize("name", PENALIZED)
def test_samples_may_be_numbers(name):
    torch.manual_seed(1)
    body = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    network = Of(lambda self, x: self.body(x[:, None]), body=body)
    real, fake = data(1).double()
    game, found = Game(*PENALIZED[name]), []
    for module, *pair in ((network, real[:, 0], fake[:, 0]), (body, real, fake)):
        at = Context(rng=torch.Generator().manual_seed(3))
        terms = game.critic_terms(module, *pair, at=at)
        found.append((terms.penalty, *torch.autograd.grad(terms.loss, list(body.parameters()))))
        for path in ("auto", "differences"):
            body.zero_grad()
            at = Context(rng=torch.Generator().manual_seed(3))
            record = critic_backward(game, module, *pair, at=at, path=path)
            found.append((record.penalty, *(p.grad for p in body.parameters())))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("regularizer", ["r1:gamma=2", "r2:gamma=2", []])
def test_samples_may_come_from_inference_mode(regularizer):
    game, network = Game("nonsaturating", regularizer), critic()
    with torch.inference_mode():
        given, labels = data().clone().unbind(), (Y.clone(), Y.clone())
    found = both(game, network, *given)
    torch.testing.assert_close(found.loss, both(game, network, *data()).loss)
    assert game.generator_loss(network, *given).requires_grad
    conditional = critic(classes=nn.Embedding(4, 3))
    conditional._f = lambda self, x, y: self.body(x + self.classes(y))
    both(game, conditional, *given, labels=labels)


# ------------------------------------------------------------ what cannot be right

LABELS = {
    "those of the real ones alone": (Y, "pass labels="),
    "both as one tensor": (torch.stack([Y, Y]), "pass labels="),
    "three": ((Y, Y, Y), "not tuple of 3"),
    "too few": ((Y[:3], Y), r"real samples have shape \(3,\)"),
    "too many of generated ones": ((Y, torch.cat([Y, Y])), r"fake samples have shape \(8,\)"),
    "one for all": ((Y[0], Y), r"real samples have shape \(\)"),
}


@pytest.mark.parametrize("what", LABELS)
def test_labels_that_are_not_one_a_sample_are_refused(what):
    labels, says = LABELS[what]
    for call in (JS.critic_loss, lambda *given, **s: critic_backward(JS, *given, **s)):
        with pytest.raises(SteadyganError, match=says):
            call(critic(), *data(), labels=labels)
    if "real" not in says:
        with pytest.raises(SteadyganError, match=says):
            JS.generator_loss(critic(), None, data()[1], labels=labels)


def test_what_is_no_batch_is_refused():
    for x in (torch.tensor(1.0), [1.0, 2.0], data().numpy()[0]):
        with pytest.raises(SteadyganError, match=r"real samples are a batch, .* x\[None\]"):
            JS.critic_loss(critic(), x, data()[1])
    with pytest.raises(SteadyganError, match="view_as_real"):
        JS.critic_loss(critic(), *data().to(torch.complex64))


@pytest.mark.parametrize("regularizer", ["js:gamma=1", []])
def test_a_critic_of_other_outputs_at_other_samples_is_refused(regularizer):
    game, wide = Game("hinge", regularizer), nn.Conv1d(1, 1, 3)
    real, fake = torch.randn(4, 1, 3), torch.randn(4, 1, 6)
    for given in ((real, fake), (fake, real)):
        for call in (game.critic_loss, lambda *g: critic_backward(game, *g)):
            with pytest.raises(SteadyganError, match="give samples of one size"):
                call(wide, *given)


def test_gradients_that_nobody_would_get_are_refused():
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), pytest.raises(SteadyganError, match="gradients are switched off"):
            critic_backward(JS, critic(), *data())
    with torch.inference_mode(), pytest.raises(SteadyganError, match=r"use torch.no_grad"):
        JS.critic_loss(critic(), *data())
    with torch.no_grad():
        without = JS.critic_loss(critic(), *data())
    torch.testing.assert_close(without, JS.critic_loss(critic(), *data()))
    with pytest.raises(SteadyganError, match="are frozen"):
        critic_backward(JS, critic().requires_grad_(False), *data())
    half = critic()
    half.body[0].requires_grad_(False)
    critic_backward(JS, half, *data())
    assert half.body[0].weight.grad is None and half.body[2].weight.grad.norm() > 0


def test_a_seed_is_no_source_of_draws_and_none_no_path():
    with pytest.raises(SteadyganError, match=r"rng=torch.Generator\(\).manual_seed\(3\)"):
        Context(rng=3)
    with pytest.raises(SteadyganError, match="Unknown gradient path 'None'"):
        critic_backward(JS, critic(), *data(), path=None)


def test_a_critic_that_changes_its_samples_is_refused_under_a_penalty():
    body = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1))
    for call in (JS.critic_loss, lambda *given: critic_backward(JS, *given)):
        with pytest.raises(SteadyganError, match=r"in place, .* x.clone"):
            call(body, *data())
    copied = Of(lambda self, x: self.body(x.clone()), body=body)
    plain = Of(lambda self, x: self.body[1](F.relu(x)), body=body)
    assert JS.critic_loss(copied, *data()) == JS.critic_loss(plain, *data())
