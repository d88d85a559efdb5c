"""Commands that show what a trained generator makes: sample and walk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ..core.errors import SteadyganError
from .arguments import Ema, Modules, Trained, arg, flag, number_list, whole
from .show import bar, say

if TYPE_CHECKING:
    from torch import Tensor

    from ..runs.sampling import Sampler

_CHECKPOINT = arg("best|last|STEP|FILE", "of a run; best: by the first of train --metrics", "last")
_MEMBER = whole("K", "which of many GANs that were trained at once, counted from 0")


@dataclass(frozen=True)
class Sample:
    """Draw samples from a trained generator: a grid of images, a file a seed, points.

    Without --seeds all latents come from one --seed; with it each seed has a latent of its own, and
    the same sample whatever stands beside it. Without --class labels run through the classes, with
    the seed where there are --seeds; a number that is no name counts from 0. --truncation PSI moves
    latents towards their mean, 0 for normal and uniform ones, z → PSI·z: samples become more alike,
    and often cleaner; 1 leaves them.

    Examples:
      steadygan sample runs/photos --n 100 --seed 3 --out samples.png
      steadygan sample runs/photos --seeds 0-99 --outdir pictures --checkpoint best
      steadygan sample runs/photos --seeds 0-9 --class all --out classes.png
      steadygan sample runs/photos --class cat --truncation 0.7 --out cats.jpg
      steadygan sample runs/mixture3d-js --n 5120 --out samples.npz
      steadygan sample runs/mixture3d-js --out points.png
      steadygan sample runs/many --member 3 --out third.csv
      steadygan sample runs/photos --ema sigma=0.15 --out smooth.png
    """

    path: Trained
    n: Annotated[int, arg("N", "how many; with --class all of each class")] = 64
    seed: Annotated[int, arg("N", "of the latents")] = 0
    seeds: Annotated[
        str | None, arg("LIST", "a latent of each, such as 0-99 or 3,7,20-29, instead of --n")
    ] = None
    of_class: Annotated[
        str | None, arg("NAME|INDEX|all", "which class", "all in turn", name="class")
    ] = None
    truncation: Annotated[float, arg("PSI", "how far latents are from their mean, 0 to 1")] = 1.0
    checkpoint: Annotated[Path | None, _CHECKPOINT] = None
    member: Annotated[int | None, _MEMBER] = None
    ema: Ema = "kept"
    out: Annotated[
        Path | None,
        arg("FILE", "ends in .png, .jpg, .npz or, of vectors, .csv", "in the run folder"),
    ] = None
    outdir: Annotated[
        Path | None, arg("DIR", "a file for each of --seeds, seed0000.png and so on", "none")
    ] = None
    format: Annotated[
        Literal["png", "jpg", "npz", "csv"] | None,
        arg("png|jpg|npz|csv", "of files whose ending is not said", "png; npz of vectors"),
    ] = None
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        import torch

        from ..runs.models import Which, labels
        from ..runs.sampling import Sampler

        seeds = self._checked()
        sampler = Sampler.open(self.path, self.checkpoint, self.member, Which.of(self.ema))
        _say_which(sampler, self.checkpoint)
        self._check_format(sampler)
        z = sampler.draw(self.n, self.seed) if seeds is None else sampler.of_seeds(seeds)
        z, rows = sampler.latent.truncated(z, self.truncation), len(z)
        asked = None if self.of_class is None else sampler.labels(self.of_class)
        y: Tensor | None
        if asked is not None:
            y = torch.tensor(asked).repeat_interleave(rows)
            z = z.repeat(len(asked), 1)
        elif seeds is not None and sampler.classes:
            y = torch.tensor(seeds) % len(sampler.classes)
        else:
            y = labels(len(sampler.classes), rows)
        if self.outdir is not None and seeds is not None:
            self._write_each(sampler, z, y, seeds, asked or [])
            return 0
        out = self.out or self._usual(sampler)
        x = sampler(z, y, alone=seeds is not None)
        columns = rows if asked is not None and len(asked) > 1 else None  # a row a class
        _write(out, x, sampler, columns)
        say(str(out))
        return 0

    def _checked(self) -> list[int] | None:
        """Return the seeds, and refuse what makes no sense before anything is read."""
        if not 1 <= self.n < 2**63:
            raise SteadyganError(f"--n must be at least 1 and below 2^63, not {self.n}.")
        if not 0 <= self.truncation <= 1:
            raise SteadyganError(
                f"--truncation must be between 0, the mean latent, and 1, latents as they were in"
                f" training, not {self.truncation:g}."
            )
        if self.outdir is not None and self.out is not None:
            raise SteadyganError("--out is one file, --outdir a folder: leave one of them out.")
        if self.outdir is not None and self.seeds is None:
            raise SteadyganError(
                "--outdir gets a file for each seed: say which, such as --seeds 0-99."
            )
        if self.format is not None and self.out is not None:
            raise SteadyganError(
                f"--format {self.format} is for files whose ending is not said, and --out"
                f" {self.out} says its own: leave one of them out."
            )
        return None if self.seeds is None else number_list("--seeds", self.seeds)

    def _check_format(self, sampler: Sampler) -> None:
        wrong = {"csv"} if sampler.makes_images else {"jpg"}
        if self.outdir is not None and not sampler.makes_images:
            wrong |= {"png"}
        if self.format in wrong:
            kind = "images" if sampler.makes_images else "vectors"
            raise SteadyganError(
                f"--format {self.format} makes no sense here: samples are {kind} of shape"
                f" {sampler.about.event}."
            )

    def _usual(self, sampler: Sampler) -> Path:
        from ..runs.format import is_run

        name = "sample" if self.member is None else f"sample-member{self.member}"
        of = f"seed{self.seed}" if self.seeds is None else f"seeds{self.seeds}"
        more = "" if self.of_class is None else f"-{_file_name(self.of_class)}"
        more += "" if self.truncation == 1 else f"-psi{self.truncation:g}"
        more += "" if self.ema == "kept" else f"-{_file_name(self.ema)}"
        folder = self.path if is_run(self.path) else Path()
        return folder / f"{name}-step{sampler.step}-{of}{more}.{self._ending(sampler)}"

    def _ending(self, sampler: Sampler) -> str:
        return self.format or ("png" if sampler.makes_images else "npz")

    def _write_each(
        self,
        sampler: Sampler,
        z: Tensor,
        y: Tensor | None,
        seeds: Sequence[int],
        asked: Sequence[int],
    ) -> None:
        from ..runs.files import make_folder
        from ..runs.samples import write_samples

        assert self.outdir is not None
        make_folder(self.outdir)
        digits = len(str(len(sampler.classes)))
        with bar("samples") as tell:
            for i in range(len(z)):
                name = f"seed{seeds[i % len(seeds)]:04d}"
                if asked:
                    # A class may be called anything: its number keeps two from having one file.
                    label = asked[i // len(seeds)]
                    name += f"-{label:0{digits}d}-{_file_name(sampler.classes[label])}"
                x = sampler(z[i : i + 1], None if y is None else y[i : i + 1])
                write_samples(self.outdir / f"{name}.{self._ending(sampler)}", x)
                tell(i + 1, len(z))
        say(f"{len(z)} files in {self.outdir}")


@dataclass(frozen=True)
class Walk:
    """Show the way from one latent to the next: a strip of pictures, or a film.

    Between normal latents it is an arc, between uniform ones a straight line, so that each picture
    is of a latent as likely as those of training. A PNG is a strip, a row a walk; in a GIF, WebP or
    MP4 walks run side by side. MP4 needs imageio-ffmpeg: pip install "steadygan[video]".

    Examples:
      steadygan walk runs/photos --seeds 0-3 --out strip.png
      steadygan walk runs/photos --seeds 0-7 --loop --out walk.mp4
      steadygan walk runs/photos --seeds 0-15 --walks 4 --loop --scale 4 --out walks.gif
      steadygan walk runs/photos --seeds 0-3 --class all --frames 6 --out classes.png
    """

    path: Trained
    out: Annotated[Path, arg("FILE", "ends in .png, .gif, .webp or .mp4")]
    seeds: Annotated[str, arg("LIST", "whose latents it goes through, such as 0-7 or 3,9,4")] = (
        "0-4"
    )
    frames: Annotated[
        int | None,
        whole("N", "pictures from one seed to the next", "8 in a strip, 24 in a film"),
    ] = None
    fps: Annotated[float, arg("N", "pictures a second of a film")] = 24.0
    loop: Annotated[bool, flag("go back to the first seed")] = False
    walks: Annotated[int, arg("N", "how many walks the seeds are dealt out to")] = 1
    of_class: Annotated[
        str | None, arg("NAME|INDEX|all", "which class; all: a walk each", "0", name="class")
    ] = None
    scale: Annotated[int, arg("N", "each pixel as N x N")] = 1
    checkpoint: Annotated[Path | None, _CHECKPOINT] = None
    member: Annotated[int | None, _MEMBER] = None
    ema: Ema = "kept"
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..runs.files import make_folder
        from ..runs.films import check_film, walk, write_film
        from ..runs.models import Which
        from ..runs.sampling import Sampler

        walks = self._checked()
        check_film(self.out, self.fps)
        sampler = Sampler.open(self.path, self.checkpoint, self.member, Which.of(self.ema))
        if not sampler.makes_images:
            raise SteadyganError(
                f"walk shows pictures, and samples of {self.path} are vectors of shape"
                f" {sampler.about.event}: 'steadygan sample {self.path} --out points.png' shows"
                " them."
            )
        _say_which(sampler, self.checkpoint)
        labels = None
        if self.of_class is not None or sampler.classes:
            asked = [0] if self.of_class is None else sampler.labels(self.of_class)
            walks = walks if len(asked) == 1 else walks * len(asked)
            labels = asked * (len(walks) // len(asked))
        make_folder(self.out.parent)
        frames = self.frames or (8 if self.out.suffix == ".png" else 24)
        pictures = walk(sampler, walks, frames, loop=self.loop, labels=labels)
        write_film(self.out, pictures, self.fps, self.scale)
        say(f"{self.out}: {len(pictures)} pictures, {sampler.latent.way} between the latents")
        return 0

    def _checked(self) -> list[list[int]]:
        """Return the seeds of each walk."""
        for name, value in (("frames", self.frames), ("walks", self.walks), ("scale", self.scale)):
            if value is not None and value < 1:
                raise SteadyganError(f"--{name} must be at least 1, not {value}.")
        if not 0 < self.fps <= 1000:
            raise SteadyganError(f"--fps must be above 0 and at most 1000, not {self.fps:g}.")
        seeds = number_list("--seeds", self.seeds)
        if len(seeds) % self.walks or len(seeds) < 2 * self.walks:
            raise SteadyganError(
                f"--seeds {self.seeds} are {len(seeds)}, and {self.walks} walk(s) need two or more"
                " each, equally many."
            )
        if self.walks > 1 and self.of_class == "all":
            raise SteadyganError(
                "--class all is a walk for each class: leave --walks out, or name one class."
            )
        each = len(seeds) // self.walks
        return [seeds[i : i + each] for i in range(0, len(seeds), each)]


def _write(out: Path, x: Tensor, sampler: Sampler, columns: int | None) -> None:
    """Write samples into one file: of vectors also a picture of points."""
    from ..runs.files import make_folder
    from ..runs.samples import write_samples

    if out.suffix != ".png" or sampler.makes_images:
        write_samples(out, x, columns=columns)
        return
    if x.ndim != 2:
        raise SteadyganError(
            f"{out}: there is no picture of samples of shape {sampler.about.event}; take .npz."
        )
    from ..report.figures import colours
    from ..report.portraits import save_figure
    from ..report.views import View, scatter

    make_folder(out.parent)
    real = sampler.about.problem().stream(0).draw(2000).x.double().numpy()
    points = x.double().numpy()
    save_figure(scatter(points, View.of(real, [points]), colours(1)[0]), out)


def _say_which(sampler: Sampler, checkpoint: Path | None) -> None:
    if str(checkpoint) == "best":
        metrics = str(sampler.about.config.metrics).partition(",")[0].strip()
        say(f"steadygan: the best by {metrics} is step {sampler.step:,}", stderr=True)


def _file_name(text: str) -> str:
    """Return a text of which a file can be called."""
    return re.sub(r"[^\w.=-]+", "-", text).strip("-.") or "class"
