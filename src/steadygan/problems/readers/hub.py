"""Data sets of the Hugging Face hub."""

from __future__ import annotations

import io
import re
from contextlib import ExitStack
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import SteadyganError, unknown
from .pictures import open_picture
from .source import Classes, Place, Reading, Source

_CHOICES = ("split", "config", "image")


def hub(spelled: str, reading: Reading) -> Place:
    """Find a data set's images.

    Args:
        spelled: ``NAME[:SPLIT]`` or ``NAME:CONFIG:SPLIT``, the split being ``train`` unless given;
            or these by name, and the column of images: ``NAME:config=C:split=S:image=COLUMN``.
        reading: ``classes`` names the column of labels where there are several.

    Returns:
        The place; its source has labels where the data set has a column of them.
    """
    name, chosen = _parse(spelled)
    try:
        import datasets  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise SteadyganError(
            "Data sets of the Hugging Face hub need the package datasets: pip install"
            ' "steadygan[hub]".'
        ) from None
    try:
        config = (chosen["config"],) if "config" in chosen else ()
        rows = datasets.load_dataset(name, *config, split=chosen["split"])
    # Whatever the hub, the network or a data set's own files raise, the user can only look at the
    # name and the connection.
    except Exception as error:
        raise SteadyganError(
            f"The Hugging Face data set {name!r}, split {chosen['split']!r}, could not be loaded:"
            f" {error}. A configuration is named as in hf:{name}:config=NAME."
        ) from error
    columns = [c for c, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    column = _column(f"hf:{spelled}", columns, chosen.get("image"), rows.features)
    # Undecoded: the package would open pictures of any format, and some start an interpreter.
    images = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))

    def reader(stack: ExitStack) -> Source:
        return Source(
            len(rows),
            lambda i: f"hf:{name}:{chosen['split']}[{i}]",
            lambda i: _open(images[i][column]),
            _classes(rows, datasets.ClassLabel, reading),
            # Its package has threads of its own, whose locks a fork may leave locked for ever.
            forks=False,
        )

    # The rows have one fingerprint, whichever of their columns is taken.
    found = getattr(rows, "_fingerprint", None)
    return Place(f"hf:{spelled}", found and f"{found} {column}", reader)


def _parse(spelled: str) -> tuple[str, dict[str, str]]:
    # Not at the colons of train[:100].
    name, *parts = re.split(r":(?![^\[]*\])", spelled)
    plain = [part for part in parts if "=" not in part]
    if len(plain) > 2:
        raise SteadyganError(f"hf:{spelled}: expected hf:NAME:CONFIG:SPLIT, found {plain}.")
    chosen = {"split": "train"} | dict(zip(("config", "split")[-len(plain) :], plain, strict=False))
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key not in _CHOICES:
            raise unknown("choice after hf:NAME", key, _CHOICES)
        chosen |= {key: value} if equals else {}
    return name, chosen


def _column(spelled: str, columns: list[str], wanted: str | None, every: Any) -> str:
    if wanted is not None and wanted not in columns:
        raise SteadyganError(
            f"{spelled}: no column of images is called {wanted!r}; there are:"
            f" {', '.join(columns) or 'none'}."
        )
    if not columns:
        raise SteadyganError(f"{spelled} has no column of images; its columns: {', '.join(every)}.")
    usual = next((name for name in ("image", "img") if name in columns), None)
    if wanted is None and usual is None and len(columns) > 1:
        raise SteadyganError(
            f"{spelled} has several columns of images: {', '.join(columns)}. Choose with"
            f" {spelled}:image=COLUMN."
        )
    return wanted or usual or columns[0]


def _open(row: dict[str, Any] | None) -> Image.Image:
    if row is None:
        raise ValueError("there is none")
    name = row["path"] or ""
    return open_picture(name if row["bytes"] is None else io.BytesIO(row["bytes"]), name)


def _classes(rows: Any, kind: type, reading: Reading) -> Classes:
    how, _, wanted = reading.classes.partition("=")
    if how == "none":
        return Classes(why="they were not asked for (classes none)")
    columns = [name for name, feature in rows.features.items() if isinstance(feature, kind)]
    if how in ("level", "dataset.json") or (wanted and wanted not in rows.features):
        return Classes(
            why=f"--classes {reading.classes} is nothing that a Hugging Face data set has; its"
            f" columns: {', '.join(rows.features)} (--classes column=NAME)"
        )
    usual = next((name for name in ("label", "labels") if name in columns), None)
    if not columns and not wanted:
        return Classes(
            why=f"no column is one of classes; its columns: {', '.join(rows.features)}"
            " (--classes column=NAME takes any)"
        )
    if len(columns) > 1 and not wanted and not usual:
        return Classes(
            why=f"several columns are: {', '.join(columns)}; choose with --classes column=NAME"
        )
    column = wanted or usual or columns[0]
    # -1 and None stand for labels that the publisher keeps back (a competition's test split).
    values = np.array([-1 if value is None else value for value in rows[column][:]])
    if values.dtype.kind not in "iuUb" or values.ndim != 1:
        return Classes(why=f"column {column} is neither of whole numbers nor of words")
    if values.dtype.kind == "i" and values.min(initial=0) < 0:
        return Classes(why=f"column {column} lacks some of the labels")
    return Classes.of(values, getattr(rows.features[column], "names", None))
