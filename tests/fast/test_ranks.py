"""Gradients averaged over two processes are those of the whole batch in one.

The process of the tests is the first of the two, and the second runs the same checks.
"""

import faulthandler
import functools
import gc
import multiprocessing
import os
import re
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from steadygan import Context, Game, SteadyganError, average_gradients, critic_backward
from steadygan.core import ranks
from steadygan.core.gradients import choice

PATIENCE = timedelta(seconds=120)
CUTS = {"halves": (0, 4, 8), "unequal parts": (0, 3, 8)}


def critic():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(), nn.Flatten(), nn.Linear(64, 1)
    ).double()  # fmt: skip


def chain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def batch(rows=8):
    generator = torch.Generator().manual_seed(3)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    return draw(rows, 1, 8, 8), draw(rows, 1, 8, 8) * 0.7 + 0.2


def mine(cut, rank, *batches):
    return [x[cut[rank] : cut[rank + 1]] for x in batches]


def grads(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()])


def same(a, b):
    torch.testing.assert_close(grads(a), grads(b), rtol=1e-12, atol=1e-13)


def check_the_gradient_of_the_whole_batch(rank):
    for cut in CUTS.values():
        for path in ("auto", "chain", "separate", "joined", "merged"):
            whole, part = (critic() if path != "chain" else chain() for _ in range(2))
            game = Game("hinge", "js:gamma=0.7")
            critic_backward(game, whole, *batch(), path="separate")
            critic_backward(game, part, *mine(cut, rank, *batch()), path=path, reduce=True)
            same(part, whole)


def check_what_was_accumulated_counts(rank):
    """Averaged once after two batches, or after each, it is the same."""
    game, whole = Game("least-squares", "r1:gamma=2"), critic()
    once, always = critic(), critic()
    for turn in range(2):
        real, fake = (x + turn for x in batch())
        critic_backward(game, whole, real, fake)
        part = mine(CUTS["halves"], rank, real, fake)
        critic_backward(game, once, *part, reduce=None if turn == 0 else True)
        critic_backward(game, always, *part, reduce=dist.group.WORLD)
    same(once, whole)
    same(always, whole)


def check_a_wrapped_critic(rank):
    for static in (False, True):
        game, whole = Game("nonsaturating", "js:gamma=3"), critic()
        wrapped = DistributedDataParallel(critic(), static_graph=static)
        fired = []

        def hook(group, bucket, fired=fired):
            fired.append(bucket.index())
            return allreduce_hook(group, bucket)

        wrapped.register_comm_hook(dist.group.WORLD, hook)
        part = mine(CUTS["unequal parts"], rank, *batch())
        wrapped(part[0])  # which expects a backward of its own
        for turn in range(3):
            for net in (whole, wrapped):
                net.zero_grad(set_to_none=turn != 1)
            critic_backward(game, whole, *batch())
            found = critic_backward(game, wrapped, *part)
            assert found.path == "merged" and not fired
            same(wrapped, whole)
        with wrapped.no_sync():
            wrapped.zero_grad()
            critic_backward(game, wrapped, *part)
        alone = critic()
        critic_backward(game, alone, *part)
        same(wrapped, alone)
        assert not fired
        if not static:
            wrapped.zero_grad()
            game.critic_loss(wrapped, *mine(CUTS["halves"], rank, *batch())).backward()
            assert fired, "the hook counts"


def check_buckets_types_and_gradients_that_one_lacks(rank):
    full, ranks.BUCKET = ranks.BUCKET, 40
    try:
        parameters = [
            torch.zeros(n, dtype=t) for n in (3, 20, 1) for t in (torch.float32, torch.float64)
        ]
        gradients = [torch.full_like(p, 1.0 + rank + i) for i, p in enumerate(parameters)]
        gradients[2] = gradients[2] if rank else None
        gradients[5] = None
        strided = torch.arange(6.0).reshape(2, 3).t() * (1 + rank)
        found = ranks.average([*gradients, strided], [*parameters, strided], weight=1 + 2 * rank)
    finally:
        ranks.BUCKET = full
    for i, (p, g) in enumerate(zip(parameters, found, strict=False)):
        if i == 5:
            assert g is None
        else:
            expected = (0 if i == 2 else (1 + i) / 4) + 3 / 4 * (2 + i)
            torch.testing.assert_close(g, torch.full_like(p, expected))
    torch.testing.assert_close(strided, torch.arange(6.0).reshape(2, 3).t() * 1.75)


def check_a_generator(rank):
    torch.manual_seed(0)
    G, D, game = nn.Linear(2, 64).double(), critic(), Game("nonsaturating")
    whole = nn.Linear(2, 64).double()
    whole.load_state_dict(G.state_dict())
    z = torch.randn(8, 2, dtype=torch.float64)
    game.generator_loss(D, None, whole(z).view(8, 1, 8, 8)).backward()
    (z,) = mine(CUTS["unequal parts"], rank, z)
    game.generator_loss(D, None, G(z).view(-1, 1, 8, 8)).backward()
    average_gradients(G, rows=len(z))
    same(G, whole)


class Part:
    """Draws for a whole batch, of which a process takes its rows."""

    def __init__(self, rows, whole=8):
        self.rows, self.whole, self.rng = rows, whole, torch.Generator().manual_seed(5)

    def uniform(self, like):
        shape = (self.whole, *like.shape[1:])
        return torch.rand(shape, generator=self.rng, dtype=like.dtype)[self.rows]


def check_what_looks_at_means_over_the_batch(rank):
    """In value, gradient and memory, of critic and generator."""
    kinds = [("relativistic-average", "r1"), ("relativistic-average", "dragan:gamma=3")]
    for spec in (*kinds, ("hinge", ["lecam:gamma=2,decay=0.5", "js:gamma=0.7"])):
        for cut in CUTS.values():
            game, memories = Game(*spec), ({}, {})
            for _ in range(2):
                here = slice(cut[rank], cut[rank + 1])
                whole, part = critic(), critic()
                one = Context(rng=Part(slice(None)), memory=memories[0])
                two = Context(rng=Part(here), memory=memories[1], ranks=True)
                real, fake = batch()
                found = critic_backward(game, whole, real, fake, at=one)
                ours = critic_backward(game, part, real[here], fake[here], at=two, reduce=True)
                same(part, whole)
                memories = (
                    game.observe(found.terms.scores, memories[0]),
                    game.observe(ours.terms.scores, memories[1], at=two),
                )
                torch.testing.assert_close(*memories, rtol=1e-12, atol=1e-13)
            game.generator_loss(whole, real, fake).backward()
            game.generator_loss(part, real[here], fake[here], at=two).backward()
            average_gradients(part, rows=len(real[here]))
            same(part, whole)


def check_refusals(rank):
    real, fake = mine(CUTS["halves"], rank, *batch())
    with pytest.raises(SteadyganError, match="as many generated"):
        critic_backward(Game(), critic(), real, fake[:2], reduce=True)
    nested = nn.Sequential(DistributedDataParallel(critic()))
    with pytest.raises(SteadyganError, match="the module inside"):
        critic_backward(Game(), nested, real, fake, reduce=True)
    with pytest.raises(SteadyganError, match="not a function"):
        critic_backward(Game(), critic().forward, real, fake, reduce=True)
    with pytest.raises(SteadyganError, match="batch, and each process"):
        noise = Game("hinge", smoothing="explicit-noise:nsr=2")
        critic_backward(noise, critic(), real, fake, reduce=True)
    with pytest.raises(SteadyganError, match="leave path out"):
        critic_backward(Game("hinge", "lecam"), critic(), real, fake, reduce=True, path="compiled")
    with pytest.raises(SteadyganError, match="another gamma"):
        critic_backward(Game("hinge", "r1:gamma=auto"), critic(), real, fake, reduce=True)


def check_the_loops_of_the_documentation(rank):
    """Each ends with one pair of networks in both processes, and all with the same pair."""
    dist.destroy_process_group()
    page = (Path(__file__).parents[2] / "docs/own-loop.md").read_text()
    loops = re.findall(r"^```python\n(# loop.py.*?)^```", page, flags=re.S | re.M)
    ends = []
    for loop in loops:
        scope: dict = {"__name__": "loop"}
        exec(loop, scope)
        ends.append(torch.cat([p.flatten() for m in "GD" for p in scope[m].parameters()]).detach())
        if "fabric" in loop:
            scope["fabric"].strategy.teardown()
        whole = [torch.empty_like(ends[-1]) for _ in range(2)]
        dist.all_gather(whole, ends[-1])
        torch.testing.assert_close(*whole, rtol=0, atol=0)
        # A group that a DistributedDataParallel is the last to hold may end in a deadlock: its
        # threads are waited for by who holds what they need to end (torch 2.13).
        scope.clear()
        gc.collect()
        if "Accelerator" not in loop:
            dist.destroy_process_group()
    assert len(ends) == 3
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-5, atol=1e-6)


CHECKS = {name: f for name, f in globals().items() if name.startswith("check_")}


class Groups:
    """Groups of two processes, one after another, each at a file of its own.

    Its methods stand in for torch's. The store of a port goes with its group, and takes along who
    was quick to join the next; and each library has a patience of its own, half an hour.
    """

    def __init__(self, folder, rank):
        self.folder, self.rank, self.count = folder, rank, 0
        self.init, self.destroy = dist.init_process_group, dist.destroy_process_group
        dist.init_process_group, dist.destroy_process_group = self.join, self.leave

    def join(self, *_, **__):
        self.count += 1
        self.store = dist.FileStore(str(self.folder / str(self.count)), 2)
        self.init("gloo", store=self.store, rank=self.rank, world_size=2, timeout=PATIENCE)

    def leave(self):
        # Who goes first closes connections that the other may be about to make.
        self.store.set(f"{self.rank} leaves", "")
        self.store.wait(["0 leaves", "1 leaves"], PATIENCE)
        self.destroy()


def outcomes(rank, folder, send=None):
    """Run every check, as one of two processes; return what went wrong, by name."""
    torch.set_num_threads(1)
    Groups(folder, rank)
    if send is not None:  # whoever hangs says where
        faulthandler.dump_traceback_later(3 * PATIENCE.seconds, exit=True)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "none",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",  # asked for, never used
    }
    choice.WORTH = 0
    if send is not None:
        send.send("ready")
    found = {}
    for name, check in CHECKS.items():
        # A process that fails leaves the other waiting, for a new group that never comes to be.
        dist.init_process_group()
        try:
            check(rank)
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
        if dist.is_initialized():
            dist.destroy_process_group()
    if send is not None:
        faulthandler.cancel_dump_traceback_later()
        send.send(found)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    other = context.Process(target=outcomes, args=(1, folder, there), daemon=True)
    other.start()
    there.close()  # so that its end is heard
    # To import torch may take a busy machine longer than a group may wait.
    assert here.poll(300) and here.recv() == "ready"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        for name in ("init_process_group", "destroy_process_group"):
            patch.setattr(dist, name, getattr(dist, name))  # back afterwards
        found = outcomes(0, folder)
    assert here.poll(400), "the other process hangs"
    other_found = here.recv()
    other.join()
    return {name: found[name] + other_found[name] for name in CHECKS}


@pytest.mark.parametrize("name", CHECKS)
def test_two_processes(name, both):
    assert not both[name], both[name]


def test_reduce_without_processes_says_what_is_missing():
    with pytest.raises(SteadyganError, match="torchrun"):
        critic_backward(Game(), critic(), *batch(), reduce=True)
    with pytest.raises(SteadyganError, match="torchrun"):
        average_gradients(critic())
