"""A folder that ``steadygan export`` wrote, here or on the Hugging Face Hub: its format, reading.

::

    README.md                          the model card
    steadygan.json                     configuration, shapes, classes, which checkpoint it is
    generator.safetensors              the moving average where there is one, ready to use
    generator-unaveraged.safetensors   the generator that was trained, where that is another one
    critic.safetensors, optimizers.safetensors
    load.py, constants.safetensors     the generator for torch alone, and what it needs besides
    generator.pt2, generator.onnx      where they were asked for
    samples.png                        of images

Nothing here runs what lies in such a folder.
"""

from __future__ import annotations

from pathlib import Path

from ..core.errors import SteadyganError, foreign
from . import checkpoint
from .description import Description
from .files import read_json

ABOUT, CARD, LOADER, PICTURE = "steadygan.json", "README.md", "load.py", "samples.png"
GENERATOR, UNAVERAGED = "generator.safetensors", "generator-unaveraged.safetensors"
CRITIC, OPTIMIZERS = "critic.safetensors", "optimizers.safetensors"
CONSTANTS = "constants.safetensors"
PROGRAM, ONNX = "generator.pt2", "generator.onnx"

FILES = (
    *(CARD, ABOUT, GENERATOR, UNAVERAGED, CRITIC, OPTIMIZERS),
    *(LOADER, CONSTANTS, PROGRAM, ONNX, PICTURE),
)
"""Everything that an export may write; whatever else lies there is somebody's."""

HUB = "hub:"
"""How a place on the Hugging Face Hub begins: ``hub:USER/NAME``, or ``hub:USER/NAME@REVISION``."""


def is_exported(folder: Path) -> bool:
    """Return whether a folder is an exported one."""
    return (folder / ABOUT).is_file()


def describe(folder: Path) -> Description:
    """Return what an exported folder says of itself.

    Raises:
        SteadyganError: Where that is damaged.
    """
    return Description(folder, read_json(folder / ABOUT), ABOUT)


def read(folder: Path, averaged: bool = True) -> checkpoint.Tree:
    """Return the step and the players' weights as a checkpoint has them.

    Args:
        folder: The exported folder.
        averaged: Of the generator the moving average, where there is one.

    Raises:
        SteadyganError: For files that are missing or damaged.
    """
    about, generator = describe(folder), folder / GENERATOR
    if not averaged and about.raw.get("averaged"):
        generator = folder / UNAVERAGED
        if not generator.is_file():
            raise SteadyganError(
                f"{folder} has the moving average of its generator and nothing else of it: take"
                " that (--ema kept), or export the run again."
            )
    return {
        "step": about.step,
        "generator": checkpoint.load(generator),
        "critic": checkpoint.load(folder / CRITIC),
    }


def locate(place: Path | str, averaged: bool = True) -> Path:
    """Return the folder of a place: itself, or the copy of what the Hub holds.

    Args:
        place: A folder, or ``hub:USER/NAME[@REVISION]``, of which only weights and JSON are
            fetched.
        averaged: Whether the unaveraged generator can stay where it is.

    Raises:
        SteadyganError: For what cannot be fetched.
    """
    if not str(place).startswith(HUB):
        return Path(place)
    name, _, revision = str(place).removeprefix(HUB).partition("@")
    try:
        import huggingface_hub
    except ImportError:
        raise SteadyganError(
            f'{place} needs the package huggingface_hub: pip install "steadygan[hub]".'
        ) from None
    wanted = [ABOUT, GENERATOR, CRITIC, *(() if averaged else (UNAVERAGED,))]
    mend = (
        "look at the name, at the connection, and, where it is private, log in by 'hf auth login'"
    )
    with foreign(f"{place} could not be fetched", mend):
        folder = huggingface_hub.snapshot_download(
            name, revision=revision or None, allow_patterns=wanted
        )
    if not is_exported(Path(folder)):
        raise SteadyganError(f"{place} is nothing that steadygan exported: it has no {ABOUT}.")
    return Path(folder)
