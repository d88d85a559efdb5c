"""The auditor against seeded bugs in five styles of loops, and against loops without any."""

import copy
import io
import os
import socket

import pytest
import torch
from torch.nn import functional as F

from audit.clean import CLEAN, STEPS, lazy_r1_in_a_step_of_its_own, least_squares
from audit.loops import AMP_ONLY, BATCH, MUTATIONS, SHAPE, STYLES, data, latents, networks, run
from steadygan.analysis.audit import audit
from steadygan.analysis.audit.findings import FOLLOWS, PATIENCE


@pytest.mark.parametrize("style", STYLES)
def test_a_clean_loop_is_left_in_peace_and_computes_the_same_bits(style):
    found, watched = run(style)
    _, alone = run(style, watched=False)
    assert found == []
    assert all(torch.equal(a, b) for a, b in zip(watched, alone, strict=True))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("what", MUTATIONS)
def test_a_seeded_bug_is_named(what, style):
    name, slots = MUTATIONS[what]
    unused = FOLLOWS if style != "closures" else PATIENCE  # there it has no gradients either
    waits = {"generator-never-steps": unused, "ema-never-updated": FOLLOWS}
    found, _ = run(style, slots, steps=waits.get(name, 4))
    assert set(found) == {name}


@pytest.mark.parametrize("what", AMP_ONLY)
def test_a_scalers_bug_is_named(what):
    name, slots = AMP_ONLY[what]
    assert set(run("amp", slots)[0]) == {name}


@pytest.mark.parametrize("loop", CLEAN, ids=lambda loop: loop.__name__)
def test_a_loop_without_bugs_raises_no_alarm(loop):
    G, D = networks()
    opt_G, opt_D = (torch.optim.Adam(n.parameters(), lr=1e-3, betas=(0.0, 0.99)) for n in (G, D))
    D.requires_grad_(loop is not lazy_r1_in_a_step_of_its_own)  # some begin with a frozen critic
    with audit(G, D, opt_G, opt_D, ema={}) as found:
        loop(G, D, opt_G, opt_D)
    assert [str(f) for f in found] == []


def _rank(rank, port, moved):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    G, D = networks()
    opt_G, opt_D = (torch.optim.SGD(n.parameters(), lr=1e-2) for n in (G, D))
    with audit(G, D, opt_G, opt_D, ema={}) as found:
        torch.manual_seed(rank if moved else 0)
        least_squares(G, D, opt_G, opt_D)
    assert {f.name for f in found} == ({"ranks-out-of-step"} if moved else set())
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("moved", [False, True])
def test_ranks_that_drift_apart_are_named(moved):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, moved), nprocs=2)


def test_a_moving_average_is_found_without_being_named():
    G, D = networks()
    opt_G, opt_D = (torch.optim.SGD(n.parameters(), lr=1e-2) for n in (G, D))
    ema = copy.deepcopy(G).requires_grad_(False)
    with audit(G, D, opt_G, opt_D) as found:
        for _ in range(FOLLOWS // STEPS + 1):
            least_squares(G, D, opt_G, opt_D)
    assert [f.name for f in found] == ["ema-never-updated"]
    with audit(G, D, opt_G, opt_D) as found:
        least_squares(G, D, opt_G, opt_D)
        ema.load_state_dict(G.state_dict())
    assert not list(found)


def test_a_moving_average_that_follows_every_tenth_step_is_no_fault():
    G, D = networks()
    ema, both = copy.deepcopy(G).requires_grad_(False), apart(G, D)
    with audit(G, D, *both, ema=ema) as found:
        turns(G, D, *both)
    assert not list(found)


@pytest.mark.parametrize("kept", [lambda state: state, copy.deepcopy], ids=["itself", "a copy"])
@pytest.mark.parametrize(("left", "found"), [("", []), ("ema", ["checkpoint-lacks-state"])])
def test_a_checkpoint_is_compared_when_it_is_saved(left, found, kept):
    G, D = networks()
    ema, both = copy.deepcopy(G).requires_grad_(False), apart(G, D)

    def saves_and_averages(i):
        parts = {"G": G, "D": D, "ema": ema, "opt_G": both[0], "opt_D": both[1]}
        held = {name: part.state_dict() for name, part in parts.items() if name != left}
        torch.save({**kept(held), "step": i}, io.BytesIO())
        for p, q in zip(ema.parameters(), G.parameters(), strict=True):
            p.data = p.data.lerp(q.data, 0.1)
        for b, c in zip(ema.buffers(), G.buffers(), strict=True):
            b.copy_(c)

    with audit(G, D, *both, ema=ema) as seen:
        turns(G, D, *both, after=saves_and_averages)
    assert [f.name for f in seen] == found


def bce_free(D, real, fake):
    return F.softplus(-D(real)).mean() + F.softplus(D(fake)).mean()


def fools(D, fake):
    return F.softplus(-D(fake)).mean()


def turns(G, D, opt_G, opt_D, on_critic=bce_free, on_generator=fools, after=lambda i: None):
    for i in range(6):
        fake = G(latents())
        opt_D.zero_grad()
        loss = on_critic(D, data(), fake.detach())
        if loss.requires_grad:
            loss.backward()
        opt_D.step()
        after(i)
        opt_G.zero_grad()
        on_generator(D, fake).backward()
        opt_G.step()


def apart(G, D):
    return torch.optim.SGD(G.parameters(), lr=1e-3), torch.optim.SGD(D.parameters(), lr=1e-3)


def named(loop, optimizers=apart):
    G, D = networks()
    both = optimizers(G, D)
    with audit(G, D, *both, ema={}) as found:
        loop(G, D, *both)
    return [f.name for f in found]


@pytest.mark.parametrize("offset", [-0.6, -0.3, 0.0, 0.5, 1.3])
def test_least_squares_with_all_outputs_on_one_side_of_both_labels_is_no_fault(offset):
    """(D - 1)^2 and D^2 pull the same way wherever D < 0 or D > 1, the first one harder or less."""

    def loop(G, D, *both):
        torch.nn.init.constant_(D[-1].bias, offset)
        torch.nn.init.constant_(D[-1].weight, 1e-3)
        turns(
            G,
            D,
            *both,
            lambda D, r, f: ((D(r) - 1) ** 2).mean() + (D(f) ** 2).mean(),
            lambda D, f: (D(f) - 1).square().mean(),
        )

    assert named(loop) == []


@pytest.mark.parametrize("offset", [-0.6, 0.0, 0.5])
def test_least_squares_with_one_label_for_both_is_named(offset):
    def loop(G, D, *both):
        torch.nn.init.constant_(D[-1].bias, offset)
        turns(G, D, *both, lambda D, r, f: ((D(r) - 1) ** 2).mean() + ((D(f) - 1) ** 2).mean())

    assert named(loop) == ["real-and-fake-on-one-side"]


def test_an_optimizer_that_climbs_turns_the_sides():
    def climbing(G, D):
        return torch.optim.SGD(G.parameters(), 1e-3), torch.optim.SGD(
            D.parameters(), 1e-3, maximize=True
        )

    def of_value(*all_):
        turns(*all_, lambda D, r, f: -bce_free(D, r, f))

    assert named(of_value, climbing) == []
    assert named(turns, climbing) == ["real-and-fake-swapped"]


@pytest.mark.parametrize("who", [0, 1])
def test_an_optimizer_that_holds_both_players_is_named_unless_it_is_the_only_one(who):
    def greedy(G, D):
        both = [*G.parameters(), *D.parameters()]
        made = list(apart(G, D))
        made[who] = torch.optim.SGD(both, lr=1e-3)
        return made

    assert named(turns, greedy) == ["optimizer-holds-the-other-player"]


def test_a_critic_that_is_shown_no_real_samples_is_named():
    def loop(*all_):
        turns(*all_, lambda D, r, f: F.softplus(D(f)).mean())

    assert named(loop) == ["critic-sees-no-real"]


def test_a_critic_that_is_frozen_once_and_for_all_is_named():
    def loop(G, D, *both):
        turns(G, D, *both, after=lambda i: D.requires_grad_(False))

    assert named(loop) == ["critic-gets-no-gradient"]


def test_a_player_that_leaves_the_finite_numbers_is_named():
    def loop(G, D, *both):
        turns(
            G,
            D,
            *both,
            after=lambda i: G[0].weight.data[0, 0].fill_(float("nan")) if i == 5 else None,
        )

    assert named(loop) == ["generator-not-finite"]


def noisy(x):
    return x + 0.1 * torch.randn_like(x)


def contrasted(x):
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (0.5 + torch.rand(len(x), 1, 1, 1)) + mean


def regrouped(x):
    return x.view(2, len(x) // 2, *SHAPE).flatten(0, 1)


JOINED = {
    "augmented": (torch.cat, noisy),
    "given a mean of its own": (torch.cat, contrasted),
    "by a keyword": (lambda both: torch.cat(tensors=both, dim=0), noisy),
    "vstack": (torch.vstack, lambda x: x),
    "concatenate": (torch.concatenate, noisy),
    "stacked": (lambda both: torch.stack(both).flatten(0, 1), lambda x: x),
    "regrouped": (torch.cat, regrouped),
    "turned round": (
        lambda both: torch.cat(both[::-1])[torch.arange(2 * BATCH).flip(0)],
        lambda x: x,
    ),
}


def on_one_batch(D, joins, aug, real, fake, labels=(0.0, 1.0)):
    wanted = torch.tensor(labels).repeat_interleave(len(real))[:, None]
    return F.binary_cross_entropy_with_logits(D(aug(joins([fake, real]))), wanted)


@pytest.mark.parametrize("how", JOINED)
def test_real_and_generated_samples_in_one_batch_raise_no_alarm(how):
    def loop(G, D, *both):
        turns(G, D, *both, lambda D, r, f: on_one_batch(D, *JOINED[how], r, f), augmented)

    def augmented(D, fake):
        return fools(D, JOINED[how][1](fake))

    assert named(loop) == []


@pytest.mark.parametrize("how", ["augmented", "given a mean of its own", "vstack"])
def test_a_swap_is_named_where_real_and_generated_samples_are_one_batch(how):
    def loop(*all_):
        turns(*all_, lambda D, r, f: on_one_batch(D, *JOINED[how], r, f, labels=(1.0, 0.0)))

    assert named(loop) == ["real-and-fake-swapped"]


@pytest.mark.parametrize(
    "clear",
    [
        lambda g: g.zero_(),
        lambda g: g.data.zero_(),
        lambda g: g.detach().fill_(0),
        lambda g: g.mul_(0),
        lambda g: g.view(-1).__setitem__(slice(None), 0),
        lambda g: torch._foreach_mul_([g], 0.0),
    ],
)
def test_gradients_may_be_cleared_in_any_way(clear):
    def loop(G, D, *both):
        def clears(*_):
            for p in (*G.parameters(), *D.parameters()):
                if p.grad is not None:
                    clear(p.grad)

        for optimizer in both:
            optimizer.zero_grad = clears
        turns(G, D, *both)

    assert named(loop) == []


def test_gradients_that_are_only_shrunk_are_not_cleared():
    def loop(G, D, *both):
        def shrink(i):
            for p in D.parameters():
                p.grad.mul_(0.5)

        both[1].zero_grad = lambda: None
        turns(G, D, *both, after=shrink)

    assert "gradients-not-cleared" in named(loop)


def test_a_loss_that_is_cleared_before_the_other_half_is_named():
    def loop(G, D, opt_G, opt_D):
        def on_critic(D, real, fake):
            F.softplus(-D(real)).mean().backward()
            opt_D.zero_grad()
            return F.softplus(D(fake)).mean()

        turns(G, D, opt_G, opt_D, on_critic)

    assert "gradients-cleared-before-use" in named(loop)


def penalized(penalty):
    def on_critic(D, real, fake):
        real = real.requires_grad_()
        out = D(real)
        (slope,) = torch.autograd.grad(out.sum(), real, create_graph=True)
        return (F.softplus(-out) + F.softplus(D(fake))).mean() + penalty(slope)

    return on_critic


@pytest.mark.parametrize(
    ("penalty", "found"),
    [
        (lambda g: g.norm() ** 2 / BATCH, []),
        (lambda g: (g.norm() / BATCH**0.5).square(), []),
        (lambda g: (n := g.norm()) * n / BATCH, []),
        (lambda g: torch.pow(g.square().sum().sqrt(), exponent=2) / BATCH, []),
        (lambda g: g.norm(dim=1).pow(2).sum((1, 2)).mean(), []),
        (lambda g: (g.norm() - 1) ** 2, ["penalty-of-the-whole-batch"]),
        (lambda g: g.norm() ** 6, ["penalty-of-the-whole-batch"]),
        (lambda g: g.norm() ** 2 + g.norm(), ["penalty-of-the-whole-batch"]),
        (lambda g: (g.norm(dim=1) + 1).pow(2).mean(), ["penalty-of-part-of-a-sample"]),
    ],
)
def test_a_norm_that_is_squared_needs_none_for_each_sample(penalty, found):
    assert named(lambda *all_: turns(*all_, penalized(penalty))) == found


def test_the_weights_of_a_focal_loss_are_no_logits():
    def on_critic(D, real, fake):
        loss = 0
        for out, label in ((D(real), 1.0), (D(fake), 0.0)):
            weight = (label - torch.sigmoid(out)).abs().detach()
            wanted = torch.full_like(out, label)
            loss = loss + F.binary_cross_entropy_with_logits(out, wanted, weight=weight)
        return loss

    assert named(lambda *all_: turns(*all_, on_critic)) == []
