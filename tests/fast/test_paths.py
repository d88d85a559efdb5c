"""Whatever path ``auto`` takes, its gradient is that of the separate path in double precision."""

import copy
import gc
import weakref

import pytest
import torch
from critics import ALL, CHAIN, EVENT, JOINED, MERGED, SEPARATE, Gated, Of, body, conv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from steadygan import Game, SteadyganError
from steadygan.core import Context, gradients
from steadygan.core.gradients import critic_backward, decide, rules

GAMES = {
    "js": Game("nonsaturating", "js:gamma=0.7"),
    "r1": Game("minimax", "r1:gamma=3"),
    "r2 and f-gan": Game("minimax", ["r2:gamma=2", "f-gan:gamma=0.3,divergence=kl"]),
    "wgan-gp": Game("wasserstein", "wgan-gp:gamma=0.7"),
    "dragan, lecam": Game("hinge", ["dragan:gamma=0.4", "lecam:gamma=0.3"]),
    "relativistic, noisy": Game("relativistic", "r1r2:gamma=0.5", "instance-noise:sigma=0.2"),
    "none": Game("nonsaturating"),
}


def batch(rows=5, event=EVENT, dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return tuple(
        scale * torch.randn(rows, *event, generator=rng, dtype=dtype) + shift
        for scale, shift in ((1.0, 0.2), (0.6, -0.4))
    )


def gradient(game, critic, path, data=None, seed=3):
    """(record, flat gradient) on a copy of the critic, so that power iterations start from the same
    vectors."""
    critic = copy.deepcopy(critic)
    torch.manual_seed(seed)
    found = critic_backward(
        game,
        critic,
        *(data or batch()),
        at=Context(rng=torch.Generator().manual_seed(7)),
        path=path,
    )
    return found, torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in critic.parameters()]
    )


class HeldDropout(TorchFunctionMode):
    """Dropout whose mask depends on the call and on the row's place in the whole batch, whatever
    passes the rows come in."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.first, self.call = rows, 0, 0

    def __torch_function__(self, f, types, args=(), kwargs=None):
        if f not in (F.dropout, F.dropout2d):
            return f(*args, **(kwargs or {}))
        x = args[0]
        rng = torch.Generator().manual_seed(self.call % 2)
        mask = (torch.rand(self.rows, *x.shape[1:], generator=rng, dtype=x.dtype) > 0.4).to(x.dtype)
        self.call += 1
        start = self.first
        if self.call % 2 == 0:
            self.first = (self.first + len(x)) % self.rows
        return x * mask[start : start + len(x)] / 0.6


@pytest.mark.parametrize("kind", ALL)
def test_auto_is_the_reference(kind):
    torch.manual_seed(1)
    critic = ALL[kind]().double()
    expected = "merged" if kind in MERGED else "joined" if kind in JOINED else "separate"
    expected = "chain" if kind in CHAIN else expected
    for name, game in GAMES.items():
        found, fast = gradient(game, critic, "auto")
        assert found.path == (expected if game.where or expected != "merged" else "joined"), (
            name,
            found.why,
        )
        assert bool(found.why) == (
            expected not in ("chain", "merged") and not (expected == "joined" and not game.where)
        )
        if kind == "dropout":
            continue  # masks are drawn in another order: the next test holds them
        reference, slow = gradient(game, critic, "separate")
        assert slow.norm() > 1e-3
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(
            torch.stack(found[:2]), torch.stack(reference[:2]), rtol=1e-10, atol=1e-12
        )
        for mine, theirs in zip(found[2:4], reference[2:4], strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or torch.allclose(mine, theirs, rtol=1e-10)


@pytest.mark.parametrize(
    ("game", "path"), [("js", "merged"), ("r1", "merged"), ("js", "joined"), ("none", "joined")]
)
def test_dropout_under_the_same_masks(game, path, monkeypatch):
    monkeypatch.setattr(gradients.backward, "decide", lambda *given: gradients.Decision(path))
    torch.manual_seed(1)
    critic, found = MERGED["dropout"]().double(), []
    for way in (path, "separate"):
        with HeldDropout(10):
            found.append(gradient(GAMES[game], critic, way)[1])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["deep", "spectral norm", "average pooled"])
def test_single_precision_is_as_good_as_the_reference(kind):
    torch.manual_seed(1)
    critic = ALL[kind]()
    true = gradient(GAMES["js"], copy.deepcopy(critic).double(), "separate")[1]
    errors = {}
    for path in ("merged", "separate"):
        data = tuple(x.float() for x in batch())
        errors[path] = (
            (gradient(GAMES["js"], critic, path, data)[1].double() - true).norm() / true.norm()
        ).item()
    assert errors["merged"] < 2e-6 and errors["separate"] < 2e-6


def test_autocast_keeps_logits_and_penalties_in_single_precision():
    torch.manual_seed(1)
    critic, data = ALL["deep"](), tuple(x.float() for x in batch(32))
    with torch.autocast("cpu", torch.bfloat16):
        low, fast = gradient(GAMES["js"], critic, "auto", data)
        _, slow = gradient(GAMES["js"], critic, "separate", data)
    _, true = gradient(GAMES["js"], critic, "separate", data)
    assert (
        low.path == "merged"
        and low.loss.dtype
        == low.penalty.dtype
        == low.terms.scores["real"].logits.dtype
        == torch.float32
    )
    assert low.terms.scores["real"].gradient.dtype == torch.float32
    # bfloat16 has eight bits: both are equally far from the truth, and not equal to it.
    assert (
        1e-5 < (fast - true).norm() / true.norm() < 0.03
        and (slow - true).norm() / true.norm() < 0.03
    )


def test_one_power_iteration_a_step_and_nothing_else_is_touched():
    critic = MERGED["spectral norm"]().double()
    vectors = lambda: [b.clone() for n, b in critic.named_buffers()]  # noqa: E731
    before, state = vectors(), torch.get_rng_state()
    points = GAMES["js"].points(*batch())
    assert decide(GAMES["js"], critic, points).path == "merged"
    assert all(map(torch.equal, before, vectors())) and torch.equal(state, torch.get_rng_state())
    other = copy.deepcopy(critic)
    with torch.nn.utils.parametrize.cached():
        other(batch()[0])
    critic_backward(GAMES["js"], critic, *batch())
    assert all(map(torch.equal, vectors(), [b for _, b in other.named_buffers()]))


def test_gradients_are_added_and_samples_left_alone():
    critic = MERGED["unused parameter"]().double()
    real, fake = (x.requires_grad_() for x in batch())
    critic_backward(GAMES["js"], critic, real, fake)
    once = [p.grad.clone() for n, p in critic.named_parameters() if n != "unused"]
    critic_backward(GAMES["js"], critic, real, fake)
    assert all(
        torch.allclose(p.grad, 2 * g)
        for p, g in zip(
            [p for n, p in critic.named_parameters() if n != "unused"], once, strict=True
        )
    )
    assert (
        critic.unused.grad is None
        and real.grad is None
        and fake.grad is None
        and real.requires_grad
    )


def test_a_function_goes_separately_and_its_parameters_are_found():
    critic = MERGED["plain"]().double()
    found = critic_backward(GAMES["js"], lambda x: critic(x), *batch())
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    assert found.path == "separate" and "function" in found.why
    torch.testing.assert_close(mine, gradient(GAMES["js"], critic, "separate")[1])


def test_labels_travel():
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.table = body(conv(), nn.ReLU()), nn.Embedding(4, 192)

        def forward(self, x, y):
            return self.body(x).squeeze(1) + (self.table(y) * x.flatten(1)).sum(1)

    torch.manual_seed(0)
    critic, labels = (
        Conditional().double(),
        (torch.tensor([0, 1, 2, 3, 0]), torch.tensor([3, 3, 1, 0, 2])),
    )
    found = []
    for path in ("auto", "separate"):
        held = copy.deepcopy(critic)
        record = critic_backward(GAMES["js"], held, *batch(), labels=labels, path=path)
        found.append(torch.cat([p.grad.flatten() for p in held.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)
    assert record.path == "separate"


def test_it_looks_again_when_the_critic_changes():
    game, critic = GAMES["js"], SEPARATE["batch norm"]().double()
    first = critic_backward(game, critic, *batch())
    critic.eval()
    second = critic_backward(game, critic, *batch())
    assert (first.path, second.path) == ("separate", "joined") and "3 (BatchNorm2d)" in first.why
    plain = MERGED["plain"]().double()
    assert critic_backward(game, plain, *batch()).path == "merged"
    plain[1] = nn.Tanh()
    assert critic_backward(game, plain, *batch()).path == "joined"


def test_a_critic_that_takes_another_way_later_falls_back_and_says_so():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.smooth = body(), False

        def forward(self, x):
            return torch.tanh(self.body(x)) if self.smooth else self.body(x)

    critic = Sometimes().double()
    assert critic_backward(GAMES["js"], critic, *batch()).path == "merged"
    critic.smooth = True
    critic.zero_grad()
    found = critic_backward(GAMES["js"], critic, *batch())
    assert found.path == "joined" and "tanh" in found.why
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    torch.testing.assert_close(mine, gradient(GAMES["js"], critic, "separate")[1])


@pytest.mark.parametrize("game", ["js", "none"])
def test_a_coupling_that_no_mode_sees_is_not_forgotten_when_it_begins(game):
    torch.manual_seed(1)
    critic = Gated().double()
    first = critic_backward(GAMES[game], critic, *batch())
    assert first.path == "separate" and "cat joins activations with what something" in first.why
    critic.alpha.fill_(1.0)
    critic.zero_grad()
    critic_backward(GAMES[game], critic, *batch())
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    critic.zero_grad()
    GAMES[game].critic_loss(critic, *batch()).backward()
    slow = torch.cat([p.grad.flatten() for p in critic.parameters()])
    torch.testing.assert_close(mine, slow, rtol=1e-9, atol=1e-11)


def test_scripted_weights_are_no_coupling():
    scripted = torch.jit.script(normalized)
    critic = Of(
        lambda self, x: self.head(torch.tanh(F.linear(x.flatten(1), scripted(self.w)))),
        w=nn.Parameter(torch.randn(6, 192, dtype=torch.float64) / 14),
        head=nn.Linear(6, 1).double(),
    )
    assert gradient(GAMES["js"], critic, "auto")[0].path == "joined"


def normalized(w: torch.Tensor) -> torch.Tensor:
    return w / w.norm()


def test_decisions_die_with_the_critic():
    critic = MERGED["plain"]().double()
    critic_backward(GAMES["js"], critic, *batch())
    assert critic in gradients.choice._decisions
    gone = weakref.ref(critic)
    del critic
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("kind", "path", "why"),
    [
        ("tanh", "merged", "tanh is not on the list"),
        ("group norm", "merged", "group_norm"),
        ("batch norm", "joined", r"layer 3 \(BatchNorm2d\) couples samples"),
        ("batch norm", "merged", r"layer 3 \(BatchNorm2d\) couples samples"),
        ("minibatch std", "joined", "std runs over the batch"),
        ("activation as a weight", "merged", "indexing picks samples|activation as a weight"),
        ("layer norm", "merged", "layer_norm"),
        ("custom function", "merged", "DoubleBackward"),
        ("square", "merged", "joins two activations"),
    ],
)
def test_a_path_by_name_is_refused_where_it_is_wrong(kind, path, why):
    with pytest.raises(SteadyganError, match=why):
        critic_backward(GAMES["js"], ALL[kind]().double(), *batch(), path=path)
    with pytest.raises(SteadyganError, match="merged"):
        critic_backward(GAMES["js"], ALL[kind]().double(), *batch(), path="merge")


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.mul_(2**0.5),
        lambda h: h.flatten(1).add_(0.3).view_as(h),
        lambda h: F.relu(h, inplace=True),
    ],
)
def test_slopes_are_not_read_from_what_was_changed(change):
    critic = Of(
        lambda self, x: self.head(change(F.leaky_relu(self.a(x), 0.2)).flatten(1)),
        a=conv(3),
        head=nn.Linear(384, 1),
    ).double()
    with pytest.raises(SteadyganError, match="in place what a slope is read from"):
        critic_backward(GAMES["js"], critic, *batch(), path="merged")
    found, mine = gradient(GAMES["js"], critic, "auto")
    assert found.path == "joined"
    slow = gradient(GAMES["js"], critic, "separate")[1]
    torch.testing.assert_close(mine, slow, rtol=1e-9, atol=1e-11)


def test_a_compiled_module_is_looked_into():
    critic = MERGED["plain"]().double()
    found = critic_backward(GAMES["js"], torch.compile(critic), *batch())
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    assert found.path == "merged"
    torch.testing.assert_close(mine, gradient(GAMES["js"], critic, "separate")[1])


def test_the_check_catches_a_wrong_rule(monkeypatch):
    # tanh as if its slope were that of a rectifier: structurally fine, numerically wrong.
    monkeypatch.setitem(rules.RULES, torch.tanh, rules._relu)
    critic = JOINED["tanh"]().double()
    found, mine = gradient(GAMES["js"], critic, "auto")
    assert found.path == "joined" and "merged path differs from the separate one" in found.why
    torch.testing.assert_close(mine, gradient(GAMES["js"], critic, "separate")[1])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_random_critics_of_the_whitelist(data):
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    channels, side, layers = 3, 8, []
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["conv", "stride", "up", "max", "avg", "pad", "spectral"]))
        out = data.draw(st.sampled_from([2, 4, 6]))
        if kind in ("conv", "spectral"):
            groups = 2 if channels % 2 == 0 and data.draw(st.booleans()) else 1
            layer = nn.Conv2d(channels, out, 3, 1, 1, groups=groups, bias=data.draw(st.booleans()))
            layers.append(
                nn.utils.parametrizations.spectral_norm(layer) if kind == "spectral" else layer
            )
            channels = out
        elif kind == "stride" and side >= 4:
            layers.append(nn.Conv2d(channels, out, 4, 2, 1))
            channels, side = out, side // 2
        elif kind == "up" and side <= 8:
            layers.append(nn.ConvTranspose2d(channels, out, 4, 2, 1))
            channels, side = out, side * 2
        elif kind in ("max", "avg") and side >= 4:
            layers.append((nn.MaxPool2d if kind == "max" else nn.AvgPool2d)(2))
            side //= 2
        elif kind == "pad":
            layers.append(nn.ReflectionPad2d(1))
            side += 2
        else:
            continue
        layers.append(
            data.draw(
                st.sampled_from(
                    [nn.ReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True), nn.ReLU6()]
                )
            )
        )
    critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, 1)).double()
    game = GAMES[data.draw(st.sampled_from([name for name, game in GAMES.items() if game.where]))]
    found, fast = gradient(game, critic, "auto", batch(3))
    assert found.path == "merged", found.why
    torch.testing.assert_close(
        fast, gradient(game, critic, "separate", batch(3))[1], rtol=1e-8, atol=1e-11
    )


@pytest.mark.parametrize(
    ("kind", "game"),
    [
        ("deep", "dragan, lecam"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in [("tanh", "js"), ("batch norm", "wgan-gp"), ("spectral norm", "r1")]
        ),
    ],
)
def test_compiled_is_the_reference(kind, game):
    torch.manual_seed(1)
    critic = ALL[kind]().double()
    progress = Context(
        progress=0.3, memory={"lecam.real": torch.tensor(0.2).double()} if "lecam" in game else {}
    )
    found = {}
    for path in ("compiled", "separate"):
        held = copy.deepcopy(critic)
        for _ in range(
            2
            # the second call is the compiled one's own, and finds what the first left in the
            # buffers
        ):
            held.zero_grad()
            at = Context(progress.progress, torch.Generator().manual_seed(7), progress.memory)
            record = critic_backward(GAMES[game], held, *batch(), at=at, path=path)
        buffers = [b.double().flatten() for b in held.buffers()]
        gradients = [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in held.parameters()
        ]
        found[path] = torch.cat([record.loss.view(1), record.penalty.view(1), *gradients, *buffers])
        assert record.path == path
    torch.testing.assert_close(found["compiled"], found["separate"], rtol=1e-9, atol=1e-11)


def test_why_tells_of_the_path_that_failed_last():
    """It takes 6 rows and no others, merged or not."""
    critic = Of(lambda self, x: self.a(x.view(6, 3)), a=torch.nn.Linear(3, 1))
    game = Game("hinge", "r1r2:gamma=1")
    found = critic_backward(game, critic, torch.randn(6, 3), torch.randn(6, 3))
    assert found.path == "separate" and "joined path fails on its copy: shape" in found.why


def test_a_fallback_is_remembered_until_the_critic_changes(monkeypatch):
    """Looking at a critic is expensive, all the more where it comes to nothing."""
    critic = torch.nn.Sequential(
        torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
    )
    game = Game("nonsaturating", ["js:gamma=1"])
    points = game.points(torch.randn(6, 3), torch.randn(6, 3))
    looked, look = [], gradients.choice._decide
    monkeypatch.setattr(
        gradients.choice, "_decide", lambda *given: looked.append(1) or look(*given)
    )
    first = gradients.decide(game, critic, points)
    assert first.path == "separate" and "1 (BatchNorm1d)" in first.why
    assert gradients.decide(game, critic, points) == first and len(looked) == 1
    assert gradients.decide(game, critic.eval(), points).path != "separate" and len(looked) == 2
    told = gradients.Decision("separate", "as a run decided before")
    gradients.remember(game, critic, points, told)
    assert gradients.decide(game, critic, points) is told and len(looked) == 2


@pytest.mark.parametrize("when", ["forward", "forward_pre", "full_backward"])
def test_hooks_of_a_user_run_on_no_copy(when):
    """They fill what belongs to the user, which a copy of the critic shares with it."""
    seen = []
    critic = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    handle = getattr(critic[1], f"register_{when}_hook")(lambda *given: seen.append(given[0]))
    found = critic_backward(GAMES["js"], critic, *batch())
    assert found.path == "separate" and "its layer 1 has a hook" in found.why
    assert seen and all(module is critic[1] for module in seen)
    assert when == "full_backward" or len(seen) == 2  # each batch once
    handle.remove()
    assert critic_backward(GAMES["js"], critic, *batch()).path == "chain"


def test_taps_that_hooks_fill_reach_their_heads():
    class Taps(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.ModuleList([nn.Linear(192, 8), nn.Linear(8, 8)])
            self.heads, self.taps = nn.ModuleList([nn.Linear(8, 1), nn.Linear(8, 1)]), []
            for layer in self.body:
                layer.register_forward_hook(lambda module, inputs, out: self.taps.append(out))

        def forward(self, x):
            h = x.flatten(1)
            for layer in self.body:
                h = torch.tanh(layer(h))
            taps, self.taps = self.taps, []
            return sum(head(tap) for head, tap in zip(self.heads, taps, strict=True))

    critic = Taps()
    x, y = batch(dtype=torch.float32)
    critic_backward(GAMES["js"], critic, x, y)
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    critic.zero_grad()
    GAMES["js"].critic_loss(critic, x, y).backward()
    slow = torch.cat([p.grad.flatten() for p in critic.parameters()])
    torch.testing.assert_close(mine, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", ["parameters", "buffers"])
def test_a_layer_that_is_its_own_copy_keeps_its_precision(by):
    class Shared(nn.BatchNorm1d if by == "buffers" else nn.Linear):
        def __deepcopy__(self, memo):
            return self

    layer = Shared(192, affine=False).eval() if by == "buffers" else Shared(192, 192)
    critic = nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(192, 1))
    found = critic_backward(GAMES["js"], critic, *batch(dtype=torch.float32))
    assert found.path == "separate" and "its copy shares 1." in found.why
    kept = [t.dtype for t in (*critic.parameters(), *critic.buffers()) if t.is_floating_point()]
    assert set(kept) == {torch.float32}


def test_labels_that_are_no_tensor_go_as_they_are():
    critic = Of(
        lambda self, x, c: self.b(torch.tanh(self.a(x.flatten(1)) + self.e(c["text"]))),
        a=nn.Linear(192, 8),
        e=nn.Linear(3, 8),
        b=nn.Linear(8, 1),
    ).double()
    labels = tuple({"text": t[:, :3]} for t in batch(event=(3,), seed=1))
    found = critic_backward(GAMES["js"], critic, *batch(), labels=labels)
    assert found.path == "separate" and "its labels are a dict" in found.why
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    critic.zero_grad()
    GAMES["js"].critic_loss(critic, *batch(), labels=labels).backward()
    slow = torch.cat([p.grad.flatten() for p in critic.parameters()])
    torch.testing.assert_close(mine, slow, rtol=1e-9, atol=1e-11)
