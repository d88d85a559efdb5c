"""The game: what discriminator and generator minimise.

Pure: it never detaches, calls backward, steps, logs or knows a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from .augment import Augment
from .auto import finds_gamma, refuse_auto
from .constraints import Constraint
from .context import Context, Samples, batches
from .errors import SteadyganError
from .objectives import Objective
from .outputs import Outputs, Probe
from .penalties import POINTS, Regularizer
from .registry import build
from .schedules import Strength, scaled, strengths_of, telling
from .scores import Critic, Scores, by_output, by_view, join, look, of_output, once, score, split
from .slopes import AUTOGRAD, Slopes
from .smoothing import Smoothing
from .terms import CriticTerms, GeneratorTerms

Labels = tuple[Tensor, Tensor] | None
"""Labels of the real and of the generated samples, for a critic called as D(x, y)."""


@dataclass(frozen=True)
class Game:
    r"""A two-player game: objective + regularizers + smoothing + constraint, as objects or specs.

    augment: what is done to images before the critic sees them, in both players' steps, before the
    smoothing; the memory of ``observe`` holds how strongly where that is found.

    Both losses are minimised. The caller detaches: pass ``fake.detach()`` to ``critic_loss`` and
    the live ``fake`` to ``generator_loss``.

    regularize_generator: the critic maximises the regularized value F - Omega, Omega all penalties
    with their gamma/2; with it the generator minimises the same value, where it else minimises F:

    .. math:: L_D = -F + \Omega, \qquad L_G = L_G^{obj} - \Omega

    so that the minimax game is zero-sum in the regularized value; with another objective, such as
    the non-saturating one, it is the natural extension. Omega counts by its dependence on generated
    samples. Near an equilibrium whose critic is flat nothing changes to first order, because a
    zero-centred Omega is quadratic in the critic's gradient.

    Raises:
        SteadyganError: for regularize_generator where no penalty looks at generated samples, and
            for an augmentation that goes by signs of logits which mean nothing.

    >>> game = Game("nonsaturating", ["js:gamma=0.1"])
    >>> D, G = torch.nn.Linear(3, 1), torch.nn.Linear(2, 3)
    >>> real, fake = torch.randn(8, 3), G(torch.randn(8, 2))
    >>> game.critic_loss(D, real, fake.detach()).backward()
    >>> game.generator_loss(D, real, fake).backward()

    Reference: Roth et al. 2017, section 4.1 on the generator's part; Mescheder et al. 2018.
    """

    objective: Objective
    regularizers: tuple[Regularizer, ...]
    smoothing: Smoothing | None
    constraint: Constraint | None
    regularize_generator: bool
    outputs: Outputs
    augment: Augment | None

    def __init__(
        self,
        objective: Objective | str = "nonsaturating",
        regularizers: Sequence[Regularizer | str] | Regularizer | str = (),
        smoothing: Smoothing | str | None = None,
        constraint: Constraint | str | None = None,
        regularize_generator: bool = False,
        outputs: Outputs | str = "each",
        augment: Augment | str | None = None,
    ) -> None:
        if isinstance(regularizers, str | Regularizer):
            regularizers = [regularizers]
        parts: dict[str, Any] = {
            "objective": build("objective", objective),
            "regularizers": tuple(build("regularizer", r) for r in regularizers),
            "smoothing": None if smoothing is None else build("smoothing", smoothing),
            "constraint": None if constraint is None else build("constraint", constraint),
            "regularize_generator": regularize_generator,
            "outputs": build("outputs", outputs),
            "augment": None if augment is None else build("augment", augment),
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        refuse_auto(list(self.strengths().values()), self.objective)
        if self.augment is not None:
            self.augment.check(self.objective)
        if self.regularize_generator and not any(r.sees_generated for r in self.regularizers):
            seen = "; ".join(
                f"{type(r).__name__} looks at {', '.join(r.where)} samples only"
                for r in self.regularizers
            )
            raise SteadyganError(
                "regularize_generator needs a penalty that depends on generated samples, such as"
                " js, f-gan or r2: without one the"
                f" generator's loss stays as it is ({seen or 'there is no regularizer'})."
            )

    def critic_loss(
        self,
        critic: Critic,
        real: Tensor,
        fake: Tensor,
        *,
        labels: Labels = None,
        at: Context = Context(),
        slopes: Slopes = AUTOGRAD,
    ) -> Tensor:
        """Return the discriminator's loss with its penalties, 0-d.

        Args:
            critic: D(x), or D(x, y).
            real: (B, *event), with or without a graph, as fake.
            fake: (B, *event).
            labels: of the real and of the generated samples.
            at: progress, noise and memory of this step.
            slopes: how input gradients are taken.

        Raises:
            SteadyganError: for logits of another shape than (B,), (B, 1) or (B, 1, 1, 1), for
                batches that cannot be interpolated or paired, and for an annealed strength without
                ``at.progress``.
        """
        return self.critic_terms(critic, real, fake, labels=labels, at=at, slopes=slopes).loss

    def critic_terms(
        self,
        critic: Critic,
        real: Tensor,
        fake: Tensor,
        *,
        labels: Labels = None,
        at: Context = Context(),
        slopes: Slopes = AUTOGRAD,
    ) -> CriticTerms:
        """Return the discriminator's loss in its parts, for logging, ``observe`` and diagnosis."""
        points = self.points(real, fake, labels=labels, at=at)
        # Each batch passes through the critic on its own, because batch normalisation would couple
        # them; spectral normalisation iterates once for all of them, because one step of the critic
        # is one iteration of its power method.
        scores: dict[str, Scores] = {}
        with once(critic):
            for name, samples in points.items():
                scores |= self.look(critic, {name: samples}, at=at, slopes=slopes)
        return self.value(scores, at=at)

    def generator_loss(
        self,
        critic: Critic,
        real: Tensor | None,
        fake: Tensor,
        *,
        labels: Labels = None,
        at: Context = Context(),
        slopes: Slopes = AUTOGRAD,
    ) -> Tensor:
        """Return the generator's loss, 0-d.

        Args:
            critic: D(x), or D(x, y).
            real: (B, *event); may be None unless the objective compares with real samples
                (relativistic ones) or the generator is regularized.
            fake: (B, *event), with its graph.
            labels: of the real and of the generated samples.
            at: progress, noise and memory of this step.
            slopes: how input gradients are taken, where the generator is regularized.
        """
        if not self.objective.uses_real and not self.regularize_generator:
            real = None
        return self.generator_terms(critic, real, fake, labels=labels, at=at, slopes=slopes).loss

    def generator_terms(
        self,
        critic: Critic,
        real: Tensor | None,
        fake: Tensor,
        *,
        labels: Labels = None,
        at: Context = Context(),
        slopes: Slopes = AUTOGRAD,
    ) -> GeneratorTerms:
        """Return the generator's loss with what it came from, as feature matching needs it.

        The critic looks at real samples too where they are given, not None.
        """
        if self.objective.uses_real and real is None:
            raise SteadyganError(
                "this objective's generator loss compares with real samples: pass them, not None"
            )
        if self.regularize_generator:
            if real is None:
                raise SteadyganError(
                    "regularize_generator: the generator's loss has the critic's penalty: pass"
                    " real samples, not None"
                )
            terms = self.critic_terms(critic, real, fake, labels=labels, at=at, slopes=slopes)
            loss = self._generator(terms.scores, at)
            return GeneratorTerms(loss - terms.penalty, terms.scores)
        compared = {} if real is None else {"real": real}
        given = batches(labels, fake=fake, **compared)
        with once(critic):
            scores = {
                name: score(critic, self._smooth(samples, at), reading=self.outputs.reading)
                for name, samples in given.items()
            }
        return GeneratorTerms(self._generator(scores, at), scores)

    @property
    def where(self) -> tuple[str, ...]:
        """The points at which some penalty needs the input gradient, each once."""
        return tuple(dict.fromkeys(point for r in self.regularizers for point in r.where))

    def points(
        self, real: Tensor, fake: Tensor, *, labels: Labels = None, at: Context = Context()
    ) -> dict[str, Samples]:
        """Return the samples at which the critic is evaluated, by name.

        They are 'real' and 'fake', smoothed, and what penalties look at besides.
        """
        given = batches(labels, real=real, fake=fake)
        ours, theirs = (self._smooth(samples, at) for samples in given.values())
        points = {name: POINTS[name](ours, theirs, at) for name in ("real", "fake", *self.where)}
        for regularizer in self.regularizers:
            points |= regularizer.beside(ours, theirs, at)
        return points

    def value(
        self,
        scores: dict[str, Scores],
        *,
        at: Context = Context(),
        penalized: Mapping[str, Scores] | None = None,
    ) -> CriticTerms:
        """Return the discriminator's loss, a function of logits and input gradients at ``points``.

        penalized: what the regularizers look at, where that is not all of ``scores``.
        """
        loss = self._over_outputs(
            lambda s, _: self.objective.critic(*self._compared(s, at)), scores
        )
        seen = penalized or scores
        penalties = [self._penalty(i, seen, at) for i in range(len(self.regularizers))]
        penalty = reduce(torch.add, penalties) if penalties else torch.zeros_like(loss)
        outputs = scores["fake"].outputs
        how = self.outputs.how([t.shape[1] for t in outputs]) if outputs and self.where else ""
        return CriticTerms(loss + penalty if penalties else loss, loss, penalty, scores, how)

    def look(
        self,
        critic: Critic,
        points: Mapping[str, Samples],
        *,
        at: Context = Context(),
        slopes: Slopes = AUTOGRAD,
    ) -> dict[str, Scores]:
        """Return a critic's scores at points, in one pass, with input gradients for penalties."""
        reading = self.outputs.reading
        if not set(points) & set(self.where):
            whole = score(critic, join(points), reading=reading)
            parts = split(whole, [len(samples.x) for samples in points.values()])
            return dict(zip(points, parts, strict=True))

        def probes(point: str, logits: Sequence[Tensor]) -> list[Probe]:
            here = {i: r for i, r in enumerate(self.regularizers) if point in r.where}
            return self.outputs.probes(logits, point, here, at)

        return look(critic, points, probes, slopes=slopes, reading=reading)

    def observe(
        self, scores: Mapping[str, Scores], memory: Mapping[str, Tensor], at: Context = Context()
    ) -> dict[str, Tensor]:
        """Return the memory after a discriminator step, for the next ``Context``; pure.

        at: of the step, where processes share its batch out.
        """
        finds = at.ranks is not False and finds_gamma(self.strengths().values())
        whole = {name: s.whole(at, samples=finds) for name, s in scores.items()}
        parts = by_output(whole)
        found = dict(memory) | {  # updates that are spared the penalties renew nothing
            f"{key}@{o}" if o else key: value
            for r in self.regularizers
            for o, part in enumerate(parts)
            for key, value in r.observe(part, of_output(memory, o)).items()
        }
        if self.augment is not None:
            real = whole["real"]
            found |= self.augment.observe(real.outputs or (real.logits,), memory)
        return found

    @torch.no_grad()
    def constrain(self, critic: nn.Module) -> None:
        """Apply the constraint, if any, to a critic's parameters in place, as after a step."""
        if self.constraint is not None:
            for parameter in critic.parameters():
                parameter.copy_(self.constraint.project(parameter))

    def strengths(self) -> dict[str, Strength]:
        """Return every strength by its place: what may change or differ in games of one structure.

        >>> Game("minimax", ["r1:gamma=2", "js:gamma=0.1"], "instance-noise:sigma=0.5").strengths()
        {'regularizers.0.gamma': 2.0, 'regularizers.1.gamma': 0.1, 'smoothing.sigma': 0.5}
        """
        return {
            f"{place}.{name}": getattr(part, name)
            for place, part in self._parts()
            for name in strengths_of(part)
        }

    def with_strengths(self, values: Mapping[str, Strength]) -> Game:
        """Return the game with other strengths, named as in ``strengths``; the others stay."""
        parts: dict[str, Any] = {}
        for place, part in self._parts():
            here = {
                name: telling(getattr(part, name), values[f"{place}.{name}"])
                for name in strengths_of(part)
                if f"{place}.{name}" in values
            }
            parts[place] = replace(part, **here) if here else part
        regularizers = tuple(
            part for place, part in parts.items() if place.startswith("regularizers.")
        )
        return replace(
            self, regularizers=regularizers, smoothing=parts.get("smoothing", self.smoothing)
        )

    def lazy(self, update: int, every: int) -> Game:
        """Return the game of the critic's update ``update`` when gradient penalties are lazy.

        They are then taken every so many updates only.

        There they count ``every`` times, so that their mean over updates, and with plain gradient
        steps their effect, is the same.
        Reference: Karras et al. 2020 (StyleGAN2), appendix B, who take the penalty in a step of its
        own and therefore also shorten Adam's memory; here it shares the step, the number of steps
        is the same and Adam's beta stays.
        """
        if every == 1:
            return self
        if self.regularize_generator:
            raise SteadyganError(
                "regularize_generator goes with a penalty in every update of the critic, not in"
                f" every {every}th (penalty_every): else the"
                " players would mostly play for two different values."
            )
        if update % every:
            return replace(self, regularizers=tuple(r for r in self.regularizers if not r.where))
        places = [f"regularizers.{i}." for i, r in enumerate(self.regularizers) if r.where]
        strengths = self.strengths()
        return self.with_strengths(
            {
                key: scaled(strengths[key], every)
                for key in strengths
                if key.startswith(tuple(places))
            }
        )

    def _over_outputs(
        self, term: Callable[[Mapping[str, Scores], int], Tensor], scores: Mapping[str, Scores]
    ) -> Tensor:
        """Return a term of the scores of one output and its place, added up over the outputs."""
        parts = by_output(scores)
        if not scores["fake"].outputs:
            return term(scores, 0)
        shares = self.outputs.shares(len(parts))
        return torch.stack([share * term(parts[o], o) for o, share in enumerate(shares)]).sum()

    def _generator(self, scores: Mapping[str, Scores], at: Context) -> Tensor:
        return self._over_outputs(
            lambda s, _: self.objective.generator(*self._compared(s, at)), scores
        )

    def _compared(self, scores: Mapping[str, Scores], at: Context) -> tuple[Tensor, Tensor]:
        """Return the logits of real and generated samples, as the objective looks at them."""
        fake = scores["fake"].logits
        real = scores["real"].logits if "real" in scores else fake.new_empty(0)
        if self.objective.couples is None:
            return real, fake
        return at.whole(real), at.whole(fake)

    def _penalty(self, place: int, scores: Mapping[str, Scores], at: Context) -> Tensor:
        """Return a regularizer's penalty, added up over what it sees of a critic's outputs."""
        regularizer = self.regularizers[place]
        if not regularizer.where:
            return self._over_outputs(
                lambda s, o: regularizer.penalty(s, replace(at, memory=of_output(at.memory, o))),
                scores,
            )
        if not scores[regularizer.where[0]].outputs:
            return regularizer.penalty(scores, at)
        seen = by_view(scores, regularizer.where, place)
        return torch.stack([share * regularizer.penalty(s, at) for share, s in seen]).sum()

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield from (
            (f"regularizers.{i}", regularizer) for i, regularizer in enumerate(self.regularizers)
        )
        if self.smoothing is not None:
            yield "smoothing", self.smoothing

    def _smooth(self, samples: Samples, at: Context) -> Samples:
        for change in (self.augment, self.smoothing):
            samples = samples if change is None else change(samples, at)
        return samples
