"""Public critics against brute force in double precision: a forward and a gradient for each sample
and logit, each loss and penalty written out from its formula."""

import pytest
import torch
from critics import PENALIZED
from public import PUBLIC
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from steadygan.core import Context, Game
from steadygan.core.gradients import critic_backward
from steadygan.core.reading import read

ROWS = 3
GAMMA = {name: float(regularizer.partition("=")[2]) for name, (_, regularizer) in PENALIZED.items()}


class Draws:
    """Uniform draws that hang on nothing but their shape, so that their order does not count."""

    def uniform(self, like):
        rng = torch.Generator().manual_seed(sum(11**i * n for i, n in enumerate(like.shape)))
        return torch.rand(like.shape, dtype=torch.float64, generator=rng).to(like.dtype)


def arena(name, strict=False):
    kind = PUBLIC[name]
    torch.manual_seed(2)
    critic = kind.make(strict=strict) if kind.single else kind.make()
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, ROWS, *kind.event, dtype=torch.float64, generator=rng) * 0.7
    labels = (torch.tensor([0, 2, 1]), torch.tensor([3, 1, 0])) if kind.labelled else None
    return critic if strict else critic.double(), real + 0.3, fake - 0.2, labels


def settled(critic, x, y):
    """One power iteration of spectral normalisation, which is what one update makes."""
    with torch.no_grad():
        critic(x) if y is None else critic(x, y)
    for module in critic.modules():
        if not isinstance(module, torch.nn.BatchNorm2d):
            module.training = False
    return critic


def looked(critic, x, y, kind):
    """Logits (B, K) and input gradients (B, K, *event) of each output."""
    parts = [slice(None)] if kind.couples else [slice(i, i + 1) for i in range(len(x))]
    found = []
    for rows in parts:
        here = x[rows].detach().requires_grad_()
        out = critic(here) if y is None else critic(here, y[rows])
        outputs = [t.reshape(len(here), -1) for t in read(out, len(here), kind.reading).logits]
        found.append(
            [
                (t, torch.stack([slope(t[:, k].sum(), here) for k in range(t.shape[1])], 1))
                for t in outputs
            ]
        )
    return [tuple(map(torch.cat, zip(*output, strict=True))) for output in zip(*found, strict=True)]


def slope(value, x):
    return torch.autograd.grad(value, x, create_graph=True)[0]


def objective(name, r, f):
    if name == "js":
        return F.softplus(-r).mean() + F.softplus(f).mean()
    if name == "r1":
        return F.relu(1 - r).mean() + F.relu(1 + f).mean()
    if name == "r1r2":
        return F.softplus(f - r).mean()
    if name == "wgan-gp":
        return f.mean() - r.mean()
    if name == "gp0":
        return ((r - 1) ** 2 / 2).mean() + ((f + 1) ** 2 / 2).mean()
    return (F.softplus(f.mean() - r).mean() + F.softplus(f - r.mean()).mean()) / 2


def root(name, point, d):
    """The square root of the penalty's weight."""
    if name == "js":
        return torch.sigmoid(-d) if point == "real" else torch.sigmoid(d)
    return torch.ones_like(d)


def brute(name, critic, real, fake, labels, kind):
    y_real, y_fake = labels or (None, None)
    draws = Draws()
    u = draws.uniform(real.new_empty(ROWS)).view(-1, *[1] * (real.ndim - 1))
    noise = real.std(correction=0) / 2 * draws.uniform(real)
    points = {
        "real": (real, y_real),
        "fake": (fake, y_fake),
        "between": (u * real + (1 - u) * fake, y_real),
        "around": (real + noise, y_real),
    }
    where = {"wgan-gp": ["between"], "gp0": ["between"], "dragan": ["around"], "r1": ["real"]}
    where = where.get(name, ["real", "fake"])
    looks = {p: looked(critic, *points[p], kind) for p in {"real", "fake", *where}}
    loss = sum(
        objective(name, r, f) for (r, _), (f, _) in zip(looks["real"], looks["fake"], strict=True)
    )
    for point in where:
        outputs = looks[point]
        total = sum(d.shape[1] for d, _ in outputs)
        if total > 1 and name in ("wgan-gp", "dragan"):  # of the mean logit of each output
            sizes = [(g.mean(1).flatten(1).norm(dim=1) - 1) ** 2 for _, g in outputs]
        elif total > 4:  # by signs
            combined = sum(
                torch.einsum(
                    "bk,bk...->b...",
                    (2 * (draws.uniform(d) < 0.5) - 1) * root(name, point, d) / d.shape[1] ** 0.5,
                    g,
                )
                for d, g in outputs
            )
            sizes = [combined.flatten(1).square().sum(1)]
        elif name in ("wgan-gp", "dragan"):
            sizes = [(g.flatten(1).norm(dim=1) - 1) ** 2 for _, g in outputs]
        else:
            sizes = [
                (root(name, point, d) ** 2 * g.flatten(2).square().sum(2)).mean(1)
                for d, g in outputs
            ]
        loss = loss + GAMMA[name] / 2 * sum(size.mean() for size in sizes)
    return loss


def flat(gradients, parameters):
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def game_of(name, kind):
    objective, regularizer = PENALIZED[name]
    rule = "mean" if name in ("wgan-gp", "dragan") else "each"
    return Game(objective, regularizer, outputs=f"{rule}:reading={kind.reading}")


EXACT = {
    "chain": ["chain", "merged", "joined", "separate"],
    "merged": ["merged", "joined", "separate"],
    "map": ["merged", "joined", "separate"],
    "maps": ["merged", "joined", "separate"],
    "joined": ["joined", "separate"],
    "separate": ["separate"],
}


@pytest.mark.parametrize("kind", PUBLIC)
def test_public_critics(kind):
    family = PUBLIC[kind]
    critic, real, fake, labels = arena(kind)
    truth = settled(critic, real, labels and labels[0])
    learned = [p for p in truth.parameters() if p.requires_grad]
    for name in PENALIZED:
        game, at = game_of(name, family), Context(rng=Draws())
        with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
            loss = brute(name, truth, real, fake, labels, family)
        expected = flat(torch.autograd.grad(loss, learned, allow_unused=True), learned)
        assert expected.norm() > 1e-3
        wide = 1e-9 * expected.norm().item()
        held = arena(kind)[0]
        mine = game.critic_loss(held, real, fake, labels=labels, at=at)
        parameters = [p for p in held.parameters() if p.requires_grad]
        found = flat(torch.autograd.grad(mine, parameters, allow_unused=True), learned)
        torch.testing.assert_close(mine, loss, rtol=1e-10, atol=1e-12, msg=name)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=wide)
        path = why = ""
        for way in ["auto", *EXACT[family.path]]:
            held = arena(kind)[0]
            record = critic_backward(game, held, real, fake, labels=labels, at=at, path=way)
            path, why = path or record.path, why or record.why
            parameters = [p for p in held.parameters() if p.requires_grad]
            found = flat([p.grad for p in parameters], parameters)
            torch.testing.assert_close(record.loss, loss.detach(), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=wide)
        expected_path = family.path
        if family.path in ("map", "maps"):
            alone = name in ("wgan-gp", "gp0", "dragan")
            merges = alone or (family.path == "map" and name != "r1")
            expected_path = "merged" if merges else "joined"
        assert path == expected_path, (name, why)
        single = [t.float() for t in (real, fake)]
        held = arena(kind, strict=family.single)[0].float()
        record = critic_backward(game, held, *single, labels=labels, at=at)
        parameters = [p for p in held.parameters() if p.requires_grad]
        found = flat([p.grad for p in parameters], parameters).double()
        assert (found - expected).norm() < 1e-4 * expected.norm(), name
        assert not family.single or record.path == path, (name, record.why)


SMOOTH = ["vit", "attention", "heads on fused attention", "motion prior, normalised", "graphs"]


@pytest.mark.parametrize("kind", SMOOTH)
def test_differences_serve_smooth_ones(kind):
    family = PUBLIC[kind]
    critic, real, fake, labels = arena(kind)
    learned = [p for p in critic.parameters() if p.requires_grad]
    for name in PENALIZED:
        game, at = game_of(name, family), Context(rng=Draws())
        with sdpa_kernel(SDPBackend.MATH):
            loss = brute(name, critic, real, fake, labels, family)
        expected = flat(torch.autograd.grad(loss, learned, allow_unused=True), learned)
        held = arena(kind)[0]
        record = critic_backward(game, held, real, fake, at=at, path="differences")
        found = flat([p.grad for p in held.parameters() if p.requires_grad], learned)
        torch.testing.assert_close(record.loss, loss.detach(), rtol=1e-10, atol=1e-12)
        assert (found - expected).norm() < 1e-7 * expected.norm(), name
