"""The auditor: what a training loop gets wrong without a word, seen while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import SteadyganError
from ...core.players import Name
from .findings import Finding, findings, lost
from .kept import Averages, Saved, ranks
from .marks import checksum
from .trace import Trace

__all__ = ["Finding", "audit"]


class audit:
    """Watch a few iterations of anybody's training loop and name its silent bugs.

    Nothing is changed: the loop computes the same bits with and without.

    Args:
        generator: called with latents; its outputs are followed to the critic.
        critic: called with real, generated or mixed samples, by whatever loss the loop has.
        optimizer_generator: whose steps move the generator.
        optimizer_critic: whose steps move the critic.
        ema: the moving average of the generator, a module or tensors by name. Without it a second
            module of the generator's structure that nothing trains is taken for one; {} for none.

    >>> D, G = torch.nn.Linear(2, 1), torch.nn.Linear(2, 2)
    >>> on_G, on_D = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (G, D))
    >>> game = Game("nonsaturating")
    >>> with audit(G, D, on_G, on_D) as found:
    ...     for _ in range(3):
    ...         real, fake = torch.randn(8, 2), G(torch.randn(8, 2))
    ...         on_D.zero_grad()
    ...         game.critic_loss(D, real, fake).backward()  # fake.detach() was meant
    ...         on_D.step()
    ...         on_G.zero_grad()
    ...         game.generator_loss(D, real, G(torch.randn(8, 2))).backward()
    ...         on_G.step()
    >>> [finding.name for finding in found]
    ['missing-detach']
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        optimizer_generator: torch.optim.Optimizer,
        optimizer_critic: torch.optim.Optimizer,
        *,
        ema: nn.Module | Mapping[str, Tensor] | None = None,
    ) -> None:
        self.networks: dict[Name, nn.Module] = {"generator": generator, "critic": critic}
        self.optimizers: dict[Name, torch.optim.Optimizer] = {
            "generator": optimizer_generator,
            "critic": optimizer_critic,
        }
        self._trace = Trace(self.networks, self.optimizers)
        self._averages = Averages(generator, ema)
        self._saved = Saved(self.networks, self.optimizers, self._averages)
        self._found: list[Finding] = []

    def __enter__(self) -> audit:
        for name, network in self.networks.items():
            if any(nn.parameter.is_lazy(t) for t in (*network.parameters(), *network.buffers())):
                raise SteadyganError(
                    f"The {name} has layers that take their shape at its first call"
                    " (nn.LazyLinear): call it once before the audit."
                )
        self._averages.look()
        self._start = self._sums()
        self._saved.watch()
        self._trace.__enter__()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._trace.__exit__(kind, error, traceback)
        self._saved.leave()
        end = self._sums()
        moved = {name: end[name] != self._start[name] for name in self.networks}
        steps = sum(step.player == "generator" for step in self._trace.steps)
        self._found = [
            *lost(self._start, end),
            *findings(self._trace, moved),
            *self._averages.findings(steps if moved["generator"] else 0),
            *self._saved.findings(),
        ]
        if error is None:  # else another rank may wait for ever
            self._found += ranks(self.networks)
        elif self._found:
            error.add_note(f"Until then the audit saw:\n{self}")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __str__(self) -> str:
        return "\n".join(map(str, self._found)) or "no silent bug was seen"

    def _sums(self) -> dict[Name, tuple[float, ...]]:
        return {name: checksum(network.parameters()) for name, network in self.networks.items()}
