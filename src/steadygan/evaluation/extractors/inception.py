"""The network of the FID.

Inception v3 as TensorFlow published it in December 2015, in the names of its well-known PyTorch
port.

It differs from the Inception v3 of torchvision in its weights, in 1,008 outputs, in average pools
that leave the padding out of the mean, and in a maximum pool in the very last block, which is an
old mistake that every FID in the literature shares.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import SteadyganError
from ...core.registry import register
from ...problems.cache import cache_folder
from ...runs.files import make_folder, whole
from ..features import Extracted, NetworkFeatures, Progress
from ..weights import fill, read_weights, sha256

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
FILE = URL.rpartition("/")[2]
HASH = "6726825d"  # with which the file's SHA-256 begins, as its name says

# A branch: name, channels, kernel, and /2 where it halves the image; '|' forks. Unless it halves, a
# convolution keeps the size.
_A = (
    "branch1x1 64 1x1",
    "branch5x5_1 48 1x1 > branch5x5_2 64 5x5",
    "branch3x3dbl_1 64 1x1 > branch3x3dbl_2 96 3x3 > branch3x3dbl_3 96 3x3",
)
_B = (
    "branch3x3 384 3x3/2",
    "branch3x3dbl_1 64 1x1 > branch3x3dbl_2 96 3x3 > branch3x3dbl_3 96 3x3/2",
)
_C = (
    "branch1x1 192 1x1",
    "branch7x7_1 {c} 1x1 > branch7x7_2 {c} 1x7 > branch7x7_3 192 7x1",
    "branch7x7dbl_1 {c} 1x1 > branch7x7dbl_2 {c} 7x1 > branch7x7dbl_3 {c} 1x7 > branch7x7dbl_4"
    " {c} 7x1 > branch7x7dbl_5 192 1x7",
)
_D = (
    "branch3x3_1 192 1x1 > branch3x3_2 320 3x3/2",
    "branch7x7x3_1 192 1x1 > branch7x7x3_2 192 1x7 > branch7x7x3_3 192 7x1 > branch7x7x3_4 192"
    " 3x3/2",
)
_E = (
    "branch1x1 320 1x1",
    "branch3x3_1 384 1x1 > branch3x3_2a 384 1x3 | branch3x3_2b 384 3x1",
    "branch3x3dbl_1 448 1x1 > branch3x3dbl_2 384 3x3 > branch3x3dbl_3a 384 1x3 | branch3x3dbl_3b"
    " 384 3x1",
)


class _Conv(nn.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side and a pool.

    'average' without the padding, 'maximum', or 'halving', which has no convolution after it.
    """

    def __init__(self, inputs: int, branches: tuple[str, ...], pool: str, pooled: int = 0) -> None:
        super().__init__()
        self._branches = [
            [step.split(" | ") for step in branch.split(" > ")] for branch in branches
        ]
        self._pool, self.outputs = pool, pooled or inputs
        for branch in self._branches:
            width = inputs
            for step in branch:
                for text in step:
                    name, channels, shape = text.split()
                    kernel, _, halves = shape.partition("/")
                    high, wide = map(int, kernel.split("x"))
                    padding = (0, 0) if halves else (high // 2, wide // 2)
                    self.add_module(
                        name, _Conv(width, int(channels), (high, wide), 2 if halves else 1, padding)
                    )
                width = int(channels)
            self.outputs += len(branch[-1]) * width
        if pooled:
            self.branch_pool = _Conv(inputs, pooled, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self._branches:
            h = [x]
            for step in branch:
                h = [self.get_submodule(text.split()[0])(h[0]) for text in step]
            found += h
        if self._pool == "halving":
            found.append(F.max_pool2d(x, 3, stride=2))
        elif self._pool == "maximum":
            found.append(self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1)))
        else:
            found.append(
                self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
            )
        return torch.cat(found, 1)


class InceptionNetwork(nn.Module):
    """Images (B, 3, 299, 299) in [-1, 1] to features (B, 2048) and logits (B, 1008)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, (3, 3), 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = _Conv(32, 64, (3, 3), 1, (1, 1))
        self.Conv2d_3b_1x1 = _Conv(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Conv(80, 192, (3, 3))
        width = 192
        blocks: list[tuple[str, tuple[str, ...], str, int]] = [
            (f"5{at}", _A, "average", pooled) for at, pooled in (("b", 32), ("c", 64), ("d", 64))
        ]
        blocks += [("6a", _B, "halving", 0)]
        blocks += [
            (f"6{at}", tuple(branch.format(c=c) for branch in _C), "average", 192)
            for at, c in (("b", 128), ("c", 160), ("d", 160), ("e", 192))
        ]
        blocks += [("7a", _D, "halving", 0), ("7b", _E, "average", 192), ("7c", _E, "maximum", 192)]
        self._mixed = [f"Mixed_{name}" for name, *_ in blocks]
        for name, (_, branches, pool, pooled) in zip(self._mixed, blocks, strict=True):
            self.add_module(name, block := _Mixed(width, branches, pool, pooled))
            width = block.outputs
        self.fc = nn.Linear(width, 1008)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        for name in self._mixed:
            x = self.get_submodule(name)(x)
        features = x.mean((2, 3))
        return features, self.fc(features)


@register("features", "inception-2015")
@dataclass(frozen=True)
class Inception2015(NetworkFeatures):
    """The 2,048 pooled features of the FID network, at 299 x 299 in [-1, 1].

    The only ones whose Fréchet distance is called FID.

    ``weights`` is the path of its file, by default the environment variable STEADYGAN_INCEPTION,
    then what ``steadygan evaluate
    --download`` has fetched. Its hash must be that of the well-known file unless ``unchecked``.
    Images are resized with antialiasing, which differs from older tools where the images are larger
    than 299 pixels. Raises SteadyganError for a file that is missing or another.

    Reference: Heusel et al. 2017, arXiv:1706.08500; weights as ported by M. Seitzer,
    github.com/mseitzer/pytorch-fid.
    """

    weights: str | None = None
    unchecked: bool = False

    size = 299
    classes = True
    batch = 8

    @property
    def name(self) -> str:
        """What results call it; the path of the file says nothing about the features."""
        return "inception-2015" + (":unchecked" if self.unchecked else "")

    def find(self) -> Path:
        """Return the file of weights: the setting, the environment variable, or the downloaded one.

        Its hash is checked.
        """
        given = self.weights or os.environ.get("STEADYGAN_INCEPTION")
        path = Path(os.path.expanduser(given)) if given else cache_folder() / FILE
        if not path.is_file():
            raise SteadyganError(
                f"inception-2015 needs the FID network's weights, and {path} is not there. Set"
                " STEADYGAN_INCEPTION to the path of "
                f"{FILE}, write inception-2015:weights=PATH, or let 'steadygan evaluate"
                " --download' fetch it (91 MB). "
                "effnet-lite0 needs no download."
            )
        if not self.unchecked and not (found := sha256(path)).startswith(HASH):
            raise SteadyganError(
                f"{path} is not the FID network's file: its SHA-256 begins with {found[:8]}"
                f" instead of {HASH}. Get {URL}, "
                "or say that you know it, with inception-2015:unchecked=true; what it gives is"
                " then nobody else's FID."
            )
        return path

    def build_network(self) -> nn.Module:
        """Return the network with the weights of the file."""
        path = self.find()
        return fill(InceptionNetwork(), read_weights(path), path)

    def extract(self, x: Tensor) -> Extracted:
        """Return the features (B, 2048) and the probabilities (B, 1008)."""
        features, logits = self.network(self.prepare(x))
        return Extracted(features, logits.softmax(1))


def download(url: str = URL, progress: Progress | None = None) -> Path:
    """Fetch the FID network's weights into the cache, unless they are there.

    Args:
        url: Where they are; their hash is checked.
        progress: Is told ``(done, total)`` in bytes.

    Returns:
        The path of the file.

    Raises:
        SteadyganError: Where the network cannot be reached, or what came is another file, which is
            then removed.
    """
    path = cache_folder() / FILE
    if path.is_file() and sha256(path).startswith(HASH):
        return path
    make_folder(path.parent)
    with whole(path) as file:
        digest = hashlib.sha256()
        try:
            with urllib.request.urlopen(url, timeout=60) as source:
                total = int(source.headers.get("Content-Length") or 0)
                while chunk := source.read(1 << 20):
                    file.write(chunk)
                    digest.update(chunk)
                    if progress is not None:
                        progress(file.tell(), total)
        except (OSError, ValueError) as error:
            raise SteadyganError(
                f"{url} could not be fetched: {error}. Fetch it elsewhere and set"
                " STEADYGAN_INCEPTION to its path, or use effnet-lite0."
            ) from error
        if not (found := digest.hexdigest()).startswith(HASH):
            raise SteadyganError(
                f"What {url} sent has the SHA-256 {found[:8]}... instead of {HASH}...; it was"
                " removed. Try again later."
            )
    return path
