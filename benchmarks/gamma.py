"""Does gamma=auto find its gamma? The ring and the 3-D mixture in three units of length, from far
below and from far above the best fixed gamma.

Run: python benchmarks/gamma.py [mixture|ring] -> benchmarks/gamma.json, 30 minutes of CPU in all;
what is in the file already is not measured again. The best fixed gamma is chosen from a grid of
five on seeds that are not reported, at scale 1. At scale s the data are s times as large, the
generator's samples are multiplied by s and the critic's inputs divided by s, for every method
alike, as one normalizes data, so that both networks can do what they can at scale 1 at the same
learning rates; gamma acts on the samples as they are, in squared units of theirs. With `as they
are` the networks of scale 1 get the data of another scale.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from measure import environment
from torch import Tensor, nn

from steadygan.core.auto import Auto
from steadygan.core.registry import build, register
from steadygan.problems.networks import MLP
from steadygan.problems.toys import Mixture, Mixture3D, Ring2D
from steadygan.training import Config
from steadygan.training.fleet import Fleet

FILE = Path(__file__).with_suffix(".json")
GRID = (0.03, 0.1, 0.3, 1.0, 3.0)
STARTS = (0.01, 1.0, 100.0)  # times the best fixed gamma
SCALES = (1.0, 0.1, 10.0)
CHOOSING, MANY, FEW = range(100, 108), 32, 8  # seeds


class Scaled(Mixture):
    """Base of a mixture in other units: every length is ``scale`` times as large."""

    scale: float
    plain: ClassVar[Mixture]

    def __post_init__(self) -> None:
        scaled = {
            "centres": self.scale * self.plain.centres,
            "std": self.scale * self.plain.std,
            "radii": {name: self.scale * r for name, r in self.plain.radii.items()},
        }
        for name, value in scaled.items():
            object.__setattr__(self, name, value)


@register("problem", "scaled-ring")
@dataclass(frozen=True)
class ScaledRing(Scaled):
    """The ring in other units. Reference: problems/toys.py."""

    scale: float = 1.0
    plain = Ring2D()
    event, recipe = Ring2D.event, Ring2D.recipe


@register("problem", "scaled-mixture")
@dataclass(frozen=True)
class ScaledMixture(Scaled):
    """The 3-D mixture in other units. Reference: problems/toys.py."""

    scale: float = 1.0
    plain = Mixture3D()
    event, plane, recipe = Mixture3D.event, Mixture3D.plane, Mixture3D.recipe


class Units(nn.Module):
    """A network between samples in other units: inputs and outputs are multiplied by factors."""

    def __init__(self, network: nn.Module, before: float, after: float) -> None:
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        found: Tensor = self.after * self.network(self.before * x)
        return found


@register("network", "scaled-mlp")
@dataclass(frozen=True)
class ScaledMLP(MLP):
    """An MLP whose samples are in other units. Reference: problems/networks/mlp.py."""

    scale: float = 1.0

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return a generator whose samples are multiplied by the scale."""
        return Units(super().generator(event, latent, classes), 1.0, self.scale)

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return a critic that divides samples by the scale."""
        return Units(super().critic(event, classes), 1 / self.scale, 1.0)


@dataclass(frozen=True)
class Case:
    """What is trained, by the name of its problem, alike for all methods; first: its first seed."""

    modes: int
    first: int
    steps: int
    network: str
    optimizer: str
    critic_steps: int


CASES = {
    "mixture": Case(
        7, 2000, 1500, "scaled-mlp:width=64,activation=leaky-relu", "adam:lr=0.001,beta1=0.5", 1
    ),
    "ring": Case(8, 4000, 2400, "scaled-mlp:width=64", "adam:lr=0.003,beta1=0.5", 2),
}


def trained(
    name: str, regularizers: Sequence[str], seeds: Sequence[int], scale: float, network_scale: float
) -> dict[str, Any]:
    """Train a fleet, and return how its members ended, by regularizer."""
    case, problem = CASES[name], build("problem", f"scaled-{name}:scale={scale}")
    config = Config(
        objective="nonsaturating",
        network=f"{case.network},scale={network_scale}",
        optimizer=case.optimizer,
        dynamics=f"alternating:critic_steps={case.critic_steps}",
        steps=case.steps,
        batch=64,
        ema=0.99,
        device="cpu",
    )
    members = [replace(config, regularizer=(r,), seed=s) for r in regularizers for s in seeds]
    fleet, started = Fleet(problem, members), time.process_time()
    for _ in range(case.steps):
        fleet.advance()
    metrics, memory = fleet.measure(fleet.sample()), fleet.players.context.memory
    rows: dict[str, Any] = {"cpu seconds": round(time.process_time() - started, 1)}
    for i, regularizer in enumerate(regularizers):
        here = slice(i * len(seeds), (i + 1) * len(seeds))
        modes = [int(m["modes"]) for m in metrics[here]]
        rows[regularizer] = {
            "all modes": sum(n == case.modes for n in modes),
            "of": len(seeds),
            "modes": modes,
            "sw1/scale": round(median(m["sw1"] for m in metrics[here]) / scale, 4),
        }
        if "gamma" in memory:
            gammas = [gamma / scale**2 for gamma in memory["gamma"][here].tolist()]
            rows[regularizer]["gamma/scale^2"] = {
                "median": median(gammas),
                "least": min(gammas),
                "most": max(gammas),
            }
    return rows


def best(grid: dict[str, Any]) -> float:
    """Return the fixed gamma with which most seeds have all modes; of several the nearest data."""
    return max(
        GRID,
        key=lambda g: (grid[f"js:gamma={g:g}"]["all modes"], -grid[f"js:gamma={g:g}"]["sw1/scale"]),
    )


def measure(name: str, scale: float, results: dict[str, Any], *, beside: bool) -> None:
    """Measure what the file does not hold yet of a problem at a scale; keep each part as it comes.

    At scale 1 the best fixed gamma is chosen first. beside: what else there is at other scales.
    """
    held, first = results.setdefault(name, {}), CASES[name].first

    def part(key: str, regularizers: Sequence[str], count: int, network_scale: float) -> None:
        if key not in held:
            seeds = range(first, first + count)
            held[key] = trained(name, regularizers, seeds, scale, network_scale)
            FILE.write_text(json.dumps(results, indent=1) + "\n")
            print(name, key, json.dumps(held[key]), flush=True)

    if "grid" not in held:
        held["grid"] = trained(name, [f"js:gamma={g:g}" for g in GRID], CHOOSING, 1.0, 1.0)
    chosen = best(held["grid"])
    # Starts are in units of the data's variance, which the first batch tells up to its noise.
    unit = build("problem", f"scaled-{name}").stream(0).draw(100_000).x.var(0).mean().item()
    autos = [f"js:gamma=auto,start={factor * chosen / unit:.4g}" for factor in STARTS]
    fixed = [f"js:gamma={chosen * scale**2:g}", "js:gamma=2"]
    if not beside:
        part(f"auto, scale {scale:g}", autos, MANY, scale)
    if scale == 1 or beside:
        part(f"fixed, scale {scale:g}", fixed, MANY, scale)
    if beside:
        end = f"scale {scale:g}, networks as they are"
        part(f"auto, {end}", ["js:gamma=auto"], FEW, 1.0)
        part(f"fixed, {end}", fixed[:1], FEW, 1.0)


def main() -> None:
    """Measure every problem at every scale."""
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    with environment(1, "fleets") as about:
        results["environment"] = about
        names = ("LOW", "HIGH", "STEP", "INTERVAL", "BOUNDS")
        results["rule"] = {name: getattr(Auto, name) for name in names}
        stages = [(scale, False) for scale in SCALES] + [(scale, True) for scale in SCALES[1:]]
        for scale, beside in stages:
            for name in sys.argv[1:] or CASES:
                measure(name, scale, results, beside=beside)
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
