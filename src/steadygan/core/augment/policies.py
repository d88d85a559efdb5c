"""Augmentations by spec: which operations, and how often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ..context import Context, Samples
from ..couples import Couples
from ..errors import SteadyganError, unknown
from ..registry import base, register
from .operations import ALWAYS, SOMETIMES, Operation

if TYPE_CHECKING:
    from ..objectives import Objective


@base("augment")
class Augment:
    """Base of every augmentation: images are changed before the critic sees them.

    Real and generated ones alike, in both players' steps, each time by fresh draws. A subclass is a
    registered frozen dataclass whose ``ops`` name some of ``choices``.
    """

    choices: ClassVar[Mapping[str, Operation]]
    ops: tuple[str, ...]
    couples: ClassVar[Couples | None] = None
    """What lets samples of a batch see each other, None where each is changed on its own."""
    adapts: ClassVar[bool] = False
    """Whether it remembers how strong it is, as 'augment.p', and what it goes by."""
    strongest: ClassVar[float] = math.inf
    """The most that 'augment.p' can be."""

    def _check(self) -> None:
        for name in self.ops:
            if name not in self.choices:
                raise unknown("operation", name, self.choices)
        if not self.ops or len({*self.ops}) < len(self.ops):
            raise SteadyganError(
                f"ops are some of {', '.join(self.choices)}, each once, joined by '/'"
            )
        object.__setattr__(self, "ops", tuple(name for name in self.choices if name in self.ops))

    def check(self, objective: Objective) -> None:
        """Refuse an objective under which it cannot know how strong to be.

        Args:
            objective: the game's.
        """

    def __call__(self, samples: Samples, context: Context) -> Samples:
        """Return as many images as the critic shall see them; labels travel along.

        Args:
            samples: images (B, C, H, W).
            context: of the draws, and of what is remembered.

        Raises:
            SteadyganError: for samples that are no images.
        """
        x = samples.x
        if x.ndim != 4:
            raise SteadyganError(
                "augment changes images (B, C, H, W), and these samples have the shape"
                f" {tuple(x.shape)}: leave it out"
            )
        # Half precision has too few numbers for draws, and for places between pixels.
        full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        count = sum(self.choices[name].draws for name in self.ops)
        # One draw for all operations: whole batches can then be drawn at once and be shared out.
        parts = context.uniform(full.new_empty(len(x), count)).split(
            [self.choices[name].draws for name in self.ops], 1
        )
        for name, u in zip(self.ops, parts, strict=True):
            full = self.change(name, full, u, context)
        return samples._replace(x=full.to(x.dtype))

    def change(self, name: str, x: Tensor, u: Tensor, context: Context) -> Tensor:
        """Return images changed by one operation and its draws (B, k)."""
        raise NotImplementedError

    def observe(self, logits: Sequence[Tensor], memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what to remember after an update of the critic; by default nothing.

        Args:
            logits: of each of the critic's outputs at real images, (B, ...) of B images.
            memory: what was remembered before.
        """
        return {}


@register("augment", "diffaugment")
@dataclass(frozen=True)
class DiffAugment(Augment):
    """Change every image: color, translation, cutout, the ``ops`` that are named, joined by '/'.

    color: brightness +-0.5, saturation times 0 to 2, contrast times 0.5 to 1.5, for images in
    [-1, 1]; translation: up to an eighth of each side, 0 comes in; cutout: half of each side is 0.

    >>> build("augment", "diffaugment:ops=color/translation").ops
    ('color', 'translation')

    Reference: Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training.
    """

    choices: ClassVar[Mapping[str, Operation]] = ALWAYS
    ops: tuple[str, ...] = tuple(ALWAYS)

    def __post_init__(self) -> None:
        self._check()

    def change(self, name: str, x: Tensor, u: Tensor, context: Context) -> Tensor:
        """Return images changed by one operation and its draws (B, k)."""
        return self.choices[name].change(x, u)


@register("augment", "ada")
@dataclass(frozen=True)
class ADA(Augment):
    r"""Change images with probability p, found while training: flip, rotate90, translate, ...

    Each of ``ops`` (flip/rotate90/translate/affine/color) is done to each image with probability p,
    on its own. Every ``interval`` updates of the critic p moves by ``interval`` B / ``images``,

    .. math:: p \leftarrow p \pm \frac{\text{interval} \cdot B}{\text{images}},
              \qquad r_t = E[\operatorname{sign} D(T x)]

    up where r_t over these updates is above ``target``, down where it is below, within 0 and
    ``most``: ``images`` are what it takes from 0 to 1. A critic that is certain of real images,
    r_t near 1, has learnt them by heart. target=none keeps p where it ``starts``. For p < 1 a
    distribution can be told from its augmented one, so that nothing leaks (docs/augment.md).

    Raises:
        SteadyganError: for numbers out of range.

    >>> build("augment", "ada:target=0.5").ops
    ('flip', 'rotate90', 'translate', 'affine', 'color')

    Reference: Karras et al. 2020, Training Generative Adversarial Networks with Limited Data.
    """

    choices: ClassVar[Mapping[str, Operation]] = SOMETIMES
    target: float | None = 0.6
    ops: tuple[str, ...] = tuple(SOMETIMES)
    start: float = 0.0
    most: float = 0.8
    interval: int = 4
    images: float = 500_000

    def __post_init__(self) -> None:
        self._check()
        if not 0 <= self.start <= self.most < 1:
            raise SteadyganError(
                "start and most are probabilities, 0 <= start <= most < 1 (at 1 augmentations leak"
                f" into the samples), not {self.start:g} and {self.most:g}"
            )
        if self.target is not None and not -1 < self.target < 1:
            raise SteadyganError(f"target is a mean of signs, in (-1, 1), not {self.target:g}")
        if self.interval < 1 or not (math.isfinite(self.images) and self.images > 0):
            raise SteadyganError("interval and images are numbers of updates and images, above 0")

    @property
    def adapts(self) -> bool:  # type: ignore[override]
        """Whether p moves."""
        return self.target is not None

    @property
    def strongest(self) -> float:  # type: ignore[override]
        """The most that p can be, where it moves."""
        return self.most if self.adapts else math.inf

    @property
    def couples(self) -> Couples | None:  # type: ignore[override]
        """The p of the next updates goes by the mean sign of the logits of real samples."""
        return Couples("mean sign of the logits", "means", "real") if self.adapts else None

    def check(self, objective: Objective) -> None:
        """Refuse an objective that looks at differences of logits only: their signs are chance.

        Args:
            objective: the game's.
        """
        real, fake = torch.tensor([[0.7, -0.2], [0.1, 0.4]])
        here, there = (objective.critic(real + shift, fake + shift) for shift in (0.0, 3.0))
        if self.adapts and torch.allclose(here, there):
            raise SteadyganError(
                "ada goes by the sign of the critic's logits on real images, and this objective"
                " looks at differences of logits only, so that their signs mean nothing: keep p,"
                " with ada:target=none,start=0.2, or take diffaugment"
            )

    def p(self, memory: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """Return the probability now, 0-d."""
        return memory["augment.p"] if "augment.p" in memory else like.new_tensor(self.start)

    def change(self, name: str, x: Tensor, u: Tensor, context: Context) -> Tensor:
        """Return images changed by one operation and its draws (B, k)."""
        return self.choices[name].change(x, u, self.p(context.memory, x))

    def observe(self, logits: Sequence[Tensor], memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return 'augment.p', 'augment.sign' (the r_t of the latest look), and what is between.

        Args:
            logits: of each of the critic's outputs at real images, (B, ...) of B images.
            memory: what was remembered before.
        """
        if not self.adapts:
            return {}
        assert self.target is not None
        sign = torch.stack([t.detach().float().sign().mean() for t in logits]).mean()
        none, p = torch.zeros_like(sign), self.p(memory, sign)
        seen = memory.get("augment.seen", none) + 1
        total = memory.get("augment.signs", none) + sign
        due = seen >= self.interval
        step = self.interval * len(logits[0]) / self.images
        moved = (p + step * (total / seen - self.target).sign()).clamp(0, self.most)
        return {
            "augment.p": torch.where(due, moved, p),
            "augment.sign": torch.where(due, total / seen, memory.get("augment.sign", none)),
            "augment.seen": torch.where(due, none, seen),
            "augment.signs": torch.where(due, none, total),
        }


__all__ = ["ADA", "Augment", "DiffAugment"]
