"""Commands that explain: analyze, diagnose, list, convert-gamma."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..core.errors import SteadyganError, unknown
from .arguments import Json, Modules, arg, flag, grid, spec, whole
from .show import bar, say, table

if TYPE_CHECKING:
    from ..analysis import Record
    from ..analysis.subjects import Subject
    from ..analysis.trials import Trial


@dataclass(frozen=True)
class Analyze:
    r"""Say whether a method converges on the Dirac-GAN, and why.

    Eigenvalues, rate, critical gamma and largest stable learning rate; the closed form stands
    beside what autodiff gives. Every option takes a quoted grid in braces, and 'all' for every
    registered name.

    Examples:
      steadygan analyze dirac --regularizer "r1:gamma={0,0.3,1,3}" \
        --dynamics simultaneous --lr 0.2
      steadygan analyze dirac --regularizer all \
        --dynamics "{simultaneous,alternating:critic_steps=5}"
      steadygan analyze dirac --objective all --regularizer js:gamma=2 --json
      steadygan analyze dirac --objective minimax --plot dirac.png \
        --regularizer "{,r1:gamma=0.3,wgan-gp:gamma=0.7}"
    """

    game: Annotated[
        Literal["dirac"],
        tyro.conf.Positional,
        arg("dirac", "the game whose closed forms are known"),
    ]
    objective: Annotated[str, spec("objective", "what the players minimise")] = "nonsaturating"
    regularizer: Annotated[
        tuple[str, ...],
        spec("regularizer", "penalty on the critic; repeated ones add up", "none"),
        tyro.conf.UseAppendAction,
    ] = ()
    smoothing: Annotated[str | None, spec("smoothing", "noise on the samples", "none")] = None
    dynamics: Annotated[str, spec("dynamics", "who moves when")] = "alternating"
    lr: Annotated[str, arg("H", "learning rate of both players")] = "0.2"
    json: Annotated[bool, flag("a list of records, for programs")] = False
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
        """Return the exit status."""
        from ..analysis import analyze_dirac
        from ..core.registry import expand

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
            _show(found)
        if self.plot is not None:
            self._draw(found, self.plot)
        return 0

    def _draw(self, records: Sequence[Record], out: Path) -> None:
        from ..analysis.portrait import portrait
        from ..core.game import Game
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
        say(f"picture: {save_figure(portrait_sheet(panels), out)}", stderr=self.json)


def _show(found: Sequence[Record]) -> None:
    """Print methods: spectrum of the field, closed form, step, limits and the verdict in words."""
    heads = (
        "method",
        "λ",
        "closed form",
        "radius of a step",
        "critical γ",
        "largest lr",
        "verdict",
    )
    rows, colours = [], []
    for row in (record.to_json() for record in found):
        method = [row[key] for key in ("objective", "regularizer", "smoothing", "dynamics")]
        measured, closed = row["eigenvalues"], row["closed_form_eigenvalues"]
        rows.append(
            (
                "\n".join([*filter(None, method), f"lr={row['lr']:g}"]),
                "\n".join(map(_number, measured or [])),
                _difference(measured, closed),
                "" if row["spectral_radius"] is None else f"{row['spectral_radius']:.8g}",
                *(
                    "" if row[key] is None else f"{row[key]:.6g}"
                    for key in ("critical_gamma", "max_stable_lr")
                ),
                row["reason"],
            )
        )
        colours.append({True: "green", False: "red", None: "yellow"}[row["converges"]])
    table(heads, rows, colours=colours)


def _difference(measured: list[list[float]] | None, closed: list[list[float]] | None) -> str:
    if measured is None or closed is None:
        return ""
    worst = max(abs(complex(*a) - complex(*b)) for a, b in zip(measured, closed, strict=True))
    return "\n".join([*map(_number, closed), f"differs by {worst:.0e}"])


def _number(value: list[float]) -> str:
    real, imaginary = (part + 0.0 for part in value)  # -0 is 0
    return f"{real:.5g}" if abs(imaginary) < 1e-12 else f"{real:.5g}{imaginary:+.5g}i"


@dataclass(frozen=True)
class Diagnose:
    """Say what is wrong with a GAN, or nothing, and the one change to try first.

    First come plain facts of the networks, then local stability, rotation, gradients and the
    critic. With --trial, changes are tried on copies of the GAN for that long, side by side, and
    ranked by what is measured; Ctrl-C ends it early and keeps what was measured. A run folder is
    taken at its newest checkpoint; of many GANs trained at once all are, or --member. A .py file
    is run, so give only one that you trust; its make_game() returns a dict with generator, critic,
    data, latents, objective and lr (or optimizers), and optionally regularizers, dynamics, labels.

    Examples:
      steadygan diagnose runs/photos --out diagnosis.html
      steadygan diagnose runs/photos --trial 5m
      steadygan diagnose my_gan.py --regularizer r1:gamma=10 --regularizer js:gamma=2 --json
    """

    subject: Annotated[
        str,
        tyro.conf.Positional,
        arg("RUN|FILE.py", "a run folder, or a file with make_game()"),
    ]
    regularizer: Annotated[
        tuple[str, ...],
        spec("regularizer", "what would it change? repeatable", "r1:gamma=1 and js:gamma=1"),
        tyro.conf.UseAppendAction,
    ] = ()
    budget: Annotated[
        int,
        arg("N", "products with Jacobians, for networks beyond 300 parameters"),
    ] = 150
    trial: Annotated[
        str | None, arg("TIME", "try changes for so long, such as 90s or 5m", "none is tried")
    ] = None
    member: Annotated[
        int | None, whole("K", "of many GANs that were trained at once, from 0", "all of them")
    ] = None
    out: Annotated[
        Path | None, arg("FILE", "write a page with the picture of the eigenvalues", "none")
    ] = None
    json: Json = False
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..analysis.subjects import load_subjects
        from ..analysis.trials import seconds_of
        from ..core.registry import build

        if self.trial is not None:
            seconds_of(self.trial)  # refused before any work is done
        _ = [build("regularizer", each) for each in self.regularizer]
        found, subjects = [], load_subjects(self.subject, self.member)
        for subject in subjects:
            if len(subjects) > 1:
                say(f"{subject.name}:", stderr=self.json)
            data = self._look(subject)
            found.append(data)
            if self.out:
                from ..report.diagnosis import write_diagnosis

                page = self.out
                if len(subjects) > 1:
                    page = page.with_stem(f"{page.stem}-{len(found) - 1}")
                say(f"page: {write_diagnosis(subject.name, data, page)}", stderr=self.json)
        if self.json:
            print(json.dumps(found[0] if len(subjects) == 1 else found, indent=2))
        return 0

    def _look(self, subject: Subject) -> dict[str, Any]:
        settings: dict[str, Any] = {"budget": self.budget, "trial": self.trial}
        with bar(f"trying changes of {subject.name}") as tell:
            found = subject.diagnose(self.regularizer or None, tell=tell, **settings)
        path = subject.path() if found.spectrum is not None else None
        data = found.to_json() | {
            "path": None if path is None else vars(path) | {"words": path.words()}
        }
        if not self.json:
            *words, last = data["words"]
            say(*words, *([path.words()] if path else []), *found.notes)
            if found.trial is not None:
                _tried(found.trial)
            say(last)
        return data


def _tried(trial: Trial) -> None:
    """Print what came out of a trial, the best first."""
    rows, colours = [], []
    longest = max(arm.mean for arm in trial.arms) or 1.0
    for arm in trial.arms:
        gap = arm.difference
        rows.append(
            (
                arm.words,
                f"{arm.mean:.3g} " + "█" * round(12 * arm.mean / longest),
                "" if gap is None else f"{gap[0]:+.2g} ± {gap[1]:.2g}",
                arm.verdict,
            )
        )
        colours.append({"better": "green", "worse": "red"}.get(arm.verdict, ""))
    title = (
        f"{trial.steps} steps, {trial.seeds} seeds each, {trial.seconds:.0f} s: {trial.metric} to"
        f" the data ({trial.start:.3g} at the start, {trial.floor:.2g} between halves of the data)"
    )
    table(("change", "distance", "against as it is", ""), rows, title=title, colours=colours)
    say(*trial.notes)


@dataclass(frozen=True)
class List:
    """Show every name that specs may use, with its settings.

    Examples:
      steadygan list
      steadygan list regularizer
      steadygan list --json
    """

    kind: Annotated[
        str | None, tyro.conf.Positional, arg("KIND", "such as regularizer or network", "all")
    ] = None
    json: Annotated[bool, flag("names by kind, for programs")] = False
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..core.registry import KINDS, describe, names

        if self.kind is not None and self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        kinds = [*KINDS] if self.kind is None else [self.kind]
        if self.json:
            print(json.dumps({kind: names(kind) for kind in kinds}, indent=2))
            return 0
        for kind in kinds:
            rows = []
            for entry in describe(kind):
                settings = (
                    f"{key}={value}" if value else key for key, value in entry.settings.items()
                )
                rows.append((entry.name, ", ".join(settings), entry.summary))
            table(("name", "settings (default)", "what it is"), rows, title=kind)
            say("")
        return 0


@dataclass(frozen=True)
class ConvertGamma:
    """Translate another codebase's penalty strength into this project's gamma.

    Here a penalty is gamma/2 times the mean squared norm.

    Examples:
      steadygan convert-gamma --from gan-stability 10
      steadygan convert-gamma --from gan-stability 10 --outputs each --positions 900
      steadygan convert-gamma --from apt 100 --sigma 0.1
    """

    strength: Annotated[float, tyro.conf.Positional, arg("C", "the strength over there")]
    source: Annotated[str, arg("NAME", "of the codebase; an unknown one lists all", name="from")]
    outputs: Annotated[
        str | None,
        arg("RULE", "of a critic of many logits, penalized here: sum, each or mean"),
    ] = None
    positions: Annotated[int, arg("K", "logits of one output of that critic")] = 1
    sigma: Annotated[
        float | None, arg("S", "size of the noise, where that codebase moves samples by noise")
    ] = None
    json: Json = False

    def run(self) -> int:
        """Return the exit status."""
        from ..core.conventions import CONVENTIONS, convert_gamma

        gamma = convert_gamma(
            self.source,
            self.strength,
            outputs=self.outputs,
            positions=self.positions,
            sigma=self.sigma,
        )
        there = CONVENTIONS[self.source]
        sigma = there.sigma if self.sigma is None else self.sigma
        rule = self.outputs or ("sum" if sigma is None else "each")
        if self.json:
            told = {
                "gamma": gamma,
                "from": self.source,
                "strength": self.strength,
                "factor": there.factor,
                "term": there.term,
                "regularizer": there.regularizer,
                "outputs": rule,
                "positions": self.positions,
                **({} if sigma is None else {"sigma": sigma}),
            }
            print(json.dumps(told))
        elif sigma is not None:
            names = there.regularizer.split(", ")
            specs = (f"{name}:gamma={gamma:g},sigma={sigma:g}" for name in names)
            exact = (f"{name.removeprefix('isotropic-')}:gamma={gamma:g}" for name in names)
            say(
                f"gamma = {gamma:g}",
                f"{self.source} adds {there.term} with c = {self.strength:g}, sigma = {sigma:g} and"
                f" normal e ({there.source}).",
                "Here the penalty is gamma/2 E(D(x + sigma e) - D(x))^2 / sigma^2, a mean over"
                f" logits, and e are signs, whose mean is the same to the lowest order in sigma:"
                f" {' '.join(specs)}.",
                "What it approximates, for critics that can be differentiated twice:"
                f" {' '.join(exact)}.",
            )
        else:
            one = there.factor * self.strength
            say(
                f"gamma = {gamma:g}",
                f"{self.source} adds {there.term} with c = {self.strength:g} ({there.source}).",
                f"Here the penalty is gamma/2 times the mean, so gamma = {there.factor:g} c ="
                f" {one:g}: {there.regularizer}:gamma={one:g}.",
            )
            if self.positions > 1:
                say(*_of_many(rule, self.positions, one, gamma))
        return 0


def _of_many(rule: str, positions: int, one: float, gamma: float) -> list[str]:
    """Return how gamma of a sum of logits becomes that of another rule, in words."""
    told = "Of many logits other codes penalize the sum, which is outputs='sum' here."
    if rule == "sum":
        return [told]
    size = f"K = {positions}" if rule == "each" else f"K^2 = {positions**2}"
    where = " where they look at different places (K^2 where they agree)" * (rule == "each")
    return [
        told,
        f"With outputs={rule!r} it takes {size} times gamma{where}: {one:g} -> {gamma:g}.",
    ]
