"""Many small GANs at once, in one run folder: one loop that drives all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.context import Context
from ..core.errors import SteadyganError
from ..core.players import PLAYERS, Batch, Name
from ..core.players.stacked import FleetPlayers, stack
from ..core.registry import build
from ..core.scores import squared_norm
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.config import Config, stream_seed
from ..runs.description import describe
from ..runs.folder import RunFolder
from ..runs.format import CONFIG
from ..runs.members import alike
from ..runs.models import Average, build_networks, labels, latents
from ..runs.monitor import Monitor, Warning
from ..runs.optimizers import Adam, OptimizerSpec
from .drive import drive
from .interrupt import Interrupt
from .progress import Display, Show, load
from .trainer import GRID, VECTORS, finite

_CHUNK = 512  # latents of a member that are turned into samples at a time


@dataclass(frozen=True)
class MemberOutcome:
    """How a member ended: its configuration, its last step, why it stopped where it did early, and
    its last metrics."""

    config: Config
    state: Literal["finished", "interrupted", "stopped"]
    step: int
    reason: str | None
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class FleetOutcome:
    """How a fleet ended; the whole is 'stopped' where no member was left."""

    path: Path
    state: Literal["finished", "interrupted", "stopped"]
    step: int
    reason: str | None
    members: tuple[MemberOutcome, ...]


def train_fleet(
    problem: Problem,
    members: Sequence[Config],
    out: Path | str,
    *,
    compiled: bool = False,
    show: Show = True,
) -> FleetOutcome:
    """Train many GANs at once into one new run folder; each is the same GAN as trained alone, its
    steps equal up to rounding.

    members: of one structure; they may differ in seed, strengths and learning rates. compiled: a
    minute more at the start, then faster.
    Example: train_fleet(build("problem", "mixture3d"),
    grid(Config(regularizer=("js:gamma={0.1,1}",)), seeds=16), "runs/gammas")

    Raises SteadyganError, before anything is written, for members that differ in anything else, for
    networks that cannot be evaluated for many GANs at once, and for a folder that exists.
    """
    path = Path(out)
    RunFolder.check(path)
    load(problem, show)
    fleet = Fleet(problem, members, compiled=compiled)
    parameters = {
        name: sum(p[0].numel() for p in fleet.players.values(name).values()) for name in PLAYERS
    }
    base = fleet.members[0]
    folder = RunFolder.create(
        path, describe(problem, fleet.members, parameters, fleet=True, compiled=compiled)
    )
    folder.samples(None, problem.stream(stream_seed(base.seed, "picture")).draw(fleet.evaluated).x)
    return fleet.run(folder, show=show)


def resume_fleet(run: Path | str, *, steps: int | None = None, show: Show = True) -> FleetOutcome:
    """Continue a fleet from its newest checkpoint, with the same bits as if it had never stopped;
    ``steps`` extends it.

    Members that had stopped stay so. Raises SteadyganError where there is nothing to continue.
    """
    folder = RunFolder.open(Path(run))
    about = folder.describe()
    if not about.is_fleet:
        raise SteadyganError(
            f"{run} holds one GAN, not many: continue it with steadygan.training.resume."
        )
    base = about.config
    tree = checkpoint.load(checkpoint.latest(folder.path))
    total = (base.steps if steps is None else steps) or 0
    if tree["step"] >= total or not tree["alive"].any():
        done = (
            f"has already made its {tree['step']} steps: give more with --steps"
            if tree["alive"].any()
            else "has no member left"
        )
        raise SteadyganError(f"{run} {done}.")
    members = [replace(member, steps=total) for member in about.members]
    problem = about.problem()
    load(problem, show)
    fleet = Fleet(problem, members, compiled=about.compiled)
    fleet.restore(tree)
    folder.rewind(fleet.step)
    folder.write(CONFIG, {**about.raw, "config": members[0].to_json()})
    return fleet.run(folder, show=show)


class Fleet:
    """A fleet in memory: stacked networks and optimizers, each member's own streams of randomness,
    and the step that all have reached."""

    def __init__(
        self, problem: Problem, members: Sequence[Config], *, compiled: bool = False
    ) -> None:
        self.problem, self.members = problem, alike(problem, members)
        self.config, self.step, self.seconds = self.members[0], 0, 0.0
        config, device, seeds = self.config, self.config.device, [m.seed for m in self.members]
        self.evaluated = GRID if len(problem.event) == 3 else VECTORS
        self.dynamics = build("dynamics", config.dynamics)
        networks = [build_networks(m, problem.event, problem.classes) for m in self.members]
        self.lone_critic = networks[0][1].to(device)
        generator, critic = (stack(each).to(device) for each in zip(*networks, strict=True))
        self.average = Average(generator, config.ema) if config.ema else None
        self.streams = [problem.stream(stream_seed(seed, "data")) for seed in seeds]
        self.latents = [
            torch.Generator().manual_seed(stream_seed(seed, "latent")) for seed in seeds
        ]
        optimizers: dict[Name, list[Any]] = {
            "generator": [build("optimizer", m.optimizer) for m in self.members],
            "critic": [build("optimizer", m.critic_optimizer) for m in self.members],
        }
        self.players = FleetPlayers(
            [m.game() for m in self.members],
            generator,
            critic,
            self._draw,
            rngs=[
                torch.Generator(device).manual_seed(stream_seed(seed, "noise")) for seed in seeds
            ],
            optimizers={
                name: _whole(given[0])(player.parameters())
                for (name, given), player in zip(
                    optimizers.items(), (generator, critic), strict=True
                )
            },
            rates={name: [float(each.lr) for each in given] for name, given in optimizers.items()},
            compiled=compiled,
        )
        fixed = [
            latents(
                m, self.evaluated, torch.Generator().manual_seed(stream_seed(m.seed, "evaluation"))
            )
            for m in self.members
        ]
        self.fixed = torch.stack(fixed), labels(problem.classes, self.evaluated, times=2)
        indifferent = build("objective", config.objective).indifferent
        self.monitors = [Monitor(indifferent) for _ in self.members]
        self.stopped: dict[int, tuple[int, str]] = {}
        self.metrics: list[dict[str, float | None]] = [{} for _ in self.members]
        self.interrupt = Interrupt()
        self.players.context = Context(progress=0.0)
        self.players.prepare(self._empty())

    def run(self, folder: RunFolder, *, show: Show = True) -> FleetOutcome:
        """Train until the last step, a signal, or until no member is left; whatever the reason, the
        state at the end is saved.

        Raises SteadyganError where the folder can no longer be written; the newest checkpoint is
        then the one to resume from.
        """
        state, reason = drive(self, folder, f"{folder.path.name} × {len(self.members)}", show)
        members = [
            MemberOutcome(m, *self._ending(i, state), self.metrics[i])
            for i, m in enumerate(self.members)
        ]  # type: ignore[arg-type]
        return FleetOutcome(folder.path, state, self.step, reason, tuple(members))  # type: ignore[arg-type]

    def loop(self, folder: RunFolder, display: Display) -> tuple[str, str | None]:
        """Train until the last step, a signal, or until no member is left; return the state and the
        reason."""
        config, total, players = self.config, self.config.steps or 0, self.players
        started = time.perf_counter() - self.seconds
        if self.step == 0:
            self._save(folder)
            folder.samples(self.step, self.sample())
        while True:
            players.context = replace(players.context, progress=self.step / total)
            self.dynamics.step(players)
            self.step += 1
            self.seconds = time.perf_counter() - started
            if self.average:
                self.average.update(players.generator, self.step)
            display.update(self.step)
            interrupted = (
                self.interrupt.seen
            )  # asked once, so that a signal a moment later finds the next step
            last = self.step == total or interrupted
            self._note_the_fallen(folder, display)
            over = len(self.stopped) == len(self.members)
            due = last or over or self.step % config.evaluate_every == 0
            if due or self.step % config.log_every == 0:
                self._log(folder, display, evaluate=due)
                over = len(self.stopped) == len(self.members)
            if last or over or self.step % config.checkpoint_every == 0:
                self._save(folder)
            if self.step == total:
                return "finished", None
            if over:
                return "stopped", "no member is left"
            if interrupted:
                return "interrupted", "interrupted by a signal"

    def tree(self) -> checkpoint.Tree:
        """Return everything that the next step depends on."""
        players = self.players
        return {
            "step": self.step,
            "seconds": self.seconds,
            "generator": players.generator.state_dict(),
            "critic": players.critic.state_dict(),
            "ema": self.average.module.state_dict() if self.average else {},
            "optimizer": {
                name: checkpoint.optimizer_state(players.optimizers[name]) for name in PLAYERS
            },
            "memory": dict(players.context.memory),
            "previous": players.previous,
            "alive": players.alive,
            "stopped": {str(i): list(ending) for i, ending in self.stopped.items()},
            "latent": {str(i): rng.get_state() for i, rng in enumerate(self.latents)},
            "noise": {str(i): rng.get_state() for i, rng in enumerate(players.rngs)},
            "streams": {str(i): stream.state() for i, stream in enumerate(self.streams)},
            "monitors": [monitor.state() for monitor in self.monitors],
            "metrics": self.metrics,
        }

    def restore(self, tree: checkpoint.Tree) -> None:
        """Continue from a tree."""
        players, device = self.players, self.config.device
        self.step, self.seconds = tree["step"], tree["seconds"]
        players.generator.load_state_dict(tree["generator"])
        players.critic.load_state_dict(tree["critic"])
        if self.average:
            self.average.module.load_state_dict(tree["ema"])
        for name in PLAYERS:
            checkpoint.restore_optimizer(players.optimizers[name], tree["optimizer"][name])
        players.context = Context(
            memory={key: value.to(device) for key, value in tree["memory"].items()}
        )
        players.previous = {
            name: {k: v.to(device) for k, v in values.items()}
            for name, values in tree["previous"].items()
        }
        players.alive = tree["alive"].to(device)
        self.stopped = {int(i): (step, reason) for i, (step, reason) in tree["stopped"].items()}
        for i, (latent, noise, stream, monitor) in enumerate(
            zip(self.latents, players.rngs, self.streams, self.monitors, strict=True)
        ):
            latent.set_state(tree["latent"][str(i)])
            noise.set_state(tree["noise"][str(i)])
            stream.restore(tree["streams"][str(i)])
            monitor.restore(tree["monitors"][i])
        self.metrics = tree["metrics"]

    def sample(self) -> Tensor:
        """Return every member's samples (K, N, *event) of its fixed latents, from the moving
        averages where there are any; on the CPU."""
        z, y = self.fixed
        values = self.average.module.state_dict() if self.average else {}
        device = self.config.device
        parts = []
        for start in range(0, self.evaluated, _CHUNK):
            here = slice(start, start + _CHUNK)
            parts.append(
                self.players.generate(
                    values, z[:, here].to(device), None if y is None else y[here].to(device)
                ).cpu()
            )
        return torch.cat(parts, dim=1)

    def _draw(self) -> Batch:
        n, device = self.config.batch or 1, self.config.device
        drawn = [stream.draw(n) for stream in self.streams]
        z = torch.stack([latents(self.config, n, rng) for rng in self.latents]).to(device)
        real = torch.stack([each.x for each in drawn]).to(device)
        if drawn[0].labels is None:
            return Batch(real, z)
        y = torch.stack([each.labels for each in drawn if each.labels is not None]).to(device)
        return Batch(real, z, (y, y))

    def _empty(self) -> Batch:
        """A batch of the shape that will be drawn."""
        n, count, device = self.config.batch or 1, len(self.members), self.config.device
        y = (
            torch.zeros(count, n, dtype=torch.int64, device=device)
            if self.problem.classes
            else None
        )
        z = self.fixed[0][:, :1].to(device).expand(-1, n, -1)
        return Batch(
            torch.zeros(count, n, *self.problem.event, dtype=z.dtype, device=device),
            z,
            None if y is None else (y, y),
        )

    def _note_the_fallen(self, folder: RunFolder, display: Display) -> None:
        for i, alive in enumerate(self.players.alive.tolist()):
            if not alive and i not in self.stopped:
                self.stopped[i] = (
                    self.step,
                    "non-finite: a loss or a gradient is no longer a finite number",
                )
                self.metrics[i] = {}
                self._warn(
                    folder,
                    display,
                    i,
                    Warning(
                        self.step, "non-finite", "a loss or a gradient is no longer a finite number"
                    ),
                )

    def _log(self, folder: RunFolder, display: Display, *, evaluate: bool) -> None:
        rows = self._rows()
        fallen = {i for i, (_, reason) in self.stopped.items() if reason.startswith("non-finite")}
        metrics: list[dict[str, float]] | None = None
        if evaluate:
            samples = self.sample()
            folder.samples(self.step, samples)
            metrics = [
                {} if i in fallen else self.problem.measure(x, self._critic(i), self.fixed[1])
                for i, x in enumerate(samples)
            ]
            self.metrics = [{key: finite(value) for key, value in each.items()} for each in metrics]
        columns = {
            name: [None if i in self.stopped else finite(row[name]) for i, row in enumerate(rows)]
            for name in rows[0]
        }
        logged: dict[str, Any] = {"step": self.step, "seconds": round(self.seconds, 3), **columns}
        measured = {key: None for each in metrics or [] for key in each}
        if measured:
            logged["metrics"] = {key: [each.get(key) for each in self.metrics] for key in measured}
        folder.log(logged)
        display.figures(
            self.step,
            {name: _middle(values) for name, values in columns.items()},
            {k: _middle(v) for k, v in logged.get("metrics", {}).items()} if evaluate else None,
        )
        for i, row in enumerate(rows):
            if i in self.stopped:
                continue
            for warning in self.monitors[i].observe(
                self.step, {**row, **(metrics[i] if metrics else {})}
            ):
                self._warn(folder, display, i, warning)
                if warning.kind in self.config.stop_on:
                    self.stopped[i] = self.step, f"{warning.kind}, as asked by --stop-on"
                    self.players.alive[i] = False

    def _rows(self) -> list[dict[str, float]]:
        terms, loss = self.players.terms, self.players.generator_loss
        assert terms is not None and loss is not None
        columns = {"critic_loss": terms.objective, "penalty": terms.penalty, "generator_loss": loss}
        columns |= {f"gradient_norm_{point}": self._slopes(point) for point in ("real", "fake")}
        columns |= {
            f"logit_{point}": terms.scores[point].logits.mean(1) for point in ("real", "fake")
        }
        return [
            dict(zip(columns, row, strict=True))
            for row in torch.stack(list(columns.values()), dim=1).tolist()
        ]

    def _slopes(self, point: str) -> Tensor:
        assert self.players.terms is not None
        here = self.players.terms.scores[point]
        slopes = (
            self.players.slopes(here.x, here.labels) if here.gradient is None else here.gradient
        )
        return torch.stack([squared_norm(slope).sqrt().mean() for slope in slopes])

    def _critic(self, i: int) -> torch.nn.Module:
        state = self.players.critic.state_dict()
        self.lone_critic.load_state_dict({key: value[i] for key, value in state.items()})
        return self.lone_critic

    def _warn(self, folder: RunFolder, display: Display, i: int, warning: Warning) -> None:
        named = warning._replace(message=f"member {i}: {warning.message}")
        folder.warn(named)
        display.warn(named)

    def _ending(self, i: int, state: str) -> tuple[str, int, str | None]:
        if i in self.stopped:
            step, reason = self.stopped[i]
            return "stopped", step, reason
        return state, self.step, None

    def write_status(self, folder: RunFolder, state: str, reason: str | None) -> None:
        """Write status.json with every member's; a folder that cannot be written is noticed
        elsewhere."""
        members = [
            dict(zip(("state", "step", "reason"), self._ending(i, state), strict=True))
            for i in range(len(self.members))
        ]
        status = {
            "state": state,
            "step": self.step,
            "reason": reason,
            "seconds": round(self.seconds, 2),
            "members": members,
        }
        with suppress(SteadyganError):
            folder.write_status(status)

    def _save(self, folder: RunFolder) -> None:
        folder.save_checkpoint(self.step, self.tree(), self.config.keep_checkpoints)


def _whole(optimizer: OptimizerSpec) -> OptimizerSpec:
    # All members' parameters are many: torch's fused kernel passes over them once, the others a
    # dozen times.
    return replace(optimizer, fused=True) if isinstance(optimizer, Adam) else optimizer


def _middle(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None
