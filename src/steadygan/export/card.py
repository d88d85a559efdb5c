"""The model card: README.md in the form of the Hugging Face Hub."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..core.conventions import CONVENTIONS
from ..core.registry import build, lookup
from ..runs import exported
from ..runs.files import read_lines
from ..runs.format import EVALUATION, METRICS
from ..runs.models import Loaded
from ..runs.monitor import MOVED, concerns
from ..runs.reading import Run, read_evaluations
from .program import call

_WATCHED = (
    *("steps", "gradient_path", "device", "log_every", "evaluate_every", "checkpoint_every"),
    *("keep_checkpoints", "metrics", "metrics_data", "metrics_samples", "features", "stop_on"),
    "track",
)
"""Settings that say how a training was watched and not what it was, or that stand elsewhere."""
_HOW_READ = ("broken", "limit")
_MEANWHILE = "while it trained"
_MOST = 40
"""How many classes are named."""


def card(
    loaded: Loaded,
    about: Mapping[str, Any],
    run: Run,
    license: str,
    formats: Sequence[str],
    member: int | None = None,
) -> str:
    """Return the model card of what is exported.

    Args:
        loaded: The networks.
        about: What steadygan.json says.
        run: Whose they are.
        license: An identifier of the Hub's.
        formats: That the generator is written in besides.
        member: Which of many GANs it is.
    """
    images = len(loaded.about.event) == 3
    picture = (f"![Samples of 64 latents, not chosen]({exported.PICTURE})", "") if images else ()
    parts = [
        _front(loaded, license, images),
        f"# {_safe(run.name)}",
        "",
        _what(loaded, about),
        "",
        *picture,
        *_loading(loaded, formats),
        *_data(about),
        *_settings(loaded, about),
        *_metrics(run, about, member),
        *_limits(loaded, run, images, member),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _front(loaded: Loaded, license: str, images: bool) -> str:
    found: dict[str, Any] = {
        "license": license,
        "library_name": "steadygan",
        "tags": ["gan", "pytorch", str(loaded.config.network).partition(":")[0]],
    }
    if images and not loaded.classes:
        found["pipeline_tag"] = "unconditional-image-generation"
    data = loaded.about.setting.get("data")
    if isinstance(data, str) and data.startswith("hf:"):
        found["datasets"] = [data.split(":")[1]]
    return f"---\n{yaml.safe_dump(found, sort_keys=False, allow_unicode=True)}---\n"


def _what(loaded: Loaded, about: Mapping[str, Any]) -> str:
    event = " x ".join(map(str, loaded.about.event))
    of = f", of {loaded.classes} classes" if loaded.classes else ""
    which = "; the moving average of its weights" if about["averaged"] else ""
    chosen_now = about["average"].startswith("sigma")
    which += f" of profile {about['average']}, made after training" if chosen_now else ""
    best = _first_metric(loaded) if about["checkpoint"] == "best" else ""
    chosen = (
        f", the best by {_safe(best)} of those that were measured while it trained" if best else ""
    )
    counts = about.get("parameters", {})
    sizes = " and ".join(f"{_safe(k)} {v:,}" for k, v in counts.items() if isinstance(v, int))
    return (
        f"A generative adversarial network that makes samples of shape {event}{of}, trained by"
        f" steadygan {_safe(about['steadygan'])}. This is its generator at step"
        f" {loaded.step:,}{chosen}{which}. Parameters: {sizes or 'not said'}."
    )


def _first_metric(loaded: Loaded) -> str:
    return loaded.config.metrics.partition(",")[0].strip()


def _loading(loaded: Loaded, formats: Sequence[str]) -> list[str]:
    ranged = "  # in [-1, 1]" if len(loaded.about.event) == 3 else ""
    shape = ", ".join(map(str, (4, *loaded.about.event)))
    strange = not lookup(
        "network", str(loaded.config.network).partition(":")[0]
    ).__module__.startswith("steadygan.")
    lines = [
        "## How to load it",
        "",
        f"With torch alone, by `{exported.LOADER}` in this folder, which reads"
        f" `{exported.GENERATOR}` and unpickles nothing:",
        "",
        "```python",
        "import torch",
        "from load import load",
        "",
        "G = load()",
        f"x = G({call(loaded)})",
        f"assert x.shape == ({shape}){ranged}",
        "```",
        "",
        "With steadygan, which runs no code of this folder:",
        "",
        "```python",
        "from steadygan import load_generator",
        "",
        'G = load_generator("hub:USER/NAME")  # or the path of this folder',
        "```",
        "",
    ]
    if strange:
        lines += [
            "The network is registered by a module of its authors, which must be imported.",
            "",
        ]
    if "torch-export" in formats:
        lines += [f"`{exported.PROGRAM}` is a program for `torch.export.load`.", ""]
    if "onnx" in formats:
        lines += [f"`{exported.ONNX}` is for ONNX runtimes.", ""]
    return [*lines, *_names(loaded)]


def _names(loaded: Loaded) -> list[str]:
    names = loaded.about.class_names
    if not names:
        return []
    said = ", ".join(f"{i} {_safe(name)}" for i, name in enumerate(names[:_MOST]))
    return [f"Classes: {said}{', and more' if len(names) > _MOST else ''}.", ""]


def _data(about: Mapping[str, Any]) -> list[str]:
    data = about.get("data") or {}
    rows = [
        *((name, value) for name, value in about["problem"].items() if name not in _HOW_READ),
        *((name, data[name]) for name in ("images", "pixels") if name in data),
    ]
    named = {"name": "problem", "pixels": "digest of the pixels"}
    return [
        "## Data",
        "",
        *_table(("setting", "value"), [(named.get(k, _safe(k)), _value(v)) for k, v in rows]),
    ]


def _settings(loaded: Loaded, about: Mapping[str, Any]) -> list[str]:
    config = about["config"]
    given = {k: v for k, v in config.items() if k not in _WATCHED and v not in (None, [], False)}
    rows = [(_safe(k), _value(v)) for k, v in given.items()]
    rows.append(("steps", f"{loaded.step:,} of {loaded.config.steps:,}"))
    environment = about.get("environment", {})
    rows += [(k, _value(environment[k])) for k in ("torch", "device") if k in environment]
    return ["## Training", "", *_table(("setting", "value"), rows), *_gamma(loaded)]


def _gamma(loaded: Loaded) -> list[str]:
    """Return what γ means, and what it would be called elsewhere."""
    lines = []
    for spelled in loaded.config.regularizer:
        gamma, name = (
            getattr(build("regularizer", spelled), "gamma", None),
            spelled.partition(":")[0],
        )
        if gamma is None:
            continue
        if not isinstance(gamma, int | float):
            lines.append(f"* `{_code(spelled)}`")
            continue
        others = [
            f"{gamma / each.factor:g} in {each.source}"
            for each in CONVENTIONS.values()
            if each.regularizer == name and each.sigma is None
        ]
        elsewhere = f": the same strength is {'; '.join(others)}" if others else ""
        lines.append(f"* `{_code(spelled)}`{elsewhere}")
    if not lines:
        return []
    return ["γ multiplies *one half* of E‖∇D‖² here, as it does in the papers:", "", *lines, ""]


def _metrics(run: Run, about: Mapping[str, Any], member: int | None) -> list[str]:
    config = about["config"]
    lines, rows, step = ["## Metrics", ""], [], about["step"]
    for found in read_evaluations(run.folder / EVALUATION):
        if (found["step"], found["average"]) == (step, about["average"]):
            against = f"{found['samples']:,} samples against {Path(str(found['data'])).name}"
            rows += [
                (_safe(n["name"]), _interval(n["value"], n["low"], n["high"]), _safe(against))
                for n in found["numbers"].values()
            ]
    measured = read_lines(run.folder / METRICS).rows if about["average"] == "kept" else []
    for row in measured:
        if row.get("step") == step and isinstance(row.get("metrics"), dict):
            ends = row.get("intervals") or {}
            rows += [
                (_safe(name), _interval(value, *_ends(_of(ends.get(name), member))), _MEANWHILE)
                for name, told in row["metrics"].items()
                if isinstance(value := _of(told, member), int | float)
            ]
    if not rows:
        return [*lines, "It was not measured at this step.", ""]
    said = "In brackets 95 % intervals; where there are none, none was computed."
    if config["metrics"] and any(of == _MEANWHILE for *_, of in rows):
        said += (
            f" Of {_safe(config['metrics'])} those taken while it trained are of"
            f" {config['metrics_samples']:,} samples, images in features"
            f" {_safe(config['features'])}."
        )
    return [*lines, *_table(("metric", "value", "of"), rows), said, ""]


def _of(told: Any, member: int | None) -> Any:
    """Return what is told of one of many GANs, or of one GAN."""
    if member is None:
        return told
    return told[member] if isinstance(told, list) and member < len(told) else None


def _ends(interval: Any) -> tuple[Any, Any]:
    if isinstance(interval, Mapping):
        return interval.get("low"), interval.get("high")
    return tuple(interval) if isinstance(interval, list) and len(interval) == 2 else (None, None)


def _interval(value: float, low: Any, high: Any) -> str:
    known = isinstance(low, int | float) and isinstance(high, int | float)
    return f"{value:.4g}" + (f" [{low:.4g}, {high:.4g}]" if known else "")


def _limits(loaded: Loaded, run: Run, images: bool, member: int | None) -> list[str]:
    lines = ["## Limits", ""]
    if images:
        size = " x ".join(map(str, loaded.about.event[1:]))
        lines += [
            f"* It makes {size} pixels and nothing else; of its pictures of training the central"
            " square was seen.",
            "* A program wrote this card, and nobody looked through the samples for it. A generator"
            " repeats what is lopsided in its data, and a sample can resemble a training image:"
            " `steadygan evaluate --metrics memorisation` measures that.",
        ]
    steps = loaded.config.steps or 0
    if loaded.step < steps:
        lines.append(
            f"* It is from step {loaded.step:,} of a training that was meant for {steps:,}."
        )
    named: dict[str, int] = {}
    for warning in run.warnings:
        own = member is None or concerns(warning.message, member)
        if own and warning.kind != MOVED and warning.step <= loaded.step:
            named[warning.kind] = named.get(warning.kind, 0) + 1
    if named:
        said = ", ".join(f"{_safe(kind)} ({n} times)" for kind, n in named.items())
        lines.append(f"* While it trained, its monitor warned of: {said}.")
    else:
        lines.append("* While it trained, its monitor warned of nothing.")
    return lines


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _value(value: Any) -> str:
    said = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return _safe(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else said)


def _safe(text: object) -> str:
    """Return a text that Markdown and HTML show and do not obey."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|~#!" else c for c in plain)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
