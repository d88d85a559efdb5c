"""The command that says how good samples are: evaluate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..core.errors import SteadyganError
from .arguments import Broken, Json, Limit, Modules, ValueRange, arg, flag
from .show import bar, say, table

if TYPE_CHECKING:
    from ..evaluation.result import Evaluation


@dataclass(frozen=True)
class Evaluate:
    r"""Say how good samples are, each number with its 95 % interval.

    Distances to real images, precision and recall, diversity. A RUN is a run folder, an exported
    one (also hub:USER/NAME), or samples from anywhere: a folder or zip of images, an .npz. What
    runs are compared with each other is taken of equally many samples. Real features are kept in
    the cache, results in the run's evaluation.json and report.

    Examples:
      steadygan evaluate runs/plain runs/js --data cifar10/test.zip --samples 5000
      steadygan evaluate runs/js --data photos.zip --metrics fd,lpips,memorisation \
        --checkpoints all
      steadygan evaluate their-samples.zip --data test.zip --json \
        --features inception-2015 --download
      steadygan evaluate runs/js --data test.zip --features my_features.py:extractor
      steadygan evaluate runs/digits --data digits --features pixels --samples 500
      steadygan evaluate runs/photos --data test.zip --ema none sigma=0.05 sigma=0.1 sigma=0.15
    """

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        arg("RUN", "run folders, or generated samples"),
    ]
    data: Annotated[
        str | None,
        arg(
            "PATH",
            "real samples, best held back from training; what 'train images' takes: from each"
            " picture the central square, reduced",
            "a toy's own",
        ),
    ] = None
    metrics: Annotated[str, arg("NAMES", "what is measured; see 'steadygan list metric'")] = (
        "fd,kid,precision-recall,density-coverage"
    )
    features: Annotated[
        str,
        arg(
            "SPEC",
            "what images are compared in; see 'steadygan list features', or FILE.py:FUNCTION",
        ),
    ] = "effnet-lite0"
    samples: Annotated[int, arg("N", "how many, real and generated alike")] = 5000
    checkpoints: Annotated[
        Literal["newest", "all", "best"],
        arg("newest|all|best", "of each run; best: kept by train --metrics"),
    ] = "newest"
    ema: Annotated[
        tuple[str, ...],
        arg(
            "kept|none|sigma=S",
            "which averages of the generator; sigma=S: made now, of a run of train --ema power",
        ),
    ] = ("kept",)
    seed: Annotated[int, arg("N", "of the latents and of the choice among the real samples")] = 0
    download: Annotated[
        bool, flag("fetch the weights of inception-2015 (91 MB) if they are not there")
    ] = False
    broken: Broken = "refuse"
    value_range: ValueRange = "auto"
    limit: Limit = 1.0
    json: Json = False
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..evaluation import evaluate
        from ..evaluation.extractors.inception import download
        from ..problems.readers import Reading

        if not 0 <= self.seed < 2**63:
            raise SteadyganError(f"--seed is a whole number in [0, 2^63), not {self.seed}.")
        if self.download and not self.features.startswith("inception-2015"):
            raise SteadyganError(
                "--download fetches the weights of inception-2015, and the features are"
                f" {self.features}: leave one of them out."
            )
        if self.download:
            with bar("weights") as tell:
                download(progress=tell)
        found = evaluate(
            self.runs,
            self.data,
            metrics=self.metrics,
            features=self.features,
            samples=self.samples,
            checkpoints=self.checkpoints,
            ema=self.ema,
            seed=self.seed,
            reading=Reading(self.broken, value_range=self.value_range, limit=self.limit),
            bar=bar,
        )
        if self.json:
            print(json.dumps([evaluation.to_json() for evaluation in found], indent=2))
        else:
            _show(found)
        return 0


def _show(found: Sequence[Evaluation]) -> None:
    """Print a table of numbers by run, and who is better where the intervals say so."""
    from ..evaluation.metrics import number
    from ..evaluation.result import ranking

    first = found[0]
    features = first.protocol.features
    say(
        f"{first.protocol.samples:,} samples each against {first.protocol.data}; features"
        f" {features}, resizing: {first.protocol.preparation}. In brackets 95 % intervals."
    )
    arrows = {"less": " ↓", "more": " ↑", None: ""}
    table(
        ("", *map(_head, found)),
        [
            (
                number(key).name(features) + arrows[number(key).better],
                *(str(e.numbers[key]).replace(" ", "\n", 1) for e in found),
            )
            for key in first.numbers
        ],
    )
    if len(found) > 1:
        for key in first.numbers:
            if (better := number(key).better) is not None:
                say(f"{number(key).name(features)}: {ranking(found, key, better)}")
    say(*dict.fromkeys(note for evaluation in found for note in evaluation.notes))


def _head(evaluation: Evaluation) -> str:
    step = "" if evaluation.step is None else f"\nstep {evaluation.step:,}"
    average = "" if evaluation.average == "kept" else f"\nema {evaluation.average}"
    return evaluation.name + step + average
