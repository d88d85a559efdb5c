"""The one training loop: a problem, a configuration and a run folder in, a trained GAN and
everything about it out."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.context import Context
from ..core.errors import SteadyganError
from ..core.gradients import Decision
from ..core.players import PLAYERS, Batch, OptimizerPlayers
from ..core.registry import build
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.config import Config, stream_seed
from ..runs.description import describe
from ..runs.folder import RunFolder
from ..runs.format import CONFIG
from ..runs.models import Average, build_networks, generate, labels, latents, slope_norm
from ..runs.monitor import Monitor, Warning
from .drive import drive
from .interrupt import Interrupt
from .judge import Judge
from .progress import Display, Show, load
from .speed import settle

GRID, VECTORS = 64, 5120
"""How many samples an evaluation draws: images for a picture, vectors for the problem's metrics."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, its state, the last step and, where it did not finish, why."""

    path: Path
    state: Literal["finished", "interrupted", "stopped"]
    step: int
    reason: str | None


def train(
    problem: Problem,
    config: Config,
    out: Path | str,
    *,
    show: Show = True,
    judge: Judge | None = None,
) -> Outcome:
    """Train a problem from scratch into a new run folder; refuses, before anything is computed,
    whatever cannot work.

    judge: measures samples at each evaluation (``steadygan.evaluation.metrics.Evaluator``); the
    best is kept as checkpoints/best. Raises SteadyganError for settings that do not fit together,
    for a folder that exists, and for one that cannot be written.
    """
    path = Path(out)
    RunFolder.check(path)
    config = config.resolve(problem)
    build_networks(
        config, problem.event, classes=0
    )  # a resolution that the network cannot make is refused before images are read
    load(problem, show)
    trainer = Trainer(problem, config, judge=judge)
    parameters = {
        name: sum(p.numel() for p in getattr(trainer, name).parameters()) for name in PLAYERS
    }
    decision = trainer.decision._asdict()
    folder = RunFolder.create(
        path, describe(problem, [config], parameters, fleet=False, critic_gradient=decision)
    )
    folder.samples(
        None, problem.stream(stream_seed(config.seed, "picture")).draw(trainer.evaluated).x
    )
    return trainer.run(folder, show=show)


def resume(
    run: Path | str, *, steps: int | None = None, show: Show = True, judge: Judge | None = None
) -> Outcome:
    """Continue a run from its newest checkpoint, with the same bits as if it had never stopped;
    ``steps`` extends it.

    Raises SteadyganError where there is nothing to continue.
    """
    folder = RunFolder.open(Path(run))
    about = folder.describe()
    config = about.config
    tree = checkpoint.load(checkpoint.latest(folder.path))
    total = config.steps if steps is None else steps
    if tree["step"] >= (total or 0):
        raise SteadyganError(
            f"{run} has already made its {tree['step']} steps: give more with --steps to extend it."
        )
    config, problem = replace(config, steps=total), about.problem()
    load(problem, show)
    decided = about.raw.get("critic_gradient")
    trainer = Trainer(problem, config, Decision(**decided) if decided else None, judge)
    trainer.restore(tree)
    folder.rewind(trainer.step)
    folder.write(CONFIG, {**about.raw, "config": config.to_json()})
    return trainer.run(folder, show=show)


class Trainer:
    """A run in memory: networks, optimizers, streams of randomness and the step it has reached."""

    def __init__(
        self,
        problem: Problem,
        config: Config,
        decision: Decision | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.problem, self.config, self.device, self.step, self.seconds = (
            problem,
            config,
            config.device,
            0,
            0.0,
        )
        self.game, self.dynamics = config.game(), build("dynamics", config.dynamics)
        self.evaluated = GRID if len(problem.event) == 3 else VECTORS
        networks = build_networks(config, problem.event, problem.classes)
        self.generator, self.critic = (network.to(self.device) for network in networks)
        self.decision = settle(
            self.game, self.critic, config, problem.event, problem.classes, decision
        )
        if self.decision.path in ("merged", "joined") and len(problem.event) == 3:
            # The layout in which convolutions are fastest; values and files are the same.
            self.generator, self.critic = (
                network.to(memory_format=torch.channels_last)
                for network in (self.generator, self.critic)
            )
        self.average = Average(self.generator, config.ema) if config.ema else None
        self.stream = problem.stream(self._seed("data"))
        self.rngs = {"latent": torch.Generator().manual_seed(self._seed("latent"))}
        # Noise as large as the samples is drawn where they live.
        self.rngs["noise"] = torch.Generator(self.device).manual_seed(self._seed("noise"))
        torch.manual_seed(self._seed("global"))
        self.players = OptimizerPlayers(
            self.game,
            self.generator,
            self.critic,
            self._draw,
            Context(rng=self.rngs["noise"]),
            optimizers={
                "generator": build("optimizer", config.optimizer)(self.generator.parameters()),
                "critic": build("optimizer", config.critic_optimizer)(self.critic.parameters()),
            },
            path=config.gradient_path,  # type: ignore[arg-type]
            penalty_every=config.penalty_every,
            penalty_share=config.penalty_share,
            keep_fakes=self.dynamics.share,
        )
        self.monitor = Monitor(self.game.objective.indifferent)
        fixed = torch.Generator().manual_seed(self._seed("evaluation"))
        self.fixed = (
            latents(config, self.evaluated, fixed),
            labels(problem.classes, self.evaluated, times=2),
        )
        self.judge, self.best = judge, dict[str, float]()
        self.judged = (
            None
            if judge is None
            else (latents(config, judge.size, fixed), labels(problem.classes, judge.size))
        )
        self.interrupt = Interrupt()

    def run(self, folder: RunFolder, *, show: Show = True) -> Outcome:
        """Train until the last step, a signal or trouble to stop on; whatever the reason, a finite
        state at the end is saved.

        Raises SteadyganError where the folder can no longer be written; the newest checkpoint is
        then the one to resume from.
        """
        state, reason = drive(self, folder, folder.path.name, show)
        return Outcome(folder.path, state, self.step, reason)  # type: ignore[arg-type]

    def loop(self, folder: RunFolder, display: Display) -> tuple[str, str | None]:
        """Train until the last step, a signal or trouble to stop on; return the state and the
        reason."""
        config, total = self.config, self.config.steps or 0
        started = time.perf_counter() - self.seconds
        if self.step == 0:
            self._save(folder)
            folder.samples(0, self.sample())
        while True:
            self.players.context = replace(self.players.context, progress=self.step / total)
            with torch.autocast(
                self.device.partition(":")[0],
                torch.bfloat16,
                enabled=config.precision == "bfloat16",
            ):
                self.dynamics.step(self.players)
            self.step += 1
            self.seconds = time.perf_counter() - started
            if self.average:
                self.average.update(self.generator, self.step)
            display.update(self.step)
            interrupted = (
                self.interrupt.seen
            )  # asked once, so that a signal a moment later finds the next step
            last = self.step == total or interrupted
            due = last or self.step % config.evaluate_every == 0
            logged = due or self.step % config.log_every == 0
            # On a GPU the look at the losses waits for the device, so it is kept to the logged
            # steps.
            if (logged or self.device == "cpu") and not self._finite():
                self._log(folder, display, evaluate=False)
                return (
                    "stopped",
                    "non-finite: a loss is no longer a finite number;"
                    f" {checkpoint.latest(folder.path)} is the last good one",
                )
            kinds = [w.kind for w in self._log(folder, display, evaluate=due)] if logged else []
            stop = next((kind for kind in kinds if kind in config.stop_on), None)
            if stop and not due:
                folder.samples(self.step, self.sample())
            if (last or stop or self.step % config.checkpoint_every == 0) and not self._save(
                folder
            ):
                warning = Warning(
                    self.step, "non-finite", "a parameter is no longer a finite number"
                )
                folder.warn(warning)
                display.warn(warning)
                return (
                    "stopped",
                    f"non-finite: {warning.message}; {checkpoint.latest(folder.path)} is the"
                    " last good one",
                )
            if self.step == total:
                return "finished", None
            if stop:
                return "stopped", f"{stop}, as asked by --stop-on"
            if interrupted:
                return "interrupted", "interrupted by a signal"

    def tree(self) -> checkpoint.Tree:
        """Return everything that the next step depends on."""
        players = self.players
        return {
            "step": self.step,
            "seconds": self.seconds,
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "ema": self.average.module.state_dict() if self.average else {},
            "optimizer": {
                name: checkpoint.optimizer_state(players.optimizers[name]) for name in PLAYERS
            },
            "memory": dict(players.context.memory),
            "previous": players.previous,
            "updates": players.updates,
            "rng": checkpoint.random_state(self.rngs, self.device),
            "stream": self.stream.state(),
            "monitor": self.monitor.state(),
            "best": {name: finite(value) for name, value in self.best.items()},
        }

    def restore(self, tree: checkpoint.Tree) -> None:
        """Continue from a tree."""
        self.step, self.seconds = tree["step"], tree["seconds"]
        self.generator.load_state_dict(tree["generator"])
        self.critic.load_state_dict(tree["critic"])
        if self.average:
            self.average.module.load_state_dict(tree["ema"])
        for name in PLAYERS:
            checkpoint.restore_optimizer(self.players.optimizers[name], tree["optimizer"][name])
        on_device = {key: value.to(self.device) for key, value in tree["memory"].items()}
        self.players.context = replace(self.players.context, memory=on_device)
        self.players.updates = tree["updates"]
        self.players.previous = {
            name: {k: v.to(self.device) for k, v in values.items()}
            for name, values in tree["previous"].items()
        }
        checkpoint.restore_random(tree["rng"], self.rngs, self.device)
        self.stream.restore(tree["stream"])
        self.monitor.restore(tree["monitor"])
        self.best = {
            name: math.inf if value is None else value for name, value in tree["best"].items()
        }

    def sample(self) -> Tensor:
        """Return the samples of the fixed latents, from the moving average where there is one."""
        return generate(self._sampled, *self.fixed, self.device)

    @property
    def _sampled(self) -> nn.Module:
        return self.average.module if self.average else self.generator

    def write_status(self, folder: RunFolder, state: str, reason: str | None) -> None:
        """Write status.json; a folder that cannot be written is noticed elsewhere."""
        with suppress(SteadyganError):
            folder.write_status(
                {
                    "state": state,
                    "step": self.step,
                    "reason": reason,
                    "seconds": round(self.seconds, 2),
                },
            )

    def _seed(self, stream: str) -> int:
        return stream_seed(self.config.seed, stream)

    def _draw(self) -> Batch:
        n = self.config.batch or 1
        x, y = self.stream.draw(n)
        z = latents(self.config, n, self.rngs["latent"]).to(self.device)
        real = x.to(self.device, non_blocking=True)
        if y is None:
            return Batch(real, z)
        y = y.to(self.device)
        return Batch(real, z, (y, y))

    def _finite(self) -> bool:
        values = [
            self.players.terms.loss if self.players.terms else None,
            self.players.generator_loss,
        ]
        return all(math.isfinite(v.item()) for v in values if v is not None)

    def _log(self, folder: RunFolder, display: Display, *, evaluate: bool) -> list[Warning]:
        row = self._row()
        metrics = None
        if evaluate:
            samples = self.sample()
            folder.samples(self.step, samples)
            metrics = self.problem.measure(samples, self.critic, self.fixed[1]) | self._judge(
                folder
            )
        logged: dict[str, Any] = {
            "step": self.step,
            "seconds": round(self.seconds, 3),
            **{k: finite(v) for k, v in row.items()},
        }
        if metrics:
            logged["metrics"] = {key: finite(value) for key, value in metrics.items()}
        folder.log(logged)
        display.figures(self.step, row, metrics)
        new = self.monitor.observe(self.step, {**row, **(metrics or {})})
        for warning in new:
            folder.warn(warning)
            display.warn(warning)
        return new

    def _judge(self, folder: RunFolder) -> dict[str, float]:
        if self.judge is None or self.judged is None:
            return {}
        found = self.judge(generate(self._sampled, *self.judged, self.device))
        if self.judge.improves(found, self.best or None):
            self.best = found
            folder.save_best(self.tree())
        return found

    def _row(self) -> dict[str, float | None]:
        names = (
            "critic_loss",
            "penalty",
            "generator_loss",
            "gradient_norm_real",
            "gradient_norm_fake",
            "logit_real",
            "logit_fake",
        )
        terms, loss = self.players.terms, self.players.generator_loss
        assert terms is not None and loss is not None
        logits = [terms.scores[point].logits.mean().item() for point in ("real", "fake")]
        slopes = [slope_norm(self.critic, terms.scores[point]) for point in ("real", "fake")]
        return dict(
            zip(
                names,
                (terms.objective.item(), terms.penalty.item(), loss.item(), *slopes, *logits),
                strict=True,
            )
        )

    def _save(self, folder: RunFolder) -> bool:
        modules: tuple[nn.Module, ...] = (self.generator, self.critic)
        if not all(p.isfinite().all() for module in modules for p in module.parameters()):
            return False
        folder.save_checkpoint(self.step, self.tree(), self.config.keep_checkpoints)
        return True


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: NaN and infinity are null."""
    return value if value is not None and math.isfinite(value) else None
