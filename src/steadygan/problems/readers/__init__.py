"""From where images lie (folder, zip, arrays, CIFAR, IDX files, digits, hub) to a ``Source``."""

from __future__ import annotations

import os
from pathlib import Path

from ...core.errors import SteadyganError
from .arrays import IDX_IMAGES, digits, idx_file, numpy_file
from .cifar import cifar_archive, cifar_files, cifar_folder
from .hub import hub
from .pictures import is_picture
from .source import Classes, DataWarning, Place, Reading, Source, readable, tell
from .trees import archive, folder

_KINDS = (
    "a folder or a .zip of images, an .npz or .npy, cifar-10-python.tar.gz, an IDX file"
    " (*images-idx3-ubyte[.gz]), 'digits', or 'hf:NAME[:SPLIT]'"
)


def locate(data: str | os.PathLike[str], reading: Reading | None = None) -> Place:
    """Find the images that ``data`` spells, without reading them.

    Args:
        data: a folder, a file, ``digits`` or ``hf:NAME``; see ``load_images``.
        reading: how they are to be read.

    Returns:
        Where they lie; ``open`` reads them.

    Raises:
        SteadyganError: where nothing is there, its kind is unknown or it cannot be read.

    >>> with locate("digits").open() as source:
    ...     source.count, source.classes.names[:3]
    (1797, ('0', '1', '2'))
    """
    spelled, reading = os.fspath(data), reading or Reading()
    with readable(spelled):
        return _find(spelled, reading)


def _find(spelled: str, reading: Reading) -> Place:
    if not spelled:
        raise SteadyganError(f"No images were named: set data to {_KINDS}.")
    if spelled == "digits":
        return digits(reading)
    if spelled.startswith("hf:"):
        return hub(spelled.removeprefix("hf:"), reading)
    path = Path(os.path.expanduser(spelled))
    if not path.exists():
        raise SteadyganError(f"{spelled} does not exist (looked in {Path.cwd()}). Give {_KINDS}.")
    if path.is_dir():
        return _folder(path, reading)
    if not path.is_file():
        raise SteadyganError(
            f"{spelled} is no file but a pipe, a socket or a device: copy it first."
        )
    name = path.name.lower()
    if name.endswith(".zip"):
        return archive(path, reading)
    if name.endswith((".npz", ".npy")):
        return numpy_file(path, reading)
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return cifar_archive(path, reading)
    if IDX_IMAGES.search(name):
        return idx_file(path, reading)
    if is_picture(name):
        raise SteadyganError(
            f"{spelled} is a single image; give the folder that holds it, or, of a grid that"
            " 'steadygan sample' drew, its samples one by one (--out FILE.npz)."
        )
    raise SteadyganError(f"{spelled} is of no kind that can be read. Give {_KINDS}.")


def _folder(root: Path, reading: Reading) -> Place:
    files = {entry.name for entry in root.iterdir() if entry.is_file()}
    if cifar := cifar_files(files):
        return cifar_folder(root, cifar, reading)
    if idx := sorted(name for name in files if IDX_IMAGES.search(name)):
        chosen = [name for name in idx if "train" in name] or idx
        if len({name.removesuffix(".gz") for name in chosen}) > 1:
            raise SteadyganError(
                f"{root} holds several IDX files of images; name one of them: {', '.join(chosen)}."
            )
        return idx_file(root / chosen[0], reading)
    return folder(root, reading)


__all__ = ["Classes", "DataWarning", "Place", "Reading", "Source", "locate", "readable", "tell"]
