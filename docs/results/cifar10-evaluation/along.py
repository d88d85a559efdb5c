"""Distances along training, from the run folders that README.md's commands made: python along.py
runs/along-js runs/along-none."""

import json
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).parent


def main(runs: list[Path]) -> None:
    """Collect and draw."""
    figure = Figure(figsize=(7.2, 2.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels, kept = figure.subplots(1, 3), {}
    for run, colour in zip(runs, ("#D55E00", "#0072B2"), strict=True):
        described = json.loads((run / "config.json").read_text())
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        measured = [row for row in rows if "metrics" in row]
        figures = [
            {"step": row["step"], **row["metrics"], "gradient_norm_fake": row["gradient_norm_fake"]}
            for row in measured
        ]
        kept[run.name] = {
            "config": described["config"],
            "environment": described["environment"],
            "git": described["git"],
            "figures": figures,
        }
        for axes, key in zip(panels, ("fd", "kid", "gradient_norm_fake"), strict=True):
            axes.plot(
                [f["step"] for f in figures],
                [f[key] for f in figures],
                marker=".",
                color=colour,
                label=run.name,
            )
    for axes, title in zip(
        panels, ("FD (effnet-lite0)", "kernel distance", "‖∇D‖ on samples"), strict=True
    ):
        axes.set_title(title, size=9)
        axes.set_xlabel("iteration", size=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=7, frameon=False)
    figure.savefig(HERE / "along.png")
    (HERE / "along.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:]])
