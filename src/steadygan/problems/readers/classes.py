"""Classes from folders: the class is the level of folders that varies."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal

from ...core.errors import some
from .source import Classes

_SPLITS = frozenset(
    "train training trainval test testing val valid validation dev eval evaluation unlabeled"
    " unlabelled".split()
)
# Folders that say what kind of file lies in them.
_ROLES = frozenset(
    "image images img imgs picture pictures photo photos jpg jpeg jpegs jpegimages png pngs mask"
    " masks label labels annotation annotations gt ground_truth groundtruth segmentation"
    " segmentations depth edges".split()
)
_NUMBERED = re.compile(r"(part|shard|chunk|batch|fold|disc|volume|vol|set|session|dir)?[-_ ]?\d+")
_HASH = re.compile(r"[0-9a-f]{1,3}")
_ENOUGH = 10  # images, above which it is odd that each has a folder of its own
OUTSIDE = "?"
"""The class of images that lie beside the folders of all classes."""

Kind = Literal["one", "split", "mixed with splits", "role", "shard", "class"]
Parts = tuple[str, ...]


def from_folders(names: Sequence[str], level: int | None = None) -> Classes:
    """Find the classes of images in the names of the folders that they lie in.

    Levels of which there is one folder, or whose folders are splits (train, test) or shards
    (00000, 00001), are no classes. Of several levels that are left, the first is the class where
    the others lie inside it (cat/1, dog/2), and all make the class together where they cross
    (bikes/red, cars/red).

    Args:
        names: of the images, relative, in order; folders are separated by /.
        level: the level of folders that is to be the class, the outermost being 1; None to find it.

    Returns:
        The classes, or why there are none and between what to choose.

    >>> from_folders(["train/cat/1.png", "train/dog/2.png", "test/dog/1.png"]).names
    ('cat', 'dog')
    """
    folders = [tuple(name.split("/")[:-1]) for name in names]
    distinct = dict.fromkeys(folders)
    levels = _levels(distinct)
    if level is not None:
        if level > len(levels):
            return Classes(why=f"there is no level {level} of folders; {_choices(levels)}")
        return _label(folders, names, [level - 1], levels)
    kinds = [_kind(values) for values in levels]
    if "mixed with splits" in kinds:
        return _undecided("splits (train, test) and other folders lie side by side", levels)
    candidates = [k for k, kind in enumerate(kinds) if kind == "class"]
    if candidates:
        chosen = _together(distinct, candidates)
        found = _label(folders, names, chosen, levels)
        return replace(found, note="; ".join(filter(None, (found.note, _word(chosen, candidates)))))
    shards = [k for k, kind in enumerate(kinds) if kind == "shard"]
    if len(shards) == 1 and _repeated(folders, names, shards[0]):
        return _label(folders, names, shards, levels)
    if shards:
        return _undecided("its folders are numbered like parts of one set", levels)
    if "role" in kinds:
        return _undecided("its folders are named after kinds of files", levels)
    if "split" in kinds:
        return Classes(why=f"its folders are splits, no classes; {_choices(levels)}")
    if levels:
        return Classes(why=f"it has one folder at each level: {'/'.join(min(v) for v in levels)}")
    return Classes(why="its images lie in no folders")


def splits(names: Sequence[str]) -> str:
    """Return a word about splits (train, test) that are read together; empty where none are."""
    levels = _levels(dict.fromkeys(tuple(name.split("/")[:-1]) for name in names))
    found = next((values for values in levels if _kind(values) == "split"), None)
    return f"{' and '.join(sorted(found))} are read together" if found else ""


def _levels(folders: Collection[Parts]) -> list[set[str]]:
    depth = max(map(len, folders), default=0)
    return [{parts[k] for parts in folders if len(parts) > k} for k in range(depth)]


def _kind(values: set[str]) -> Kind:
    lower = {value.lower() for value in values}
    if len(values) == 1:
        return "one"
    if lower <= _SPLITS:
        return "split"
    # trainA and trainB too, and train beside folders that are no splits.
    if len(lower & _SPLITS) > 1 or all(re.match("train|test|val", v) for v in lower):
        return "mixed with splits"
    if lower <= _ROLES:
        return "role"
    hashes = all(_HASH.fullmatch(v) for v in lower)
    mixed = any(v.isdecimal() for v in lower) and any(v.isalpha() for v in lower)
    if all(_NUMBERED.fullmatch(v) for v in lower) or (hashes and mixed):
        return "shard"
    return "class"


def _together(folders: Collection[Parts], candidates: list[int]) -> list[int]:
    """Return the first of the levels that vary, and those that cross it: whose names recur."""
    chosen = candidates[:1]
    classed = [parts for parts in folders if len(parts) > chosen[0]]
    for level in candidates[1:]:
        if all(len(parts) > level for parts in classed):
            owners: dict[str, set[Parts]] = {}
            for parts in classed:
                owners.setdefault(parts[level], set()).add(tuple(parts[k] for k in chosen))
            if any(len(keys) > 1 for keys in owners.values()):
                chosen = [*chosen, level]
    return chosen


def _label(
    folders: Sequence[Parts], names: Sequence[str], chosen: Sequence[int], levels: list[set[str]]
) -> Classes:
    """Return classes: each image is labelled with its folders at the chosen levels."""
    # val/images beside train/cat/images lies at the level of classes, and is none.
    roles = [set() if _kind(levels[k]) == "role" else _ROLES for k in chosen]
    keys: dict[Parts, str] = {}
    for parts in dict.fromkeys(folders):
        key = [parts[k] for k in chosen if len(parts) > k]
        if len(key) == len(chosen) and not any(
            v.lower() in no for v, no in zip(key, roles, strict=True)
        ):
            keys[parts] = "/".join(key)
    beside = {parts[:k] for parts in keys for k in range(chosen[0] + 1)}
    for parts, name in zip(folders, names, strict=True):
        if parts not in keys and parts not in beside:
            return _undecided(f"{name} lies in the folder of no class", levels)
    found = sorted(set(keys.values()))
    if len(folders) > _ENOUGH and len(found) == len(folders):
        return _undecided("every image has a folder of its own", levels)
    # What lies beside the classes comes last, so that it moves no number.
    numbers = {key: i for i, key in enumerate([*found, OUTSIDE])}
    labels = [numbers[keys.get(parts, OUTSIDE)] for parts in folders]
    outside = labels.count(len(found))
    beside_word = f"{outside} of the images lie beside the folders of classes and make class '?'"
    return Classes.of(labels, [*found, OUTSIDE], beside_word if outside else "")


def _repeated(folders: Sequence[Parts], names: Sequence[str], level: int) -> bool:
    """Return whether files of numbered folders are not numbered on, as those of shards are."""
    numbers: dict[str, list[int]] = {}
    for parts, name in zip(folders, names, strict=True):
        found = re.findall(r"\d+", name.split("/")[-1].rpartition(".")[0])
        if not found or len(parts) <= level or not parts[level].isdecimal():
            return bool(len(parts) > level and parts[level].isdecimal())
        numbers.setdefault(parts[level], []).append(int(found[-1]))
    last = -1
    for folder in sorted(numbers, key=int):
        if min(numbers[folder]) <= last:
            return True
        last = max(numbers[folder])
    return False


def _word(chosen: Sequence[int], candidates: Sequence[int]) -> str:
    """Return a word about levels that could have been the class too; empty where there are none."""
    others = [k + 1 for k in candidates if k not in chosen]
    if len(chosen) > 1:
        levels = " and ".join(str(k + 1) for k in chosen)
        return f"folders of the levels {levels} make classes together; --classes level=N takes one"
    if others:
        levels = " or ".join(f"level={k}" for k in others)
        return f"the class is the folder of level {chosen[0] + 1}; --classes {levels} takes another"
    return ""


def _undecided(reason: str, levels: list[set[str]]) -> Classes:
    return Classes(why=f"{reason}, so what the classes are is not known; {_choices(levels)}")


def _choices(levels: list[set[str]]) -> str:
    """Return what --classes may say, with what each level holds."""
    shown = []
    for k, values in enumerate(levels, start=1):
        shown.append(f"level={k} ({some(sorted(values), 3)})")
    return f"choose with --classes {', '.join([*shown, 'dataset.json'])} or none"
