"""The loop that everybody writes: losses by their formulas, ``backward()``, ``optimizer.step()``.
What the objects must agree with.

It shares no code with the library. Norms are the naive ones, so games must keep away from vanishing
slopes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from support import Arena

log_sigmoid = F.logsigmoid

# name: (discriminator's loss, generator's loss) of real and fake logits.
OBJECTIVES: dict[str, tuple[Callable, Callable]] = {
    "minimax": (
        lambda r, f: -log_sigmoid(r).mean() - log_sigmoid(-f).mean(),
        lambda r, f: log_sigmoid(-f).mean(),
    ),
    "nonsaturating": (
        lambda r, f: -log_sigmoid(r).mean() - log_sigmoid(-f).mean(),
        lambda r, f: -log_sigmoid(f).mean(),
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "least-squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + ((f + 1) ** 2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "hinge": (
        lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
        lambda r, f: -f.mean(),
    ),
    "relativistic": (
        lambda r, f: -log_sigmoid(r - f).mean(),
        lambda r, f: -log_sigmoid(f - r).mean(),
    ),
    "relativistic-average": (
        lambda r, f: -(log_sigmoid(r - f.mean()).mean() + log_sigmoid(r.mean() - f).mean()) / 2,
        lambda r, f: -(log_sigmoid(f - r.mean()).mean() + log_sigmoid(f.mean() - r).mean()) / 2,
    ),
    "f-gan:divergence=gan": (
        lambda r, f: -log_sigmoid(r).mean() - log_sigmoid(-f).mean(),
        lambda r, f: log_sigmoid(-f).mean(),
    ),
    "f-gan:divergence=kl": (
        lambda r, f: f.exp().mean() - r.mean() - 1,
        lambda r, f: -f.exp().mean(),
    ),
    "f-gan:divergence=reverse-kl": (
        lambda r, f: f.mean() - 1 + (-r).exp().mean(),
        lambda r, f: 1 - f.mean(),
    ),
    "f-gan:divergence=pearson": (
        lambda r, f: (f**2 / 4 + f).mean() - r.mean(),
        lambda r, f: -(f**2 / 4 + f).mean(),
    ),
}


def slope(critic: Callable, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    logits = critic(x)
    return logits, torch.autograd.grad(logits.sum(), x, create_graph=True)[0].flatten(1)


def square(g: Tensor) -> Tensor:
    return (g**2).sum(1)


def between(real: Tensor, fake: Tensor, rng: torch.Generator) -> Tensor:
    u = torch.rand(len(real), generator=rng, dtype=real.dtype).reshape(-1, *[1] * (real.ndim - 1))
    return u * real + (1 - u) * fake


def around(real: Tensor, rng: torch.Generator) -> Tensor:
    return real + 0.5 * real.std(correction=0) * torch.rand(
        real.shape, generator=rng, dtype=real.dtype
    )


def r1(critic, real, fake, gamma, rng):
    return gamma / 2 * square(slope(critic, real)[1]).mean()


def r2(critic, real, fake, gamma, rng):
    return gamma / 2 * square(slope(critic, fake)[1]).mean()


def js(critic, real, fake, gamma, rng):
    (r, gr), (f, gf) = slope(critic, real), slope(critic, fake)
    return (
        gamma
        / 2
        * (((1 - r.sigmoid()) ** 2 * square(gr)).mean() + (f.sigmoid() ** 2 * square(gf)).mean())
    )


def f_gan(critic, real, fake, gamma, rng):
    f, g = slope(critic, fake)
    return gamma / 2 * (f.sigmoid() * square(g)).mean()


def gp0(critic, real, fake, gamma, rng):
    return gamma / 2 * square(slope(critic, between(real, fake, rng))[1]).mean()


def wgan_gp(critic, real, fake, gamma, rng):
    return gamma / 2 * ((slope(critic, between(real, fake, rng))[1].norm(dim=1) - 1) ** 2).mean()


def wgan_lp(critic, real, fake, gamma, rng):
    return (
        gamma
        / 2
        * ((slope(critic, between(real, fake, rng))[1].norm(dim=1) - 1).clamp(min=0) ** 2).mean()
    )


def dragan(critic, real, fake, gamma, rng):
    return gamma / 2 * ((slope(critic, around(real, rng))[1].norm(dim=1) - 1) ** 2).mean()


class LeCam:
    """Remembers, as its authors' code does: averages are updated after the critic's gradient."""

    def __init__(self, decay: float = 0.99) -> None:
        self.decay, self.real, self.fake = decay, None, None

    def __call__(self, critic, real, fake, gamma, rng):
        r, f = critic(real), critic(fake)
        anchor_real, anchor_fake = (
            (r.mean(), f.mean()) if self.real is None else (self.real, self.fake)
        )
        loss = gamma / 2 * (((r - anchor_fake) ** 2).mean() + ((f - anchor_real) ** 2).mean())
        mr, mf = r.mean().item(), f.mean().item()
        self.real = mr if self.real is None else self.decay * self.real + (1 - self.decay) * mr
        self.fake = mf if self.fake is None else self.decay * self.fake + (1 - self.decay) * mf
        return loss


PENALTIES: dict[str, Callable[[], Callable]] = {
    "r1": lambda: r1,
    "r2": lambda: r2,
    "r1r2": lambda: lambda *a: r1(*a) + r2(*a),
    "js": lambda: js,
    "f-gan": lambda: f_gan,
    "gp0": lambda: gp0,
    "wgan-gp": lambda: wgan_gp,
    "wgan-lp": lambda: wgan_lp,
    "dragan": lambda: dragan,
    "lecam": LeCam,
}


def play(
    arena: Arena,
    objective: str,
    penalty: str | None,
    *,
    gamma: float,
    lr: float,
    steps: int,
    seed: int,
    turns: tuple[str, ...] | None = ("critic", "generator"),
    clip: float | None = None,
) -> Tensor:
    """Train copies of the networks and return their parameters in one vector; ``turns`` None is
    simultaneous descent."""
    generator, critic = copy.deepcopy(arena.generator), copy.deepcopy(arena.critic)
    nets = {"generator": generator, "critic": critic}
    optimizers = {name: torch.optim.SGD(net.parameters(), lr=lr) for name, net in nets.items()}
    on_critic, on_generator = OBJECTIVES[objective]
    penalize = PENALTIES[penalty]() if penalty else None
    rng, draw = torch.Generator().manual_seed(seed), arena.draw()

    def backward(name: str, batch) -> None:
        optimizers[name].zero_grad()
        y_real, y_fake = batch.labels or ((), ())
        fake = generator(batch.latent, y_fake) if batch.labels else generator(batch.latent)
        conditioned = (
            (lambda y: lambda x: critic(x, y).flatten())
            if batch.labels
            else (lambda y: lambda x: critic(x).flatten())
        )
        if name == "generator":
            loss = on_generator(conditioned(y_real)(batch.real), conditioned(y_fake)(fake))
        else:
            fake = fake.detach()
            loss = on_critic(conditioned(y_real)(batch.real), conditioned(y_fake)(fake))
            if penalize:
                # Fakes carry their labels; real samples and all points made from them carry the
                # real ones.
                def look(x, fake=fake):
                    return conditioned(y_fake if torch.equal(x, fake) else y_real)(x)

                loss = loss + penalize(look, batch.real, fake, gamma, rng)
        grads = torch.autograd.grad(loss, list(nets[name].parameters()), allow_unused=True)
        for p, g in zip(nets[name].parameters(), grads, strict=True):
            p.grad = torch.zeros_like(p) if g is None else g

    def step(name: str) -> None:
        optimizers[name].step()
        if clip and name == "critic":
            with torch.no_grad():
                for p in critic.parameters():
                    p.clamp_(-clip, clip)

    for _ in range(steps):
        if turns is None:
            batch = draw()
            backward("generator", batch)
            backward("critic", batch)
            step("generator")
            step("critic")
        else:
            for name in turns:
                backward(name, draw())
                step(name)
    return torch.cat(
        [p.detach().reshape(-1) for net in (generator, critic) for p in net.parameters()]
    )
