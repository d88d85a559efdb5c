"""What is given to a game: batches with their labels, as they come; and what cannot be right, which
is refused in a sentence."""

import copy
from functools import partial

import pytest
import torch
from critics import PENALIZED, Of
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

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


OTHER = {
    "another size": (torch.ones(4, 5), torch.ones(4, 7)),
    "indices beside soft ones": (Y, torch.ones(4, 5)),
    "another type": (Y, Y.double()),
    "no tensors": ([torch.ones(4, 5)], [torch.ones(4, 5)]),
}


@pytest.mark.parametrize("regularizer", ["js:gamma=0.7", []])
@pytest.mark.parametrize("other", OTHER)
def test_labels_may_become_others_than_they_were(other, regularizer):
    """What was decided for labels that can be joined does not hold for those that cannot."""
    network, game = critic(), Game("nonsaturating", regularizer)

    def score(self, x, y):
        y = y[0] if isinstance(y, list) else y
        return self.body(x + y.view(len(y), -1).float().mean(1, keepdim=True))

    network._f = score
    alike = torch.ones(4, 5), torch.ones(4, 5)
    for _ in range(2):
        assert both(game, network, *data(), labels=alike).path == "joined"
        assert both(game, network, *data(), labels=OTHER[other]).path == "separate"


@pytest.mark.parametrize("regularizer", ["js:gamma=0.7", []])
@pytest.mark.parametrize("path", ["auto", "joined", "separate"])
def test_what_labels_were_made_of_learns_as_by_backward(path, regularizer):
    game, network, soft = Game("nonsaturating", regularizer), critic(), nn.Embedding(4, 3)
    network._f, shift = lambda self, x, y: self.body(x + y), nn.Parameter(torch.ones(4, 3))
    learned, found = [*network.parameters(), *soft.parameters(), shift], []
    for ours in (True, False):
        labels = soft(Y) + network.body[0].bias[:3], shift
        if ours:
            critic_backward(game, network, *data(), labels=labels, path=path)
        else:
            game.critic_loss(network, *data(), labels=labels).backward()
        found.append([p.grad for p in learned])
        for p in learned:
            p.grad = None
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


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
    for x in (tuple(data()), {"x": data()[0]}, data().numpy()[0]):
        with pytest.raises(SteadyganError, match="real samples are a batch"):
            critic_backward(JS, critic(), x, data()[1])
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


@pytest.mark.parametrize("normed", [weight_norm, spectral_norm])
@pytest.mark.parametrize("regularizer", ["js:gamma=0.7", []])
def test_copies_of_a_parametrized_part_keep_their_own_weights(normed, regularizer):
    torch.manual_seed(2)
    part = nn.Sequential(normed(nn.Linear(3, 5)), nn.Tanh(), nn.Linear(5, 1))
    scales = nn.ModuleList(copy.deepcopy(part) for _ in range(3))
    for i, each in enumerate(scales):
        for p in each.parameters():
            p.data.mul_(1 - 0.6 * i)
    network = Of(lambda self, x: [each(x) for each in self.scales], scales=scales.eval())
    game = Game("nonsaturating", regularizer)
    both(game, network, *data())
    loss = game.critic_loss(network, *data())
    apart = sum(game.critic_loss(each, *data()) for each in scales)
    torch.testing.assert_close(loss, apart)
    loss.backward()
    assert all(p.grad.norm() > 0 for each in scales for p in each[2:].parameters())
    with parametrize.cached():
        critic_backward(game, network, *data())
        assert parametrize._cache_enabled == 1


@pytest.mark.parametrize(
    "normed", [weight_norm, spectral_norm, nn.utils.weight_norm, nn.utils.spectral_norm]
)
@pytest.mark.parametrize(
    "way", [lambda *given: JS.critic_loss(*given).backward(), partial(critic_backward, JS)]
)
def test_a_normalised_part_that_first_runs_under_no_grad_learns_all_the_same(normed, way):
    def score(first):
        def call(self, x):
            k = first(self, x).abs().mean(1, keepdim=True)
            return self.h(torch.tanh(self.a(x))) + k

        return call

    @torch.no_grad()
    def looked(self, x):
        return self.a(x)

    found = []
    for first in (looked, lambda self, x: self.a(x).detach()):
        torch.manual_seed(2)
        network = Of(score(first), a=normed(nn.Linear(3, 5)), h=nn.Linear(5, 1)).double()
        way(network, *data().double())
        found.append([*(p.grad for p in network.parameters()), *network.buffers()])
    torch.testing.assert_close(*found, rtol=0, atol=1e-10)
    assert all(t.norm() > 0 for t in found[0])


class Scaled(torch.autograd.Function):
    """The identity whose gradient is a tenth, as in gradient reversal and its kin."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return 0.1 * g


@pytest.mark.parametrize("game", [JS, Game("wasserstein", "r1:gamma=4")])
def test_a_function_that_scales_gradients_does_so_here_too(game):
    parts = {"a": nn.Linear(3, 5), "b": nn.Linear(5, 1)}
    network = Of(lambda self, x: self.b(torch.tanh(Scaled.apply(self.a(x)))), **parts)
    both(game, network, *data())
    with pytest.raises(SteadyganError, match="scales gradients or turns them round"):
        critic_backward(JS, network, *data(), path="differences")


def test_what_a_module_holds_in_a_plain_list_learns_as_by_backward():
    network = critic()
    network.more = [nn.Linear(3, 4), (torch.randn(4, 1, requires_grad=True),)]
    body = network.body

    def score(self, x):
        return body(x) + torch.tanh(self.more[0](x)) @ self.more[1][0]

    network = Of(score, body=body, more=network.more)
    hidden = [*network.more[0].parameters(), network.more[1][0]]
    JS.critic_loss(network, *data()).backward()
    wanted = [p.grad for p in hidden]
    network.zero_grad()
    for p in hidden:
        p.grad = None
    critic_backward(JS, network, *data())
    for p, grad in zip(hidden, wanted, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-4, atol=1e-6)


def test_batches_are_not_joined_by_name_where_samples_see_each_other():
    network = Of(lambda self, x: self.b(self.a(x).roll(1, 0)), a=nn.Linear(3, 5), b=nn.Linear(5, 1))
    with pytest.raises(SteadyganError, match="roll may let the samples"):
        critic_backward(Game("nonsaturating"), network, *data(), path="merged")


def test_feature_maps_may_have_names_and_gaps():
    layer = nn.Conv1d(1, 1, 3, padding=1)
    x, y = torch.randn(2, 4, 1, 8)
    for maps in ({"b1": torch.zeros(4, 2)}, [torch.zeros(4, 2), None], (None, [None])):
        named = Game("hinge").critic_loss(
            lambda x, m=maps: {"logits": layer(x), "features": m}, x, y
        )
        assert named == Game("hinge").critic_loss(layer, x, y)
    with pytest.raises(SteadyganError, match="str among its feature maps"):
        Game("hinge").critic_loss(lambda x: {"logits": layer(x), "features": "none"}, x, y)


def test_attention_has_its_second_derivative_whatever_kernels_are_allowed():
    def score(self, x):
        q, k, v = (t.unflatten(2, (2, 8)).transpose(1, 2) for t in self.q(x).chunk(3, 2))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).mean(1))

    network = Of(score, q=nn.Linear(16, 48), o=nn.Linear(16, 1))
    x, y = torch.randn(2, 4, 6, 16)
    expected = JS.critic_loss(network, x, y)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        torch.testing.assert_close(JS.critic_loss(network, x, y), expected)
        both(JS, network, x, y)
        assert not torch.backends.cuda.math_sdp_enabled()


def test_a_scale_may_be_one_number_of_any_shape():
    one, other = critic(), critic()
    critic_backward(JS, one, *data(), scale=torch.tensor([2.0]))
    critic_backward(JS, other, *data(), scale=2.0)
    assert torch.equal(one.body[0].weight.grad, other.body[0].weight.grad)
