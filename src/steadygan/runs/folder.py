"""A run folder: what is written while training, so that everything afterwards can be read from
it."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import __version__
from ..core.errors import SteadyganError
from . import checkpoint
from .monitor import Warning


class RunFolder:
    """``runs/NAME/``: config.json, status.json, metrics.jsonl, warnings.jsonl, samples/ and
    checkpoints/."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def check(path: Path) -> None:
        """Raise SteadyganError where a new run folder cannot be made because something is there."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            more = (
                f"continue it with 'steadygan resume {path}', or choose"
                if (path / "config.json").exists()
                else "choose"
            )
            raise SteadyganError(
                f"{path} exists and is not empty: {more} another folder with --out."
            )

    @staticmethod
    def create(path: Path) -> RunFolder:
        """Make a new run folder; raises SteadyganError where one exists or where nothing can be
        written."""
        RunFolder.check(path)
        try:
            for name in ("samples", "checkpoints"):
                (path / name).mkdir(parents=True, exist_ok=True)
            probe = path / "checkpoints" / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise SteadyganError(
                f"The run folder {path} cannot be written: {error.strerror}. Choose another with"
                " --out."
            ) from error
        return RunFolder(path)

    @staticmethod
    def open(path: Path) -> RunFolder:
        """Open an existing run folder; raises SteadyganError where it is none."""
        if not (path / "config.json").is_file():
            raise SteadyganError(
                f"{path} is no run folder (it has no config.json): give a folder that 'steadygan"
                " train' made."
            )
        return RunFolder(path)

    def write(self, name: str, data: Any) -> None:
        """Write one JSON file atomically."""
        aside = self.path / f"{name}.partial"
        aside.write_text(json.dumps(data, indent=2) + "\n")
        os.replace(aside, self.path / name)

    def read(self, name: str) -> Any:
        """Read one JSON file; raises SteadyganError where it is damaged."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise SteadyganError(f"{self.path / name} cannot be read: {error}.") from error

    def log(self, row: dict[str, Any]) -> None:
        """Append one logged step."""
        self._append("metrics.jsonl", row)

    def warn(self, warning: Warning) -> None:
        """Append one warning."""
        self._append("warnings.jsonl", warning._asdict())

    def rewind(self, step: int) -> None:
        """Drop what was logged after a step, because it is about to be computed again."""
        for name in ("metrics.jsonl", "warnings.jsonl"):
            path = self.path / name
            if path.exists():
                kept = [line for line in path.read_text().splitlines() if _step(line) <= step]
                path.write_text("".join(f"{line}\n" for line in kept))
        for sample in (self.path / "samples").glob("step-*"):
            if int(sample.stem.removeprefix("step-")) > step:
                sample.unlink()

    def samples(self, name: str, x: Tensor) -> None:
        """Write samples under ``samples/``: images as a PNG grid, vectors as an NPZ."""
        write_samples(self.path / "samples" / (f"{name}.png" if x.ndim == 4 else f"{name}.npz"), x)

    def save_checkpoint(self, step: int, tree: checkpoint.Tree, keep: int) -> Path:
        """Write a checkpoint and remove all but the newest ``keep``."""
        path = self.path / "checkpoints" / f"step-{step:08d}.safetensors"
        checkpoint.save(path, tree)
        for old in checkpoint.checkpoints(self.path)[:-keep]:
            old.unlink()
        return path

    def save_best(self, tree: checkpoint.Tree) -> None:
        """Keep the checkpoint that measured best, beside the newest ones."""
        checkpoint.save(self.path / checkpoint.BEST, tree)

    def _append(self, name: str, row: dict[str, Any]) -> None:
        with open(self.path / name, "a") as file:
            file.write(json.dumps(row) + "\n")


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: NaN and infinity are null."""
    return value if value is not None and math.isfinite(value) else None


def write_samples(path: Path, x: Tensor) -> None:
    """Write images (B, C, H, W) in [-1, 1] as a PNG grid, or samples of any shape as an NPZ with
    key ``samples``, by the path's ending."""
    endings = (".png", ".npz") if x.ndim == 4 else (".npz",)
    if path.suffix not in endings:
        raise SteadyganError(
            f"{path}: these samples are written to a file that ends in {' or '.join(endings)}."
        )
    aside = path.with_name(f"{path.name}.partial")
    try:
        with open(aside, "wb") as file:
            if path.suffix == ".png":
                image_grid(x).save(file, "png")
            else:
                np.savez_compressed(file, samples=x.cpu().float().numpy())
        os.replace(aside, path)
    except OSError as error:
        raise SteadyganError(f"{path} cannot be written: {error.strerror or error}.") from error


def image_grid(x: Tensor) -> Image.Image:
    """Tile images (B, C, H, W) in [-1, 1] into a picture, as square as they allow.

    >>> image_grid(torch.zeros(64, 3, 8, 8)).size
    (64, 64)
    """
    n, channels, height, width = x.shape
    columns = max(1, round(n**0.5))
    rows = -(-n // columns)
    tiles = x.new_full((rows * columns, channels, height, width), 1.0)
    tiles[:n] = x.nan_to_num(0.0)
    pixels = ((tiles.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
    pixels = (
        pixels.view(rows, columns, channels, height, width)
        .permute(0, 3, 1, 4, 2)
        .reshape(rows * height, columns * width, channels)
    )
    array = pixels.numpy()
    return Image.fromarray(array[..., 0] if channels == 1 else array)


def environment(device: str) -> dict[str, Any]:
    """Return what a result depends on besides the configuration."""
    found: dict[str, Any] = {
        "steadygan": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def header(
    problem: dict[str, Any], config: dict[str, Any], parameters: dict[str, int]
) -> dict[str, Any]:
    """Return the content of config.json."""
    return {
        "steadygan": __version__,
        "problem": problem,
        "config": config,
        "parameters": parameters,
        "environment": environment(config["device"]),
        "git": commit(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit() -> str | None:
    """Return the commit of the source that runs; None where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
