"""Commands that explain: analyze, diagnose, list, convert-gamma."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ..core.conventions import CONVENTIONS, convert_gamma
from ..core.errors import SteadyganError, unknown
from ..core.game import Game
from ..core.registry import KINDS, describe, expand, names
from .arguments import Modules, arg, grid, spec


@dataclass(frozen=True)
class Analyze:
    """Say whether a method converges on the Dirac-GAN, and why: eigenvalues, rate, critical gamma,
    largest stable learning rate.

    Every option takes a grid in braces, and 'all' for every registered name; the closed form stands
    beside what autodiff gives.

    Examples:
      steadygan analyze dirac --regularizer r1:gamma={0,0.3,1,3} --dynamics simultaneous --lr 0.2
      steadygan analyze dirac --regularizer all --dynamics {simultaneous,alternating:critic_steps=5}
      steadygan analyze dirac --objective all --regularizer js:gamma=2 --json
      steadygan analyze dirac --objective minimax --regularizer {,r1:gamma=0.3,wgan-gp:gamma=0.7}
      --plot dirac.png
    """

    game: Annotated[
        Literal["dirac"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="dirac", help="the game whose closed forms are known"),
    ]
    objective: Annotated[str, spec("objective", "what the players minimise")] = "nonsaturating"
    regularizer: Annotated[
        tuple[str, ...],
        spec("regularizer", "penalty on the critic; repeated ones add up", "none"),
        tyro.conf.UseAppendAction,
    ] = ()
    smoothing: Annotated[str | None, spec("smoothing", "noise on the samples", "none")] = None
    dynamics: Annotated[str, spec("dynamics", "who moves when")] = "alternating"
    lr: Annotated[str, tyro.conf.arg(metavar="H", help="learning rate of both players")] = "0.2"
    json: Annotated[bool, tyro.conf.arg(help="a list of records, for programs")] = False
    plot: Annotated[
        Path | None,
        arg(
            "FILE",
            "draw each method's trajectory over its field; ends in .png, .pdf or .svg",
            "none",
        ),
    ] = None
    modules: Modules = ()

    def run(self) -> int:
        """Analyze."""
        from ..analysis.convergence import analyze_dirac
        from ..report.tables import records

        if self.plot is not None:
            from ..report.portraits import ending

            ending(self.plot)
        sets = [
            [r for r in combination if r]
            for combination in itertools.product(
                *(grid("regularizer", r) for r in self.regularizer)
            )
        ]
        try:
            lrs = [float(h) for h in expand(self.lr)]
        except ValueError:
            raise SteadyganError(
                f"--lr takes a number or a grid of numbers, not {self.lr!r}."
            ) from None
        smoothings = (
            [None]
            if self.smoothing is None
            else [s or None for s in grid("smoothing", self.smoothing)]
        )
        found = analyze_dirac(
            grid("objective", self.objective),
            sets,
            smoothings,
            grid("dynamics", self.dynamics),
            lrs,
        )
        if self.json:
            print(json.dumps([record.to_json() for record in found], indent=2))
        else:
            Console(highlight=False).print(records(found))
        if self.plot is not None:
            self._draw(found, self.plot)
        return 0

    def _draw(self, records: Sequence[Any], out: Path) -> None:
        from ..analysis.portrait import portrait
        from ..report.portraits import Panel, portrait_sheet, save_figure

        panels = []
        for row in records:
            game = Game(
                row.objective,
                row.regularizer.split(" + ") if row.regularizer else [],
                row.smoothing,
            )
            seen = portrait(game, row.dynamics, row.lr)
            title = " + ".join(filter(None, (row.regularizer, row.smoothing))) or "no regularizer"
            note = (
                f"r = {math.hypot(*seen.path[-1]):.2g} after {len(seen.path) - 1} steps;"
                f" {row.reason}"
            )
            panels.append(
                Panel(
                    title,
                    f"{row.objective}, {row.dynamics}, lr={row.lr:g}",
                    note,
                    *seen,
                    row.converges,
                )
            )
        print(
            "picture:",
            save_figure(portrait_sheet(panels), out),
            file=sys.stderr if self.json else sys.stdout,
        )


@dataclass(frozen=True)
class Diagnose:
    """Say what is wrong with a GAN, or nothing: local stability, rotation, gradients, the critic,
    and the one change to try first.

    A run folder is taken at its newest checkpoint. A .py file is run, so give only one that you
    trust; its make_game() returns a dict with generator, critic, data, latents, objective and lr
    (or optimizers), and optionally regularizers, dynamics, labels.

    Examples:
      steadygan diagnose runs/photos --out diagnosis.html
      steadygan diagnose my_gan.py --regularizer r1:gamma=10 --regularizer js:gamma=2 --json
    """

    subject: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN|FILE.py", help="a run folder, or a file with make_game()"),
    ]
    regularizer: Annotated[
        tuple[str, ...],
        spec("regularizer", "what would it change? repeatable", "r1:gamma=1 and js:gamma=1"),
        tyro.conf.UseAppendAction,
    ] = ()
    budget: Annotated[
        int,
        tyro.conf.arg(
            metavar="N", help="products with Jacobians, for networks beyond 300 parameters"
        ),
    ] = 150
    out: Annotated[
        Path | None, arg("FILE", "write a page with the picture of the eigenvalues", "none")
    ] = None
    json: Annotated[bool, tyro.conf.arg(help="for programs")] = False
    modules: Modules = ()

    def run(self) -> int:
        """Diagnose."""
        from ..analysis.subjects import load_subject

        subject = load_subject(self.subject)
        found = subject.diagnose(self.regularizer, budget=self.budget)
        path = subject.path()
        data = found.to_json() | {
            "path": None if path is None else vars(path) | {"words": path.words()}
        }
        print(
            json.dumps(data, indent=2)
            if self.json
            else "\n".join([*data["words"], *([path.words()] if path else []), *found.notes])
        )
        if self.out:
            from ..report.diagnosis import write_diagnosis

            print(
                "page:",
                write_diagnosis(subject.name, data, self.out),
                file=sys.stderr if self.json else sys.stdout,
            )
        return 0


@dataclass(frozen=True)
class List:
    """Show every name that specs may use, with its settings.

    Examples:
      steadygan list
      steadygan list regularizer
      steadygan list --json
    """

    kind: Annotated[str | None, tyro.conf.Positional, arg("KIND", ", ".join(KINDS), "all")] = None
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
            table = Table(
                title=kind, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
            )
            table.add_column("name", style="cyan", no_wrap=True)
            table.add_column("settings (default)")
            table.add_column("what it is")
            for entry in describe(kind):
                settings = ", ".join(
                    f"{key}={value}" if value else key for key, value in entry.settings.items()
                )
                table.add_row(entry.name, settings, entry.summary)
            Console(highlight=False).print(table, "")
        return 0


@dataclass(frozen=True)
class ConvertGamma:
    """Translate another codebase's penalty strength into this project's gamma (gamma/2 times the
    mean squared norm).

    Examples:
      steadygan convert-gamma --from gan-stability 10
      steadygan convert-gamma --from gan-stability 10 --outputs each --positions 900
    """

    strength: Annotated[
        float, tyro.conf.Positional, tyro.conf.arg(metavar="C", help="the strength over there")
    ]
    source: Annotated[str, tyro.conf.arg(name="from", metavar="NAME", help=", ".join(CONVENTIONS))]
    outputs: Annotated[
        str, arg("RULE", "of a critic of many logits, penalized here: sum, each or mean", "sum")
    ] = "sum"
    positions: Annotated[int, arg("K", "logits of one output of that critic", "1")] = 1
    json: Annotated[bool, tyro.conf.arg(help="for programs")] = False

    def run(self) -> int:
        """Convert."""
        gamma = convert_gamma(
            self.source, self.strength, outputs=self.outputs, positions=self.positions
        )
        there = CONVENTIONS[self.source]
        if self.json:
            print(
                json.dumps(
                    {
                        "gamma": gamma,
                        "from": self.source,
                        "strength": self.strength,
                        "factor": there.factor,
                        "term": there.term,
                        "regularizer": there.regularizer,
                        "outputs": self.outputs,
                        "positions": self.positions,
                    }
                )
            )
        else:
            print(f"gamma = {gamma:g}")
            print(f"{self.source} adds {there.term} with c = {self.strength:g} ({there.source}).")
            one = there.factor * self.strength
            print(
                f"Here the penalty is gamma/2 times the mean, so gamma = {there.factor:g} c ="
                f" {one:g}: {there.regularizer}:gamma={one:g}."
            )
            if self.positions > 1:
                print(_of_many(self.outputs, self.positions, one, gamma))
        return 0


def _of_many(rule: str, positions: int, one: float, gamma: float) -> str:
    """How gamma of a sum of logits becomes that of another rule."""
    told = "Of many logits other codes penalize the sum, which is outputs='sum' here."
    if rule == "sum":
        return told
    size = f"K = {positions}" if rule == "each" else f"K^2 = {positions**2}"
    where = " where they look at different places (K^2 where they agree)" * (rule == "each")
    return (
        f"{told}\nWith outputs={rule!r} it takes {size} times gamma{where}: {one:g} -> {gamma:g}."
    )
