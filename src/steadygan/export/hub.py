"""An exported folder on its way to the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import SteadyganError, foreign
from ..runs.exported import ABOUT, FILES, is_exported


def files(folder: Path) -> dict[str, int]:
    """Return what is pushed, and its size in bytes: what an export wrote, and nothing else.

    Raises:
        SteadyganError: For a folder that is no exported one, and for links, which could lead to
            what nobody means to publish.
    """
    if not is_exported(folder):
        raise SteadyganError(
            f"{folder} is no exported folder (it has no {ABOUT}): make one with 'steadygan export"
            " RUN --to DIR'."
        )
    if link := next((name for name in FILES if (folder / name).is_symlink()), None):
        raise SteadyganError(
            f"{folder / link} is a link, and what it leads to is not pushed: export the run again,"
            " or put the file there."
        )
    return {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()}


def push(folder: Path | str, name: str, *, private: bool = False) -> str:
    """Upload an exported folder as a model.

    The token is the one that ``hf auth login`` keeps, or HF_TOKEN; it is never shown.

    Args:
        folder: That ``export`` wrote.
        name: ``USER/NAME``; it is made where it is not there.
        private: Whether a new one is seen by its owner only.

    Returns:
        The address of the model.

    Raises:
        SteadyganError: For what is no exported folder, and whatever the Hub refuses.
    """
    folder = Path(folder)
    names = list(files(folder))
    check_name(name)
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise SteadyganError(
            'push needs the package huggingface_hub: pip install "steadygan[hub]".'
        ) from None
    api = HfApi(library_name="steadygan")
    mend = "look at its name and at the connection, and log in by 'hf auth login'"
    with foreign(f"{name} could not be pushed", mend):
        place = api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=place.repo_id,
            folder_path=folder,
            allow_patterns=names,
            commit_message="A generator that steadygan exported",
        )
        return str(place)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a model on the Hub."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise SteadyganError(f"A model on the Hub is called USER/NAME, not {name!r}.")
