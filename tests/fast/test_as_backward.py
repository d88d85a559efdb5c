"""critic_backward stands where ``game.critic_loss(...).backward()`` would: as it accumulates, with
a scaler, in half precision, and where torch differentiates once only."""

import copy
import warnings

import pytest
import torch
from critics import MERGED, MinibatchStd, Of, body, conv
from public import PUBLIC
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from steadygan import Game, SteadyganError
from steadygan.core import Context
from steadygan.core.gradients import critic_backward

PATHS = ["merged", "joined", "separate"]
JS = Game("nonsaturating", "js:gamma=0.7")


def data(rows=4, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, rows, 3, 8, 8, generator=rng, dtype=torch.float64).to(dtype)


def critic(kind="deep"):
    torch.manual_seed(1)
    return MERGED[kind]().double()


def flat(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()])


# ------------------------------------------------------------ accumulation


@pytest.mark.parametrize("path", PATHS)
def test_it_accumulates_as_autograd_does(path):
    plain, ours = critic(), critic()
    for module in (plain, ours):
        module.to(memory_format=torch.channels_last)
        for i, p in enumerate(module.parameters()):
            p.grad = torch.full_like(p, i + 0.5)
    buffers, fired = [p.grad for p in ours.parameters()], []
    for p in ours.parameters():
        p.register_post_accumulate_grad_hook(lambda p: fired.append(p.grad.clone()))
        p.register_hook(lambda g: 2 * g)
    JS.critic_loss(plain, *data()).backward()
    critic_backward(JS, ours, *data(), path=path)
    assert len(fired) == len(buffers) and all(
        p.grad is b and p.grad.stride() == p.stride()
        for p, b in zip(ours.parameters(), buffers, strict=True)
    )
    for i, (p, q) in enumerate(zip(plain.parameters(), ours.parameters(), strict=True)):
        torch.testing.assert_close(q.grad - (i + 0.5), 2 * (p.grad - (i + 0.5)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("path", PATHS)
def test_new_gradients_lie_as_their_parameters_do(path, layout):
    module = critic().to(memory_format=layout)
    real, fake = (x.to(memory_format=torch.channels_last) for x in data())
    critic_backward(JS, module, real, fake, path=path)
    for p in module.parameters():
        strides = zip(p.shape, p.grad.stride(), p.stride(), strict=True)
        assert all(mine == theirs for size, mine, theirs in strides if size > 1)


# ------------------------------------------------------------ scaling


@pytest.mark.parametrize("path", PATHS)
def test_a_scale_multiplies_gradients_and_no_figures(path):
    once = critic()
    record = critic_backward(JS, once, *data(), path=path)
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    for scale, factor in ((0.25, 0.25), (torch.tensor(3.0), 3.0), (scaler, 512.0)):
        other = critic()
        found = critic_backward(JS, other, *data(), path=path, scale=scale)
        torch.testing.assert_close(flat(other), factor * flat(once))
        for mine, theirs in zip(found[:4], record[:4], strict=True):
            torch.testing.assert_close(mine, theirs)
    optimizer = torch.optim.SGD(other.parameters(), 1.0)
    scaler.unscale_(optimizer)
    torch.testing.assert_close(flat(other), flat(once))


# ------------------------------------------------------------ critics that change


def test_a_critic_that_begins_to_mix_samples_goes_separately_at_that_very_step():
    module = body(conv(), nn.Tanh(), MinibatchStd()).double()
    module[4].forward = lambda x: x
    assert critic_backward(JS, module, *data()).path == "joined"
    del module[4].forward
    module.zero_grad()
    found, held = critic_backward(JS, module, *data()), copy.deepcopy(module)
    held.zero_grad()
    JS.critic_loss(held, *data()).backward()
    assert found.path == "separate" and "std runs over the batch" in found.why
    torch.testing.assert_close(flat(module), flat(held))
    assert critic_backward(JS, module, *data()).why == found.why


# ------------------------------------------------------------ precision


@pytest.mark.parametrize("path", ["joined", "separate"])
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_penalties_of_critics_in_half_precision_are_taken_in_single(low, path):
    module, game = critic().float(), Game("nonsaturating", "r1:gamma=0.01")
    with torch.no_grad():
        module[0].weight *= 3e4  # squares of its slopes are infinite in half precision
    game.critic_loss(module, *data(dtype=torch.float32)).backward()
    true, half = flat(module), copy.deepcopy(module).to(low)
    half.zero_grad()
    found = critic_backward(game, half, *data(dtype=low), path=path)
    assert found.penalty.dtype == torch.float32 and 0.005 * 65504 < found.penalty < torch.inf
    assert (flat(half).float() - true).norm() < 0.05 * true.norm()


# ------------------------------------------------------------ what is differentiated once only

ATTENTION = ["vit", "attention", "attention that shows its weights", "heads on fused attention"]


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_has_the_gradient_of_its_math_kernel(kind):
    torch.manual_seed(0)
    ours = PUBLIC[kind].make()
    theirs, given = copy.deepcopy(ours), data(dtype=torch.float32)
    game, before = Game("hinge", "r1:gamma=3"), torch.backends.cuda.flash_sdp_enabled()
    found = critic_backward(game, ours, *given, path="separate")
    with sdpa_kernel(SDPBackend.MATH):
        real = given[0].requires_grad_()
        logits = theirs(real)
        outputs = logits if isinstance(logits, list) else [logits]
        fakes = theirs(given[1])
        fakes = fakes if isinstance(fakes, list) else [fakes]
        loss = sum(
            F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(outputs, fakes, strict=True)
        )
        for r in outputs:
            (slope,) = torch.autograd.grad(r.sum(), real, create_graph=True)
            loss = loss + 1.5 * slope.flatten(1).square().sum(1).mean()
        loss.backward()
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-6, atol=0)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        if p.requires_grad:
            assert (p.grad - q.grad).norm() <= 1e-5 * q.grad.norm()
    assert "math kernel" in critic_backward(game, ours, *given).why
    assert "math kernel" not in critic_backward(Game("hinge"), ours, *given).why
    assert torch.backends.cuda.flash_sdp_enabled() == before


def wrapped(module):
    return Of(lambda self, x: self.module(x), module=module)


def reentrant(module):
    return Of(lambda self, x: checkpoint(self.body, x, use_reentrant=True), body=module)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (torch.compile, "merged"),
        (lambda m: wrapped(torch.compile(m)), ""),
        (lambda m: nn.Sequential(m[:3], torch.compile(m[3:])), ""),
        (nn.DataParallel, ""),
        (lambda m: lambda x: m(x), "separate"),
    ],
)
def test_compiled_and_wrapped_critics_are_what_they_wrap(make, path):
    true, inner = critic(), critic()
    JS.critic_loss(true, *data()).backward()
    outer = make(inner)
    JS.critic_loss(outer, *data()).backward()
    torch.testing.assert_close(flat(inner), flat(true), rtol=1e-10, atol=1e-13)
    inner.zero_grad()
    found = critic_backward(JS, outer, *data())
    torch.testing.assert_close(flat(inner), flat(true), rtol=1e-10, atol=1e-13)
    assert found.path == path or not path


def test_reentrant_checkpointing_is_answered_with_the_way_out():
    outer = reentrant(critic())
    with pytest.raises(SteadyganError, match="use_reentrant=False"):
        critic_backward(JS, outer, *data())
    with pytest.raises(SteadyganError, match="use_reentrant=False"):
        JS.critic_loss(outer, *data()).backward()


@pytest.mark.parametrize("game", [JS, Game("hinge")])
@pytest.mark.parametrize("norm", [weight_norm, nn.utils.spectral_norm])
def test_checkpointing_layers_of_computed_weights_is_answered_with_the_way_out(norm, game):
    body = nn.Sequential(norm(nn.Conv2d(3, 2, 4, 2, 1)), nn.Tanh(), nn.Flatten())
    outer = Of(
        lambda self, x: self.head(checkpoint(self.body, x, use_reentrant=False)),
        body=body,
        head=nn.Linear(32, 1),
    )
    with pytest.raises(SteadyganError, match=r"leave their layers out of torch.utils.checkpoint"):
        critic_backward(game, outer.double(), *data(), path="separate")


# ------------------------------------------------------------ what is no penalty


class Blind(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.body, self.how = critic(), how

    def forward(self, x):
        if self.how == "detaches":
            return self.body(x.detach())
        with torch.no_grad():
            return self.body(x)


@pytest.mark.parametrize("how", ["detaches", "without gradients"])
def test_a_critic_that_hides_its_samples_is_warned_about(how):
    with pytest.warns(UserWarning, match="does not depend on its samples"):
        JS.critic_loss(Blind(how), *data())
    with pytest.warns(UserWarning, match="does not depend on its samples"):
        critic_backward(JS, Blind(how), *data())


def test_others_are_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for kind in ("dcgan", "u-net", "checkpointed", "patch, instance norm"):
            given = data(dtype=torch.float32)
            for game in (JS, Game("hinge"), Game("wasserstein", "gp0:gamma=1")):
                critic_backward(game, PUBLIC[kind].make(), *given, at=Context(progress=0.5))


def test_an_empty_batch_is_refused():
    for call in (JS.critic_loss, lambda *given: critic_backward(JS, *given)):
        with pytest.raises(SteadyganError, match="the batch is empty"):
            call(critic(), *data(0))
