"""What ``steadygan export`` writes; its format, and how it is read, is in runs/exported.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..core.errors import SteadyganError
from ..runs import checkpoint, exported
from ..runs.config import stream_seed
from ..runs.files import whole_folder, write_json, write_text
from ..runs.models import Loaded, Which, generate, labels, latent, load
from ..runs.reading import Run
from ..runs.samples import write_samples
from . import program
from .card import card

FORMATS = ("torch-export", "onnx")
"""What a generator can be written as besides safetensors and its loader."""


def export(
    run: Path | str,
    to: Path | str,
    checkpoint_name: Path | str | None = None,
    *,
    member: int | None = None,
    ema: str = "kept",
    formats: Sequence[str] = (),
    license: str = "unknown",
) -> list[str]:
    """Write a folder from which a run's networks can be used elsewhere: whole or not at all.

    Args:
        run: A run folder.
        to: The folder, which must not be there, or be empty.
        checkpoint_name: ``best``, ``last``, a step, or a file.
        member: Which of many GANs that were trained at once.
        ema: Which average of the generator: ``kept``, ``none``, or ``sigma=S``, one made now.
        formats: Of ``FORMATS``.
        license: What the model card says, an identifier of the Hub's such as ``apache-2.0``.

    Returns:
        In words what whoever asked for it should know.

    Raises:
        SteadyganError: For a folder that holds something, and for what cannot be read or traced.
    """
    to = Path(to)
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise SteadyganError(
            f"{to} exists and is not empty: remove it, or choose another folder with --to."
        )
    program.check(formats)
    which = Which.of(ema)
    loaded = load(run, checkpoint_name, member, *which)
    if loaded.checkpoint is None:
        raise SteadyganError(f"{run} is exported already: copy it.")
    tree = checkpoint.load(loaded.checkpoint)
    about, read = _about(loaded, tree, which), Run.read(Path(run))
    with checkpoint.fitting(loaded.checkpoint, loaded.config.network):
        optimizers = tree["optimizer"]
    notes = []
    with whole_folder(to) as folder:
        write_json(folder / exported.ABOUT, about)
        checkpoint.save(folder / exported.GENERATOR, loaded.generator.state_dict())
        checkpoint.save(folder / exported.CRITIC, loaded.critic.state_dict())
        if about["averaged"]:
            own = tree["generator"]
            if member is not None:
                own = {key: values[member] for key, values in own.items()}
            checkpoint.save(folder / exported.UNAVERAGED, own)
        if member is None:
            checkpoint.save(folder / exported.OPTIMIZERS, optimizers)
        else:
            notes.append("of many GANs the optimizers, which they share, are left out")
        traced = program.traced(loaded)
        write_text(folder / exported.LOADER, program.loader(traced, loaded))
        if constants := program.constants(traced):
            checkpoint.save(folder / exported.CONSTANTS, constants)
        notes += program.write(folder, traced, loaded, formats)
        if len(loaded.about.event) == 3:
            write_samples(folder / exported.PICTURE, _shown(loaded))
        write_text(folder / exported.CARD, card(loaded, about, read, license, formats, member))
    return notes


def _about(loaded: Loaded, tree: checkpoint.Tree, which: Which) -> dict[str, Any]:
    """Return what the folder says of itself; where files lay on one's disk is left out."""
    about = loaded.about
    setting = dict(about.setting)
    data, features = loaded.config.metrics_data, loaded.config.features
    if isinstance(setting.get("data"), str):
        setting["data"] = _public(setting["data"])
    features, weights, path = features.partition("weights=")  # as inception-2015 spells a path
    config = replace(
        loaded.config,
        metrics_data=data and _public(data),
        features=f"{features}{weights}{_public(path)}" if weights else _public(features),
    )
    assert loaded.checkpoint is not None
    return {
        "steadygan": __version__,
        "step": loaded.step,
        "checkpoint": "best" if loaded.checkpoint.stem == "best" else "step",
        "averaged": which.averaged and bool(tree.get("ema")),
        "average": str(which),
        "event": list(about.event),
        "classes": about.classes,
        "problem": setting,
        "config": config.to_json(),
        "data": about.data,
        "parameters": about.raw.get("parameters", {}),
        "environment": about.raw.get("environment", {}),
    }


def _public(place: str) -> str:
    return place if place.startswith("hf:") else Path(place).name


def _shown(loaded: Loaded) -> torch.Tensor:
    rng = torch.Generator().manual_seed(stream_seed(0, "sample"))
    n = 64
    z = latent(loaded.config).draw(n, rng)
    return generate(loaded.generator, z, labels(loaded.classes, n), "cpu")
