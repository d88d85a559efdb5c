"""The HTML page about one diagnosis, from its plain data.

Words first, then the picture of the eigenvalues, then all numbers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..core.errors import SteadyganError
from ..runs.files import make_folder, write_text
from .figures import colours, png
from .views import FRAME, QUIET, panel

_HERE = Path(__file__).parent


def write_diagnosis(name: str, found: Mapping[str, Any], path: str | Path) -> Path:
    """Write the page about a diagnosis.

    Args:
        name: What was diagnosed.
        found: ``Diagnosis.to_json()``.
        path: Where the page goes.

    Returns:
        The page's path.

    Raises:
        SteadyganError: Where it cannot be written.

    Example::

        found = diagnose(game, G, D, batch, lr=1e-4)
        write_diagnosis("my GAN", found.to_json(), "diagnosis.html")
    """
    path = Path(path)
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    spectrum = found["spectrum"]
    page = environment.get_template("diagnosis.html.jinja").render(
        name=name,
        found=found,
        words=found["words"][:-1],  # the last one is the advice, which has a place of its own
        stability=spectrum["stability"] if spectrum else "refused",
        mood={"stable": "good", "unstable": "bad"}.get(
            spectrum["stability"] if spectrum else "", "idle"
        ),
        picture=None
        if spectrum is None
        else "data:image/png;base64," + base64.b64encode(png(eigenvalue_picture(found))).decode(),
        path=None
        if not found.get("path")
        else "data:image/png;base64," + base64.b64encode(png(path_picture(found["path"]))).decode(),
        numbers=json.dumps(
            {key: value for key, value in found.items() if key not in ("words", "advice")},
            indent=1,
            ensure_ascii=False,
        ),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
    )
    if path.is_dir():
        raise SteadyganError(
            f"{path} cannot be written: it is a folder; give a file, such as"
            f" {path / 'diagnosis.html'}."
        )
    make_folder(path.parent)
    write_text(path, page)
    return path


def eigenvalue_picture(found: Mapping[str, Any]) -> Figure:
    """Return the eigenvalues of the field drawn beside those of one step, with the unit circle.

    Hollow ones did not converge.
    """
    spectrum, h = found["spectrum"], found["lr"]["critic"]
    figure = Figure(figsize=(7.4, 3.4), dpi=160)
    left, right = panel(figure, 0.65, 0.55, 2.8, 2.5), panel(figure, 4.45, 0.55, 2.8, 2.5)
    _cloud(left, spectrum["field"], colours(1)[0])
    left.axvline(0, color=QUIET, linewidth=0.8)
    left.set_title("field: left of the line is damped", size=9, loc="left")
    steps = [{**e, "re": 1 + h * e["re"], "im": h * e["im"]} for e in spectrum["step"]]
    _cloud(right, steps, colours(2)[1])
    # Only the part of the circle that is near the eigenvalues: at a small learning rate they all
    # crowd around 1.
    limits = right.get_xlim(), right.get_ylim()
    reach = min(
        np.pi, 3 * max((abs(complex(e["re"] - 1, e["im"])) for e in steps), default=1.0) + 1e-12
    )
    turn = np.concatenate([np.linspace(-np.pi, np.pi, 500), np.linspace(-reach, reach, 500)])
    turn.sort()
    right.plot(np.cos(turn), np.sin(turn), color=QUIET, linewidth=0.8)
    right.set(xlim=limits[0], ylim=limits[1])
    right.set_title("one step: inside the circle is stable", size=9, loc="left")
    return figure


def path_picture(path: Mapping[str, Any]) -> Figure:
    """Return the cosine of the path angle and the norm of the field, drawn along the path.

    From one checkpoint (0) through the next (1) and beyond.
    """
    figure = Figure(figsize=(7.4, 2.6), dpi=160)
    for at, values, title in (
        (0.65, path["cosine"], "cosine of the path angle"),
        (4.45, path["norm"], "norm of the field"),
    ):
        axes = panel(figure, at, 0.5, 2.8, 1.75)
        axes.axvline(1, color=QUIET, linewidth=0.8)
        axes.plot(path["share"], values, color=colours(1)[0], marker=".", linewidth=1.2)
        axes.set_title(title, size=9, loc="left")
        axes.tick_params(labelsize=7.5, labelcolor=QUIET, color=FRAME)
        axes.set_xlabel("way from the earlier checkpoint (0) to the last (1)", size=8, color=QUIET)
        if values is path["cosine"]:
            axes.set_ylim(-1.05, 1.05)
            axes.axhline(0, color=QUIET, linewidth=0.8)
    return figure


def _cloud(axes: Axes, values: list[dict[str, Any]], colour: str) -> None:
    for converged, fill in ((False, "none"), (True, colour)):
        chosen = [e for e in values if e["converged"] is converged]
        axes.scatter(
            [e["re"] for e in chosen],
            [e["im"] for e in chosen],
            s=14,
            facecolors=fill,
            edgecolors=colour,
            linewidths=0.7,
            zorder=3,
        )
    axes.margins(0.15)
    axes.autoscale_view()
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=7.5, labelcolor=QUIET, color=FRAME)
    axes.set_xlabel("real part", size=8, color=QUIET)
    axes.set_ylabel("imaginary part", size=8, color=QUIET)
