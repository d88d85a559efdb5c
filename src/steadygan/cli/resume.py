"""The command that goes on with a run: resume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import Folder, Modules, arg, spec, whereabouts, whole
from .ended import finish


@dataclass(frozen=True)
class Resume:
    """Continue a run from its newest checkpoint, with the same bits as if it had never stopped.

    What is given changes on the way; the change stands in the history of the run's config.json.

    Examples:
      steadygan resume runs/photos
      steadygan resume runs/photos --from runs/photos/checkpoints/step-00010000.safetensors
      steadygan resume runs/photos --steps 60000 --optimizer adam:lr=0.0001
      steadygan resume runs/from-a-gpu --device cpu
    """

    path: Folder
    steps: Annotated[
        int | None,
        whole("N", "extend the run to this many steps; what changes to its end stretches"),
    ] = None
    data: Annotated[
        str | None,
        arg(
            "PATH",
            "images: where they lie now, be they others than before",
            "where they lay, if they are the same",
        ),
    ] = None
    limit: Annotated[float | None, arg("GIB", "images: what a file may unpack to", "1")] = None
    features: Annotated[
        str | None,
        arg("FILE.py:FUNCTION", "of --metrics, again: code that a run folder names is not run"),
    ] = None
    start: Annotated[
        Path | None, arg("FILE", "an older checkpoint to go on from", "the newest", name="from")
    ] = None
    regularizer: Annotated[
        tuple[str, ...],
        spec("regularizer", "instead of the run's own; 'none' for none; repeatable", "as it was"),
        tyro.conf.UseAppendAction,
    ] = ()
    optimizer: Annotated[
        str | None, spec("optimizer", "another one, or another learning rate", "as it was")
    ] = None
    critic_optimizer: Annotated[str | None, spec("optimizer", "of the critic", "as it was")] = None
    ramp: Annotated[
        str | None, spec("ramp", "how values spelled START..END change", "as it was")
    ] = None
    batch: Annotated[int | None, whole("N", "samples an update", "as it was")] = None
    track: Annotated[
        tuple[str, ...],
        spec("tracker", "instead of the run's own; 'none' for none; repeatable", "as it was"),
        tyro.conf.UseAppendAction,
    ] = ()
    device: Annotated[str | None, arg("NAME", "cpu, cuda, cuda:1, or auto", "as it was")] = None
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..training import resume
        from ..training.allocator import keep_memory

        keep_memory()
        data = None if self.data is None else whereabouts(self.data)
        given = {
            "optimizer": self.optimizer,
            "critic_optimizer": self.critic_optimizer,
            "ramp": self.ramp,
            "batch": self.batch,
            "device": self.device,
            "regularizer": self.regularizer or None,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return finish(
            resume(
                self.path,
                steps=self.steps,
                data=data,
                limit=self.limit,
                features=self.features,
                changes=changes,
                start=self.start,
                track=[name for name in self.track if name != "none"] if self.track else None,
            )
        )
