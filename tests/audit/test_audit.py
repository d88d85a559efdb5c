"""The auditor against seeded bugs in five styles of loops, and against loops without any."""

import copy
import os
import socket

import pytest
import torch

from audit.clean import CLEAN, lazy_r1_in_a_step_of_its_own, least_squares
from audit.loops import AMP_ONLY, MUTATIONS, STYLES, networks, run
from steadygan.analysis.audit import audit


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
    found, _ = run(style, slots, steps=14 if name.endswith("never-steps") else 4)
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
        least_squares(G, D, opt_G, opt_D)
    assert [f.name for f in found] == ["ema-never-updated"]
    with audit(G, D, opt_G, opt_D) as found:
        least_squares(G, D, opt_G, opt_D)
        ema.load_state_dict(G.state_dict())
    assert not list(found)
