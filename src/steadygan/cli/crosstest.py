"""The command that lets each discriminator judge every other model's samples: crosstest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..core.errors import SteadyganError
from .arguments import Broken, Json, Limit, Modules, ValueRange, arg
from .show import bar, say, table

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.crosstest import CrossTest
    from ..evaluation.estimate import Estimate
    from ..runs.description import Description


# What two runs on the same data may differ in.
_HOW_READ = ("flip", "broken", "limit", "classes_from")


@dataclass(frozen=True)
class Crosstest:
    """Compare runs by letting their discriminators judge every run's samples.

    Each sees test samples, its own samples and those of every other run. The better run's
    discriminator rejects the others' samples, and its own samples pass theirs. Thresholds are at
    logit 0; the AUC beside them needs none, so that a discriminator's bias alone decides nothing.
    Batch normalisation takes each batch's own statistics, real and generated apart, as in training.
    The result is kept in crosstest.json of every run folder, and shown in its report.

    Examples:
      steadygan crosstest runs/plain runs/js --data cifar10/test.zip
      steadygan crosstest runs/a runs/b runs/c --data test.zip --samples 5000 --picture matrix.png
    """

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        arg("RUN", "two or more run folders, exported ones or hub:USER/NAME"),
    ]
    data: Annotated[
        str | None, arg("PATH", "test samples that no run was trained on", "a toy's own")
    ] = None
    samples: Annotated[int, arg("N", "how many, test samples and generated alike")] = 10_000
    seed: Annotated[int, arg("N", "of the latents and of the bootstrap")] = 0
    picture: Annotated[Path | None, arg("PNG", "draw the matrix into this file", "none")] = None
    broken: Broken = "refuse"
    value_range: ValueRange = "auto"
    limit: Limit = 1.0
    json: Json = False
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..evaluation.crosstest import cross_test, judged
        from ..evaluation.judging import called, enough
        from ..runs.files import Unwritable
        from ..runs.folder import RunFolder
        from ..runs.format import CROSSTEST, is_run
        from ..runs.models import describe, load_critic, load_sampler

        if not 0 <= self.seed < 2**63:
            raise SteadyganError(f"--seed is a whole number in [0, 2^63), not {self.seed}.")

        if self.picture:
            from ..report.portraits import ending

            ending(self.picture)
        if len(self.runs) < 2:
            raise SteadyganError("crosstest compares at least two runs: give two run folders.")
        enough(self.samples, "samples")
        described = [describe(run) for run in self.runs]
        _comparable(self.runs, described)
        names = called([str(run) for run in self.runs])
        real = self._real(described[0])
        critics = [load_critic(run, described[0].config.batch or 1) for run in self.runs]
        with bar("samples") as tell:
            samples = []
            for i, run in enumerate(self.runs):
                samples.append(load_sampler(run)[0](self.samples, self.seed))
                tell(i + 1, len(names))
        with bar("discriminators") as tell:
            logits = judged(critics, real, samples, tell)
        found = cross_test(names, *logits, self.seed)
        kept = {"data": self.data or "the problem's own", "seed": self.seed, **found.to_json()}
        if self.json:
            print(json.dumps(kept, indent=2))
        else:
            _show(found)
        for run in filter(is_run, self.runs):
            try:
                RunFolder.open(run).write(CROSSTEST, kept)
            except Unwritable as error:  # somebody else's run, or a full disk
                say(f"steadygan: the result is not kept in {run}: {error}", stderr=True)
        if self.picture:
            from ..report.crosstest import picture
            from ..report.portraits import save_figure

            save_figure(picture(kept), self.picture)
        return 0

    def _real(self, described: Description) -> Tensor:
        import torch

        from ..evaluation.samples import read_samples
        from ..problems.readers import Reading
        from ..problems.stream import to_floats

        event = described.event
        if self.data is None:
            if len(event) == 3:
                raise SteadyganError(
                    "crosstest needs --data PATH: test images that no run was trained on."
                )
            return described.problem().stream(self.seed).draw(self.samples).x
        with bar("reading data") as tell:
            reading = Reading(self.broken, value_range=self.value_range, limit=self.limit)
            read = read_samples(self.data, self.samples, event, self.seed, tell, reading)
        found = torch.from_numpy(read.x)
        return to_floats(found) if len(event) == 3 else found.float()


def _comparable(runs: Sequence[Path], described: Sequence[Description]) -> None:
    """Refuse runs of other problems: discriminators would tell data sets apart, not models."""
    first = described[0]
    for run, other in zip(runs, described, strict=True):
        other.check_alone()
        if other.event != first.event:
            raise SteadyganError(
                f"{runs[0]} has samples of shape {first.event}, {run} of"
                f" {other.event}: a discriminator judges samples "
                "of its own shape only."
            )
        if other.classes:
            raise SteadyganError(
                f"{run} is class-conditional: its discriminator judges pairs of image and label,"
                " not images."
            )
        # The range of values has a default, since older runs lack it.
        theirs, ours = (
            {"value_range": "auto"}
            | {k: v for k, v in d.setting.items() if k not in _HOW_READ}
            | {"pixels": (d.data or {}).get("pixels")}
            for d in (other, first)
        )
        # Pixels count where both know them: a path is forgotten by an export, and what lies there
        # may have been replaced.
        passed = "data" if theirs["pixels"] and ours["pixels"] else "pixels"
        keys = (k for k in {**theirs, **ours} if k != passed and theirs.get(k) != ours.get(k))
        if differing := next(keys, None):
            raise SteadyganError(
                f"{runs[0]} and {run} were trained on different data ({differing}:"
                f" {ours.get(differing)!r} and {theirs.get(differing)!r}): "
                "their discriminators would tell the data sets apart, not the models."
            )


def _show(found: CrossTest) -> None:
    real, generated = found.samples
    say(
        f"{real:,} test samples, {generated:,} of each run; in brackets 95 % intervals. For"
        " real: a logit above 0."
    )
    own = [
        (name, *(f"{share:.4f}" for share in (tp, fn, fp, tn)))
        for name, ((tp, fp), (fn, tn)) in zip(found.names, found.confusion, strict=True)
    ]
    table(
        ("", "test for real", "test for generated", "own for real", "own for generated"),
        own,
        title="what each discriminator takes test samples and its own model's for",
    )
    for title, matrix in (
        ("share of samples taken for real (false positives)", found.false_positives),
        ("AUC", found.auc),
    ):
        table(
            ("discriminator of", *(f"samples of {name}" for name in found.names)),
            [(name, *map(str, row)) for name, row in zip(found.names, matrix, strict=True)],
            title=title,
        )
    scores = zip(found.names, found.scores, found.scores_auc, found.places, strict=True)
    table(
        ("", "score", "score by AUC", "place"),
        [(name, *map(_cell, row)) for name, *row in scores],
        title="score: its samples pass, minus others' pass",
    )
    say(found.verdict)


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
