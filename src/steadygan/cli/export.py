"""Commands that hand a trained generator on: export and push."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .arguments import Ema, Folder, Modules, arg, flag, whole
from .show import say, table


@dataclass(frozen=True)
class Export:
    """Write a folder from which a trained generator can be used without steadygan.

    Weights are safetensors, the moving average of the generator where there is one; load.py makes
    samples of them with torch alone; README.md is a model card with data, settings, gamma and its
    convention, metrics and limits. 'steadygan.load_generator(DIR)' reads the folder too, and so do
    sample, walk and evaluate. Where data lay on your disk is left out but for the name.

    Examples:
      steadygan export runs/photos --to photos-gan --checkpoint best --license apache-2.0
      steadygan export runs/photos --to photos-gan --format torch-export onnx
    """

    path: Folder
    to: Annotated[Path, arg("DIR", "a new folder")]
    checkpoint: Annotated[
        Path | None, arg("best|last|STEP|FILE", "best: by the first of train --metrics", "last")
    ] = None
    format: Annotated[
        tuple[Literal["torch-export", "onnx"], ...],
        arg("torch-export|onnx", "what else the generator is written as", "none"),
    ] = ()
    license: Annotated[
        str, arg("ID", "of the model card, as the Hub spells it, such as apache-2.0")
    ] = "unknown"
    member: Annotated[
        int | None, whole("K", "which of many GANs that were trained at once, counted from 0")
    ] = None
    ema: Ema = "kept"
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..export import export
        from ..export.hub import files

        notes = export(
            self.path,
            self.to,
            self.checkpoint,
            member=self.member,
            ema=self.ema,
            formats=self.format,
            license=self.license,
        )
        _list(files(self.to), str(self.to))
        say(*notes)
        return 0


@dataclass(frozen=True)
class Push:
    """Upload an exported folder to the Hugging Face Hub, as a model.

    Only what 'steadygan export' wrote is uploaded. Log in by 'hf auth login' before, or set
    HF_TOKEN. Needs huggingface_hub: pip install "steadygan[hub]".

    Examples:
      steadygan push photos-gan me/photos-gan --dry-run
      steadygan push photos-gan me/photos-gan --private
    """

    path: Annotated[
        Path, tyro.conf.Positional, arg("DIR", "a folder that 'steadygan export' wrote")
    ]
    name: Annotated[str, tyro.conf.Positional, arg("USER/NAME", "what it is called there")]
    private: Annotated[bool, flag("seen by you only, where it is new")] = False
    dry_run: Annotated[bool, flag("only list what would be uploaded")] = False

    def run(self) -> int:
        """Return the exit status."""
        from ..export.hub import check_name, files, push

        check_name(self.name)
        found = files(self.path)
        if self.dry_run:
            kind = "private if it is new" if self.private else "public if it is new"
            _list(found, f"would go to {self.name}, {kind}")
            return 0
        say(push(self.path, self.name, private=self.private))
        return 0


def _list(found: dict[str, int], title: str) -> None:
    rows = [(name, f"{size:,}") for name, size in found.items()]
    table(("file", "bytes"), [*rows, ("together", f"{sum(found.values()):,}")], title=title)
