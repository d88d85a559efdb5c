"""The loop: one cadence for one GAN and for many.

It trains and tells; who is told, and what comes of it, is the watchers' business.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from torch import Tensor

from ..runs.checkpoint import Tree
from ..runs.config import Config
from ..runs.cures import advised
from ..runs.files import finite
from ..runs.monitor import NON_FINITE, Warning
from .interrupt import Interrupt, raised
from .trained import Trained
from .watchers import Ending, Record, Watcher

GRACE = 10.0
"""Seconds in which a signal is one signal, however often several processes hear it."""


class Training:
    """Something that trains, and what watches it.

    Attributes:
        trained: One GAN or many.
        watchers: What is told of it, in this order.
        seconds: The time that training has taken so far, over all processes.
        interrupt: Whether someone asked to stop.
    """

    def __init__(self, trained: Trained, watchers: Sequence[Watcher]) -> None:
        self.trained, self.watchers, self.seconds = trained, list(watchers), 0.0
        self.interrupt = Interrupt(grace=GRACE if trained.ranks.count > 1 else 0.0)

    @property
    def step(self) -> int:
        """The step that was reached."""
        return self.trained.step

    @property
    def config(self) -> Config:
        """The configuration; of many GANs the first one's."""
        return self.trained.config

    def tree(self) -> Tree:
        """Return everything that a resume needs, the watchers' memory included."""
        tree = {**self.trained.tree(), "seconds": self.seconds}
        for watcher in self.watchers:
            tree |= watcher.state()
        return tree

    def restore(self, tree: Tree) -> None:
        """Continue from a tree."""
        self.trained.restore(tree)
        self.seconds = tree["seconds"]
        for watcher in self.watchers:
            watcher.restore(tree)

    def run(self) -> Ending:
        """Train until the last step, a signal, or until no member is left.

        Returns:
            How it ended; whatever ends it, the watchers are told.
        """
        ending = Ending("failed", "it ended without saying why")
        try:
            with self.interrupt:
                for watcher in self.watchers:
                    watcher.began(self)
                ending = self._train()
        except KeyboardInterrupt:
            ending = Ending("interrupted", "interrupted by a second signal")
            raise
        except BaseException as error:
            ending = Ending("failed", str(error) or type(error).__name__)
            raise
        finally:
            # Each is told, whatever one before it raises, as a signal while it uploads does.
            with raised(), ExitStack() as told:
                for watcher in reversed(self.watchers):
                    told.callback(watcher.ended, self, ending)
        return ending

    def warn(self, member: int, kind: str, message: str) -> None:
        """Tell of trouble; a member that was to stop on it does."""
        penalized = any(each.on_slopes for each in self.config.game().regularizers)
        warning = Warning(self.step, kind, advised(kind, message, penalized=penalized))
        for watcher in self.watchers:
            watcher.warned(self, member, warning)
        if kind in self.config.stop_on:
            self.trained.stop(member, f"{kind}, as asked by --stop-on")

    def _train(self) -> Ending:
        trained, config, total = self.trained, self.config, self.config.steps or 0
        started = time.perf_counter() - self.seconds
        if trained.step == 0:
            self._save()
            self._sample()
        while trained.step < total and not trained.over:
            gone = set(trained.stopped)
            trained.advance()
            self.seconds = time.perf_counter() - started
            for watcher in self.watchers:
                watcher.stepped(self)
            due = trained.step == total or trained.step % config.evaluate_every == 0
            logged = due or trained.step % config.log_every == 0
            fallen = trained.fallen(logged)
            # Asked once, so that a signal a moment later finds the next step, and every process
            # hears of it at this one.
            interrupted, fell = trained.ranks.any(self.interrupt.seen, bool(fallen))
            if fell:
                fallen = trained.ranks.united(fallen)
            for member, what in fallen.items():
                self._bury(member, what)
            # The last one that leaves the finite numbers leaves nothing to evaluate.
            left = not trained.over
            if logged or not left:
                self._log(gone, evaluate=due and left)
                # What looks on may have ended it, and looks on rank zero only.
                for member, (_, reason) in trained.ranks.told(trained.stopped).items():
                    trained.stop(member, reason)
            if left and trained.over and not due:
                self._sample()
            ends = trained.step == total or trained.over or interrupted
            if (ends or trained.step % config.checkpoint_every == 0) and not self._save():
                return Ending("stopped", trained.reason)
            if interrupted and not trained.over and trained.step < total:
                return Ending("interrupted", self.interrupt.reason)
        return Ending("finished") if trained.step >= total else Ending("stopped", trained.reason)

    def _log(self, gone: set[int], *, evaluate: bool) -> None:
        trained = self.trained
        rows = [None if i in gone else row for i, row in enumerate(trained.rows())]
        record = Record(trained.step, self.seconds, rows)
        if evaluate:
            trained.collect()
            record.metrics = trained.measure(self._sample())
        for watcher in self.watchers:
            watcher.logged(self, record)
        if record.metrics is not None:
            trained.metrics = [
                {name: finite(value) for name, value in each.items()} for each in record.metrics
            ]

    def _sample(self) -> Tensor:
        samples = self.trained.sample()
        for watcher in self.watchers:
            watcher.sampled(self, samples)
        return samples

    def _save(self) -> bool:
        """Have a checkpoint written.

        Returns:
            Whether it was; not where the networks are not worth one.
        """
        for member, (kind, what) in self.trained.ills().items():
            self._bury(member, what, kind)
        if not self.trained.savable:
            return False
        self.trained.collect()
        for watcher in self.watchers:
            watcher.saved(self)
        return True

    def _bury(self, member: int, what: str, kind: str = NON_FINITE) -> None:
        self.trained.stop(member, f"{kind}: {what}")
        self.trained.metrics[member] = {}
        self.warn(member, kind, what)
