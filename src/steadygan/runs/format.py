"""The format of a run folder, said once: which file is where, and what its name tells.

::

    config.json      the whole resolved configuration, versions, commit, seeds    (description.py)
    status.json      running, finished, interrupted, stopped or failed; step, reason, seconds
    metrics.jsonl    a line for each logged step, ``metrics`` in those that were evaluated, and
                     where they have any ``intervals``: by name the low and the high end
    warnings.jsonl   a line for each trouble that was named: step, kind, message
    samples/         real, step-N: a PNG grid of images, an NPZ of vectors          (samples.py)
    averages/        step-N: of --ema power                                      (profiles.py)
    checkpoints/     step-N and the best one: safetensors                        (checkpoint.py)
    trackers.json    which runs of trackers go on with this one, with --track
    tensorboard/, wandb/    theirs; of many GANs tensorboard-member-K/
    evaluation.json, crosstest.json, report.html    made afterwards, by commands of these names
    .lock           held by the process that writes, and who that is                     (lock.py)
    .evaluation.json.lock    the same of evaluation.json, which others may bring up to date
"""

from __future__ import annotations

import re
from pathlib import Path

CONFIG, STATUS = "config.json", "status.json"
METRICS, WARNINGS = "metrics.jsonl", "warnings.jsonl"
SAMPLES, CHECKPOINTS, AVERAGES = "samples", "checkpoints", "averages"
EVALUATION, CROSSTEST, REPORT = "evaluation.json", "crosstest.json", "report.html"
LOCK, TRACKERS = ".lock", "trackers.json"
EVALUATION_LOCK = f".{EVALUATION}.lock"
REAL, BEST = "real", f"{CHECKPOINTS}/best.safetensors"

TRAINED = (CONFIG, STATUS, METRICS, WARNINGS, SAMPLES, CHECKPOINTS, AVERAGES, LOCK)
"""What training alone makes; whatever else lies there is somebody's."""

LOGGED = (
    "seconds",
    "critic_loss",
    "penalty",
    "generator_loss",
    "gradient_norm_real",
    "gradient_norm_fake",
    "logit_real",
    "logit_fake",
    "gamma",
    "augment",
    "augment_sign",
    "learning_rate_generator",
    "learning_rate_critic",
)
"""What a line of metrics.jsonl may hold beside its step and its ``metrics``: a number or null, or a
list of them, one a member, where many GANs were trained at once."""


class Ranged(float):
    """A number of ``metrics`` that knows its interval: ``low`` and ``high``."""

    low: float
    high: float

    def __new__(cls, value: float, low: float, high: float) -> Ranged:
        """Return the number with its ends.

        Args:
            value: The number.
            low: The lower end.
            high: The upper end.
        """
        found = super().__new__(cls, value)
        found.low, found.high = low, high
        return found


def step_name(step: int) -> str:
    """Return how a file of a step is called, without its ending.

    >>> step_name(50)
    'step-00000050'
    """
    return f"step-{step:08d}"


def by_step(folder: Path, *endings: str) -> dict[int, Path]:
    """Return the files of steps in a folder, by increasing step; of endings such as ``.png``."""
    found = {
        int(match[1]): path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := re.fullmatch(r"step-(\d+)(\.\w+)", path.name))
        and match[2] in endings
        and path.is_file()
    }
    return dict(sorted(found.items()))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where a run's checkpoint of a step is."""
    return folder / CHECKPOINTS / f"{step_name(step)}.safetensors"


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run's."""
    return (folder / CONFIG).is_file()


def trained(path: Path) -> bool:
    """Return whether a file that is there is one of those that a run's training made."""
    return path.is_file() and any(
        is_run(folder) and path.relative_to(folder).parts[0] in TRAINED for folder in path.parents
    )
