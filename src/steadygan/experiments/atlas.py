"""The atlas of stability: in how many settings that a person might try does a GAN stand?

Settings are drawn before anything is run, and every method is trained in each of them.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.registry import build
from ..evaluation.estimate import Estimate, share_of
from ..problems.toys import Mixture
from ..training import Config
from .fleets import SAVED, Member, by_structure, seconds
from .rules import SMALLER
from .spec import Experiment, Findings, Row, Source

FACTORS = (0.25, 1.0, 4.0, 16.0)
"""Times the problem's own learning rate."""

NEAR = 0.25
"""A GAN stands only within this share of the distance of a generator that always makes the data's
mean."""

SHOWN = 4
"""Settings whose samples are shown, seed 0's, those that were drawn first."""

OURS = Source("the atlas of stability", "ours", "derived here")


@dataclass(frozen=True)
class Setting:
    """What a person may have chosen before any method against instability comes in."""

    factor: float
    critic_steps: int
    norm: str
    objective: str
    optimizer: str

    def __str__(self) -> str:
        norm = "BatchNorm" if self.norm == "batch" else "no norm"
        return (
            f"lr × {self.factor:g}, {self.critic_steps} critic step"
            f"{'s' if self.critic_steps > 1 else ''}, {norm}, {self.objective}, {self.optimizer}"
        )


ALL = tuple(
    Setting(*each)
    for each in itertools.product(
        FACTORS,
        (1, 2, 5),
        ("none", "batch"),
        ("minimax", "nonsaturating", "hinge"),
        ("adam", "rmsprop"),
    )
)
"""The 144 settings of which some are drawn."""


@dataclass(frozen=True)
class Method:
    """A method, and what it changes of a setting.

    ``critic_norm`` replaces the critic's normalization; an ``objective`` that of the setting.
    """

    regularizer: tuple[str, ...] = ()
    critic_norm: str | None = None
    objective: str | None = None


def methods(gamma: float) -> dict[str, Method]:
    """Return the methods by name, one strength for all penalties towards zero.

    WGAN-GP has its authors' own strength and objective, and as with them no BatchNorm in its
    critic, which it excludes.
    """
    return {
        "unregularized": Method(_penalties()),
        "JS": Method(_penalties(js=gamma)),
        "R1": Method(_penalties(r1=gamma)),
        "R1 + R2": Method(_penalties(r1=gamma, r2=gamma)),
        "WGAN-GP": Method(("wgan-gp",), "none", "wasserstein"),
        "spectral norm": Method(critic_norm="spectral"),
    }


def _penalties(js: float = 0.0, r1: float = 0.0, r2: float = 0.0) -> tuple[str, ...]:
    # One structure with zeros for what is not asked for, so that one fleet trains four methods.
    return f"js:gamma={js:g}", f"r1:gamma={r1:g}", f"r2:gamma={r2:g}"


def drawn(count: int, seed: int = 2018, among: Sequence[Setting] = ALL) -> list[Setting]:
    """Return so many different settings, each as likely as any other; more begin with fewer.

    >>> drawn(48)[:16] == drawn(16), len(set(drawn(144)))
    (True, 144)
    """
    order = list(among)
    random.Random(seed).shuffle(order)
    return order[:count]


def config(settings: Mapping[str, Any], setting: Setting, method: Method, seed: int) -> Config:
    """Return how a GAN of a method is trained in a setting."""
    steps = settings["steps"]
    return chosen(
        setting,
        method,
        network=f"mlp:width={settings['width']}",
        rate=settings["rate"],
        batch=settings["batch"],
        steps=steps,
        evaluate_every=settings["evaluate_every"],
        log_every=settings["evaluate_every"],
        checkpoint_every=SAVED,
        ema=settings["ema"],
        device="cpu",
        seed=seed,
    )


def chosen(setting: Setting, method: Method, *, network: str, rate: float, **more: Any) -> Config:
    """Return what a person has chosen, with what a method changes of it.

    Args:
        setting: What was chosen.
        method: What may replace some of it.
        network: Without its normalization.
        rate: The learning rate that the setting multiplies.
        more: All else.
    """
    momenta = {"adam": ",beta1=0.5", "rmsprop": ""}[setting.optimizer]
    return Config(
        objective=method.objective or setting.objective,
        regularizer=method.regularizer,
        dynamics=f"alternating:critic_steps={setting.critic_steps}",
        network=f"{network},norm={setting.norm},critic_norm={method.critic_norm or setting.norm}",
        optimizer=f"{setting.optimizer}:lr={setting.factor * rate:g}{momenta}",
        keep_checkpoints=1,
        **more,
    )


def structure(config: Config) -> str:
    """Return what GANs share that one fleet trains: all but seed, strengths and learning rate."""
    kinds = [str(each).partition(":")[0] for each in (config.optimizer, *config.regularizer)]
    parts = (config.objective, config.dynamics, config.network, *kinds)
    return re.sub(r"[^a-z0-9]+", "-", "-".join(str(part) for part in parts).lower())


def stands(member: Member, modes: int, bar: float) -> bool:
    """Return whether a run stands: all modes, near the data, and a critic that has not won.

    In the median over the last third of its evaluations. What stopped before has NaN there.
    """
    return bool(member.late("modes") == modes and member.late("sw1") <= bar and not member.won)


def atlas(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train every method in the drawn settings.

    Returns:
        The share of settings in which each stands, and where.
    """
    places, kinds = drawn(settings["settings"]), methods(settings["gamma"])
    rows, panels, took = [], [], 0.0
    for name in settings["problems"]:
        problem = build("problem", name)
        assert isinstance(problem, Mixture)
        bar = NEAR * _of_the_mean(problem)
        shares: dict[str, list[float]] = {}
        far: dict[str, list[float]] = {}
        samples: dict[str, dict[str, np.ndarray]] = {}
        wanted = [
            config(settings, setting, kind, seed)
            for kind in kinds.values()
            for setting in places
            for seed in range(seeds)
        ]
        runs = by_structure(problem, wanted, out / name, structure, compiled=settings["compiled"])
        took += seconds(runs)
        for k, method in enumerate(kinds):
            own = runs[k * len(places) * seeds :][: len(places) * seeds]
            stood = np.array([stands(run, len(problem.centres), bar) for run in own])
            shares[method] = stood.reshape(-1, seeds).mean(axis=1).tolist()
            distances = np.array([run.late("sw1") for run in own])
            far[method] = np.median(distances.reshape(-1, seeds), axis=1).tolist()
            for place, run in zip(places[:SHOWN], own[::seeds], strict=False):
                samples.setdefault(str(place), {})[method] = run.samples(settings["steps"])
        rows += [more_often(name, method, shares, seeds) for method in list(kinds)[1:]]
        real = problem.stream(0).draw(2000).x.numpy()
        panels.append(panel(name, seeds, places, shares, far) | {"real": real, "samples": samples})
    return Findings(tuple(rows), "atlas", {"panels": panels}, _notes(settings, seeds), took)


def panel(
    name: str,
    seeds: int,
    places: Sequence[Setting],
    shares: Mapping[str, Sequence[float]],
    distances: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """Return a map for the picture, which wants samples besides; its settings in order.

    Args:
        name: Of the problem.
        seeds: How many there are in each setting.
        places: The settings, as they were drawn.
        shares: By method the share of seeds that stand, for each setting.
        distances: Likewise, how far they end from the data, in the median.
    """
    order = sorted(range(len(places)), key=lambda i: ALL.index(places[i]))
    return {
        "title": f"{name}: the share of {seeds} seeds that stand",
        "columns": [str(places[i]) for i in order],
        "shares": {method: [found[i] for i in order] for method, found in shares.items()},
        "total": {method: share(found) for method, found in shares.items()},
        "distances": {method: [found[i] for i in order] for method, found in distances.items()},
    }


def share(of: Sequence[float]) -> Estimate:
    """Return the mean share over settings with Wilson's interval, their number as the sample's.

    Shares between 0 and 1 vary less than the ones and zeros for which it is made, so that it is
    rather too wide.
    """
    return share_of(torch.tensor(of))


def _of_the_mean(problem: Mixture) -> float:
    """Return the sliced Wasserstein-1 distance of the data from their mean."""
    x = problem.stream(1).draw(5120).x
    return problem.measure(x.mean(0).expand_as(x), torch.nn.Identity())["sw1"]


def more_often(name: str, method: str, shares: Mapping[str, Sequence[float]], seeds: int) -> Row:
    """Return the row of the claim that a method stands in more settings than no regularizer.

    Args:
        name: Of the problem.
        method: The method.
        shares: By method the share of seeds that stand, for each setting.
        seeds: How many there are in each.
    """
    ours, plain = shares[method], shares["unregularized"]
    pairs = list(zip(ours, plain, strict=True))
    return Row(
        f"{name}: {method} stands in more settings than no regularizer",
        OURS,
        SMALLER,
        "more often",
        f"{len(pairs)} settings as pairs, {seeds} seeds each",
        f"stands in {said(ours)}, unregularized in {said(plain)}; more often in"
        f" {sum(a > b for a, b in pairs)} settings, less often in {sum(a < b for a, b in pairs)}",
        SMALLER([-x for x in ours], [-x for x in plain]),
    )


def said(of: Sequence[float]) -> str:
    """Return a share with its interval in words.

    >>> said([1.0, 0.0, 1.0, 1.0])
    '75 % [30, 95]'
    """
    value, low, high = share(of)
    return f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def _notes(settings: Mapping[str, Any], seeds: int) -> tuple[str, ...]:
    return (
        f"{settings['settings']} of {len(ALL)} settings, drawn by a fixed seed before anything was"
        f" run: learning rate ({settings['rate']:g} × {', '.join(f'{f:g}' for f in FACTORS)}),"
        " critic steps (1, 2, 5), normalization of both networks (none, batch), objective and"
        f" optimizer; {seeds} seeds, {settings['steps']:,} iterations, batch {settings['batch']},"
        f" MLPs of width {settings['width']}, generators averaged with decay {settings['ema']:g}.",
        f"Penalties towards zero have γ = {settings['gamma']:g} throughout, WGAN-GP its own 10 (γ ="
        " 20), and its own objective; with BatchNorm it has none in its critic, and spectral"
        " normalization takes the critic's place of it.",
        "Stands: in the median over the last third of the evaluations all modes are held, the"
        f" distance (sw1) is at most {NEAR:g} of that of a generator that always makes the data's"
        " mean, and the critic has not won. Intervals are over settings.",
        f"Samples are seed 0's after the last iteration, in the {min(SHOWN, settings['settings'])}"
        " settings that were drawn first.",
    )


EXPERIMENT = Experiment(
    name="atlas",
    what="in how many settings does each method stand",
    source="what the two papers did not show",
    scales={
        "quick": {
            "problems": ("ring2d",),
            "settings": 10,
            "seeds": 3,
            "steps": 2500,
            "evaluate_every": 500,
            "batch": 64,
            "width": 64,
            "rate": 0.001,
            "ema": 0.99,
            "gamma": 1.0,
            "compiled": True,
        },
        "long": {
            "problems": ("ring2d", "mixture3d"),
            "settings": 24,
            "seeds": 3,
            "steps": 10_000,
            "evaluate_every": 1000,
            "batch": 64,
            "width": 64,
            "rate": 0.001,
            "ema": 0.99,
            "gamma": 1.0,
            "compiled": True,
        },
        "tiny": {
            "problems": ("ring2d",),
            "settings": 2,
            "seeds": 1,
            "steps": 2,
            "evaluate_every": 1,
            "batch": 8,
            "width": 4,
            "rate": 0.001,
            "ema": 0.99,
            "gamma": 1.0,
            "compiled": False,
        },
    },
    cost={
        "quick": "25 minutes of one core (estimated)",
        "long": "2 hours of a busy core for ring2d, as much for mixture3d (estimated)",
        "tiny": "seconds",
    },
    run=atlas,
    parts={"problems": "{}"},
)
