"""The game: what discriminator and generator minimise.

Pure: it never detaches, calls backward, steps, logs or knows a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .constraints import Constraint
from .context import Context, Samples
from .errors import SteadyganError
from .objectives import Objective
from .registry import build
from .regularizers import POINTS, Regularizer
from .schedules import Strength, scaled
from .scores import Critic, Scores, score
from .slopes import AUTOGRAD, Slopes
from .smoothing import Smoothing

Labels = tuple[Tensor, Tensor] | None
"""Labels of the real and of the generated samples, for a critic called as D(x, y)."""


class CriticTerms(NamedTuple):
    """The discriminator's loss in its parts: ``loss = objective + penalty`` (0-d each).

    scores: by point, what they came from.
    """

    loss: Tensor
    objective: Tensor
    penalty: Tensor
    scores: dict[str, Scores]

    def detach(self) -> CriticTerms:
        """Return the same figures without their graph."""
        scores = {name: score.detach() for name, score in self.scores.items()}
        return CriticTerms(
            self.loss.detach(), self.objective.detach(), self.penalty.detach(), scores
        )


@dataclass(frozen=True)
class Game:
    r"""A two-player game: objective + regularizers + smoothing + constraint, as objects or specs.

    Both losses are minimised. The caller detaches: pass ``fake.detach()`` to ``critic_loss`` and
    the live ``fake`` to ``generator_loss``.

    regularize_generator: the critic maximises the regularized value F - Omega, Omega all penalties
    with their gamma/2; with it the
    generator minimises the same value, where it else minimises F:

    .. math:: L_D = -F + \Omega, \qquad L_G = L_G^{obj} - \Omega

    so that the minimax game is zero-sum in the regularized value; with another objective, such as
    the non-saturating one, it is the natural extension. Omega counts by its dependence on generated
    samples. Near an equilibrium whose critic is flat nothing changes to first order, because a
    zero-centred Omega is quadratic in the critic's gradient. Raises SteadyganError where no penalty
    looks at generated samples.

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

    def __init__(
        self,
        objective: Objective | str = "nonsaturating",
        regularizers: Sequence[Regularizer | str] | Regularizer | str = (),
        smoothing: Smoothing | str | None = None,
        constraint: Constraint | str | None = None,
        regularize_generator: bool = False,
    ) -> None:
        if isinstance(regularizers, str | Regularizer):
            regularizers = [regularizers]
        parts: dict[str, Any] = {
            "objective": build("objective", objective),
            "regularizers": tuple(build("regularizer", r) for r in regularizers),
            "smoothing": None if smoothing is None else build("smoothing", smoothing),
            "constraint": None if constraint is None else build("constraint", constraint),
            "regularize_generator": regularize_generator,
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)
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

        ``real`` and ``fake`` are (B, *event), with or without a graph.

        Raises SteadyganError for logits of another shape than (B,), (B, 1) or (B, 1, 1, 1), for
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
        points, where = self.points(real, fake, labels=labels, at=at), self.where
        # Each batch passes through the critic on its own, because batch normalisation would couple
        # them; spectral normalisation
        # iterates once for all of them, because one step of the critic is one iteration of its
        # power method.
        with parametrize.cached():
            scores = {
                name: score(critic, samples, gradient=name in where, slopes=slopes)
                for name, samples in points.items()
            }
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

        ``real`` may be None unless the objective compares with real samples (relativistic ones) or
        the generator is regularized. slopes: how input gradients are taken, where it is.
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
            return (
                self.objective.generator(terms.scores["real"].logits, terms.scores["fake"].logits)
                - terms.penalty
            )
        y_real, y_fake = labels or (None, None)
        with parametrize.cached():
            theirs = score(critic, self._smooth(Samples(fake, y_fake), at)).logits
            ours = theirs.new_empty(0)
            if self.objective.uses_real and real is not None:
                ours = score(critic, self._smooth(Samples(real, y_real), at)).logits
        return self.objective.generator(ours, theirs)

    @property
    def where(self) -> tuple[str, ...]:
        """The points at which some penalty needs the input gradient, each once."""
        return tuple(dict.fromkeys(point for r in self.regularizers for point in r.where))

    def points(
        self, real: Tensor, fake: Tensor, *, labels: Labels = None, at: Context = Context()
    ) -> dict[str, Samples]:
        """Return the samples at which the critic is evaluated, by name.

        They are 'real' and 'fake', smoothed, and every point of a penalty.
        """
        y_real, y_fake = labels or (None, None)
        ours, theirs = (
            self._smooth(Samples(real, y_real), at),
            self._smooth(Samples(fake, y_fake), at),
        )
        names = dict.fromkeys(("real", "fake", *self.where))
        return {name: POINTS[name](ours, theirs, at) for name in names}

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
        loss = self.objective.critic(scores["real"].logits, scores["fake"].logits)
        penalties = [
            regularizer.penalty(penalized or scores, at) for regularizer in self.regularizers
        ]
        penalty = torch.stack(penalties).sum() if penalties else torch.zeros_like(loss)
        return CriticTerms(loss + penalty if penalties else loss, loss, penalty, scores)

    def observe(
        self, scores: Mapping[str, Scores], memory: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the memory after a discriminator step, for the next ``Context``; pure."""
        return {
            key: value
            for r in self.regularizers
            for key, value in r.observe(scores, memory).items()
        }

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
            for name in _strengths(part)
        }

    def with_strengths(self, values: Mapping[str, Strength]) -> Game:
        """Return the game with other strengths, named as in ``strengths``; the others stay."""
        parts: dict[str, Any] = {}
        for place, part in self._parts():
            here = {
                name: values[f"{place}.{name}"]
                for name in _strengths(part)
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

    def _parts(self) -> Iterator[tuple[str, Any]]:
        yield from (
            (f"regularizers.{i}", regularizer) for i, regularizer in enumerate(self.regularizers)
        )
        if self.smoothing is not None:
            yield "smoothing", self.smoothing

    def _smooth(self, samples: Samples, at: Context) -> Samples:
        return samples if self.smoothing is None else self.smoothing(samples, at)


def _strengths(part: object) -> list[str]:
    # A module of a third party may not postpone its annotations, and then they are types instead of
    # strings.
    return (
        [f.name for f in fields(part) if f.type in ("Strength", Strength)]
        if is_dataclass(part)
        else []
    )
