"""The command that trains: train."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..core.errors import SteadyganError
from ..runs.monitor import DEAD, KINDS
from .arguments import (
    OWN,
    Broken,
    Limit,
    Modules,
    ValueRange,
    arg,
    flag,
    fresh,
    spec,
    whereabouts,
    whole,
)
from .ended import finish

if TYPE_CHECKING:
    from ..problems import Problem
    from ..runs.config import Config

_TROUBLES = [kind for kind in KINDS if kind not in DEAD]  # those always stop a run


@dataclass(frozen=True)
class Images:
    """Of 'train images' only. From each picture the largest central part is taken, then reduced."""

    data: Annotated[
        str | None,
        arg("PATH", "a folder, zip, npz/npy, CIFAR archive, IDX file, 'digits' or 'hf:NAME'"),
    ] = None
    resolution: Annotated[str | None, arg("N|WIDTHxHEIGHT", "pixels a side", "32")] = None
    channels: Annotated[int | None, whole("N", "3 for colour, 1 for grey", "3")] = None
    conditional: Annotated[bool, flag("train a class-conditional GAN")] = False
    flip: Annotated[bool, flag("mirror at random")] = True
    broken: Broken = "refuse"
    classes_from: Annotated[
        str,
        arg(
            "WHERE",
            "where --conditional finds the classes: level=N of the folders, dataset.json,"
            " column=NAME, none",
            name="classes",
        ),
    ] = "auto"
    value_range: ValueRange = "auto"
    limit: Limit = 1.0

    def given(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults."""
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.resolution is not None and self.resolution.isdecimal():
            kept["resolution"] = int(self.resolution)
        return {f.name: kept[f.name] for f in fields(self) if kept[f.name] != f.default}


@dataclass(frozen=True)
class GameOptions:
    """What is played. Specs are NAME or NAME:setting=value,setting=value."""

    objective: Annotated[str | None, spec("objective", "what the players minimise", OWN)] = None
    regularizer: Annotated[
        tuple[str, ...],
        spec(
            "regularizer",
            "penalty on the critic, gamma/2 times a mean square; repeated ones add up",
            "none",
        ),
        tyro.conf.UseAppendAction,
    ] = ()
    regularize_generator: Annotated[
        bool,
        flag(
            "the generator's loss has the penalty too, with the opposite sign (Roth et al. 2017,"
            " section 4.1)"
        ),
    ] = False
    augment: Annotated[str | None, spec("augment", "of images, for few of them", "none")] = None
    smoothing: Annotated[str | None, spec("smoothing", "noise on the samples", "none")] = None
    dynamics: Annotated[str, spec("dynamics", "who moves when")] = "alternating"
    constraint: Annotated[
        str | None, spec("constraint", "what the critic's parameters obey", "none")
    ] = None


@dataclass(frozen=True)
class Players:
    """The networks and what moves them."""

    network: Annotated[str | None, spec("network", "architectures of both players", OWN)] = None
    optimizer: Annotated[str | None, spec("optimizer", "of both players", OWN)] = None
    critic_optimizer: Annotated[
        str | None, spec("optimizer", "of the critic, if it is another one", "as --optimizer")
    ] = None
    latent: Annotated[int | None, whole("N", "dimension of the generator's input", OWN)] = None
    latent_distribution: Annotated[
        Literal["normal", "uniform"] | None,
        arg("normal|uniform", "of the generator's input; uniform is on [-1, 1]", OWN),
    ] = None
    ema: Annotated[
        str | None,
        spec("ema", "average of the generator that is sampled: decay or SPEC, 0 for none", OWN),
    ] = None
    ramp: Annotated[
        str | None,
        spec("ramp", "how values of specs spelled START..END change", "cosine, to the last step"),
    ] = None


@dataclass(frozen=True)
class Computation:
    """How it is computed."""

    gradient_path: Annotated[
        Literal[
            "auto", "separate", "joined", "merged", "chain", "compiled", "differences", "one-sided"
        ],
        arg(
            "PATH",
            "how the critic's gradient is computed: separate, joined, merged, chain, compiled,"
            " differences, one-sided, or auto, the fastest exact one",
        ),
    ] = "auto"
    penalty_every: Annotated[
        int, arg("K", "penalize the gradient in every K-th critic update, K times as strong")
    ] = 1
    penalty_share: Annotated[
        float, arg("SHARE", "the part of each batch that gradient penalties look at")
    ] = 1.0
    precision: Annotated[
        Literal["float32", "bfloat16", "float64"],
        arg(
            "float32|bfloat16|float64",
            "of the networks; losses and penalties are in single precision at least",
        ),
    ] = "float32"
    batchnorm: Annotated[
        Literal["local", "synchronized"] | None,
        arg(
            "local|synchronized",
            "with torchrun: batch normalisation of each process's own rows, or of the whole batch",
            "synchronized",
        ),
    ] = None
    compile: Annotated[
        bool,
        flag("many GANs: compile their gradients, minutes at the start for faster steps"),
    ] = False
    cuda_graphs: Annotated[
        bool,
        flag(
            "one GAN on a GPU: replay its gradients from recordings (CUDA graphs), which small"
            " networks gain most from"
        ),
    ] = False
    device: Annotated[str, arg("NAME", "cpu, cuda, cuda:1, or auto")] = "auto"


@dataclass(frozen=True)
class Measuring:
    """What is measured while training; the best checkpoint by the first metric is kept."""

    metrics: Annotated[str, arg("NAMES", "taken at each evaluation, such as fd,kid", "none")] = ""
    metrics_data: Annotated[
        str | None, arg("PATH", "real samples to measure against", "the training data")
    ] = None
    metrics_samples: Annotated[int, arg("N", "how many are measured")] = 2000
    features: Annotated[
        str, arg("SPEC", "what images are compared in; see 'steadygan list features'")
    ] = "effnet-lite0"
    evaluate_every: Annotated[
        int, arg("N", "steps between evaluations: samples and metrics; 0: a tenth of the steps")
    ] = 0


@dataclass(frozen=True)
class Record:
    """What is kept, and when a run stops by itself: always at a loss that is not finite."""

    log_every: Annotated[int, arg("N", "steps between lines of metrics.jsonl")] = 50
    checkpoint_every: Annotated[
        int, arg("N", "steps between checkpoints; 0: a tenth of the steps")
    ] = 0
    keep_checkpoints: Annotated[int, arg("N", "how many of the newest stay")] = 2
    stop_on: Annotated[
        tuple[str, ...],
        arg(
            "KIND",
            f"stop at this trouble too, repeatable: {', '.join(_TROUBLES)}",
            "none",
        ),
        tyro.conf.UseAppendAction,
    ] = ()
    track: Annotated[
        tuple[str, ...],
        spec("tracker", "show the run in tensorboard, wandb or trackio too; repeatable", "none"),
        tyro.conf.UseAppendAction,
    ] = ()


@dataclass(frozen=True)
class Train:
    r"""Train a GAN, or many at once, and write a run folder.

    Many: --seeds, and quoted braces in --regularizer, --smoothing, --optimizer or
    --critic-optimizer that span a grid of strengths and learning rates; small GANs so take a third
    of the time that they take one by one. 'steadygan train PROBLEM --help' shows the problem's own
    defaults. --config takes all of this from a YAML file whose keys are the options, or from a run
    folder; options beside it override it. --preset begins with the settings of a published recipe.

    Examples:
      steadygan train mixture3d --objective minimax --regularizer js:gamma=0.1 \
        --dynamics alternating:critic_steps=5 --steps 3000
      steadygan train images --data photos.zip --resolution 32 --network dcgan \
        --regularizer js:gamma=2,anneal=0.01 --out runs/photos
      steadygan train dirac --regularizer r1:gamma=0.3 --dynamics simultaneous
      steadygan train mixture3d --seeds 32 --regularizer "js:gamma={0.01,0.1,1}"
      steadygan train ring2d --regularizer r1:gamma=1 --dry-run > run.yaml
      steadygan train --config run.yaml --seed 1
      steadygan train images --data photos.zip --preset mescheder --batch 32
    """

    problem: Annotated[
        str,
        tyro.conf.Positional,
        arg("PROBLEM", "what is played; see 'steadygan list problem'", "that of --config"),
    ] = ""
    preset: Annotated[str | None, spec("preset", "a published recipe to begin with", "none")] = None
    steps: Annotated[int | None, whole("N", "how long", OWN)] = None
    batch: Annotated[int | None, whole("N", "samples an update", OWN)] = None
    seed: Annotated[int, arg("N", "one seed gives the same run on the same machine")] = 0
    seeds: Annotated[
        int, arg("N", "how many GANs at once, from --seed on; of each setting in braces")
    ] = 1
    out: Annotated[Path | None, arg("DIR", "run folder", "a new one under runs/")] = None
    config_file: Annotated[
        Path | None,
        arg("FILE", "options from YAML, or from a run folder; others override it", name="config"),
    ] = None
    dry_run: Annotated[bool, flag("print all settings as YAML, and train nothing")] = False
    init: Annotated[
        Path | None, arg("RUN", "start from the networks of another run", "fresh ones")
    ] = None
    modules: Modules = ()
    image: Images = Images()
    game: GameOptions = GameOptions()
    player: Players = Players()
    computation: Computation = Computation()
    measuring: Measuring = Measuring()
    record: Record = Record()

    @staticmethod
    def usual(words: list[str]) -> Train | None:
        """Return what a problem's recipe comes to, for the help.

        Args:
            words: Of the command line; the first one that names a problem counts.

        Returns:
            The command with the problem's own settings as defaults, None where none is named.
        """
        from ..core.registry import lookup, names

        problem = next((word for word in words if word in names("problem")), None)
        if problem is None:
            return None
        recipe = lookup("problem", problem).recipe  # type: ignore[attr-defined]
        usual = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
        usual["ema"] = f"{usual['ema']:g}"

        def taken(cls: type[Any]) -> dict[str, Any]:
            return {f.name: usual[f.name] for f in fields(cls) if f.name in usual}

        return Train(
            problem=tyro.MISSING,
            game=GameOptions(**taken(GameOptions)),
            player=Players(**taken(Players)),
            **taken(Train),
        )

    def config(self) -> Config:
        """Return the configuration that the options spell."""
        from ..runs.config import Config

        groups = (self, self.game, self.player, self.computation, self.measuring, self.record)
        given = {f.name: getattr(group, f.name) for group in groups for f in fields(group)}
        return Config(**{f.name: given[f.name] for f in fields(Config)})

    def run(self) -> int:
        """Return the exit status."""
        from ..training import train, train_fleet
        from ..training.allocator import keep_memory
        from ..training.ranks import here

        keep_memory()
        if self.dry_run:
            from .written import written

            print(written(self, *self.planned()), end="")
            return 0
        problem, members = self.played()
        ranks, out = here(), self.out
        if out is None and ranks.first:
            out = fresh(Path("runs"), "-".join([self.problem, *self.game.regularizer]))
        out = ranks.told(out)
        assert out is not None
        try:
            if len(members) > 1:
                compiled = self.computation.compile
                return finish(train_fleet(problem, members, out, compiled=compiled))
            return finish(train(problem, members[0], out, init=self.init))
        finally:
            if self.out is None:
                with suppress(OSError):  # what was refused leaves no empty folders behind
                    out.rmdir()
                    out.parent.rmdir()

    def planned(self) -> tuple[Problem, list[Config]]:
        """Return the problem and the resolved configurations; data are not read.

        Raises:
            SteadyganError: For what cannot be trained.
        """
        from ..runs.members import alike
        from ..runs.models import build_networks

        problem, members = self.played()
        resolved = alike(problem, members) if len(members) > 1 else [members[0].resolve(problem)]
        build_networks(resolved[0], problem.event, classes=0)
        return problem, resolved

    def played(self) -> tuple[Problem, list[Config]]:
        """Return the problem and every configuration that braces and seeds span."""
        from ..training import grid

        problem = self._problem()
        members = grid(self.config(), self.seeds)
        if len(members) == 1 and self.computation.compile:
            raise SteadyganError(
                "--compile is for many GANs at once: add --seeds N, or leave it out."
            )
        if len(members) > 1 and self.init is not None:
            raise SteadyganError("--init is for one GAN: leave --seeds and braces out.")
        return problem, members

    def _problem(self) -> Problem:
        from ..core.registry import build, lookup

        if not self.problem:
            raise SteadyganError(
                "train needs a PROBLEM, see 'steadygan list problem', or --config FILE that"
                " names one."
            )
        given = self.image.given()
        if "classes_from" in given and not self.image.conditional:
            raise SteadyganError(
                "--classes says where the classes of a class-conditional GAN come from: add"
                " --conditional, or leave it out."
            )
        if self.image.data is not None:
            given["data"] = whereabouts(self.image.data)
        if self.problem == "images":
            if self.image.data is None:
                raise SteadyganError(
                    "train images needs --data PATH: a folder, zip, npz or npy of images, or"
                    " 'digits' for a small bundled set."
                )
            return lookup("problem", "images")(**given)  # type: ignore[no-any-return]
        problem: Problem = build("problem", self.problem)
        if given:
            option = next(iter(given)).removesuffix("_from").replace("_", "-")
            raise SteadyganError(
                f"--{option} belongs to 'train images'; {self.problem} makes its own samples."
            )
        return problem
