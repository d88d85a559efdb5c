"""How fast is steadygan? What it promises, timed against a textbook implementation.

Run: ``make bench`` (minutes) or ``make bench-full``: python benchmarks/speed.py [--quick | --full |
--tiny] -> benchmarks/speed.json, docs/benchmarks.png and the tables in docs/benchmarks.md. Every
job runs once a round, in an order that is shuffled anew; ratios are taken within rounds, of process
CPU time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import measure
import numpy as np
import page
import torch
from work import PENALTIES, Case, jobs, measured_alone, scale, textbook

from steadygan.core.gradients import critic_backward
from steadygan.experiments import timing
from steadygan.training.allocator import keep_memory

HERE = Path(__file__).parent


class Target(NamedTuple):
    """A promise: the ratio of two jobs' times is at most (or at least) ``bound``. counted: what
    operations alone would make of it."""

    what: str
    above: str
    below: str
    most: float | None = None
    least: float | None = None
    counted: float | None = None

    def row(self, samples: timing.Timings, failed: dict[str, str]) -> dict[str, Any]:
        """Return the target beside what was measured."""
        found = timing.ratio(samples, self.above, self.below)
        target = f"≤ {self.most:g}" if self.most else f"≥ {self.least:,g}"
        why = failed.get(self.above) or failed.get(self.below) or "not part of this run"
        holds = (
            None
            if found is None
            else found["median"] <= self.most
            if self.most
            else found["median"] >= (self.least or 0)
        )
        row = {
            "what": self.what,
            "target": target,
            "counted": self.counted,
            "above": self.above,
            "below": self.below,
        }
        return {**row, "measured": found, "holds": holds, "why": why if found is None else ""}


def _slope(case: str, penalty: str, path: str) -> str:
    return f"{case}/{penalty}/gradient/{path}"


def _whole(case: str, penalty: str, way: str) -> str:
    return f"{case}/{penalty}/iteration/{way}"


NHWC = "channels_last"
MERGED, FREE = _slope("dcgan", "js", f"merged, {NHWC}"), _slope("dcgan", "none", f"joined, {NHWC}")
OURS, OURS_FREE = _whole("dcgan", "js", "ours"), _whole("dcgan", "none", "ours")
RESNET, MLP = (
    [_whole(case, "js", way) for way in ("textbook", "ours")] for case in ("resnet", "mlp")
)
TARGETS = [
    Target("DCGAN, D gradient with JS: merged / none", MERGED, FREE, most=1.45, counted=4 / 3),
    Target(
        "the same: merged / separate",
        MERGED,
        _slope("dcgan", "js", "separate"),
        most=0.66,
        counted=4 / 6,
    ),
    Target("DCGAN, whole iteration with JS / none, same layout", OURS, OURS_FREE, most=1.25),
    Target(
        "DCGAN, whole iteration with JS: textbook / ours",
        _whole("dcgan", "js", "textbook"),
        OURS,
        least=1.6,
    ),
    Target("ResNet, whole iteration with JS: textbook / ours", *RESNET, least=1.5),
    Target(
        "DCGAN, lazy penalty k=4: whole iteration / none",
        _whole("dcgan", "js", "ours, lazy k=4"),
        OURS_FREE,
        most=1.1,
    ),
    Target("MLP, batch 512, JS: textbook / ours", *MLP, least=1.35),
]
INTERVAL = Target(
    "Fréchet distance, 5,000 features of 1,280: with its interval / its value alone",
    "distance/-/frechet/interval",
    "distance/-/frechet/value",
    most=2,
)
CANNOT_MERGE = [
    Target(
        f"{name}, D gradient with JS: auto / separate",
        _slope(case, "js", "auto"),
        _slope(case, "js", "separate"),
        most=1.03,
        counted=1,
    )
    for name, case in (("MLP + BatchNorm", "mlp-bn"), ("DCGAN + BatchNorm", "dcgan-bn"))
]


def targets(fleets: tuple[int, ...], batches: tuple[int, ...]) -> list[Target]:
    """Return all targets; those of fleets are about 32 members, or the one size that a tiny run
    has."""
    members = measured_alone(fleets)
    rows = []
    for batch, bounds in (
        (batches[0], {"compiled": 5.0, "eager": 4.0}),
        (batches[-1], {"compiled": 2.0, "eager": 1.6}),
    ):
        name = f"fleet of {members}, batch {batch}"
        for rival, words in (("textbook, ", "the textbook's"), ("", "our own")):
            for way, least in bounds.items():
                pair = (_whole(name, "js", w) for w in (f"{rival}one by one", way))
                what = f"{name}: members' iterations a second, {way} / {words} one by one"
                rows.append(Target(what, *pair, least=least))
    for way in ("eager", "compiled"):
        what = f"Dirac simulation, {way}: a scalar Python loop with autograd / ours"
        rows.append(
            Target(
                what, "dirac/r1/simulation/loop, autograd", f"dirac/r1/simulation/{way}", least=1000
            )
        )
    return [*TARGETS, *rows, *CANNOT_MERGE, INTERVAL]


BESIDE = [
    ("DCGAN, D gradient with JS: joined / none", _slope("dcgan", "js", f"joined, {NHWC}"), FREE),
    (
        "DCGAN, D gradient with JS: merged / separate, same layout",
        MERGED,
        _slope("dcgan", "js", f"separate, {NHWC}"),
    ),
    ("DCGAN, D gradient with JS: compiled / merged", _slope("dcgan", "js", "compiled"), MERGED),
    (
        "DCGAN, whole iteration without penalty: plain layout / channels_last",
        _whole("dcgan", "none", "ours, plain layout"),
        OURS_FREE,
    ),
    (
        "DCGAN + BatchNorm, whole iteration, JS: textbook / ours",
        _whole("dcgan-bn", "js", "textbook"),
        _whole("dcgan-bn", "js", "ours"),
    ),
    (
        "tanh MLP, D gradient with JS: chain / joined",
        _slope("mlp", "js", "chain"),
        _slope("mlp", "js", "joined"),
    ),
    (
        "tanh DCGAN, D gradient with JS: differences / joined",
        _slope("dcgan-tanh", "js", "differences"),
        _slope("dcgan-tanh", "js", "joined"),
    ),
    (
        "tanh DCGAN, D gradient with JS: one-sided / joined",
        _slope("dcgan-tanh", "js", "one-sided"),
        _slope("dcgan-tanh", "js", "joined"),
    ),
    (
        "tanh MLP, D gradient with JS: compiled / joined",
        _slope("mlp", "js", "compiled"),
        _slope("mlp", "js", "joined"),
    ),
]
BESIDE += [
    (
        f"{name}, D gradient with JS: {path} / none, {path}",
        _slope(case, "js", path),
        _slope(case, "none", path),
    )
    for name, case in (("tanh DCGAN", "dcgan-tanh"), ("tanh MLP", "mlp"))
    for path in ("joined", "separate")
]
BESIDE += [
    (
        f"{name}, whole iteration, {penalty}: textbook / ours",
        _whole(case, penalty, "textbook"),
        _whole(case, penalty, "ours"),
    )
    for name, case in (("DCGAN", "dcgan"), ("MLP", "mlp"), ("ResNet", "resnet"))
    for penalty in PENALTIES
    if (penalty, case) != ("js", "dcgan")
]
BESIDE += [
    (
        f"{name}, whole iteration, js: textbook / ours with {option}",
        _whole(case, "js", "textbook"),
        _whole(case, "js", f"ours, {option}"),
    )
    for name, case in (("DCGAN", "dcgan"), ("MLP", "mlp"))
    for option in ("penalty_share=0.5", "share=true", "fused Adam", "compiled", "bf16")
]
for what in scale("full").growth:
    js = [_whole(f"dcgan {what}", "js", way) for way in ("textbook", "ours")]
    BESIDE += [
        (f"DCGAN, {what}, whole iteration, js: textbook / ours", *js),
        (
            f"DCGAN, {what}, whole iteration, ours: js / none",
            js[1],
            _whole(f"dcgan {what}", "none", "ours"),
        ),
    ]
BESIDE += [
    (
        f"Dirac: a loop of {words} / ours, compiled",
        f"dirac/r1/simulation/loop, {loop}",
        "dirac/r1/simulation/compiled",
    )
    for loop, words in (
        ("numpy", "NumPy, derivatives by hand"),
        ("floats", "Python floats, derivatives by hand"),
    )
]


def agreement(cases: dict[str, Case]) -> dict[str, float]:
    """Return how far the textbook's gradients are from ours in double precision, both networks'
    together, relative to their norm."""
    found = {}
    for name, case in cases.items():
        for penalty in PENALTIES:
            here = textbook(case._replace(batch=min(case.batch, 8)), penalty)
            game, generator, critic = (
                case.game(penalty),
                here.generator.double(),
                here.critic.double(),
            )
            real, z = (t.double() for t in here.draw())
            fake = generator(z).detach()
            torch.manual_seed(1)  # where WGAN-GP mixes
            critic_backward(game, critic, real, fake)
            ours = [p.grad for p in critic.parameters()]
            ours += torch.autograd.grad(
                game.generator_loss(critic, real, generator(z)), list(generator.parameters())
            )
            critic.zero_grad()
            torch.manual_seed(1)
            here.critic_backward(real, fake)
            here.generator_backward(z)
            theirs = [p.grad for network in (critic, generator) for p in network.parameters()]
            a, b = (
                torch.cat([g.flatten() for g in part if g is not None]) for part in (ours, theirs)
            )
            found[f"{name}/{penalty}"] = float(f"{((a - b).norm() / b.norm()).item():.1e}")
    return found


def operations(cases: dict[str, Case], samples: timing.Timings) -> list[dict[str, Any]]:
    """Return whole iterations as counted and as measured, in milliseconds, for the cases whose
    forward passes were timed.

    Counted in forwards f of the critic and g of the generator, on one batch: the critic's gradient
    costs 6 f without a penalty, and with JS 8 f merged, 12 f by one backward, 16 f in the textbook;
    the generator's costs 2 f + 3 g, and the critic's samples another g.
    """
    rows = []
    for name in cases:
        times = {
            key: float(np.median([cpu for cpu, _ in values]))
            for key, values in samples.items()
            if key.startswith(f"{name}/")
        }
        units = [times.get(f"{name}/-/forward/{player}") for player in ("critic", "generator")]
        if None in units:
            continue
        f, g = units
        merged = name in ("dcgan", "resnet")
        counts = {
            "none/iteration/ours": 8,
            "js/iteration/ours": 10 if merged else 14,
            "js/iteration/textbook": 18,
        }
        counts["none/iteration/textbook"] = 8
        if merged:
            counts["none/iteration/ours, plain layout"] = 8
        for what, forwards in counts.items():
            counted, spent = forwards * f + 4 * g, times.get(f"{name}/{what}")
            if spent is None:
                continue
            row = {"job": f"{name}/{what}", "critic_forwards": forwards, "generator_forwards": 4}
            rows.append(
                row | {"counted_ms": round(counted * 1e3, 2), "measured_ms": round(spent * 1e3, 2)}
            )
    return rows


def main(argv: list[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, what in {
        "quick": "minutes",
        "full": "the best part of an hour",
        "tiny": "seconds, figures without meaning",
    }.items():
        parser.add_argument(f"--{name}", dest="scale", action="store_const", const=name, help=what)
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of torch; with 1, CPU time is wall time on a quiet machine",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="where the figures go (default: benchmarks/speed.json)",
    )
    parser.add_argument(
        "--page",
        type=Path,
        help="whose tables are rewritten, its picture beside it (default: docs/benchmarks.md)",
    )
    parser.add_argument(
        "--only",
        default="",
        help="jobs whose name contains one of these, by commas; written only where --out says",
    )
    parser.set_defaults(scale="quick")
    options = parser.parse_args(argv)
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    size = scale(options.scale)
    every = [job for job in jobs(size) if any(w in job.name for w in options.only.split(","))]
    with measure.environment(options.threads, options.scale) as where:
        # First of all, because memory that was used and freed before would hide what a job needs.
        say(
            "peak memory of whole iterations without a penalty and with JS, each in a process of"
            " its own"
        )
        weighed = [
            job for job in every if job.name.endswith(("/iteration/textbook", "/iteration/ours"))
        ]
        memory = {
            job.name: measure.peak_memory(job)
            for job in weighed
            if job.name.split("/")[1] in ("none", "js")
        }
        kept = {}
        for job in every:
            if job.name in ("mlp/js/iteration/ours", "dcgan/js/iteration/ours"):
                kept[job.name] = measure.allocator(job, 5 * size.seconds)
        say("the textbook's gradients against ours, in double precision")
        far = agreement({name: case for name, case in size.cases.items() if name in size.penalties})
        worst = max(far, key=far.__getitem__)
        assert far[worst] < 1e-9, (
            f"the textbook computes another gradient than steadygan: {worst}, relative"
            f" difference {far[worst]}"
        )
        say(f"  equal to {far[worst]:.0e}")
        # As the command line does, for both sides alike.
        keep_memory()
        where |= {"rounds": size.rounds, "sample_seconds": size.seconds}
        say("time")
        samples, failed = timing.rounds(every, size.rounds, size.seconds, say)
    rows = [target.row(samples, failed) for target in targets(size.members, size.batches)]
    beside = [
        {"what": what, "measured": timing.ratio(samples, above, below)}
        for what, above, below in BESIDE
    ]
    results = {
        "environment": where,
        "targets": rows,
        "beside": [row for row in beside if row["measured"]],
        "operations": operations(size.cases, samples),
        "allocator": kept,
        "textbook_agreement": far,
        "not_run": failed,
        "jobs": {
            name: {
                "cpu": timing.summary([cpu for cpu, _ in values]),
                "wall": timing.summary([wall for _, wall in values]),
                "peak_memory_mb": memory.get(name),
            }
            for name, values in samples.items()
        },
        "settings": {name: case._asdict() for name, case in {**size.cases, **size.growth}.items()},
    }
    print(page.targets(results))
    if options.only:
        print(page.times(results), page.beside(results), sep="\n\n")
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
        return
    (options.out or HERE / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    written = options.page or HERE.parent / "docs" / "benchmarks.md"
    if options.scale != "tiny" or options.page:
        page.draw(results, written.with_suffix(".png"))
        page.rewrite(written, results)


if __name__ == "__main__":
    main()
