"""What a game's losses come to, in their parts."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .scores import Scores


class CriticTerms(NamedTuple):
    """The discriminator's loss in its parts: ``loss = objective + penalty`` (0-d each).

    scores: by point, what they came from. how: which logits of a critic of many outputs were
    penalized, in words.
    """

    loss: Tensor
    objective: Tensor
    penalty: Tensor
    scores: dict[str, Scores]
    how: str = ""

    def detach(self) -> CriticTerms:
        """Return the same figures without their graph."""
        scores = {name: score.detach() for name, score in self.scores.items()}
        return CriticTerms(
            self.loss.detach(), self.objective.detach(), self.penalty.detach(), scores, self.how
        )


class GeneratorTerms(NamedTuple):
    """The generator's loss, 0-d, and the scores that it came from, with the critic's features.

    scores: of 'fake', and of 'real' where real samples were given.
    """

    loss: Tensor
    scores: dict[str, Scores]


__all__ = ["CriticTerms", "GeneratorTerms"]
