"""What is wrong with a GAN, or nothing: its networks, its game and one batch in, a diagnosis in
words and numbers out."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.context import Context, Samples
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, Name
from ..core.registry import build, spec
from ..core.scores import score, squared_norm
from . import verdict
from .linearize import Eigenvalue, System, copied, survey
from .precondition import preconditioner

SAMPLES = 64
"""How many samples of the batch are looked at."""

MANY, FEW = 100_000, 16
"""Networks with this many parameters are looked at on fewer samples, because each product with a
Jacobian costs in proportion."""

COARSE = 1e-2
"""Residual, relative to the largest modulus, below which an eigenvalue of a large network counts as
converged; verdicts allow for it."""


@dataclass(frozen=True)
class Spectral:
    """Eigenvalues of the field, and of one step as (s - 1)/h, so that both are rates; neutral ones
    are left out of the verdict.

    field, step: by decreasing modulus. complete: whether these are all. neutral: how many field
    eigenvalues lie below ``tolerance`` in modulus. stability: of one step, 'stable', 'unstable' or
    'undecided'. radius: the largest modulus of a converged, not neutral eigenvalue of one step.
    max_stable_lr: of simultaneous steps, an upper bound from the converged eigenvalues of the
    field; 0 where one of them is not damped, None where none is known.
    """

    field: list[Eigenvalue]
    step: list[Eigenvalue]
    complete: bool
    neutral: int
    tolerance: float
    stability: str
    radius: float | None
    max_stable_lr: float | None

    @property
    def active(self) -> list[Eigenvalue]:
        """Return the converged eigenvalues of the field that are not neutral."""
        return [e for e in self.field if e.converged and abs(e.value) > self.tolerance]

    @property
    def largest_real(self) -> float | None:
        """Return the largest real part among the active eigenvalues of the field."""
        return max((e.value.real for e in self.active), default=None)


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found. Norms are Euclidean over a player's parameters; input gradients are
    per sample, in logits per unit of x.

    refused: why there is no spectrum, or None. speed: norm of each player's gradient, 0 at an
    equilibrium. slopes: mean and quartiles of
    ||grad D|| on real and on generated samples. critic: its loss and gradient norm now and after
       ``steps`` more steps of its own.
    alternatives: the same game with one regularizer more.
    """

    game: dict[str, Any]
    dynamics: str
    lr: dict[str, float]
    parameters: dict[str, int]
    samples: int
    precision: str
    preconditioner: str
    spectrum: Spectral | None
    refused: str | None
    speed: dict[str, float] | None
    slopes: dict[str, dict[str, float]]
    critic: dict[str, float]
    alternatives: dict[str, Spectral]
    products: int
    seconds: float
    notes: list[str] = field(default_factory=list)

    def words(self) -> list[str]:
        """Return the findings as sentences, the most important one first, the change to try first
        last."""
        return verdict.words(self)

    def advice(self) -> str:
        """Return the one change that the doctor would try first."""
        return verdict.advice(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: words and advice first; an eigenvalue is {re, im, residual,
        converged}."""
        return {"words": self.words(), "advice": self.advice(), **verdict.plain(vars(self))}


def diagnose(
    game: Game,
    generator: nn.Module,
    critic: nn.Module,
    batch: Batch,
    *,
    dynamics: Dynamics | str = "alternating",
    lr: float | Mapping[Name, float] | None = None,
    optimizers: Mapping[Name, torch.optim.Optimizer] | None = None,
    alternatives: Sequence[str] = ("r1:gamma=1", "js:gamma=1"),
    progress: float | None = None,
    memory: Mapping[str, Tensor] | None = None,
    budget: int = 150,
    critic_steps: int = 20,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose a GAN at its present parameters on one batch; networks and optimizers stay as they
    are.

    The first 64 samples of the batch are looked at, of large networks 16.

    The eigenvalues λ of the Jacobian of the field v and s of one step decide: locally stable where
    every |s| < 1; for simultaneous steps s = 1 + hλ, so h < 2|Re λ|/|λ|². Adam and RMSProp, given
    as ``optimizers``, count as a frozen diagonal 1/(√v̂ + ε) on the gradients. lr: by default that
    of the optimizers. alternatives: regularizers to add, each linearised anew. budget: products
    with Jacobians for networks beyond 300 parameters, about a second each for 2.6 million; smaller
    ones get every eigenvalue.
    memory, progress: as in ``Context``. seed: of the noise, the same at every evaluation.

    Raises SteadyganError where two evaluations differ (dropout and the like), a field is not
    finite, or no learning rate is known.

    >>> D, G = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
    >>> for p in (*D.parameters(), *G.parameters()): _ = nn.init.zeros_(p)
    >>> found = diagnose(Game("minimax"), G, D, Batch(torch.zeros(4, 1), torch.zeros(4, 1)), dynamics="simultaneous", lr=0.1)
    >>> found.spectrum.stability, found.alternatives["r1:gamma=1"].stability
    ('unstable', 'stable')

    Reference: Mescheder et al. 2017 and 2018; Berard et al. 2020.
    """
    started = time.process_time()
    rates = _rates(lr, optimizers)
    dynamics = build("dynamics", dynamics)
    size = sum(p.numel() for network in (generator, critic) for p in network.parameters())
    batch = _first(batch, SAMPLES if size < MANY else FEW)
    copies = {
        name: copied(network) for name, network in zip(PLAYERS, (generator, critic), strict=True)
    }
    diagonals, said = _diagonals({"generator": generator, "critic": critic}, optimizers, rates)
    context = {"progress": progress, "memory": memory or {}}

    def draws() -> torch.Generator:
        return torch.Generator(batch.real.device).manual_seed(seed)

    def system(played: Game, method: Dynamics | str = dynamics) -> System:
        return System(
            played,
            method,
            generator,
            critic,
            batch,
            lr=rates["critic"],
            scale=diagonals,
            draws=draws,
            **context,
        )  # type: ignore[arg-type]

    looks: dict[str, Spectral] = {}
    refused = next((r.not_smooth for r in game.regularizers if r.not_smooth), None)
    spectrum = speed = None
    products, notes = 0, []
    if refused is None:
        here = system(game)
        # Three tenths for the field of this game, three for its step, the rest for the steps of the
        # others.
        share, others = (
            max(8, 3 * budget // 10),
            max(8, 4 * budget // 10 // max(1, len(alternatives))),
        )
        spectrum, products = _spectral(here, share)
        notes, speed = here.notes(), _speed(system(game, "simultaneous"), diagonals)
        for name in alternatives:
            added = replace(game, regularizers=(*game.regularizers, build("regularizer", name)))
            looks[name], spent = _spectral(system(added), others, both=False)
            products += spent
    at = Context(rng=draws(), **context)  # type: ignore[arg-type]
    return Diagnosis(
        game={
            "objective": spec(game.objective),
            "regularizer": [spec(r) for r in game.regularizers],
            "smoothing": None if game.smoothing is None else spec(game.smoothing),
            "constraint": None if game.constraint is None else spec(game.constraint),
        },
        dynamics=spec(dynamics),
        lr=dict(rates),
        parameters={
            name: sum(p.numel() for p in network.parameters() if p.requires_grad)
            for name, network in copies.items()
        },
        samples=len(batch.real),
        precision=str(next(critic.parameters()).dtype).removeprefix("torch."),
        preconditioner=said,
        spectrum=spectrum,
        refused=refused,
        speed=speed,
        slopes=_slopes(copies, batch),
        critic=_gap(
            game,
            copies,
            batch,
            lambda: replace(at, rng=draws()),
            critic,
            optimizers,
            rates,
            critic_steps,
        ),
        alternatives=looks,
        products=products,
        seconds=round(time.process_time() - started, 2),
        notes=notes,
    )


def _rates(
    lr: float | Mapping[Name, float] | None, optimizers: Mapping[Name, torch.optim.Optimizer] | None
) -> dict[Name, float]:
    if lr is None and not optimizers:
        raise SteadyganError(
            "Whether a step is stable depends on its size: give lr=, or optimizers=, whose"
            " learning rates then count."
        )
    rates: dict[Name, float] = {}
    for name in PLAYERS:
        given = lr[name] if isinstance(lr, Mapping) else lr
        rates[name] = float(
            optimizers[name].param_groups[0]["lr"] if given is None and optimizers else given
        )  # type: ignore[arg-type]
        if not (math.isfinite(rates[name]) and rates[name] > 0):
            raise SteadyganError(
                f"The {name}'s learning rate is a finite number > 0, not {rates[name]:g}."
            )
    return rates


def _first(batch: Batch, n: int) -> Batch:
    labels = None if batch.labels is None else (batch.labels[0][:n], batch.labels[1][:n])
    return Batch(batch.real[:n], batch.latent[:n], labels)


def _diagonals(
    networks: Mapping[Name, nn.Module],
    optimizers: Mapping[Name, torch.optim.Optimizer] | None,
    rates: Mapping[Name, float],
) -> tuple[Tensor, str]:
    """Return what multiplies the gradients, in units of the critic's learning rate, and how to say
    it."""
    parts, said = [], []
    for name in PLAYERS:
        ratio = rates[name] / rates["critic"]
        trainable = [p for p in networks[name].parameters() if p.requires_grad]
        diagonal, words = (
            preconditioner(optimizers[name], trainable)
            if optimizers
            else (None, "plain gradient descent is assumed")
        )
        parts += [ratio * d.reshape(-1) for d in diagonal or map(torch.ones_like, trainable)]
        said.append(words)
    return torch.cat(parts).detach(), said[0] if said[0] == said[
        1
    ] else f"generator: {said[0]}; critic: {said[1]}"


def _spectral(system: System, budget: int, *, both: bool = True) -> tuple[Spectral, int]:
    """Return the spectra of a system and their cost; ``both`` asks for the field besides the
    step."""
    point, h = system.point(), float(system.lr)  # type: ignore[arg-type]
    start = system.step_state(point)
    double = point.dtype == torch.float64
    tolerance = 1e-9 if double and system.size <= 300 else COARSE
    # Of a step, (s - 1)/h: its rates are as far apart as those of the field, while the s themselves
    # all crowd around 1.
    step = survey(
        lambda state: (system.step(state) - state) / h, start, budget=budget, tolerance=tolerance
    )
    same = type(system.dynamics).step is Dynamics.step and not system.game.constraint
    field = (
        step
        if same or not both
        else survey(system.field, point, budget=budget, tolerance=tolerance)
    )
    neutral = (1e-7 if double else 1e-4) * max((abs(e.value) for e in field.values), default=0.0)
    margins = [
        (abs(1 + h * e.value) - 1, max(1e-9 if double else 1e-6, h * e.residual))
        for e in step.values
        if e.converged and abs(e.value) > neutral
    ]
    if any(excess > margin for excess, margin in margins):
        stability = "unstable"
    else:
        stability = (
            "stable"
            if margins and all(excess < -margin for excess, margin in margins)
            else "undecided"
        )
    active = [e.value for e in field.values if e.converged and abs(e.value) > neutral]
    # A real part within the tolerance is rounding: it damps nothing.
    limit = min(
        (-2 * value.real / abs(value) ** 2 if value.real < -neutral else 0.0 for value in active),
        default=None,
    )
    spectral = Spectral(
        field=field.values,
        step=step.values,
        complete=step.complete,
        neutral=sum(abs(e.value) <= neutral for e in field.values),
        tolerance=neutral,
        stability=stability,
        radius=max((1 + excess for excess, _ in margins), default=None),
        max_stable_lr=limit,
    )
    return spectral, step.products + (0 if field is step else field.products)


def _speed(system: System, diagonals: Tensor) -> dict[str, float]:
    v = system.field(system.point().requires_grad_()).detach() / diagonals
    return {"generator": float(v[: system.split].norm()), "critic": float(v[system.split :].norm())}


def _generated(generator: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return (
            generator(batch.latent)
            if batch.labels is None
            else generator(batch.latent, batch.labels[1])
        )


def _slopes(networks: Mapping[Name, nn.Module], batch: Batch) -> dict[str, dict[str, float]]:
    y_real, y_fake = batch.labels or (None, None)
    found = {}
    for where, samples in (
        ("real", Samples(batch.real, y_real)),
        ("generated", Samples(_generated(networks["generator"], batch), y_fake)),
    ):
        with torch.no_grad():
            gradient = score(networks["critic"], samples, gradient=True).gradient
        assert gradient is not None
        norms = squared_norm(gradient).sqrt().double().cpu()
        low, middle, high = norms.quantile(
            torch.tensor([0.25, 0.5, 0.75], dtype=norms.dtype)
        ).tolist()
        found[where] = {
            "mean": norms.mean().item(),
            "lower_quartile": low,
            "median": middle,
            "upper_quartile": high,
        }
    return found


def _gap(
    game: Game,
    networks: Mapping[Name, nn.Module],
    batch: Batch,
    at: Any,
    original: nn.Module,
    optimizers: Mapping[Name, torch.optim.Optimizer] | None,
    rates: Mapping[Name, float],
    steps: int,
) -> dict[str, float]:
    """Let a copy of the critic make some more steps of its own on this batch, against this
    generator."""
    fake, critic = _generated(networks["generator"], batch), copied(original)
    trainable = [p for p in critic.parameters() if p.requires_grad]
    own = _own_optimizer(optimizers["critic"], trainable) if optimizers else None
    optimizer = own or torch.optim.SGD(trainable, rates["critic"])

    def look() -> tuple[Tensor, list[Tensor], float]:
        loss = game.critic_loss(critic, batch.real, fake, labels=batch.labels, at=at())
        slopes = list(
            torch.autograd.grad(loss, trainable, allow_unused=True, materialize_grads=True)
        )
        return loss, slopes, math.sqrt(sum(float(g.square().sum()) for g in slopes))

    loss, slopes, size = look()
    before = loss.item(), size
    for _ in range(steps):
        for p, g in zip(trainable, slopes, strict=True):
            p.grad = g
        optimizer.step()
        game.constrain(critic)
        loss, slopes, size = look()
    return {
        "steps": steps,
        "loss": before[0],
        "loss_after": loss.item(),
        "gradient": before[1],
        "gradient_after": size,
    }


def _own_optimizer(
    given: torch.optim.Optimizer, trainable: list[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return the same optimizer with the same state over other parameters; None where it holds
    others than the critic's."""
    try:
        optimizer = type(given)(trainable, **given.defaults)  # type: ignore[call-arg]
        # Loading alone would share the state's tensors, and stepping would then change the
        # caller's.
        optimizer.load_state_dict(copy.deepcopy(given.state_dict()))
    except (TypeError, ValueError):
        return None
    return optimizer
