"""The command line: ``steadygan COMMAND``. Thin: it reads arguments, calls the library and prints."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import inspect
import itertools
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from rich.console import Console
from rich.table import Table

from . import __version__
from .core.conventions import CONVENTIONS, convert_gamma
from .core.errors import SteadyganError, unknown
from .core.game import Game
from .core.registry import KINDS, build, describe, expand, lookup, names
from .experiments.demo import demo
from .problems import Problem
from .training import Config, Outcome, resume, train
from .training.logging import write_samples
from .training.networks import load_sampler

Modules = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        name="import", metavar="MODULE", help="your own module, by name or by path, that registers more names", help_behavior_hint=""
    ),
    tyro.conf.UseAppendAction,
]
Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="a run folder that 'steadygan train' made")]


def _spec(kind: str, text: str, default: str | None = None) -> Any:
    return tyro.conf.arg(
        metavar="SPEC", help=f"{text}; see 'steadygan list {kind}'", help_behavior_hint=default and f"(default: {default})"
    )


def _arg(metavar: str, text: str, default: str = "") -> Any:
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint=f"(default: {default})" if default else "")


_OWN = "the problem's own"


@dataclass(frozen=True)
class Train:
    """Train a GAN and write a run folder.

    Examples:
      steadygan train mixture3d --objective minimax --dynamics alternating:critic_steps=5 --regularizer js:gamma=0.1 --steps 3000
      steadygan train images --data photos.zip --resolution 32 --network dcgan --regularizer js:gamma=2,anneal=0.01 --out runs/photos
      steadygan train dirac --regularizer r1:gamma=0.3 --dynamics simultaneous
    """

    problem: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PROBLEM", help="what is played; see 'steadygan list problem'")]
    data: Annotated[str | None, _arg("PATH", "images: a folder, zip, npz/npy, CIFAR archive, IDX file, 'digits' or 'hf:NAME'")] = None
    resolution: Annotated[int | None, _arg("N", "images: pixels a side", "32")] = None
    channels: Annotated[int | None, _arg("N", "images: 3 for colour, 1 for grey", "3")] = None
    conditional: Annotated[bool, tyro.conf.arg(help="images: train a class-conditional GAN on the folder names")] = False
    flip: Annotated[bool, tyro.conf.arg(help="images: mirror at random")] = True
    broken: Annotated[Literal["refuse", "skip"], tyro.conf.arg(help="images: what to do with one that cannot be read")] = "refuse"
    objective: Annotated[str | None, _spec("objective", "what the players minimise", _OWN)] = None
    regularizer: Annotated[
        tuple[str, ...],
        _spec("regularizer", "penalty on the critic, gamma/2 times a mean square; repeated ones add up", "none"),
        tyro.conf.UseAppendAction,
    ] = ()
    smoothing: Annotated[str | None, _spec("smoothing", "noise on the samples", "none")] = None
    dynamics: Annotated[str, _spec("dynamics", "who moves when")] = "alternating"
    constraint: Annotated[str | None, _spec("constraint", "what the critic's parameters obey", "none")] = None
    network: Annotated[str | None, _spec("network", "architectures of both players", _OWN)] = None
    optimizer: Annotated[str | None, _spec("optimizer", "of both players", _OWN)] = None
    critic_optimizer: Annotated[str | None, _spec("optimizer", "of the critic, if it is another one", "as --optimizer")] = None
    steps: Annotated[int | None, _arg("N", "how long", _OWN)] = None
    batch: Annotated[int | None, _arg("N", "samples an update", _OWN)] = None
    latent: Annotated[int | None, _arg("N", "dimension of the generator's input", _OWN)] = None
    latent_distribution: Annotated[
        Literal["normal", "uniform"] | None, _arg("normal|uniform", "of the generator's input; uniform is on [-1, 1]", _OWN)
    ] = None
    ema: Annotated[float | None, _arg("DECAY", "of the moving average of the generator that is sampled; 0 for none", _OWN)] = None
    seed: Annotated[int, tyro.conf.arg(metavar="N", help="one seed gives the same run on the same machine")] = 0
    device: Annotated[str, tyro.conf.arg(metavar="NAME", help="cpu, cuda, cuda:1, or auto")] = "auto"
    log_every: Annotated[int, tyro.conf.arg(metavar="N", help="steps between lines of metrics.jsonl")] = 50
    evaluate_every: Annotated[int, _arg("N", "steps between samples and metrics", "a tenth of the steps")] = 0
    checkpoint_every: Annotated[int, _arg("N", "steps between checkpoints", "a tenth of the steps")] = 0
    keep_checkpoints: Annotated[int, tyro.conf.arg(metavar="N", help="how many of the newest stay")] = 2
    stop_on: Annotated[
        tuple[str, ...],
        _arg("KIND", "stop at this trouble, repeatable: exploding-gradient, critic-won, mode-loss", "only non-finite losses stop a run"),
        tyro.conf.UseAppendAction,
    ] = ()
    out: Annotated[Path | None, _arg("DIR", "run folder", "a new one under runs/")] = None
    modules: Modules = ()

    def run(self) -> int:
        """Train."""
        config = Config(**{f.name: getattr(self, f.name) for f in fields(Config)})
        problem = self._problem()
        out = self.out or _fresh(Path("runs"), "-".join([self.problem, *self.regularizer]))
        return _finish(train(problem, config, out))

    def _problem(self) -> Problem:
        given: dict[str, Any] = {key: getattr(self, key) for key in ("data", "resolution", "channels") if getattr(self, key) is not None}
        given |= {"conditional": True} if self.conditional else {}
        given |= {} if self.flip else {"flip": False}
        given |= {"broken": self.broken} if self.broken != "refuse" else {}
        if self.data is not None and Path(self.data).exists():
            given["data"] = str(Path(self.data).resolve())  # so that the run can be resumed from another folder
        if self.problem == "images":
            if self.data is None:
                raise SteadyganError(
                    "train images needs --data PATH: a folder, zip, npz or npy of images, or 'digits' for a small bundled set."
                )
            return lookup("problem", "images")(**given)  # type: ignore[no-any-return]
        problem: Problem = build("problem", self.problem)
        if given:
            raise SteadyganError(f"--{next(iter(given))} belongs to 'train images'; {self.problem} makes its own samples.")
        return problem


@dataclass(frozen=True)
class Resume:
    """Continue a run from its newest checkpoint, with the same bits as if it had never stopped.

    Example:
      steadygan resume runs/photos
    """

    path: Folder
    steps: Annotated[
        int | None, tyro.conf.arg(metavar="N", help="extend the run to this many steps; annealed strengths stretch with it")
    ] = None
    modules: Modules = ()

    def run(self) -> int:
        """Resume."""
        return _finish(resume(self.path, steps=self.steps))


@dataclass(frozen=True)
class Sample:
    """Draw samples from a trained run: a PNG grid of images, or an NPZ of vectors.

    Examples:
      steadygan sample runs/photos --n 100 --seed 3 --out samples.png
      steadygan sample runs/mixture3d-js --n 5120 --out samples.npz
    """

    path: Folder
    n: Annotated[int, tyro.conf.arg(metavar="N", help="how many")] = 64
    seed: Annotated[int, tyro.conf.arg(metavar="N", help="of the latents")] = 0
    checkpoint: Annotated[Path | None, _arg("FILE", "a checkpoint", "the newest")] = None
    out: Annotated[Path | None, _arg("FILE", "ends in .png (images) or .npz", "in the run folder")] = None
    modules: Modules = ()

    def run(self) -> int:
        """Sample."""
        if self.n < 1:
            raise SteadyganError(f"--n must be at least 1, not {self.n}.")
        sample, step = load_sampler(self.path, self.checkpoint)
        x = sample(self.n, self.seed)
        out = self.out or self.path / f"sample-step{step}-seed{self.seed}.{'png' if x.ndim == 4 else 'npz'}"
        write_samples(out, x)
        print(out)
        return 0


@dataclass(frozen=True)
class List:
    """Show every name that specs may use, with its settings.

    Examples:
      steadygan list
      steadygan list regularizer
      steadygan list --json
    """

    kind: Annotated[str | None, tyro.conf.Positional, _arg("KIND", ", ".join(KINDS), "all")] = None
    json: Annotated[bool, tyro.conf.arg(help="names by kind, for programs")] = False
    modules: Modules = ()

    def run(self) -> int:
        """List."""
        if self.kind is not None and self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        kinds = KINDS if self.kind is None else (self.kind,)
        if self.json:
            print(json.dumps({kind: names(kind) for kind in kinds}, indent=2))
            return 0
        for kind in kinds:
            table = Table(title=kind, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
            table.add_column("name", style="cyan", no_wrap=True)
            table.add_column("settings (default)")
            table.add_column("what it is")
            for entry in describe(kind):
                settings = ", ".join(f"{key}={value}" if value else key for key, value in entry.settings.items())
                table.add_row(entry.name, settings, entry.summary)
            Console(highlight=False).print(table, "")
        return 0


@dataclass(frozen=True)
class ConvertGamma:
    """Translate another codebase's penalty strength into this project's gamma (gamma/2 times the mean squared norm).

    Example:
      steadygan convert-gamma --from gan-stability 10
    """

    strength: Annotated[float, tyro.conf.Positional, tyro.conf.arg(metavar="C", help="the strength over there")]
    source: Annotated[str, tyro.conf.arg(name="from", metavar="NAME", help=", ".join(CONVENTIONS))]
    json: Annotated[bool, tyro.conf.arg(help="for programs")] = False

    def run(self) -> int:
        """Convert."""
        gamma = convert_gamma(self.source, self.strength)
        there = CONVENTIONS[self.source]
        if self.json:
            print(json.dumps({"gamma": gamma, "from": self.source, "strength": self.strength, "factor": there.factor, "term": there.term}))
        else:
            print(f"gamma = {gamma:g}")
            print(f"{self.source} adds {there.term} with c = {self.strength:g} ({there.source}).")
            print(f"Here the penalty is gamma/2 times the mean, so gamma = {there.factor:g} c = {gamma:g}.")
        return 0


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one run or several.

    Example:
      steadygan report runs/unregularized runs/regularized --out comparison.html
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="run folders")]
    out: Annotated[Path | None, _arg("FILE", "where", "report.html in the run, or beside the runs")] = None

    def run(self) -> int:
        """Write the report."""
        from .report import write_report  # here, because drawing takes a second to import

        if not self.paths:
            raise SteadyganError("report needs at least one run folder.")
        print(write_report(list(self.paths), self.out))
        return 0


@dataclass(frozen=True)
class Analyze:
    """Say whether a method converges on the Dirac-GAN, and why: eigenvalues, rate, critical gamma, largest stable learning rate.

    Every option takes a grid in braces, and 'all' for every registered name; the closed form stands beside what autodiff gives.

    Examples:
      steadygan analyze dirac --regularizer r1:gamma={0,0.3,1,3} --dynamics simultaneous --lr 0.2
      steadygan analyze dirac --regularizer all --dynamics {simultaneous,alternating:critic_steps=5}
      steadygan analyze dirac --objective all --regularizer js:gamma=2 --json
      steadygan analyze dirac --objective minimax --regularizer {,r1:gamma=0.3,wgan-gp:gamma=0.7} --plot dirac.png
    """

    game: Annotated[Literal["dirac"], tyro.conf.Positional, tyro.conf.arg(metavar="dirac", help="the game whose closed forms are known")]
    objective: Annotated[str, _spec("objective", "what the players minimise")] = "nonsaturating"
    regularizer: Annotated[
        tuple[str, ...], _spec("regularizer", "penalty on the critic; repeated ones add up", "none"), tyro.conf.UseAppendAction
    ] = ()
    smoothing: Annotated[str | None, _spec("smoothing", "noise on the samples", "none")] = None
    dynamics: Annotated[str, _spec("dynamics", "who moves when")] = "alternating"
    lr: Annotated[str, tyro.conf.arg(metavar="H", help="learning rate of both players")] = "0.2"
    json: Annotated[bool, tyro.conf.arg(help="a list of records, for programs")] = False
    plot: Annotated[Path | None, _arg("FILE", "draw each method's trajectory over its field; ends in .png, .pdf or .svg", "none")] = None
    modules: Modules = ()

    def run(self) -> int:
        """Analyze."""
        from .analysis.convergence import analyze_dirac
        from .report.tables import records

        if self.plot is not None:
            from .report.portraits import ending

            ending(self.plot)
        sets = [[r for r in combination if r] for combination in itertools.product(*(_grid("regularizer", r) for r in self.regularizer))]
        try:
            lrs = [float(h) for h in expand(self.lr)]
        except ValueError:
            raise SteadyganError(f"--lr takes a number or a grid of numbers, not {self.lr!r}.") from None
        smoothings = [None] if self.smoothing is None else [s or None for s in _grid("smoothing", self.smoothing)]
        found = analyze_dirac(_grid("objective", self.objective), sets, smoothings, _grid("dynamics", self.dynamics), lrs)
        if self.json:
            print(json.dumps([record.to_json() for record in found], indent=2))
        else:
            Console(highlight=False).print(records(found))
        if self.plot is not None:
            self._draw(found, self.plot)
        return 0

    def _draw(self, records: Sequence[Any], out: Path) -> None:
        from .analysis.portrait import portrait
        from .report.portraits import Panel, portrait_sheet, save_figure

        panels = []
        for row in records:
            game = Game(row.objective, row.regularizer.split(" + ") if row.regularizer else [], row.smoothing)
            seen = portrait(game, row.dynamics, row.lr)
            title = " + ".join(filter(None, (row.regularizer, row.smoothing))) or "no regularizer"
            note = f"r = {math.hypot(*seen.path[-1]):.2g} after {len(seen.path) - 1} steps; {row.reason}"
            panels.append(Panel(title, f"{row.objective}, {row.dynamics}, lr={row.lr:g}", note, *seen, row.converges))
        print("picture:", save_figure(portrait_sheet(panels), out), file=sys.stderr if self.json else sys.stdout)


@dataclass(frozen=True)
class Diagnose:
    """Say what is wrong with a GAN, or nothing: local stability, rotation, gradients, the critic, and the one change to try first.

    A run folder is taken at its newest checkpoint. A .py file is run, so give only one that you trust; its make_game() returns a dict with
    generator, critic, data, latents, objective and lr (or optimizers), and optionally regularizers, dynamics, labels.

    Examples:
      steadygan diagnose runs/photos --out diagnosis.html
      steadygan diagnose my_gan.py --regularizer r1:gamma=10 --regularizer js:gamma=2 --json
    """

    subject: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|FILE.py", help="a run folder, or a file with make_game()")]
    regularizer: Annotated[
        tuple[str, ...], _spec("regularizer", "what would it change? repeatable", "r1:gamma=1 and js:gamma=1"), tyro.conf.UseAppendAction
    ] = ()
    budget: Annotated[int, tyro.conf.arg(metavar="N", help="products with Jacobians, for networks beyond 300 parameters")] = 150
    out: Annotated[Path | None, _arg("FILE", "write a page with the picture of the eigenvalues", "none")] = None
    json: Annotated[bool, tyro.conf.arg(help="for programs")] = False
    modules: Modules = ()

    def run(self) -> int:
        """Diagnose."""
        from .experiments.subjects import load_subject

        subject = load_subject(self.subject)
        found = subject.diagnose(self.regularizer, budget=self.budget)
        data = found.to_json()
        print(json.dumps(data, indent=2) if self.json else "\n".join([*data["words"], *found.notes]))
        if self.out:
            from .report.diagnosis import write_diagnosis

            print("page:", write_diagnosis(subject.name, data, self.out), file=sys.stderr if self.json else sys.stdout)
        return 0


@dataclass(frozen=True)
class Demo:
    """Watch an unregularized GAN fall and a regularized one stand: the 3-D mixture of Roth et al. 2017, in a few minutes.

    Example:
      steadygan demo --steps 3000
    """

    steps: Annotated[int, tyro.conf.arg(metavar="N", help="iterations of each run")] = 3000
    seed: Annotated[int, tyro.conf.arg(metavar="N", help="of both runs")] = 0
    out: Annotated[Path | None, _arg("DIR", "where the runs, the picture and the report go", "a new one under runs/")] = None

    def run(self) -> int:
        """Run both and compare."""
        from .report import Run, comparison_picture, write_report

        if self.steps < 1:
            raise SteadyganError(f"--steps must be at least 1, not {self.steps}.")
        out = self.out or _fresh(Path("runs"), "demo")
        rows = demo(out, self.steps, self.seed)
        heads = {"modes": "modes of 7", "hq10": "high-quality share", "sw1": "sliced Wasserstein", "critic_loss": "D loss (no penalty)"}
        table = Table("", *heads.values(), title=f"3-D mixture after {self.steps} iterations, medians over the last third")
        for row in rows:
            table.add_row(row.name, *(f"{row.figures[name]:.3g}" for name in heads))
        Console(highlight=False).print(table)
        runs = [row.outcome.path for row in rows]
        print("picture:", comparison_picture([Run.read(run) for run in runs], out / "demo.png"))
        print("report: ", write_report(runs, out / "report.html"))
        return 0


COMMANDS: dict[str, type] = {
    "train": Train,
    "resume": Resume,
    "sample": Sample,
    "report": Report,
    "analyze": Analyze,
    "diagnose": Diagnose,
    "list": List,
    "convert-gamma": ConvertGamma,
    "demo": Demo,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 for input that is refused (the reason on standard error), 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        about = f"steadygan {__version__}: trains GANs that do not fall over, and says why."
        command: Any = tyro.cli(_commands(argv), args=argv, prog="steadygan", description=about)
        for module in getattr(command, "modules", ()):
            _import(module)
        return int(command.run())
    except SteadyganError as error:
        print(f"steadygan: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 2


def entry() -> None:
    """Start the command line as a program."""
    _keep_memory()
    sys.exit(main())


def _commands(argv: Sequence[str]) -> Any:
    """Return the union of all commands; only the one that is called shows its examples, so that the list of all stays short."""
    members = []
    for name, cls in COMMANDS.items():
        text = inspect.getdoc(cls) or ""
        members.append(Annotated[cls, tyro.conf.subcommand(name, description=text if name in argv[:1] else text.splitlines()[0])])
    return Union[tuple(members)]  # noqa: UP007 - the members are known at run time only


def _keep_memory() -> None:
    """Tell glibc to keep freed memory: small training loops otherwise spend up to a third of their time on page faults."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    for option, value in ((trim_threshold, 1 << 30), (top_pad, 1 << 26), (mmap_threshold, 1 << 30)):
        mallopt(option, value)


def _finish(outcome: Outcome) -> int:
    print(outcome.path)
    if outcome.state == "finished":
        return 0
    print(f"steadygan: {outcome.state} at step {outcome.step}: {outcome.reason}.", file=sys.stderr)
    print(f"steadygan: continue with: steadygan resume {outcome.path}", file=sys.stderr)
    return 130 if outcome.state == "interrupted" else 1


def _fresh(parent: Path, name: str) -> Path:
    stem = re.sub(r"[^\w.=-]+", "-", name).strip("-")
    path = parent / stem
    number = 2
    while path.exists():
        path = parent / f"{stem}-{number}"
        number += 1
    return path


def _grid(kind: str, text: str) -> list[str]:
    return [name for part in expand(text) for name in (names(kind) if part == "all" else [part])]


def _import(module: str) -> None:
    path = Path(module)
    try:
        if path.suffix == ".py":
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None or not path.is_file():
                raise SteadyganError(f"--import {module}: there is no such file.")
            found = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = found
            spec.loader.exec_module(found)
        else:
            # As with python -m: what lies in the present folder can be imported.
            sys.path.insert(0, "")
            importlib.import_module(module)
    except ImportError as error:
        raise SteadyganError(f"--import {module}: {error}. Give a module's name or the path of a .py file.") from error
