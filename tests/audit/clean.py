"""Loops without bugs, in the manners that people write them: the auditor must be silent on each.

Each takes (G, D, opt_G, opt_D) and makes a few iterations.
"""

from __future__ import annotations

import copy
import io

import torch
from torch import nn
from torch.nn import functional as F

from audit.loops import BATCH, data, latents
from steadygan import Context, Game
from steadygan.core.gradients import critic_backward

bce = F.binary_cross_entropy_with_logits
STEPS = 4


def a_generator_that_steps_every_second_time(G, D, opt_G, opt_D, turns=6, seldom=2):
    for i in range(turns):
        fake = G(latents())
        opt_D.zero_grad()
        (F.softplus(-D(data())) + F.softplus(D(fake.detach()))).mean().backward()
        opt_D.step()
        opt_G.zero_grad()
        F.softplus(-D(fake)).mean().backward()
        if i % seldom == seldom - 1:
            opt_G.step()


def a_generator_whose_first_step_is_still_to_come(G, D, opt_G, opt_D):
    for _ in range(20):  # of 32 whose gradients are gathered
        fake = G(latents())
        opt_D.zero_grad()
        (F.softplus(-D(data())) + F.softplus(D(fake.detach()))).mean().backward()
        opt_D.step()
        (F.softplus(-D(fake)).mean() / 32).backward()


def a_generator_that_steps_seldom(G, D, opt_G, opt_D):
    a_generator_that_steps_every_second_time(G, D, opt_G, opt_D, turns=10, seldom=11)


def extragradient(G, D, opt_G, opt_D):
    before = {}

    def extrapolation(optimizer):
        for p in optimizer.param_groups[0]["params"]:
            before[p] = p.data.clone()
            p.data.add_(p.grad.data, alpha=-1e-3)

    def step(optimizer):
        for p in optimizer.param_groups[0]["params"]:
            p.data = before[p]
        optimizer.step()

    for i in range(8):
        moves = step if i % 2 else extrapolation
        opt_D.zero_grad()
        (F.softplus(-D(data())) + F.softplus(D(G(latents()).detach()))).mean().backward()
        moves(opt_D)
        opt_G.zero_grad()
        F.softplus(-D(G(latents()))).mean().backward()
        moves(opt_G)


def two_backwards(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        D.zero_grad()
        on_real = D(data()).view(-1)
        real_loss = bce(on_real, torch.full((BATCH,), 0.9))
        real_loss.backward()
        fake = G(latents())
        on_fake = D(fake.detach()).view(-1)
        fake_loss = bce(on_fake, torch.zeros(BATCH))
        fake_loss.backward()
        _ = (real_loss + fake_loss).item()
        opt_D.step()
        G.zero_grad()
        bce(D(fake).view(-1), torch.ones(BATCH)).backward()
        opt_G.step()


def clipped_wasserstein(G, D, opt_G, opt_D):
    for i in range(8):
        opt_D.zero_grad()
        with torch.no_grad():
            fake = G(latents())
        (D(fake).mean() - D(data()).mean()).backward()
        opt_D.step()
        for p in D.parameters():
            p.data.clamp_(-0.05, 0.05)
        if i % 5 == 4:
            opt_G.zero_grad()
            (-D(G(latents())).mean()).backward()
            opt_G.step()


def a_hundred_steps_of_the_critic(G, D, opt_G, opt_D):
    """The first Wasserstein GAN begins so; here it is watched before the generator's turn."""
    for _ in range(100):
        fake = G(latents()).detach()
        opt_D.zero_grad()
        (D(fake).mean() - D(data()).mean()).backward()
        opt_D.step()


def gradient_penalty_by_ones(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        for _ in range(2):
            real, fake = data(), G(latents()).detach()
            alpha = torch.rand(BATCH, 1, 1, 1).expand_as(real)
            x = torch.autograd.Variable(alpha * real + (1 - alpha) * fake, requires_grad=True)
            out = D(x)
            slopes = torch.autograd.grad(
                outputs=out,
                inputs=x,
                grad_outputs=torch.ones_like(out),
                create_graph=True,
                retain_graph=True,
                only_inputs=True,
            )[0].reshape(BATCH, -1)
            penalty = ((torch.sqrt(slopes.square().sum(1) + 1e-12) - 1) ** 2).mean() * 10
            opt_D.zero_grad()
            (D(fake).mean() - D(real).mean() + penalty).backward()
            opt_D.step()
        opt_G.zero_grad()
        (-D(G(latents())).mean()).backward()
        opt_G.step()


def lazy_r1_in_a_step_of_its_own(G, D, opt_G, opt_D):
    for i in range(STEPS):
        D.requires_grad_(False)
        F.softplus(-D(G(latents()))).mean().backward()
        opt_G.step()
        opt_G.zero_grad()
        D.requires_grad_(True)
        (F.softplus(D(G(latents()).detach())).mean() + F.softplus(-D(data())).mean()).backward()
        opt_D.step()
        opt_D.zero_grad()
        if i % 2 == 0:
            real = data().requires_grad_()
            (slope,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
            (slope.square().sum([1, 2, 3]).mean() * 5).backward()
            opt_D.step()
            opt_D.zero_grad()


def hinge_on_one_batch(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        opt_D.zero_grad(set_to_none=True)
        fake = G(latents())
        real, wrong = D(torch.cat([data(), fake.detach()])).chunk(2)
        (F.relu(1 - real).mean() + F.relu(1 + wrong).mean()).backward()
        opt_D.step()
        opt_G.zero_grad(set_to_none=True)
        (-D(fake).mean()).backward()
        opt_G.step()


def least_squares(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        fake = G(latents())
        opt_G.zero_grad()
        F.mse_loss(D(fake), torch.ones(BATCH, 1)).backward()
        opt_G.step()
        opt_D.zero_grad()
        (0.5 * ((D(data()) - 1) ** 2).mean() + 0.5 * (D(fake.detach()) ** 2).mean()).backward()
        opt_D.step()


def simultaneous_with_frozen_parts(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        opt_G.zero_grad()
        opt_D.zero_grad()
        fake = G(latents())
        (F.softplus(-D(data())).mean() + F.softplus(D(fake.detach())).mean()).backward()
        for p in D.parameters():
            p.requires_grad_(False)
        F.softplus(-D(fake)).mean().backward()
        for p in D.parameters():
            p.requires_grad_(True)
        opt_D.step()
        opt_G.step()


def relativistic_with_both_penalties(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        real, fake = data().requires_grad_(), G(latents()).detach().requires_grad_()
        on_real, on_fake = D(real), D(fake)
        loss = F.softplus(on_fake - on_real).mean()
        for x, out in ((real, on_real), (fake, on_fake)):
            (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
            loss = loss + 0.5 * slope.square().sum([1, 2, 3]).mean()
        opt_D.zero_grad()
        loss.backward()
        opt_D.step()
        opt_G.zero_grad()
        with torch.no_grad():
            on_real = D(data())
        F.softplus(on_real - D(G(latents()))).mean().backward()
        opt_G.step()


def five_lines(G, D, opt_G, opt_D):
    game = Game("nonsaturating", ["js:gamma=0.1"])
    for _ in range(STEPS):
        real, fake = data(), G(latents())
        opt_D.zero_grad()
        game.critic_loss(D, real, fake.detach()).backward()
        opt_D.step()
        opt_G.zero_grad()
        game.generator_loss(D, real, fake).backward()
        opt_G.step()


def fast_gradient(G, D, opt_G, opt_D):
    game = Game("nonsaturating", ["r1:gamma=1", "wgan-gp:gamma=1"])
    at = Context(rng=torch.Generator().manual_seed(0))
    for _ in range(STEPS):
        opt_D.zero_grad()
        critic_backward(game, D, data(), G(latents()), at=at)
        opt_D.step()
        opt_G.zero_grad()
        game.generator_loss(D, None, G(latents())).backward()
        opt_G.step()


def mixed_precision(G, D, opt_G, opt_D):
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    for _ in range(STEPS):
        opt_D.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            fake = G(latents())
            loss = F.softplus(D(fake.detach())).mean() + F.softplus(-D(data())).mean()
        real = data().requires_grad_()
        (slope,) = torch.autograd.grad(scaler.scale(D(real).sum()), real, create_graph=True)
        slope = slope * (1 / scaler.get_scale())
        loss = loss + 0.5 * slope.flatten(1).norm(dim=1).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(opt_D)
        nn.utils.clip_grad_norm_(D.parameters(), 1.0)
        scaler.step(opt_D)
        opt_G.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.softplus(-D(fake.float())).mean()
        scaler.scale(loss).backward()
        scaler.step(opt_G)
        scaler.update()


def accumulated(G, D, opt_G, opt_D):
    opt_D.zero_grad()
    for i in range(8):
        D.requires_grad_(True)
        ((F.softplus(-D(data())) + F.softplus(D(G(latents()).detach()))).mean() / 2).backward()
        D.requires_grad_(False)
        (F.softplus(-D(G(latents()))).mean() / 2).backward()
        if i % 2:
            opt_D.step()
            opt_D.zero_grad()
            opt_G.step()
            opt_G.zero_grad()


def with_an_average_and_a_checkpoint(G, D, opt_G, opt_D):
    average = torch.optim.swa_utils.AveragedModel(
        G, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    ).requires_grad_(False)
    for i in range(STEPS):
        least_squares(G, D, opt_G, opt_D)
        average.update_parameters(G)
        networks = {"G": G.state_dict(), "D": D.state_dict(), "average": average.state_dict()}
        both = {"opt_G": opt_G.state_dict(), "opt_D": opt_D.state_dict()}
        torch.save({**networks, **both, "step": i}, io.BytesIO())
    torch.save(average.module.state_dict(), io.BytesIO())


def history_of_samples(G, D, opt_G, opt_D):
    held = []
    for _ in range(STEPS):
        fake = G(latents())
        held = [*held, fake.detach()][-3:]
        old = torch.stack([held[i % len(held)][i] for i in range(BATCH)])
        opt_D.zero_grad()
        (F.softplus(-D(data())).mean() + F.softplus(D(old)).mean()).backward()
        opt_D.step()
        opt_G.zero_grad()
        F.softplus(-D(fake)).mean().backward()
        opt_G.step()


def augmented_with_instance_noise(G, D, opt_G, opt_D):
    def changed(x):
        x = torch.flip(x, (3,)) if torch.rand(()) > 0.5 else x
        return x + 0.1 * torch.randn_like(x)

    for _ in range(STEPS):
        real, fake = data().requires_grad_(), G(latents())
        on_real, on_fake = D(changed(real)), D(changed(fake.detach()))
        (slope,) = torch.autograd.grad(on_real.sum(), real, create_graph=True)
        penalty = slope.pow(2).reshape(BATCH, -1).sum(1).mean()
        opt_D.zero_grad()
        (F.softplus(-on_real).mean() + F.softplus(on_fake).mean() + 0.5 * penalty).backward()
        opt_D.step()
        opt_G.zero_grad()
        F.softplus(-D(changed(fake))).mean().backward()
        opt_G.step()


def adaptive_weight_of_an_autoencoder(G, D, opt_G, opt_D):
    last = list(G.parameters())[-2]
    for _ in range(STEPS):
        real = data()
        made = G(latents())
        distance = (made - real).abs().mean()
        adversarial = -D(made).mean()
        a, b = (
            torch.autograd.grad(loss, last, retain_graph=True)[0].norm()
            for loss in (distance, adversarial)
        )
        weight = (a / (b + 1e-4)).clamp(0, 1e4).detach()
        opt_G.zero_grad()
        (distance + 0.1 * weight * adversarial).backward()
        opt_G.step()
        opt_D.zero_grad()
        (F.relu(1 - D(real)).mean() + F.relu(1 + D(made.detach())).mean()).backward()
        opt_D.step()


def logged_norms(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        real = data().requires_grad_()
        (slope,) = torch.autograd.grad(D(real).sum(), real)
        _ = slope.norm().item(), f"{slope.abs().max():.3g}"
        five_lines(G, D, opt_G, opt_D)
        _ = torch.stack([p.grad.norm() for p in D.parameters()]).norm().item()


def optimizer_with_closures(G, D, opt_G, opt_D):
    def on_critic():
        opt_D.zero_grad()
        loss = F.softplus(-D(data())).mean() + F.softplus(D(G(latents()).detach())).mean()
        loss.backward()
        return loss

    def on_generator():
        opt_G.zero_grad()
        loss = F.softplus(-D(G(latents()))).mean()
        loss.backward()
        return loss

    for _ in range(STEPS):
        opt_D.step(on_critic)
        opt_G.step(on_generator)


def gradients_by_hand(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        fake = G(latents())
        loss = F.softplus(-D(data())).mean() + F.softplus(D(fake.detach())).mean()
        for p, g in zip(
            D.parameters(), torch.autograd.grad(loss, list(D.parameters())), strict=True
        ):
            p.grad = g
        opt_D.step()
        loss = F.softplus(-D(fake)).mean()
        for p, g in zip(
            G.parameters(), torch.autograd.grad(loss, list(G.parameters())), strict=True
        ):
            p.grad = g
        opt_G.step()


def consensus(G, D, opt_G, opt_D):
    for _ in range(STEPS):
        fake = G(latents())
        on_critic = F.softplus(-D(data())).mean() + F.softplus(D(fake)).mean()
        own, others = list(D.parameters()), list(G.parameters())
        v = torch.autograd.grad(on_critic, own, create_graph=True)
        w = torch.autograd.grad(-on_critic, others, create_graph=True)
        half = sum(g.square().sum() for g in (*v, *w)) / 2
        pull = torch.autograd.grad(half, [*own, *others], allow_unused=True)
        for p, g, more in zip([*own, *others], [*v, *w], pull, strict=True):
            p.grad = (g + 0.1 * more if more is not None else g).detach()
        opt_D.step()
        opt_G.step()


def a_generator_sold_alone(G, D, opt_G, opt_D):
    least_squares(G, D, opt_G, opt_D)
    best = copy.deepcopy(G)  # a snapshot, which need not move
    torch.save(G.state_dict(), io.BytesIO())
    torch.save({"generator": G.state_dict(), "latent_dim": 4, "img_size": 6}, io.BytesIO())
    least_squares(G, D, opt_G, opt_D)
    del best


CLEAN = [
    two_backwards,
    clipped_wasserstein,
    a_hundred_steps_of_the_critic,
    a_generator_that_steps_every_second_time,
    a_generator_that_steps_seldom,
    a_generator_whose_first_step_is_still_to_come,
    extragradient,
    gradient_penalty_by_ones,
    lazy_r1_in_a_step_of_its_own,
    hinge_on_one_batch,
    least_squares,
    simultaneous_with_frozen_parts,
    relativistic_with_both_penalties,
    five_lines,
    fast_gradient,
    mixed_precision,
    accumulated,
    with_an_average_and_a_checkpoint,
    history_of_samples,
    augmented_with_instance_noise,
    adaptive_weight_of_an_autoencoder,
    logged_norms,
    optimizer_with_closures,
    gradients_by_hand,
    consensus,
    a_generator_sold_alone,
]
