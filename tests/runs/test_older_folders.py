"""Folders that were written by an earlier version resume, and come to the same numbers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from steadygan.runs import checkpoint
from steadygan.training import is_fleet, resume

FOLDERS = Path(__file__).parent / "folders"


def rows(path):
    return {row["step"]: row for row in map(json.loads, path.read_text().splitlines())}


def flat(tree, prefix=""):
    """The tensors of a tree by their path."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        elif isinstance(value, torch.Tensor):
            yield prefix + key, value


def numbers(row):
    """Every number of a row with its place, but the time that it took."""
    for key, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{name}", number) for name, number in numbers(value))
        elif key != "seconds":
            values = value if isinstance(value, list) else [value]
            yield from ((f"{key}.{i}", each) for i, each in enumerate(values))


@pytest.mark.parametrize("name", ["single", "fleet"])
def test_an_older_folder_resumes_to_the_same_numbers(tmp_path, name):
    run = tmp_path / name
    shutil.copytree(FOLDERS / name, run)
    assert is_fleet(run) == (name == "fleet")
    done = resume(run, show=False)
    assert (done.state, done.step) == ("finished", 12)

    found = dict(flat(checkpoint.load(checkpoint.latest(run))))
    expected = load_file(FOLDERS / f"{name}-expected.safetensors")
    assert len(expected) > 40
    for key, value in expected.items():
        # Another CPU rounds otherwise, most where a sum nearly cancels; a fallen member keeps NaN.
        scale = value[value.isfinite()].abs().max().item()
        torch.testing.assert_close(
            found[key], value, rtol=0, atol=1e-5 * scale + 1e-7, equal_nan=True, msg=key
        )
    wanted, written = rows(FOLDERS / f"{name}-expected.jsonl"), rows(run / "metrics.jsonl")
    assert written.keys() == wanted.keys()
    for step, row in wanted.items():
        for (key, number), (place, value) in zip(numbers(written[step]), numbers(row), strict=True):
            assert key == place and number == approximately(value), (step, key)


def approximately(value):
    return value if value is None else pytest.approx(value, rel=1e-4, abs=1e-6)
