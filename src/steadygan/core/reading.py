"""How what a critic returns is read: logits of its outputs, and feature maps that are handed on.

| the critic returns | is read as |
|---|---|
| a tensor (B, ...) | one output, whose K positions are a batch of logits each |
| a list, tuple or dict of them | as many outputs |
| a pair of a tensor and a list of tensors | an output and its feature maps (HiFi-GAN's critics) |
| a pair of a list of tensors and a list of lists | outputs and their feature maps (EnCodec's) |
| a dict with an entry ``features`` (or ``fmap``) | outputs and feature maps |
| lists, tuples or dicts of these | all their outputs |
| lists of lists of tensors | refused until it is said: see ``Reading`` |
| a tensor beside a dict of others | refused until it is said |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from .errors import SteadyganError

Reading = Literal["auto", "last", "all"]
"""``auto``: as in the table above; ``last``: the last tensor of a list is its logits and the others
are feature maps (DAC, pix2pixHD); ``all``: every tensor is an output."""
FEATURES = ("features", "feature_maps", "feats", "fmap", "fmaps", "hidden_states", "attentions")
"""Keys of a dict that hold feature maps."""


class Heads(NamedTuple):
    """Logits of each output, in single precision at least, and groups of feature maps.

    Logits are (B, K), or (B,) where there is one logit a sample and nothing else.
    """

    logits: tuple[Tensor, ...]
    features: tuple[tuple[Tensor, ...], ...] = ()

    @property
    def single(self) -> bool:
        """Whether there is one logit a sample."""
        return self.logits[0].ndim == 1

    def flat(self) -> tuple[Tensor, ...]:
        """Return all tensors, the logits first."""
        return *self.logits, *(t for group in self.features for t in group)

    def like(self, tensors: Sequence[Tensor]) -> Heads:
        """Return tensors in the order of ``flat`` as they stand here."""
        rest = iter(tensors[len(self.logits) :])
        groups = tuple(tuple(next(rest) for _ in group) for group in self.features)
        return Heads(tuple(tensors[: len(self.logits)]), groups)


def read(out: Any, rows: int, reading: Reading = "auto") -> Heads:
    """Return the outputs in what a critic returned for ``rows`` samples.

    Raises:
        SteadyganError: for what is no output of so many samples, and for nested lists that can be
            read in two ways.

    >>> maps = [(torch.zeros(4, 1, 3, 3), [torch.zeros(4, 8, 6, 6)]), (torch.zeros(4, 1), [])]
    >>> [tuple(logits.shape) for logits in read(maps, 4).logits]
    [(4, 9), (4, 1)]
    """
    if rows == 0:
        raise SteadyganError("the batch is empty: a critic's loss is a mean over its samples")
    heads, features = _walk(out, reading)
    if not heads:
        raise SteadyganError("the critic returned no tensor of logits")
    if len(heads) == 1 and heads[0].numel() == rows:
        return Heads((_checked(heads[0], rows).reshape(rows),), tuple(features))
    return Heads(tuple(_checked(t, rows).reshape(rows, -1) for t in heads), tuple(features))


Found = tuple[list[Tensor], list[tuple[Tensor, ...]]]


def _walk(out: Any, reading: Reading) -> Found:
    if isinstance(out, Tensor):
        return [out], []
    if isinstance(out, Mapping):
        heads = [value for key, value in out.items() if key not in FEATURES]
        maps = [value for key, value in out.items() if key in FEATURES and value is not None]
        found, features = _each(heads, reading)
        return found, [*features, *(group for value in maps for group in _groups(value))]
    if not isinstance(out, (list, tuple)):
        raise SteadyganError(
            "the critic must return a tensor of logits, or a list, tuple or dict of them, it"
            f" returned {type(out).__name__}"
        )
    if reading == "last" and _tensors(out):
        return [out[-1]], [tuple(out[:-1])]
    if reading == "auto" and _pair(out):
        return _walk(out[0], reading)[0], _groups(out[1])
    if reading == "auto" and _beside_named(out):
        raise SteadyganError(
            f"the critic returned a tensor beside a dict of {', '.join(map(str, out[1]))}: return"
            " (logits, list(maps.values())) where these are feature maps; where they are logits,"
            " say outputs='each:reading=all'"
        )
    if reading == "auto" and any(_tensors(item) and len(item) > 1 for item in out):
        raise SteadyganError(
            "the critic returned lists of tensors inside a list: say whether the last of each holds"
            " its logits and the others are feature maps, outputs='each:reading=last', or all of"
            " them are logits, outputs='each:reading=all'"
        )
    return _each(out, reading)


def _each(items: Sequence[Any], reading: Reading) -> Found:
    found = [_walk(item, reading) for item in items if item is not None]
    return [t for heads, _ in found for t in heads], [g for _, groups in found for g in groups]


def _pair(out: Sequence[Any]) -> bool:
    """Return whether it is (logits, their feature maps)."""
    if len(out) != 2 or not isinstance(out[1], (list, tuple)):
        return False
    heads, maps = out
    if isinstance(heads, Tensor):
        return _tensors(maps)
    return _tensors(heads) and all(map(_tensors, maps))


def _beside_named(out: Sequence[Any]) -> bool:
    """Return whether it is (logits, something by name), which may be maps or more logits."""
    if len(out) != 2 or not isinstance(out[1], Mapping):
        return False
    others = [v for key, v in out[1].items() if key not in FEATURES and v is not None]
    return isinstance(out[0], Tensor) and bool(others)


def _tensors(out: Any) -> bool:
    return isinstance(out, (list, tuple)) and all(isinstance(t, Tensor) for t in out)


def _groups(maps: Any) -> list[tuple[Tensor, ...]]:
    """Return feature maps by the part of the critic that they come from; of None there are none."""
    if isinstance(maps, Tensor):
        return [(maps,)]
    if isinstance(maps, Mapping):
        maps = list(maps.values())
    if not isinstance(maps, (list, tuple)):
        raise SteadyganError(
            f"the critic returned {type(maps).__name__} among its feature maps: return tensors, or"
            " lists of them"
        )
    maps = [item for item in maps if item is not None]
    return [tuple(maps)] if _tensors(maps) else [g for item in maps for g in _groups(item)]


def _checked(out: Tensor, rows: int) -> Tensor:
    batched = out.shape[:1] == (rows,) or out.numel() == rows == 1
    if not (batched and out.is_floating_point() and out.numel()):
        raise SteadyganError(
            f"the critic returned shape {tuple(out.shape)} of {out.dtype} for {rows} samples;"
            f" expected one logit a sample, ({rows},), or several, ({rows}, ...)"
        )
    return lifted(out)


def lifted(t: Tensor) -> Tensor:
    """Return a tensor in single precision where it came in half: squares would be 0 or infinite."""
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) else t
