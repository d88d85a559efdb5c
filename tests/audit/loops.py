"""Training loops in five styles, each a text with slots that a mutation fills otherwise."""

from __future__ import annotations

import contextlib
import copy
import io

import torch
from torch import nn
from torch.nn import functional as F

from steadygan.analysis.audit import audit

SHAPE, LATENT, BATCH = (2, 3, 3), 4, 16


def networks(sigmoid: bool = False) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    generator = nn.Sequential(
        nn.Linear(LATENT, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 18),
        nn.Unflatten(1, SHAPE),
    )
    critic = nn.Sequential(nn.Flatten(), nn.Linear(18, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    if sigmoid:
        critic.append(nn.Sigmoid())
    return generator, critic


def data() -> torch.Tensor:
    return 0.5 + 0.3 * torch.randn(BATCH, *SHAPE)


def latents() -> torch.Tensor:
    return torch.randn(BATCH, LATENT)


# What every style fills its slots with, unless it or a mutation says otherwise.
SLOTS = {
    "zero_d": "opt_D.zero_grad()",
    "zero_d_late": "pass",
    "zero_d_end": "pass",
    "zero_g": "opt_G.zero_grad()",
    "zero_g_late": "pass",
    "step_d": "opt_D.step()",
    "step_g": "opt_G.step()",
    "made": "G(latents())",
    "shown": "fake.detach()",
    "judged": "D(fake)",
    "real_label": "ones_like",
    "fake_label": "zeros_like",
    "wanted": "ones_like",
    "of": "D(x).sum()",
    "before": "pass",
    "variable": "x",
    "graph": "create_graph=True",
    "under": "torch.enable_grad()",
    "frozen": "False",
    "norm": "slope.flatten(1).norm(dim=1)",
    "added": "penalty",
    "ema": "p.lerp_(q, 0.1)",
    "ema_buffers": "b.copy_(c)",
    "held": "{'G': G.state_dict(), 'D': D.state_dict(), 'ema': ema.state_dict(),"
    " 'opt_G': opt_G.state_dict(), 'opt_D': opt_D.state_dict(), 'step': i}",
}

PENALTY = """
        eps = torch.rand(BATCH, 1, 1, 1)
        {before}
        x = (eps * real + (1 - eps) * fake.detach()).requires_grad_()
        slope = torch.autograd.grad({of}, {variable}, {graph})[0]
        with {under}:
            penalty = (({norm} - 1) ** 2).mean()
"""

AFTER = """
        with torch.no_grad():
            for p, q in zip(ema.parameters(), G.parameters()):
                {ema}
            for b, c in zip(ema.buffers(), G.buffers()):
                {ema_buffers}
    torch.save({held}, io.BytesIO())
"""

PLAIN = (
    """
    for i in range(steps):
        real, fake = data(), {made}
        {zero_d}
        on_real, on_fake = D(real), D({shown})
        loss = bce(on_real, torch.{real_label}(on_real)) + bce(on_fake, torch.{fake_label}(on_fake))
"""
    + PENALTY
    + """
        loss = loss + 10 * {added}
        loss.backward()
        {zero_d_late}
        {step_d}
        {zero_d_end}
        {zero_g}
        wants = {judged}
        bce(wants, torch.{wanted}(wants)).backward()
        {zero_g_late}
        {step_g}
"""
    + AFTER
)

# Automatic mixed precision with a gradient scaler, separate real and fake backwards.
AMP = (
    """
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for i in range(steps):
        real, fake = data(), {made}.float()
        {zero_d}
        with torch.autocast("cpu", torch.bfloat16):
            on_real, on_fake = D(real), D({shown})
            loss = bce(on_real, torch.{real_label}(on_real))
            loss = loss + bce(on_fake, torch.{fake_label}(on_fake))
"""
    + PENALTY
    + """
        scaler.scale(loss + 10 * {added}).backward()
        {zero_d_late}
        {unscale_d}
        {step_d}
        {zero_d_end}
        {zero_g}
        with torch.autocast("cpu", torch.bfloat16):
            wants = {judged}
            loss_G = bce(wants, torch.{wanted}(wants))
        scaler.scale(loss_G).backward()
        {zero_g_late}
        {step_g}
        scaler.update()
"""
    + AFTER
)

# Two micro-batches for each step, each loss divided by two; the generator first.
ACCUMULATED = (
    """
    for i in range(steps):
        {zero_g}
        for micro in range(2):
            fake = {made}
            wants = {judged}
            (bce(wants, torch.{wanted}(wants)) / 2).backward()
            {zero_g_late}
        {step_g}
        {zero_d}
        for micro in range(2):
            real, fake = data(), {made}
            on_real, on_fake = D(real), D({shown})
            loss = bce(on_real, torch.{real_label}(on_real))
            loss = loss + bce(on_fake, torch.{fake_label}(on_fake))
"""
    + PENALTY.replace("\n    ", "\n        ")
    + """
            ((loss + 10 * {added}) / 2).backward()
            {zero_d_late}
        {step_d}
        {zero_d_end}
"""
    + AFTER
)

# A trainer class of one's own: gradients set to zero in place, D frozen for the generator's loss.
OWN = (
    """
    class Trainer:
        def __init__(self):
            self.G, self.D = G, D

        def penalty(self, real, fake):
"""
    + PENALTY.replace("\n    ", "\n        ")
    + """
            return {added}

        def critic(self, i):
            D.requires_grad_(True)
            real, fake = data(), {made}
            {zero_d}
            on_real, on_fake = D(real), D({shown})
            adversarial = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
            adversarial = adversarial if "{real_label}{fake_label}" == "ones_likezeros_like" else (
                bce(on_real, torch.{real_label}(on_real))
                + bce(on_fake, torch.{fake_label}(on_fake)))
            penalty = self.penalty(real, fake)
            adversarial.backward()
            (10 * penalty).backward() if isinstance(penalty, torch.Tensor) else None
            {zero_d_late}
            {step_d}
            {zero_d_end}

        def generator(self, i):
            D.requires_grad_({frozen})
            fake = {made}
            {zero_g}
            wants = {judged}
            bce(wants, torch.{wanted}(wants)).backward()
            {zero_g_late}
            {step_g}

    trainer = Trainer()
    for i in range(steps):
        trainer.critic(i)
        trainer.generator(i)
"""
    + AFTER
)

# As Lightning's automatic optimization does it: each step is given a closure that clears,
# computes and differentiates.
CLOSURES = (
    """
    for i in range(steps):
        real = data()

        def on_critic():
            fake = {made}
            {zero_d}
            on_real, on_fake = D(real), D({shown})
            loss = bce(on_real, torch.{real_label}(on_real))
            loss = loss + bce(on_fake, torch.{fake_label}(on_fake))
"""
    + PENALTY.replace("\n    ", "\n        ")
    + """
            loss = loss + 10 * {added}
            loss.backward()
            {zero_d_late}
            return loss

        def on_generator():
            fake = {made}
            {zero_g}
            wants = {judged}
            loss = bce(wants, torch.{wanted}(wants))
            loss.backward()
            {zero_g_late}
            return loss

        {step_d}
        {zero_d_end}
        {step_g}
"""
    + AFTER
)

STYLES = {
    "plain": (PLAIN, {}),
    "amp": (
        AMP,
        {
            "step_d": "scaler.step(opt_D)",
            "step_g": "scaler.step(opt_G)",
            "unscale_d": "scaler.unscale_(opt_D); nn.utils.clip_grad_norm_(D.parameters(), 1.0)",
        },
    ),
    "accumulated": (ACCUMULATED, {}),
    "own classes": (
        OWN,
        {
            "zero_d": "D.zero_grad(set_to_none=False)",
            "zero_g": "G.zero_grad(set_to_none=False)",
        },
    ),
    "closures": (
        CLOSURES,
        {"step_d": "opt_D.step(on_critic)", "step_g": "opt_G.step(on_generator)"},
    ),
}

# name of the mutation: (name that the auditor must give it, slots).
MUTATIONS = {
    "critic's step left out": ("critic-never-steps", {"step_d": "pass"}),
    "generator's step left out": ("generator-never-steps", {"step_g": "pass"}),
    "critic's optimizer holds the generator": ("critic-never-steps", {"optimizers": "G"}),
    "critic not cleared": ("gradients-not-cleared", {"zero_d": "pass"}),
    "generator not cleared": ("gradients-not-cleared", {"zero_g": "pass"}),
    "critic cleared too late": (
        "gradients-cleared-before-use",
        {"zero_d_late": "opt_D.zero_grad()"},
    ),
    "generator cleared too late": (
        "gradients-cleared-before-use",
        {"zero_g_late": "opt_G.zero_grad()"},
    ),
    "critic cleared before the generator's loss only": (
        "generator-gradients-in-critic-step",
        {"zero_d": "pass", "zero_d_end": "opt_D.zero_grad()", "frozen": "True"},
    ),
    "detach left out": ("missing-detach", {"shown": "fake", "judged": "D(G(latents()).float())"}),
    "generator's samples detached": (
        "generator-gets-no-gradient",
        {"judged": "D(fake.detach())", "frozen": "True"},
    ),
    "samples under no_grad": (
        "generator-gets-no-gradient",
        {"made": "no_grad(G)(latents())", "frozen": "True"},
    ),
    "penalty without create_graph": ("penalty-without-gradient", {"graph": "retain_graph=True"}),
    "penalty under no_grad": ("penalty-without-gradient", {"under": "torch.no_grad()"}),
    "penalty as a number": ("penalty-never-in-a-loss", {"added": "penalty.item()"}),
    "penalty detached": ("penalty-without-gradient", {"added": "penalty.detach()"}),
    "penalty of parameters": (
        "penalty-of-the-wrong-variable",
        {"variable": "D[1].weight", "norm": "slope.flatten(1).norm(dim=1)"},
    ),
    "penalty of the real samples": (
        "penalty-of-the-wrong-variable",
        {"before": "real.requires_grad_()", "variable": "real"},
    ),
    "one norm for the batch": ("penalty-of-the-whole-batch", {"norm": "slope.norm()"}),
    "one root of a sum over the batch": (
        "penalty-of-the-whole-batch",
        {"norm": "slope.square().sum().sqrt()"},
    ),
    "a norm over channels only": ("penalty-of-part-of-a-sample", {"norm": "slope.norm(2, dim=1)"}),
    "sigmoid at the critic's end": ("sigmoid-before-logit-loss", {"sigmoid": "yes"}),
    "both labels one": ("real-and-fake-on-one-side", {"fake_label": "ones_like"}),
    "generator wants fakes": ("real-and-fake-swapped", {"wanted": "zeros_like"}),
    "critic's labels swapped": (
        "real-and-fake-swapped",
        {"real_label": "zeros_like", "fake_label": "ones_like"},
    ),
    "moving average left alone": ("ema-never-updated", {"ema": "pass", "ema_buffers": "pass"}),
    "buffers of the average left alone": ("ema-buffers-not-updated", {"ema_buffers": "pass"}),
    "critic not saved": ("checkpoint-lacks-state", {"held": "{'G': G.state_dict(), 'step': i}"}),
    "average saved without buffers": (
        "checkpoint-lacks-state",
        {"held": SLOTS["held"].replace("ema.state_dict()", "dict(ema.named_parameters())")},
    ),
}

AMP_ONLY = {
    "penalty with the scaler's factor": (
        "penalty-with-the-scaler's-factor",
        {"of": "scaler.scale(D(x).sum())"},
    ),
    "step past the scaler": ("scaled-gradients-in-step", {"step_g": "opt_G.step()"}),
}


def no_grad(network):
    return torch.no_grad()(lambda z: network(z))


def run(style: str, mutation: dict[str, str] | None = None, watched: bool = True, steps: int = 4):
    """Return what the auditor found and the final parameters."""
    mutation = mutation or {}
    text, own = STYLES[style]
    body = text
    for name, value in {**SLOTS, **own, **mutation}.items():
        body = body.replace("{" + name + "}", value)
    G, D = networks(sigmoid="sigmoid" in mutation)
    ema = copy.deepcopy(G).requires_grad_(False)
    opt_G = torch.optim.Adam(G.parameters(), lr=1e-3)
    opt_D = torch.optim.Adam((G if "optimizers" in mutation else D).parameters(), lr=1e-3)
    scope = {**globals(), "bce": F.binary_cross_entropy_with_logits, "io": io}
    exec("def loop(G, D, opt_G, opt_D, ema, steps):" + body, scope)
    torch.manual_seed(2)
    if not watched:
        scope["loop"](G, D, opt_G, opt_D, ema, steps)
        return [], [*G.parameters(), *D.parameters()]
    with (
        contextlib.suppress(RuntimeError, AssertionError),
        audit(G, D, opt_G, opt_D, ema=ema) as found,
    ):
        scope["loop"](G, D, opt_G, opt_D, ema, steps)
    return [f.name for f in found], [*G.parameters(), *D.parameters()]
