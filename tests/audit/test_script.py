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
    assert main(["audit", str(file), "--iterations", "20"]) == 1
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
