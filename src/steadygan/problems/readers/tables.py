"""Classes from tables that lie beside the images: StyleGAN's dataset.json, and metadata.csv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import SteadyganError
from .classes import from_folders
from .source import Classes, Reading

DATASET = "dataset.json"
METADATA = ("metadata.csv", "metadata.jsonl")
_LABEL = ("label", "labels", "class")
_ELSE = "--classes level=N takes folders instead"
Read = Callable[[str], bytes]


def is_table(name: str) -> bool:
    """Return whether a file's name is that of a table with labels."""
    return name.rpartition("/")[2] in (DATASET, *METADATA)


def find_classes(
    names: Sequence[str], tables: Sequence[str], read: Read, reading: Reading
) -> Classes:
    """Find the classes of images: in a table where one has labels, else in their folders.

    A ``dataset.json`` that says that there are no labels is believed: the folders beside it are
    shards.

    Args:
        names: of the images, relative, in order.
        tables: names of the tables.
        read: returns the content of a table.
        reading: where the user says the classes are.

    Returns:
        The classes, or why there are none.
    """
    wanted, _, value = reading.classes.partition("=")
    if wanted == "none":
        return Classes(why="they were not asked for (classes none)")
    if wanted == "level":
        return from_folders(names, int(value))
    sets = [name for name in tables if name.endswith(DATASET)]
    if wanted in ("auto", "dataset.json") and sets:
        return _collect(names, sets, read, _dataset)
    if wanted == "dataset.json":
        return Classes(why="there is no dataset.json")
    others = [name for name in tables if name not in sets]
    if others:
        found = _collect(names, others, read, lambda text, name: _metadata(text, name, value))
        if value or found.numbers is not None:
            return found
        # Metadata without labels (captions, boxes) say nothing about classes, and damaged ones are
        # not passed over without a word.
        reason, folders = found.why.removesuffix(f"; {_ELSE}"), from_folders(names)
        if folders.numbers is None:
            return replace(folders, why=f"{folders.why}; {reason}")
        return replace(folders, note="; ".join(filter(None, (folders.note, reason))))
    if value:
        return Classes(why=f"there is no {' or '.join(METADATA)} with a column {value}")
    return from_folders(names)


class _NoLabels(Exception):
    """A table says that there are no labels, or is of a kind that has none."""


def _collect(
    names: Sequence[str],
    tables: Sequence[str],
    read: Read,
    parse: Callable[[str, str], Iterable[tuple[str, Any]]],
) -> Classes:
    """Return the classes of tables that are joined; each knows its own folder and below."""
    labels: dict[str, Any] = {}
    try:
        for table in tables:
            inside = table.rpartition("/")[0]
            text = read(table).decode("utf-8-sig")
            for name, label in parse(text, table):
                tidy = name.replace("\\", "/").removeprefix("./")
                image = f"{inside}/{tidy}" if inside else tidy
                if labels.setdefault(image, label) != label:
                    raise _NoLabels(f"it has two labels for {image}, which is of one class")
    except _NoLabels as reason:
        return Classes(why=f"{table}: {reason}; {_ELSE}")
    except SteadyganError:
        raise
    except (ValueError, RecursionError, TypeError, KeyError, OverflowError, csv.Error) as error:
        return Classes(why=f"{table} cannot be understood ({error}); {_ELSE}")
    missing = [name for name in names if name not in labels]
    if missing:
        return Classes(
            why=f"{tables[0]} has no label for {len(missing)} of {len(names)} images, such as"
            f" {missing[0]}; {_ELSE}"
        )
    kinds = {type(labels[name]) for name in names}
    if len(kinds) > 1:
        return Classes(why=f"{tables[0]} mixes labels that are numbers with some that are not")
    return Classes.of([labels[name] for name in names])


def _dataset(text: str, name: str) -> Iterable[tuple[str, Any]]:
    """Return the labels of StyleGAN's {"labels": [[name, label], ...]}, see ``_number``."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise _NoLabels("it is none of StyleGAN's, which has a list of 'labels'")
    labels = content.get("labels")
    if labels is None:
        raise _NoLabels("it says that there are no labels")
    if not isinstance(labels, list):
        raise _NoLabels("it is none of StyleGAN's, which has a list of 'labels'")
    return [(str(image), _number(label)) for image, label in labels]


def _number(label: Any) -> int | str:
    if isinstance(label, list):
        vector = np.asarray(label, float)
        if vector.ndim != 1 or sorted(vector) != [0.0] * (len(vector) - 1) + [1.0]:
            raise _NoLabels(f"its labels are vectors such as {str(label)[:60]}, which are no class")
        return int(vector.argmax())
    if isinstance(label, str):
        return label
    if not isinstance(label, int | float) or label != int(label):
        raise _NoLabels(f"its labels are such as {str(label)[:60]}, which is no class")
    return int(label)


def _metadata(text: str, name: str, column: str) -> Iterable[tuple[str, Any]]:
    """Return the labels of a table with a column file_name, as Hugging Face's image folders."""
    # Spreadsheets separate by what their country does not use in numbers.
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = (
        list(csv.DictReader(io.StringIO(text), delimiter=separator))
        if name.endswith(".csv")
        else [json.loads(line) for line in text.splitlines() if line.strip()]
    )
    if not rows or "file_name" not in rows[0]:
        raise _NoLabels("it has no column file_name")
    chosen = column or next((c for c in _LABEL if c in rows[0]), "")
    if chosen not in rows[0]:
        raise _NoLabels(
            f"of its columns ({', '.join(map(str, rows[0]))}) none is {column or 'label'}"
        )
    if blank := [row["file_name"] for row in rows if str(row[chosen]).strip() == ""]:
        raise _NoLabels(f"it has no label for {len(blank)} of its images, such as {blank[0]}")
    return [(str(row["file_name"]), _number(_plain(row[chosen]))) for row in rows]


def _plain(value: Any) -> Any:
    """Return a number that a table spells as text."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value
