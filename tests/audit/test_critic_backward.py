"""critic_backward under the auditor: no false alarm, and the path that it takes without."""

import copy

import pytest
import torch
from torch import nn

from steadygan import Game, audit, critic_backward

CRITICS = {
    "joined": lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 1)),
    "merged": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 2)),
    "separate": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(48, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
    ),
}
js = Game("nonsaturating", "js:gamma=0.1")


def loop(D, scaled):
    """Return the findings and the path of a loop by a scaler, with two batches a critic's step."""
    torch.manual_seed(0)
    G = nn.Sequential(nn.Linear(2, 48), nn.Unflatten(1, (3, 4, 4)))
    opt_G, opt_D = (torch.optim.SGD(m.parameters(), 1e-2) for m in (G, D))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with audit(G, D, opt_G, opt_D) as found:
        for _ in range(3):
            fake = G(torch.randn(6, 2))
            opt_D.zero_grad()
            for _ in range(2):
                real = torch.randn(6, 3, 4, 4)
                record = critic_backward(js, D, real, fake.detach(), scale=scaled(scaler))
            scaler.scale(torch.ones(()))
            scaler.step(opt_D)
            opt_G.zero_grad()
            scaler.scale(js.generator_loss(D, None, fake)).backward()
            scaler.step(opt_G)
            scaler.update()
    return [f.name for f in found], record


@pytest.mark.parametrize("scaled", [lambda s: s, lambda s: s.get_scale() / 2], ids=["it", "half"])
@pytest.mark.parametrize("path", CRITICS)
def test_a_scale_given_to_critic_backward_raises_no_alarm(path, scaled):
    found, record = loop(CRITICS[path](), scaled)
    assert found == []
    assert record.path == path, record.why


@pytest.mark.parametrize("path", ["joined", "separate"])
def test_no_scale_given_to_critic_backward_is_named(path):
    assert loop(CRITICS[path](), lambda _: 1.0)[0] == ["unscaled-loss-under-scaler"]


def test_after_the_audit_a_chain_goes_in_closed_form_again():
    D, x = CRITICS["joined"](), torch.randn(6, 3, 4, 4)
    assert critic_backward(js, D, x, x).path == "chain"
    found, record = loop(D, lambda s: s)
    assert (found, record.path) == ([], "joined")
    assert critic_backward(js, D, x, x).path == "chain"


def test_a_critic_is_copied_without_the_generator_that_is_audited_with_it():
    G, D = nn.Linear(2, 3), nn.Linear(3, 1)
    optimizers = [torch.optim.SGD(m.parameters(), 1e-2) for m in (G, D)]
    with audit(G, D, *optimizers) as found:
        G.last = G(torch.randn(4, 2))  # a tensor with a graph, which nothing can copy
        copied = copy.deepcopy(D)
        assert copied(torch.randn(4, 3)).shape == (4, 1)
    assert [f.name for f in found] == []


class Hooked(nn.Module):
    """A critic whose forward does something to its activation."""

    def __init__(self, what):
        super().__init__()
        self.what, self.a, self.b = what, nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        self.what(h)
        return self.b(h)


@pytest.mark.parametrize(
    ("what", "path", "why"),
    [
        (lambda h: h.register_hook(lambda g: g / 2), "separate", "register_hook hands out"),
        (lambda h: h.register_hook(lambda g: g / g.norm()), "separate", "register_hook hands out"),
        (lambda h: h.retain_grad(), "separate", "retain_grad hands out"),
        (lambda h: h.requires_grad_(), "joined", "tanh is not on the list"),
    ],
    ids=["halves", "normalizes", "retains", "requires"],
)
def test_a_hook_of_ones_own_on_an_activation_has_its_gradient(what, path, why):
    torch.manual_seed(0)
    D, real, fake = Hooked(what), torch.randn(6, 3), torch.randn(6, 3)
    record = critic_backward(js, D, real, fake)
    found = [p.grad for p in D.parameters()]
    D.zero_grad()
    js.critic_loss(D, real, fake).backward()
    assert record.path == path
    assert record.why.startswith(why)
    torch.testing.assert_close(found, [p.grad for p in D.parameters()])
