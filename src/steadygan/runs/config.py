"""The whole configuration of a run: every choice.

Resolved and checked before anything is computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args

import torch

from ..core.errors import SteadyganError, unknown
from ..core.game import Game
from ..core.gradients import GradientPath
from ..core.players import Name
from ..core.registry import build, lookup, spec
from ..core.schedules import ramped, settled
from ..problems.problem import Problem
from .averages import Decay, canonical
from .monitor import KINDS
from .optimizers import OptimizerSpec

_Part = TypeVar("_Part")

_OPTIONAL = (
    "regularizer",
    "augment",
    "smoothing",
    "constraint",
    "ema",
    "metrics",
    "stop_on",
    "track",
)
"""What a run may have none of: the word ``none`` takes back what a file or a preset gives."""

VARIED = ("regularizer", "smoothing", "optimizer", "critic_optimizer", "seed")
"""Where GANs that are trained at once may differ: within the specs in strengths and learning rates
only."""


@dataclass(frozen=True)
class Config:
    """What a run does. Choices are specs; None means the problem's own recipe.

    ``preset`` only says which published recipe (presets.py) it was begun with; its settings stand
    in the others. Attributes in steps: ``steps`` (critic and generator each as often as the
    dynamics says), ``log_every``, ``evaluate_every``, ``checkpoint_every`` (0: a tenth of the
    steps). ``ema`` is the decay of the generator's moving average, 0 for none, or a spec
    (averages.py). ``ramp`` says how long, and how, what is spelled START..END in specs goes from
    one to the other (ramps.py).
    ``gradient_path`` is how the critic's gradient is computed (core/gradients.py); gradient
    penalties are taken in every
    ``penalty_every``-th critic update, where they count as often, on ``penalty_share`` of the
    batch. ``regularize_generator`` takes them into the generator's loss too (``Game``), on the
    whole batch. ``metrics`` are taken at each evaluation of ``metrics_samples`` samples against
    ``metrics_data`` (None: the training data) in ``features``; the first drives best. ``track``
    names trackers that show the run; they change nothing of it. ``batchnorm`` says what batch
    normalisation sees on several processes: "synchronized", also where it is None, the rows of all,
    as in one process; "local", those of its own. ``cuda_graphs`` lets a GPU replay the gradients of
    one GAN from recordings (core/players/recorded.py); None lets it where the device is one.
    """

    preset: str | None = None
    objective: str | None = None
    regularizer: tuple[str, ...] = ()
    regularize_generator: bool = False
    augment: str | None = None
    smoothing: str | None = None
    dynamics: str = "alternating"
    constraint: str | None = None
    network: str | None = None
    optimizer: str | None = None
    critic_optimizer: str | None = None
    steps: int | None = None
    batch: int | None = None
    latent: int | None = None
    latent_distribution: Literal["normal", "uniform"] | None = None
    ema: float | str | None = None
    ramp: str | None = None
    gradient_path: GradientPath = "auto"
    penalty_every: int = 1
    penalty_share: float = 1.0
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    batchnorm: Literal["local", "synchronized"] | None = None
    cuda_graphs: bool | None = False
    seed: int = 0
    device: str = "auto"
    metrics: str = ""
    metrics_data: str | None = None
    metrics_samples: int = 2000
    features: str = "effnet-lite0"
    log_every: int = 50
    evaluate_every: int = 0
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    stop_on: tuple[str, ...] = ()
    track: tuple[str, ...] = ()

    def resolve(self, problem: Problem) -> Config:
        """Return the configuration with every choice made and spelled canonically.

        Raises:
            SteadyganError: For a choice that cannot be.
        """
        recipe = problem.recipe
        given: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        given |= {name: _without_none(name, given[name]) for name in _OPTIONAL}
        for field in fields(recipe):
            if given[field.name] is None:
                given[field.name] = getattr(recipe, field.name)
        if given["preset"] is not None:
            lookup("preset", given["preset"])
        for kind in (
            "objective",
            "dynamics",
            "network",
            "optimizer",
            "augment",
            "smoothing",
            "constraint",
            "ramp",
        ):
            given[kind] = None if given[kind] is None else spec(build(kind, given[kind]))
        given["critic_optimizer"] = spec(
            build("optimizer", given["critic_optimizer"] or given["optimizer"])
        )
        given["regularizer"] = tuple(spec(build("regularizer", r)) for r in given["regularizer"])
        given["track"] = tuple(dict.fromkeys(spec(build("tracker", t)) for t in given["track"]))
        for name in filter(None, (name.strip() for name in given["metrics"].split(","))):
            build("metric", name)  # an unknown one is refused now
        given["ema"] = canonical(given["ema"])
        _check(given)
        if given["augment"] and len(problem.event) != 3:
            raise SteadyganError("augment changes images: leave it out, this problem has none.")
        given["device"] = _device(given["device"])
        on_gpu = given["device"].startswith("cuda")
        if given["cuda_graphs"] is None:
            given["cuda_graphs"] = on_gpu
        if given["cuda_graphs"] and not on_gpu:
            raise SteadyganError(
                f"cuda_graphs is for a GPU, and the device is {given['device']}: leave it out, or"
                " give --device cuda."
            )
        if given["cuda_graphs"] and given["precision"] == "bfloat16":
            raise SteadyganError(
                "cuda_graphs goes with precision float32 or float64: autocast keeps copies of the"
                " parameters, which a recording would never see move."
            )
        tenth = max(1, given["steps"] // 10)
        given["evaluate_every"] = given["evaluate_every"] or tenth
        given["checkpoint_every"] = given["checkpoint_every"] or tenth
        resolved = Config(**given)
        resolved.game().lazy(0, resolved.penalty_every)  # what a game refuses is refused now
        resolved._check_whole()
        return resolved

    def _check_whole(self) -> None:
        """Refuse what the dynamics would ignore, or make something else of."""
        why = build("dynamics", self.dynamics).whole
        asked = {
            f"penalty_every={self.penalty_every}": self.penalty_every > 1,
            f"penalty_share={self.penalty_share:g}": self.penalty_share < 1,
            f"gradient_path={self.gradient_path}": self.gradient_path not in ("auto", "separate"),
        }
        for spelled in (spelled for spelled, given in asked.items() if given and why):
            raise SteadyganError(f"{spelled} does not go with {self.dynamics}: {why}.")

    def game(self) -> Game:
        """Return the game that this configuration spells."""
        smoothing = self.smoothing and self.ramped(build("smoothing", self.smoothing))
        return Game(
            self.objective or "nonsaturating",
            [self.ramped(build("regularizer", each)) for each in self.regularizer],
            smoothing,
            self.constraint,
            self.regularize_generator,
            augment=self.augment,
        )

    def optimizers(self, step: int = 0) -> dict[Name, OptimizerSpec]:
        """Return the settings of each player's optimizer in the step after so many."""
        progress = min(1.0, step / (self.steps or 1))
        given: dict[Name, str | None] = {
            "generator": self.optimizer,
            "critic": self.critic_optimizer or self.optimizer,
        }
        return {
            name: settled(self.ramped(build("optimizer", each)), progress)
            for name, each in given.items()
        }

    def ramped(self, part: _Part) -> _Part:
        """Return what is spelled with START..END, on the way that ``ramp`` says."""
        way = build("ramp", self.ramp or "cosine")
        return ramped(part, way.until((self.steps or 1) * (self.batch or 1)), way)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``config.json``."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Config:
        """Return the configuration that ``to_json`` wrote."""
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in data.items()
        }
        return Config(**given)


def _without_none(name: str, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(each for each in value if each != "none")
    if value != "none":
        return value
    return 0.0 if name == "ema" else getattr(Config, name)


def _check(given: Mapping[str, Any]) -> None:
    """Refuse numbers and words that make no sense, before anything is computed."""
    counts = {
        "steps": 1,
        "batch": 1,
        "latent": 1,
        "penalty_every": 1,
        "log_every": 1,
        "evaluate_every": 0,
        "checkpoint_every": 0,
    }
    for name, least in counts.items():
        if not least <= given[name] < 2**63:
            most = "" if given[name] < least else " and below 2^63"
            raise SteadyganError(
                f"{name} must be a whole number >= {least}{most}, not {given[name]}."
            )
    if given["keep_checkpoints"] < 1:
        raise SteadyganError(
            "keep_checkpoints must be at least 1, so that a run can be resumed, not"
            f" {given['keep_checkpoints']}."
        )
    if isinstance(given["ema"], float):
        Decay(given["ema"])
    if given["latent_distribution"] not in ("normal", "uniform"):
        raise unknown(
            "latent distribution", str(given["latent_distribution"]), ("normal", "uniform")
        )
    if not 0 < given["penalty_share"] <= 1:
        raise SteadyganError(
            "penalty_share is the part of each batch that is penalized, in (0, 1], not"
            f" {given['penalty_share']:g}."
        )
    for name, choices in {
        "gradient_path": get_args(GradientPath),
        "precision": ("float32", "bfloat16", "float64"),
        "batchnorm": (None, "local", "synchronized"),
    }.items():
        if given[name] not in choices:
            raise unknown(name.replace("_", " "), given[name], choices)
    for kind in given["stop_on"]:
        if kind not in KINDS:
            raise unknown("trouble to stop on", kind, KINDS)


def problem_to_json(problem: Problem) -> dict[str, Any]:
    """Return a problem's name and settings as plain data."""
    name = spec(problem).partition(":")[0]
    return {"name": name, **asdict(problem)}  # type: ignore[call-overload]


def problem_from_json(data: dict[str, Any]) -> Problem:
    """Return the problem that ``problem_to_json`` described."""
    settings = {key: value for key, value in data.items() if key != "name"}
    problem: Problem = lookup("problem", data["name"])(**settings)
    return problem


MADE = ("optimizer", "critic_optimizer", "device")
"""What may change on a run's way and decides what a checkpoint's numbers are, so it holds them."""


def made(config: Config, tree: Mapping[str, Any]) -> Config:
    """Return a run's configuration as it was when a checkpoint was made, which may be earlier.

    Folders of version 0.1.0 do not say it: there it is what the folder says.
    """
    return replace(config, **{name: tree["made"][name] for name in MADE} if "made" in tree else {})


def stream_seed(seed: int, stream: str) -> int:
    """Return an independent seed for each stream of randomness.

    No two share their draws, whatever the run's seed is.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:7], "big")


def names_code(features: str) -> bool:
    """Return whether features are somebody's own code, which only who runs it may name.

    >>> names_code("pixels:size=8"), names_code("mine.py:extractor")
    (False, True)
    """
    return features.rpartition(":")[0].endswith(".py")


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        # Its first sentence: torch goes on with every backend that it knows.
        reason = re.split(r"[.!](?:\s|$)", str(error))[0]
        raise SteadyganError(
            f"The device {name!r} cannot be used here: {reason}. Try --device cpu."
        ) from None
    return name
