"""Many GANs on several processes: members are dealt out, and rank zero knows them all.

Members are independent, so that nothing is averaged; what is told of them is brought together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.auto import finds_gamma
from ..core.errors import SteadyganError
from ..core.gradients import Decision
from ..problems.problem import Problem
from ..runs.checkpoint import Tree
from ..runs.config import Config
from .fleet import Fleet
from .ranks import Ranks
from .trained import Row

NUMBERED = ("stopped", "latent", "noise", "streams")
"""What a checkpoint keeps by each member's number; elsewhere its members are rows of tensors."""


def fleet(
    problem: Problem,
    members: Sequence[Config],
    ranks: Ranks,
    *,
    compiled: bool = False,
    decision: Decision | None = None,
) -> Fleet:
    """Return many GANs, dealt out where there are several processes; arguments as of ``Fleet``."""
    if ranks.count == 1:
        return Fleet(problem, members, compiled=compiled, decision=decision)
    return Dealt(problem, members, ranks, compiled=compiled, decision=decision)


class Dealt(Fleet):
    """Many GANs of which this process trains some.

    The parameters of all are as of the latest ``collect``, on rank zero.

    Args:
        problem: What is played.
        members: The configurations of all.
        ranks: The processes that they are dealt out to.
        compiled: As of ``Fleet``.
        decision: As of ``Fleet``.

    Raises:
        SteadyganError: As ``Fleet``, and where a process would have none.
    """

    def __init__(
        self,
        problem: Problem,
        members: Sequence[Config],
        ranks: Ranks,
        *,
        compiled: bool = False,
        decision: Decision | None = None,
    ) -> None:
        if len(members) < ranks.count:
            raise SteadyganError(
                f"{len(members)} GANs cannot be dealt out to {ranks.count} processes: start at most"
                f" {len(members)} of them."
            )
        self.ranks = ranks
        self._start, self._end = ranks.rows(len(members))
        super().__init__(problem, members, decision=decision)
        mine = self.members[self._start : self._end]
        self.part = Fleet(problem, mine, compiled=compiled, decision=decision)
        self._finds_gamma = finds_gamma(self.players.game.strengths().values())

    def _prepare(self) -> None:
        """Leave it to the part, which is what trains."""

    def advance(self) -> None:
        """Make the next step of this process's members."""
        self.part.advance()
        self.step = self.part.step
        if self._finds_gamma:  # its moves are told as they happen
            memory = _joined(self.ranks.each(_on_cpu(dict(self.part.players.context.memory))))
            self.players.context = replace(self.players.context, memory=memory)

    def collect(self) -> None:
        """Bring what there is of all members to rank zero."""
        trees = self.ranks.brought(_on_cpu(self.part.tree()))
        if trees:
            stopped = {str(i): list(ending) for i, ending in self.stopped.items()}
            whole = {**_joined(trees), "stopped": stopped, "metrics": self.metrics}
            super().restore(whole)

    def restore(self, tree: Tree) -> None:
        """Continue from a checkpoint of all."""
        super().restore(tree)
        self.part.restore(_part(tree, self._start, self._end))

    def fallen(self, logged: bool) -> dict[int, str]:
        """Return the members of this process that have left the finite numbers."""
        return {self._start + i: what for i, what in self.part.fallen(logged).items()}

    def ills(self) -> dict[int, tuple[str, str]]:
        """Return the members of all processes that cannot train on."""
        mine = {self._start + i: ill for i, ill in self.part.ills().items()}
        return self.ranks.united(mine)

    def stop(self, member: int, reason: str) -> None:
        """End a member, on the process that has it."""
        super().stop(member, reason)
        if self._start <= member < self._end:
            self.part.stop(member - self._start, reason)

    def rows(self) -> list[Row]:
        """Return the losses, norms and logits of all members."""
        return [row for rows in self.ranks.each(self.part.rows()) for row in rows]

    def sample(self) -> Tensor:
        """Return all members' samples of the fixed latents."""
        return torch.cat(self.ranks.each(self.part.sample()))

    def measure(self, samples: Tensor) -> list[dict[str, float]]:
        """Return the problem's own metrics of all members, each measured where it is trained."""
        mine = self.part.measure(samples[self._start : self._end])
        return [metrics for each in self.ranks.each(mine) for metrics in each]


def _on_cpu(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _on_cpu(value) for key, value in node.items()}
    return node.detach().cpu() if isinstance(node, Tensor) else node


def _joined(parts: Sequence[Any]) -> Any:
    """Return checkpoints of some members each as one of all.

    >>> _joined([{"noise": {"0": 3}, "w": torch.ones(1)}, {"noise": {"0": 4}, "w": torch.zeros(1)}])
    {'noise': {'0': 3, '1': 4}, 'w': tensor([1., 0.])}
    """
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts)) if first.ndim else first
    if not isinstance(first, Mapping):
        return first
    found = {key: _joined([p[key] for p in parts]) for key in first if key not in NUMBERED}
    for key in (key for key in NUMBERED if key in first):
        values = [value for part in parts for value in part[key].values()]
        found[key] = {str(i): value for i, value in enumerate(values)}
    return {key: found[key] for key in first}


def _part(node: Any, start: int, end: int) -> Any:
    """Return of a checkpoint of all members that of some."""
    if isinstance(node, Tensor):
        return node[start:end] if node.ndim else node
    if not isinstance(node, Mapping):
        return node
    return {
        key: {str(int(i) - start): each for i, each in value.items() if start <= int(i) < end}
        if key in NUMBERED
        else _part(value, start, end)
        for key, value in node.items()
    }
