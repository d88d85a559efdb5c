"""``steadygan audit FILE``: scripts as they stand, and files that offer their loop."""

import json
import textwrap

import pytest

from steadygan.cli import main

SCRIPT = """
import sys, torch, torch.nn as nn
assert sys.argv[1:] == ["--epochs", "3"], sys.argv
class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    def forward(self, z):
        return self.layers(z)
class Critic(nn.Sequential):
    pass
G, D = Generator(), Critic(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
on_loss = nn.BCEWithLogitsLoss()
opt_D, opt_G = (torch.optim.Adam(net.parameters()) for net in (D, G))
for step in range(10**9):
    opt_D.zero_grad()
    on_loss(D(torch.rand(16, 4)), torch.ones(16, 1)).backward()
    fake = G(torch.randn(16, 8))
    on_loss(D(fake.detach()), torch.zeros(16, 1)).backward()
    opt_D.step()
    ZERO
    on_loss(D(fake), torch.ones(16, 1)).backward()
    opt_G.step()
"""

OFFERED = """
import torch
from torch.nn import functional as F
def make_loop():
    G, D = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    opt_G, opt_D = (torch.optim.SGD(n.parameters(), lr=0.1) for n in (G, D))
    def step():
        fake = G(torch.randn(8, 2))
        opt_D.zero_grad()
        (F.softplus(-D(torch.rand(8, 2))) + F.softplus(D(fake.detach()))).mean().backward()
        opt_D.step()
    return dict(generator=G, critic=D, optimizer_generator=opt_G, optimizer_critic=opt_D, step=step)
"""


@pytest.mark.parametrize(
    ("zero", "found"), [("G.zero_grad()", []), ("pass", ["gradients-not-cleared"])]
)
def test_a_script_is_watched_as_it_stands_and_ended(zero, found, tmp_path, capsys):
    file = tmp_path / "train.py"
    file.write_text(SCRIPT.replace("ZERO", zero))
    status = main(["audit", str(file), "--arguments=--epochs 3", "--json"])
    assert [f["name"] for f in json.loads(capsys.readouterr().out)] == found
    assert status == bool(found)


def test_a_loop_that_is_offered_is_called(tmp_path, capsys):
    file = tmp_path / "loop.py"
    file.write_text(OFFERED)
    assert main(["audit", str(file), "--iterations", "101"]) == 1
    assert "generator-never-steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print('nothing to train')", "no two networks were seen"),
        ("1 / 0", "ZeroDivisionError"),
        ("def make_loop():\n    return {}", "lacks generator"),
        (None, "There is no file"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_a_sentence(text, words, tmp_path, capsys):
    file = tmp_path / "x.py"
    if text is not None:
        file.write_text(textwrap.dedent(text))
    assert main(["audit", str(file)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("zero", "seen"),
    [("G.zero_grad()", "no silent bug was seen until"), ("pass", "gradients-not-cleared")],
)
def test_a_script_that_fails_under_the_audit_says_so_after_what_was_seen(
    zero, seen, tmp_path, capsys
):
    file = tmp_path / "train.py"
    fails = "if step == 4: raise ValueError('evaluation failed')\n    "
    file.write_text(SCRIPT.replace("ZERO", fails + zero))
    assert main(["audit", str(file), "--arguments=--epochs 3"]) == 2
    out, error = capsys.readouterr()
    assert seen in out
    assert "train.py failed: ValueError: evaluation failed" in error


def test_a_script_that_exits_with_an_error_failed(tmp_path, capsys):
    file = tmp_path / "train.py"
    leaves = "if step == 3: sys.exit('the disk is full')\n    G.zero_grad()"
    file.write_text(SCRIPT.replace("ZERO", leaves))
    assert main(["audit", str(file), "--arguments=--epochs 3"]) == 2
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "seen", "words"),
    [
        ("    G, D =", "    raise ValueError('no data')\n    G, D =", "", "ValueError: no data"),
        ("opt_D.step()", "raise ValueError('bad')", "until it failed", "ValueError: bad"),
        ("Linear(2, 2)", "LazyLinear(2)", "", "call it once before the audit"),
    ],
)
def test_an_offered_loop_that_fails_is_answered_in_a_sentence(
    old, new, seen, words, tmp_path, capsys
):
    file = tmp_path / "loop.py"
    file.write_text(OFFERED.replace(old, new, 1))
    assert main(["audit", str(file)]) == 2
    out, error = capsys.readouterr()
    assert bool(out) == bool(seen)
    assert seen in out
    assert words in error


CYCLE = """
import itertools, random, torch, torch.nn as nn
def net(out):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, out, 3, padding=1))
GA, GB, DA, DB = net(3), net(3), net(1), net(1)
opt_G = torch.optim.Adam(itertools.chain(GA.parameters(), GB.parameters()))
opt_D = torch.optim.Adam(itertools.chain(DA.parameters(), DB.parameters()))
def pool(images, held=[]):
    held[:] = [*held, *(image.data[None].clone() for image in images)][-8:]
    return torch.cat([random.choice(held) for _ in images])
def mse(out, label):
    return nn.functional.mse_loss(out, torch.tensor(label).expand_as(out))
for _ in range(10**9):
    A, B = torch.rand(4, 3, 6, 6), torch.rand(4, 3, 6, 6)
    fB = GA(A)
    rA = GB(fB)
    fA = GB(B)
    rB = GA(fA)
    for D in (DA, DB):
        D.requires_grad_(False)
    opt_G.zero_grad()
    same = (GA(B) - B).abs().mean() + (GB(A) - A).abs().mean()
    cycle = (rA - A).abs().mean() + (rB - B).abs().mean()
    (mse(DA(fB), 1.0) + mse(DB(fA), 1.0) + 10 * cycle + 5 * same).backward()
    opt_G.step()
    for D in (DA, DB):
        D.requires_grad_(True)
    opt_D.zero_grad()
    for D, real, fake in ((DA, B, fB), (DB, A, fA)):
        (0.5 * (mse(D(real), 1.0) + mse(D(pool(fake).detach()), 0.0))).backward()
    opt_D.step()
"""

CHANGED = """
import torch, torch.nn as nn
from torch.nn import functional as F
G, D = nn.Linear(4, 4), nn.Linear(IN, 1)
opt_D, opt_G = (torch.optim.Adam(net.parameters()) for net in (D, G))
def shown(x):
    return SHOWN
for _ in range(10**9):
    real, fake = torch.rand(16, 4), G(torch.randn(16, 4))
    opt_D.zero_grad()
    (F.softplus(-D(shown(real))) + F.softplus(D(shown(fake.detach())))).mean().backward()
    opt_D.step()
    ZERO
    F.softplus(-D(shown(fake))).mean().backward()
    opt_G.step()
"""


def changed(zero, inside, shown):
    return CHANGED.replace("ZERO", zero).replace("IN", inside).replace("SHOWN", shown)


def test_two_generators_of_one_optimizer_are_no_players(tmp_path, capsys):
    file = tmp_path / "train.py"
    file.write_text(CYCLE)
    assert main(["audit", str(file)]) == 0
    assert capsys.readouterr().out == "no silent bug was seen\n"


@pytest.mark.parametrize(
    ("inside", "shown"),
    [("4", "x + 0.1 * torch.randn_like(x)"), ("6", "torch.cat([torch.ones(16, 2), x], 1)")],
)
@pytest.mark.parametrize(("zero", "found"), [("opt_G.zero_grad()", 0), ("pass", 1)])
def test_samples_are_followed_to_a_critic_that_sees_them_changed(
    zero, found, inside, shown, tmp_path, capsys
):
    file = tmp_path / "train.py"
    file.write_text(changed(zero, inside, shown))
    assert main(["audit", str(file)]) == found
    assert ("gradients-not-cleared" in capsys.readouterr().out) == bool(found)


def test_a_script_that_trains_no_two_networks_is_ended_after_some_steps(tmp_path, capsys):
    file = tmp_path / "train.py"
    file.write_text(changed("opt_G.zero_grad()", "4", "torch.tensor(x.tolist())"))
    assert main(["audit", str(file)]) == 2
    assert "in 48 steps of its optimizers no two networks" in capsys.readouterr().err
