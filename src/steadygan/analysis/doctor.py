"""What is wrong with a GAN, or nothing.

Its networks, its game and one batch in, a diagnosis in words and numbers out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..core.context import Context
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, Name
from ..core.registry import build, spec
from ..core.shown import Shown
from ..core.slopes import explained, twice
from ..runs.cures import PENALTIES
from . import looks, trials, verdict
from .gan import Gan, learning_rates, some_of
from .linearize import System, copied
from .optimizers import not_a_map, preconditioner, shares_of
from .spectra import DENSE
from .spectral import Spectral, spectral
from .triage import LOOKED, Fact, quiet, to_try, triable, triage
from .trials import ROUNDS, SEEDS, Tell, Trial
from .trials.change import Change

SAMPLES = 64
"""How many samples of the batch are looked at."""

MANY, FEW = 100_000, 16
"""Networks with this many parameters are looked at on fewer samples, because each product with a
Jacobian costs in proportion."""


@dataclass(frozen=True)
class Diagnosis(Shown):
    """What the doctor found.

    Args:
        game: its parts, as specs.
        dynamics: as a spec.
        lr: of each player.
        parameters: how many each player trains.
        samples: how many were looked at.
        precision: of the networks.
        preconditioner: how the optimizers count, in words.
        spectrum: None where ``refused`` says why.
        refused: why there is no spectrum, without a period at its end, or None.
        speed: Euclidean norm of each player's gradient, 0 at an equilibrium.
        logits: their range on real and generated samples, and what bounds them.
        slopes: mean and quartiles of ||grad D|| on real and on generated samples, in logits per
            unit of x.
        critic: its loss and gradient norm now and after ``steps`` more steps of its own.
        alternatives: of a step of the same game with one regularizer more; none where the networks
            show something wrong, which comes first.
        products: with Jacobians, how many were spent.
        seconds: of process time.
        notes: what a reader must know.
        facts: of the networks themselves, in a fixed order, those that are right included.
        trial: changes that were tried, where that was asked for.
        near: whether the gradients are so small that eigenvalues, which describe a point that
            stands still, tell what helps.
    """

    _page: ClassVar[str] = "report.notebook:diagnosis"

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
    logits: dict[str, float | str | None]
    slopes: dict[str, dict[str, float]]
    critic: dict[str, float]
    alternatives: dict[str, Spectral]
    products: int
    seconds: float
    notes: list[str] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    trial: Trial | None = None
    near: bool = True

    @property
    def cause(self) -> str | None:
        """The name of the fact that explains what is wrong; None where nothing is.

        Of suspicions that a trial has looked into, the first one whose cure helped.
        """
        found = verdict.explains(self)
        return None if found is None else found.name

    @property
    def change(self) -> Change | None:
        """The change that is advised; with a trial none that did worse than the GAN as it is."""
        return verdict.change(self)

    def words(self) -> list[str]:
        """Return the findings as sentences, the most important first, what to try first last."""
        return verdict.words(self)

    def advice(self) -> str:
        """Return the one change that the doctor would try first."""
        return verdict.advice(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, words and advice first.

        An eigenvalue is {re, im, residual, converged}.
        """
        said = {"words": self.words(), "advice": self.advice(), "cause": self.cause}
        return {**said, **verdict.plain(vars(self))}


@explained()
@twice()
@quiet()
def diagnose(
    game: Game,
    generator: nn.Module,
    critic: nn.Module,
    batch: Batch,
    *,
    dynamics: Dynamics | str = "alternating",
    lr: float | Mapping[Name, float] | None = None,
    optimizers: Mapping[Name, torch.optim.Optimizer] | None = None,
    alternatives: Sequence[str] | None = None,
    progress: float | None = None,
    memory: Mapping[str, Tensor] | None = None,
    budget: int = 150,
    critic_steps: int = 20,
    seed: int = 0,
    trial: float | str | None = None,
    trial_steps: int = ROUNDS[-1],
    trial_seeds: int = SEEDS,
    fresh: Callable[[int], tuple[nn.Module, nn.Module]] | None = None,
    tell: Tell = lambda done, total: None,
) -> Diagnosis:
    """Return the diagnosis of a GAN as it stands, on one batch; nothing of the caller's changes.

    First come plain facts of the networks, on 256 samples (``triage``). For the spectrum
    64 of them are looked at, of large networks 16. The eigenvalues λ of the
    Jacobian of the field v and s of one step decide: locally stable where every |s| < 1. The step
    is the dynamics' and the optimizers' own: what Adam, RMSProp or a momentum remember is part of
    its state. Its limits are those of the learning rate of that very step.

    Args:
        game: what both players minimise.
        generator: G(z), or G(z, y).
        critic: D(x), or D(x, y).
        batch: real samples, latents, labels.
        dynamics: an object or a spec.
        lr: one learning rate, or one for each player; by default those of the optimizers.
        optimizers: torch's, with their state; without, plain gradient descent is assumed.
        alternatives: regularizers to add, each linearised anew and tried; by default r1:gamma=1 and
            js:gamma=1, linearised only where the networks show nothing wrong.
        progress: as in ``Context``.
        memory: as in ``Context``; it is held.
        budget: products with Jacobians for networks beyond 300 parameters, about a second each for
            2.6 million; smaller ones get every eigenvalue.
        critic_steps: how many steps a copy of the critic makes to see how far it is from its best;
            0: no copy is trained.
        seed: of the noise, the same at every evaluation.
        trial: a time, seconds or a text such as "5m", in which changes are tried on copies, side by
            side and measured; without, nothing is tried. It draws from all of the batch.
        trial_steps: after how many steps the trial ends at the latest.
        trial_seeds: how often each change is tried.
        fresh: returns generator and critic as they are at the start, by seed, for changes that
            start again; without, the modules are initialised anew by ``reset_parameters``.
        tell: is told (done, total) while the trial runs.

    Raises:
        SteadyganError: where two evaluations differ (dropout and the like), a field is not finite,
            or no learning rate is known.

    >>> D, G = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
    >>> for p in (*D.parameters(), *G.parameters()): _ = nn.init.zeros_(p)
    >>> batch = Batch(torch.zeros(4, 1), torch.zeros(4, 1))
    >>> found = diagnose(Game("minimax"), G, D, batch, dynamics="simultaneous", lr=0.1)
    >>> found.spectrum.stability, found.alternatives["r1:gamma=1"].stability
    ('unstable', 'stable')

    Reference: Mescheder et al. 2017 and 2018; Berard et al. 2020.
    """
    started = time.process_time()
    for what, number, least in (("budget", budget, 1), ("critic_steps", critic_steps, 0)):
        if number < least:
            raise SteadyganError(f"{what} is a whole number of at least {least}, not {number}.")
    rates = learning_rates(lr, optimizers)
    networks: dict[Name, nn.Module] = {}
    for player, given in zip(PLAYERS, (generator, critic), strict=True):
        if not isinstance(given, nn.Module):
            raise SteadyganError(
                f"The {player} is a {type(given).__name__}, whose parameters cannot be known: the"
                " doctor takes the torch.nn.Module itself."
            )
        # What is inside of a compiled or a data-parallel module has the same parameters.
        inner = getattr(given, "_orig_mod", given)
        networks[player] = inner.module if isinstance(inner, nn.DataParallel) else inner
    generator, critic = networks["generator"], networks["critic"]
    gan = Gan(
        game,
        generator,
        critic,
        batch,
        rates,
        dynamics,
        optimizers,
        progress,
        memory or {},
        fresh,
        min(len(batch.real), max(len(batch.latent), 2), SAMPLES),
    )
    size = sum(p.numel() for network in networks.values() for p in network.parameters())
    facts = triage(gan, LOOKED if size < MANY else SAMPLES)
    wrong = any(fact.wrong for fact in facts)
    tried = None
    if trial is not None and triable(gan):
        changes = to_try(gan, facts, alternatives or ())
        tried = trials.trial(gan, changes, trial, steps=trial_steps, seeds=trial_seeds, tell=tell)
    batch = first(batch, SAMPLES if size < MANY else FEW)
    copies: dict[Name, nn.Module] = {"generator": copied(generator), "critic": copied(critic)}
    movers, scale, said = _movers(networks, optimizers)
    at = Context(progress, memory=memory or {})

    def draws() -> torch.Generator:
        return torch.Generator(batch.real.device).manual_seed(seed)

    def system(played: Game, **settings: Any) -> System:
        held = {"progress": progress, "memory": memory, "draws": draws, "lr": rates}
        whole: dict[str, Any] = {**held, "scale": scale, "optimizers": movers, **settings}
        arguments = (played, whole.pop("dynamics", dynamics), generator, critic, batch)
        try:
            # Every eigenvalue of a small system is computed, and single precision would blur them.
            return System(*arguments, **whole, double=size <= DENSE)
        except RuntimeError:  # a network of some fixed precision
            return System(*arguments, **whole)

    alternative: dict[str, Spectral] = {}
    refused = next((r.not_smooth for r in game.regularizers if r.not_smooth), None)
    if any(fact.wrong for fact in facts if fact.name in NO_SPECTRUM):
        refused = (
            "what the networks show comes first; there is no step whose spectrum would say more"
        )
    spectrum = speed = None
    products, notes, near = 0, [], True
    if alternatives is None:
        alternatives = () if wrong else PENALTIES
    try:
        if refused is None:
            here = system(game)
            # Six tenths for this game, the rest for the steps of the others.
            spectrum, products = spectral(here, max(6 * budget // 10, LEAST))
            notes = here.notes()
            speed = _speed(
                system(game, dynamics="simultaneous", lr=1.0, scale=None, optimizers=None)
            )
            near = _near(here, spectrum)
            for name in alternatives:
                added = replace(game, regularizers=(*game.regularizers, build("regularizer", name)))
                others = max(4 * budget // 10 // len(alternatives), LEAST)
                with suppress(np.linalg.LinAlgError):  # its products are not finite numbers here
                    alternative[name], spent = spectral(system(added), others, alone=True)
                    products += spent
    except (SteadyganError, RuntimeError, np.linalg.LinAlgError) as error:
        if not wrong and not isinstance(error, np.linalg.LinAlgError):
            raise
        # What the networks show is told all the same.
        spectrum, refused = None, f"the networks as they are have none ({str(error).rstrip('.')})"
    return Diagnosis(
        game={
            "objective": spec(game.objective),
            "regularizer": [spec(r) for r in game.regularizers],
            "smoothing": None if game.smoothing is None else spec(game.smoothing),
            "constraint": None if game.constraint is None else spec(game.constraint),
        },
        dynamics=spec(build("dynamics", dynamics)),
        lr={name: rates[name] for name in PLAYERS},
        parameters={
            name: sum(p.numel() for p in network.parameters() if p.requires_grad)
            for name, network in copies.items()
        },
        samples=len(batch.real),
        precision=str(next((p.dtype for p in critic.parameters()), batch.real.dtype)).removeprefix(
            "torch."
        ),
        preconditioner=said,
        spectrum=spectrum,
        refused=refused,
        speed=speed,
        logits=looks.logits(copies, batch, game.outputs.reading),
        slopes=looks.slopes(copies, batch, game.outputs.reading),
        critic=looks.gap(
            game,
            copies,
            batch,
            lambda: replace(at, rng=draws()),
            critic,
            optimizers,
            rates,
            critic_steps,
        ),
        alternatives=alternative,
        products=products,
        seconds=round(time.process_time() - started, 2),
        notes=notes,
        facts=facts,
        trial=tried,
        near=near,
    )


LEAST = 6
"""Products with which the ends of a spectrum can be looked at."""

NO_SPECTRUM = ("non-finite", "optimizers", "detached", "frozen")
"""Facts with which there is no step whose Jacobian would tell anything."""

NEAR = 0.05
"""Equilibria are near where the field would move the parameters by less than this share of their
size in the time in which its fastest mode turns or dies out."""


def _near(system: System, spectrum: Spectral) -> bool:
    fastest = max((abs(e.value) for e in spectrum.field), default=0.0)
    v = system.field(system.point().requires_grad_()).detach()
    return float(v.norm()) <= NEAR * fastest * max(float(system.point().norm()), 1e-12)


def first(batch: Batch, n: int) -> Batch:
    """Return at most n of a batch, drawn from all of it, as many real samples as latents."""
    n = min(n, len(batch.real), len(batch.latent))
    real, fake = some_of(len(batch.real), n), some_of(len(batch.latent), n)
    labels = batch.labels
    if labels is not None:
        labels = labels[0][real], labels[1][fake % len(labels[1])]
    return Batch(batch.real[real], batch.latent[fake], labels)


def _movers(
    networks: Mapping[Name, nn.Module], optimizers: Mapping[Name, torch.optim.Optimizer] | None
) -> tuple[dict[Name, torch.optim.Optimizer], Tensor, str]:
    """Return the optimizers whose moves are known, a diagonal for the field, and how to say it.

    The diagonal (n,) scales the field's gradients.
    """
    movers: dict[Name, torch.optim.Optimizer] = {}
    parts, said = [], []
    for name in PLAYERS:
        trainable = [p for p in networks[name].parameters() if p.requires_grad]
        diagonal, share, words = None, dict[Tensor, float](), "plain gradient descent is assumed"
        if optimizers:
            share = shares_of(optimizers[name])
            diagonal, words = preconditioner(optimizers[name], trainable)
            if not not_a_map(optimizers[name], trainable):
                movers[name] = optimizers[name]
        parts += [
            share.get(p, 1.0) * d.reshape(-1)
            for p, d in zip(trainable, diagonal or map(torch.ones_like, trainable), strict=True)
        ]
        said.append(words)
    same = said[0] == said[1]
    whole = said[0] if same else f"generator: {said[0]}; critic: {said[1]}"
    return movers, torch.cat(parts).detach(), whole


def _speed(system: System) -> dict[str, float]:
    v = system.field(system.point().requires_grad_()).detach()
    return {"generator": float(v[: system.split].norm()), "critic": float(v[system.split :].norm())}
