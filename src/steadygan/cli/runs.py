"""Commands that make runs, and read them: train, resume, sample, report, demo."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ..core.errors import SteadyganError
from ..core.registry import build, lookup
from ..experiments.demo import EXPECTED, demo
from ..problems import Problem
from ..problems.images import Images
from ..runs.folder import RunFolder
from ..runs.models import load_sampler
from ..runs.monitor import KINDS as TROUBLES
from ..runs.samples import write_samples
from ..training import (
    Config,
    Outcome,
    grid,
    resume,
    train,
    train_fleet,
)
from .arguments import (
    OWN,
    Broken,
    Folder,
    Limit,
    Modules,
    ValueRange,
    arg,
    fresh,
    spec,
)
from .evaluate import judge


@dataclass(frozen=True)
class Train:
    """Train a GAN, or many at once, and write a run folder.

    Many: --seeds, and braces in --regularizer, --smoothing, --optimizer or --critic-optimizer that
    span a grid of strengths and learning rates; small GANs so take a third of the time that they
    take one by one.

    Examples:
      steadygan train mixture3d --objective minimax --dynamics alternating:critic_steps=5
      --regularizer js:gamma=0.1 --steps 3000 steadygan train images --data photos.zip --resolution
      32 --network dcgan --regularizer js:gamma=2,anneal=0.01 --out runs/photos steadygan train
      dirac --regularizer r1:gamma=0.3 --dynamics simultaneous steadygan train mixture3d --seeds 32
      --regularizer "js:gamma={0.01,0.1,1}" --batch 64
    """

    problem: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PROBLEM", help="what is played; see 'steadygan list problem'"),
    ]
    data: Annotated[
        str | None,
        arg(
            "PATH", "images: a folder, zip, npz/npy, CIFAR archive, IDX file, 'digits' or 'hf:NAME'"
        ),
    ] = None
    resolution: Annotated[int | None, arg("N", "images: pixels a side", "32")] = None
    channels: Annotated[int | None, arg("N", "images: 3 for colour, 1 for grey", "3")] = None
    conditional: Annotated[bool, tyro.conf.arg(help="images: train a class-conditional GAN")] = (
        False
    )
    flip: Annotated[bool, tyro.conf.arg(help="images: mirror at random")] = True
    broken: Broken = "refuse"
    classes: Annotated[
        str,
        tyro.conf.arg(
            metavar="WHERE",
            help="images: where --conditional finds them: level=N of the folders, dataset.json,"
            " column=NAME, none",
        ),
    ] = "auto"
    value_range: ValueRange = "auto"
    limit: Limit = 1.0
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
        tyro.conf.arg(
            help="the generator's loss has the penalty too, with the opposite sign (Roth et al."
            " 2017, section 4.1)"
        ),
    ] = False
    smoothing: Annotated[str | None, spec("smoothing", "noise on the samples", "none")] = None
    dynamics: Annotated[str, spec("dynamics", "who moves when")] = "alternating"
    constraint: Annotated[
        str | None, spec("constraint", "what the critic's parameters obey", "none")
    ] = None
    network: Annotated[str | None, spec("network", "architectures of both players", OWN)] = None
    optimizer: Annotated[str | None, spec("optimizer", "of both players", OWN)] = None
    critic_optimizer: Annotated[
        str | None, spec("optimizer", "of the critic, if it is another one", "as --optimizer")
    ] = None
    steps: Annotated[int | None, arg("N", "how long", OWN)] = None
    batch: Annotated[int | None, arg("N", "samples an update", OWN)] = None
    latent: Annotated[int | None, arg("N", "dimension of the generator's input", OWN)] = None
    latent_distribution: Annotated[
        Literal["normal", "uniform"] | None,
        arg("normal|uniform", "of the generator's input; uniform is on [-1, 1]", OWN),
    ] = None
    ema: Annotated[
        float | None,
        arg("DECAY", "of the moving average of the generator that is sampled; 0 for none", OWN),
    ] = None
    gradient_path: Annotated[
        Literal["auto", "separate", "joined", "merged", "compiled"],
        tyro.conf.arg(help="how the critic's gradient is computed; auto: the fastest exact"),
    ] = "auto"
    penalty_every: Annotated[
        int,
        tyro.conf.arg(
            metavar="K", help="penalize the gradient in every K-th critic update, K times as strong"
        ),
    ] = 1
    penalty_share: Annotated[
        float,
        tyro.conf.arg(
            metavar="SHARE", help="the part of each batch that gradient penalties look at"
        ),
    ] = 1.0
    precision: Annotated[
        Literal["float32", "bfloat16"],
        tyro.conf.arg(help="of the networks; losses and penalties are in single precision always"),
    ] = "float32"
    seed: Annotated[
        int, tyro.conf.arg(metavar="N", help="one seed gives the same run on the same machine")
    ] = 0
    seeds: Annotated[
        int,
        tyro.conf.arg(
            metavar="N", help="how many GANs at once, from --seed on; of each setting in braces"
        ),
    ] = 1
    compile: Annotated[
        bool,
        tyro.conf.arg(
            help="many GANs: compile their gradients, minutes at the start for faster steps"
        ),
    ] = False
    device: Annotated[str, tyro.conf.arg(metavar="NAME", help="cpu, cuda, cuda:1, or auto")] = (
        "auto"
    )
    metrics: Annotated[
        str,
        arg(
            "NAMES",
            "taken at each evaluation, such as fd,kid; the best checkpoint by the first is kept",
            "none",
        ),
    ] = ""
    metrics_data: Annotated[
        str | None, arg("PATH", "real samples to measure against", "the training data")
    ] = None
    metrics_samples: Annotated[int, tyro.conf.arg(metavar="N", help="how many are measured")] = 2000
    features: Annotated[
        str,
        tyro.conf.arg(metavar="SPEC", help="of --metrics on images; see 'steadygan list features'"),
    ] = "effnet-lite0"
    log_every: Annotated[
        int, tyro.conf.arg(metavar="N", help="steps between lines of metrics.jsonl")
    ] = 50
    evaluate_every: Annotated[
        int, arg("N", "steps between samples and metrics", "a tenth of the steps")
    ] = 0
    checkpoint_every: Annotated[
        int, arg("N", "steps between checkpoints", "a tenth of the steps")
    ] = 0
    keep_checkpoints: Annotated[
        int, tyro.conf.arg(metavar="N", help="how many of the newest stay")
    ] = 2
    stop_on: Annotated[
        tuple[str, ...],
        arg(
            "KIND",
            f"stop at this trouble, repeatable: {', '.join(k for k in TROUBLES if k != 'non-finite')}",
            "only non-finite losses stop a run",
        ),
        tyro.conf.UseAppendAction,
    ] = ()
    out: Annotated[Path | None, arg("DIR", "run folder", "a new one under runs/")] = None
    modules: Modules = ()

    def run(self) -> int:
        """Train."""
        config = Config(**{f.name: getattr(self, f.name) for f in fields(Config)})
        problem = self._problem()
        out = self.out or fresh(Path("runs"), "-".join([self.problem, *self.regularizer]))
        members = grid(config, self.seeds)
        if len(members) > 1:
            return _finish(train_fleet(problem, members, out, compiled=self.compile))
        if self.compile:
            raise SteadyganError(
                "--compile is for many GANs at once: add --seeds N, or leave it out."
            )
        RunFolder.check(out)  # before features are taken, which may take minutes
        return _finish(train(problem, members[0], out, judge=judge(problem, members[0])))

    def _problem(self) -> Problem:
        settings = ("data", "resolution", "channels")
        given = {k: v for k in settings if (v := getattr(self, k)) is not None}
        usual = {field.name: field.default for field in fields(Images)}
        choices = ("conditional", "flip", "broken", "value_range", "limit")
        asked = {k: getattr(self, k) for k in choices} | {"classes_from": self.classes}
        given |= {k: v for k, v in asked.items() if v != usual[k]}
        if "classes_from" in given and not self.conditional:
            raise SteadyganError(
                "--classes says where the classes of a class-conditional GAN come from: add"
                " --conditional, or leave it out."
            )
        if self.data not in (None, "digits") and Path(self.data).exists():
            # So that the run can be resumed from another folder.
            given["data"] = str(Path(self.data).resolve())
        if self.problem == "images":
            if self.data is None:
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


@dataclass(frozen=True)
class Resume:
    """Continue a run, of one GAN or many, from its newest checkpoint, with the same bits as if it
    had never stopped.

    Example:
      steadygan resume runs/photos
    """

    path: Folder
    steps: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N",
            help="extend the run to this many steps; annealed strengths stretch with it",
        ),
    ] = None
    modules: Modules = ()

    def run(self) -> int:
        """Resume."""
        about = RunFolder.open(self.path).describe()
        measured = judge(about.problem(), about.config)
        return _finish(resume(self.path, steps=self.steps, judge=measured))


@dataclass(frozen=True)
class Sample:
    """Draw samples from a trained run: a PNG grid of images, or an NPZ of vectors.

    Examples:
      steadygan sample runs/photos --n 100 --seed 3 --out samples.png
      steadygan sample runs/mixture3d-js --n 5120 --out samples.npz
      steadygan sample runs/many --member 3 --out third.npz
    """

    path: Folder
    n: Annotated[int, tyro.conf.arg(metavar="N", help="how many")] = 64
    seed: Annotated[int, tyro.conf.arg(metavar="N", help="of the latents")] = 0
    checkpoint: Annotated[Path | None, arg("FILE", "a checkpoint", "the newest")] = None
    member: Annotated[
        int | None, arg("K", "which of many GANs that were trained at once, counted from 0")
    ] = None
    out: Annotated[
        Path | None, arg("FILE", "ends in .png (images) or .npz", "in the run folder")
    ] = None
    modules: Modules = ()

    def run(self) -> int:
        """Sample."""
        if self.n < 1:
            raise SteadyganError(f"--n must be at least 1, not {self.n}.")
        sample, step = load_sampler(self.path, self.checkpoint, member=self.member)
        name = "sample" if self.member is None else f"sample-member{self.member}"
        x = sample(self.n, self.seed)
        out = (
            self.out
            or self.path / f"{name}-step{step}-seed{self.seed}.{'png' if x.ndim == 4 else 'npz'}"
        )
        write_samples(out, x)
        print(out)
        return 0


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one run or several.

    Example:
      steadygan report runs/unregularized runs/regularized --out comparison.html
    """

    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="run folders")
    ]
    out: Annotated[
        Path | None, arg("FILE", "where", "report.html in the run, or beside the runs")
    ] = None

    def run(self) -> int:
        """Write the report."""
        from ..report import write_report  # here, because drawing takes a second to import

        if not self.paths:
            raise SteadyganError("report needs at least one run folder.")
        print(write_report(list(self.paths), self.out))
        return 0


@dataclass(frozen=True)
class Demo:
    """Watch an unregularized GAN fall and a regularized one stand: the 3-D mixture of Roth et al.
    2017, in a few minutes.

    Example:
      steadygan demo --steps 3000
    """

    steps: Annotated[int, tyro.conf.arg(metavar="N", help="iterations of each run")] = 2500
    seed: Annotated[int, tyro.conf.arg(metavar="N", help="of both runs")] = 0
    out: Annotated[
        Path | None,
        arg("DIR", "where the runs, the picture and the report go", "a new one under runs/"),
    ] = None

    def run(self) -> int:
        """Run both and compare."""
        from ..report import Run, comparison_picture, write_report

        if self.steps < 1:
            raise SteadyganError(f"--steps must be at least 1, not {self.steps}.")
        out = self.out or fresh(Path("runs"), "demo")
        rows = demo(out, self.steps, self.seed)
        heads = {
            "modes": "modes of 7",
            "hq10": "high-quality share",
            "sw1": "sliced Wasserstein",
            "critic_loss": "D loss (no penalty)",
        }
        table = Table(
            "",
            *heads.values(),
            title=f"3-D mixture after {self.steps} iterations, medians over the last third",
        )
        for row in rows:
            table.add_row(row.name, *(f"{row.figures[name]:.3g}" for name in heads))
            table.add_row(
                "  expected", *(EXPECTED[row.name].get(name, "") for name in heads), style="dim"
            )
        Console(highlight=False).print(table)
        runs = [row.outcome.path for row in rows]
        print("picture:", comparison_picture([Run.read(run) for run in runs], out / "demo.png"))
        print("report: ", write_report(runs, out / "report.html"))
        return 0


def _finish(outcome: Outcome) -> int:
    print(outcome.path)
    for i, member in enumerate(outcome.members):
        if member.state == "stopped":
            print(
                f"steadygan: member {i} stopped at step {member.step}: {member.reason}.",
                file=sys.stderr,
            )
    if outcome.state == "finished":
        return 0
    print(f"steadygan: {outcome.state} at step {outcome.step}: {outcome.reason}.", file=sys.stderr)
    print(f"steadygan: continue with: steadygan resume {outcome.path}", file=sys.stderr)
    return 130 if outcome.state == "interrupted" else 1
