"""What the benchmark shows: tables in Markdown between marker comments of docs/benchmarks.md, and
bars as a picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Results = dict[str, Any]
CASES = {
    "mlp": "MLP, 3-D mixture",
    "dcgan": "DCGAN, no norm",
    "dcgan-bn": "DCGAN + BatchNorm",
    "resnet": "ResNet",
}
OURS, PLAIN, FLOOR = "#2a6f97", "#adb5bd", "#c1121f"


def targets(results: Results) -> str:
    """Return the table of targets."""
    rows = []
    for row in results["targets"]:
        counted = "" if row["counted"] is None else f"{row['counted']:.3f}"
        verdict = {True: "yes", False: "**no**", None: f"not measured: {row['why']}"}[row["holds"]]
        rows.append([row["what"], row["target"], counted, _spread(row["measured"]), verdict])
    return table(["what", "target", "by operations", "measured [quartiles]", "holds?"], rows)


def beside(results: Results) -> str:
    """Return the ratios without a target."""
    return table(
        ["what", "measured [quartiles]"],
        [[row["what"], _spread(row["measured"])] for row in results["beside"]],
    )


def operations(results: Results) -> str:
    """Return operations counted against time."""
    rows = []
    for row in results["operations"]:
        count = f"{row['critic_forwards']} f + {row['generator_forwards']} g"
        share = f"{row['measured_ms'] / row['counted_ms']:.2f}"
        rows.append(
            [
                row["job"].replace("/", ", "),
                count,
                f"{row['counted_ms']:.1f}",
                f"{row['measured_ms']:.1f}",
                share,
            ]
        )
    return table(
        ["whole iteration", "counted", "counted, ms", "measured, ms", "measured / counted"], rows
    )


def allocator(results: Results) -> str:
    """Return what the allocator's setting changes."""
    rows = []
    for name, ways in results["allocator"].items():
        for way, found in ways.items():
            rows.append(
                [
                    name.replace("/", ", "),
                    way,
                    f"{found['cpu'] * 1e3:.2f}",
                    f"{found['page_faults']:,.0f}",
                ]
            )
    return table(["job", "allocator", "CPU ms", "page faults"], rows)


def times(results: Results) -> str:
    """Return every job's time and memory."""
    rows = []
    for name, job in results["jobs"].items():
        memory = "" if job["peak_memory_mb"] is None else f"{job['peak_memory_mb']:.0f}"
        cpu = job["cpu"]
        rows.append(
            [
                name.replace("/", ", "),
                _time(cpu["median"]),
                f"{_time(cpu['q1'])} – {_time(cpu['q3'])}",
                _time(job["wall"]["median"]),
                memory,
            ]
        )
    return table(["job", "CPU", "quartiles", "wall", "peak memory, MB"], rows)


def environment(results: Results) -> str:
    """Return where and when it was measured, as one paragraph."""
    here = results["environment"]
    load = [
        " / ".join(f"{value:.1f}" for value in here[f"load_at_{when}"]) for when in ("start", "end")
    ]
    changed = " with uncommitted changes in src/" if here["uncommitted_changes"] else ""
    note = f" {here['note']}" if "note" in here else ""
    return (
        f"Measured {here['date']} (`--{here['scale']}`, {here['seconds']} s, {here['rounds']}"
        f" rounds of {here['sample_seconds']} s a job)"
        f" on {here['cpu']}, {here['cores']} cores, {here['threads']} thread(s),"
        f" torch {here['torch']}, Python {here['python']}, commit"
        f" `{here['commit'][:9]}`{changed}. Load average (1 / 5 / 15 minutes)"
        f" {load[0]} at the start and {load[1]} at the end; this process itself is 1 of it.{note}"
    )


BLOCKS = {
    "environment": environment,
    "targets": targets,
    "beside": beside,
    "operations": operations,
    "allocator": allocator,
    "times": times,
}


def rewrite(
    path: Path, results: Results, blocks: dict[str, Callable[[Results], str]] = BLOCKS
) -> None:
    """Put tables into a page, between ``<!-- name -->`` and ``<!-- /name -->``; the words around
    them stay."""
    text = path.read_text()
    for name, block in blocks.items():
        marks = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{marks[0]}.*?{marks[1]}", re.S)
        if not pattern.search(text):
            raise SystemExit(f"{path} has no place for the {name}: {marks[0]} ... {marks[1]}")
        text = pattern.sub(lambda _, block=block: f"{marks[0]}\n{block(results)}\n{marks[1]}", text)  # noqa: B023
    path.write_text(text)


def draw(results: Results, path: Path) -> None:
    """Draw the bars: the critic's gradient by path, whole iterations, and fleets."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    median = {name: job["cpu"]["median"] for name, job in results["jobs"].items()}
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13, 4.6), width_ratios=[1, 1.5, 1], layout="constrained"
    )

    base = median.get("dcgan/none/gradient/joined, channels_last")
    ways = [
        (way, median.get(f"dcgan/js/gradient/{way}, channels_last"))
        for way in ("separate", "joined", "merged")
    ]
    bars = [("no penalty", 1.0, PLAIN)] + [
        (way, t / base, OURS if way == "merged" else PLAIN) for way, t in ways if t and base
    ]
    _bars(
        left, bars, "DCGAN: gradient of the critic's loss with JS\ntime over that without a penalty"
    )
    for count, words in ((4 / 3, "4F"), (2, "6F")):
        left.axvline(count, color=FLOOR, lw=0.8, ls=":")
        left.text(count, len(bars) - 1, f" {words}", color=FLOOR, va="center", fontsize=8)

    bars = []
    for case, title in CASES.items():
        base = median.get(f"{case}/none/iteration/textbook")
        for penalty in ("none", "r1", "r1r2", "js", "wgan-gp"):
            pair = [median.get(f"{case}/{penalty}/iteration/{who}") for who in ("textbook", "ours")]
            if base and all(pair):
                label = f"{title}, {penalty}"
                bars += [(label, pair[0] / base, PLAIN), ("", pair[1] / base, OURS)]
    _bars(
        middle,
        bars,
        "whole iteration: textbook (grey) and steadygan (blue)\ntime over the textbook's without"
        " a penalty",
        size=7,
    )

    bars = []
    for name, t in median.items():
        what, *_, way = name.split("/")
        if what.startswith("fleet") and way != "one by one":
            alone = next(
                (
                    v
                    for k, v in median.items()
                    if k.endswith("/one by one") and k.split("/")[0].endswith(what.split(", ")[1])
                ),
                None,
            )
            colour = PLAIN if way.startswith("textbook") else OURS
            label = f"{what.removeprefix('fleet of ')}, {way}"
            bars += [(label, alone / t, colour)] if alone else []
    _bars(
        right,
        [("one by one", 1.0, PLAIN), *bars],
        "many GANs at once (number, batch):\niterations a second over one by one",
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _bars(axes: Any, bars: list[tuple[str, float, str]], title: str, size: int = 9) -> None:
    places = range(len(bars))[::-1]
    axes.barh(
        places, [value for _, value, _ in bars], color=[colour for *_, colour in bars], height=0.75
    )
    axes.set_yticks(places, [label for label, *_ in bars], fontsize=size)
    for place, (_, value, _) in zip(places, bars, strict=True):
        axes.text(value, place, f" {value:.2f}", va="center", fontsize=size)
    axes.set_title(title, loc="left", fontsize=9)
    axes.margins(x=0.12)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _spread(found: dict[str, float] | None) -> str:
    return (
        ""
        if found is None
        else f"{_figure(found['median'])} [{_figure(found['q1'])}, {_figure(found['q3'])}]"
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
