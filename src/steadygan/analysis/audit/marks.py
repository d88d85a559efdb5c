"""Where a tensor came from: small frozen marks that follow tensors through a loop's operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

NOTHING: frozenset[Any] = frozenset()


@dataclass(frozen=True)
class Mark:
    """What is known of a tensor.

    generated, mixed, random: it came from the generator; from generated and other samples by
    arithmetic; from a random factory. rows: the kinds and lengths of what was concatenated;
    joined: whether it was, and nobody knows any more where they are.
    calls: the critic's calls whose logits it holds; squeezed: those that went through a sigmoid;
    doubled: those whose sigmoid went into a loss on logits. live, dead: input gradients that it
    depends on with and without a graph (dead with the reason); whole, ragged: those whose norm was
    taken over the batch, or over a part of each sample; bare: those of which it is such a norm, but
    for a factor; normed: those with a norm of each sample;
    swollen: those squared while they carried a scaler's factor. scale: that factor.
    """

    generated: bool = False
    mixed: bool = False
    random: bool = False
    rows: tuple[tuple[str, int], ...] = ()
    joined: bool = False
    calls: frozenset[int] = NOTHING
    squeezed: frozenset[int] = NOTHING
    doubled: frozenset[int] = NOTHING
    live: frozenset[int] = NOTHING
    dead: frozenset[tuple[int, str]] = NOTHING
    whole: frozenset[int] = NOTHING
    ragged: frozenset[int] = NOTHING
    bare: frozenset[int] = NOTHING
    normed: frozenset[int] = NOTHING
    swollen: frozenset[int] = NOTHING
    scale: float = 1.0

    @property
    def slopes(self) -> frozenset[int]:
        """The input gradients that it depends on."""
        return self.live | {index for index, _ in self.dead}

    @property
    def kind(self) -> str:
        """What a sample with this mark is: 'unknown', 'between', 'fake' or 'real'."""
        if self.joined:
            return "unknown"
        return "between" if self.mixed else "fake" if self.generated else "real"


_SETS = "calls squeezed doubled live dead whole ragged bare normed swollen".split()


def union(marks: Iterable[Mark]) -> Mark:
    """Return the mark of what was made from tensors with these marks."""
    marks = list(marks)
    if len(marks) == 1:
        return replace(marks[0], rows=()) if marks[0].rows else marks[0]
    sets: dict[str, Any] = {
        name: NOTHING.union(*(getattr(m, name) for m in marks)) for name in _SETS
    }
    return Mark(
        generated=any(m.generated for m in marks),
        mixed=any(m.mixed for m in marks),
        random=all(m.random for m in marks),
        joined=any(m.joined for m in marks),
        scale=next((m.scale for m in marks if m.scale != 1.0), 1.0),
        **sets,
    )


class Marks:
    """The marks of all tensors that are alive, by the tensor itself."""

    def __init__(self) -> None:
        self._held = WeakTensorKeyDictionary()

    def get(self, tensor: Tensor) -> Mark | None:
        """Return a tensor's mark, None where nothing is known of it."""
        found: Mark | None = self._held.get(tensor)
        return found

    def set(self, tensor: Tensor, mark: Mark) -> None:
        """Mark a tensor."""
        self._held[tensor] = mark

    def of(self, tree: Any) -> Mark | None:
        """Return the union of the marks in a tree of tensors, None where there are none."""
        found = [mark for t in tensors(tree) if (mark := self.get(t))]
        return union(found) if found else None


def tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for each in tree:
            yield from tensors(each)
    elif isinstance(tree, Mapping):
        for each in tree.values():
            yield from tensors(each)


def checksum(values: Iterable[Tensor]) -> tuple[float, ...]:
    """Return two numbers a tensor that change when it does."""
    with torch.no_grad(), torch._C.DisableTorchFunction():
        return tuple(
            number
            for v in values
            for number in (
                float(v.double().sum()),
                float(v.double().abs().max()) if v.numel() else 0.0,
            )
        )
