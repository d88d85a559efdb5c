"""A generator as a program: what torch traces of it, in files that need no steadygan."""

from __future__ import annotations

import importlib.util
import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..core.errors import SteadyganError, foreign
from ..runs import exported
from ..runs.models import Loaded, latent

_MEND = "export it from a network whose forward torch.export can trace"
_CLOSE = 1e-3
"""How far ONNX's samples may be from torch's, of images in [-1, 1], before they are refused."""


def check(formats: Sequence[str]) -> None:
    """Refuse a format whose packages are missing, before anything is computed."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if "onnx" in formats and missing:
        raise SteadyganError(
            f"--format onnx needs the package {' and '.join(missing)}: pip install"
            ' "steadygan[onnx]".'
        )


def traced(loaded: Loaded) -> ExportedProgram:
    """Return the generator in evaluation mode as a graph of ATen calls, for any batch."""
    inputs = _inputs(loaded, 2)
    batch = torch.export.Dim("batch")
    with torch.no_grad(), foreign("The generator cannot be traced", _MEND):
        return torch.export.export(
            loaded.generator.eval(), inputs, dynamic_shapes=tuple({0: batch} for _ in inputs)
        )


def constants(program: ExportedProgram) -> dict[str, Tensor]:
    """Return what the graph uses and the generator's weights do not hold."""
    return {key: value for key, value in program.constants.items() if isinstance(value, Tensor)}


def loader(program: ExportedProgram, loaded: Loaded) -> str:
    """Return a Python file that reads the weights and makes samples with torch alone."""
    own = {
        spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target
    }
    python = program.graph_module.graph.python_code("self")
    lines = [line.strip() for line in python.src.splitlines() if line.strip()]
    body = [_line(line, own) for line in lines if not line.startswith("def ")]
    body[-1] = re.sub(r"return \((\w+),\)", r"return \1", body[-1])  # torch's has a tuple of one
    arguments = "z, y" if loaded.classes else "z"
    words = set(re.findall(r"[A-Za-z_]\w*", " ".join(body)))
    needed = sorted(words & {*python.globals} - {"torch"})
    origins = {"inf": "math", "nan": "math", "device": "torch"}
    if strange := [name for name in needed if name not in origins]:
        raise SteadyganError(f"The generator cannot be written down: it uses {strange[0]}.")
    template = Path(__file__).with_name("load.py.txt").read_text(encoding="utf-8")
    filled = {
        "IMPORTS": "".join(f"from {origins[name]} import {name}\n" for name in needed),
        "LATENT": repr(loaded.config.latent),
        "CLASSES": repr(loaded.classes),
        "NAMES": repr(loaded.about.class_names),
        "EVENT": repr(loaded.about.event),
        "CALL": call(loaded),
        "SHAPE": ", ".join(map(str, (4, *loaded.about.event))),
        "PARAMETERS": repr(sorted(program.graph_signature.parameters)),
        "ARGUMENTS": arguments,
        "BODY": "\n".join(f"    {line}" for line in body),
    }
    return re.sub(r"\$([A-Z]+)", lambda match: filled[match[1]], template)


def call(loaded: Loaded) -> str:
    """Return Python that draws what a generator takes for four samples."""
    shape = f"(4, {loaded.config.latent})"
    uniform = loaded.config.latent_distribution == "uniform"
    y = ", torch.zeros(4, dtype=torch.int64)" if loaded.classes else ""
    return (f"torch.rand{shape} * 2 - 1" if uniform else f"torch.randn{shape}") + y


def write(
    folder: Path, program: ExportedProgram, loaded: Loaded, formats: Sequence[str]
) -> list[str]:
    """Write a generator in the formats that were asked for.

    Returns:
        In words what was found on the way.
    """
    notes = []
    if "torch-export" in formats:
        with foreign("The generator cannot be written by torch.export", _MEND):
            program.example_inputs = None  # the one thing that would be pickled
            torch.export.save(program, folder / exported.PROGRAM)
    if "onnx" in formats:
        _write_onnx(folder / exported.ONNX, program)
        notes.append(_compared(folder / exported.ONNX, loaded))
    return notes


def _write_onnx(path: Path, program: ExportedProgram) -> None:
    # It tells of packages that it would have used for networks that are not ours.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), foreign("The generator cannot be written as ONNX", _MEND):
        warnings.simplefilter("ignore")
        made = torch.onnx.export(program, dynamo=True, verbose=False)
        assert made is not None
        made.save(path)


def _compared(path: Path, loaded: Loaded) -> str:
    """Return how far ONNX's samples are from torch's; refuse others."""
    try:
        import onnxruntime
    except ImportError:
        return f"{path.name} was not tried: onnxruntime is not installed"
    inputs = _inputs(loaded, 5)
    with torch.no_grad():
        expected = loaded.generator(*inputs)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    apart = float((torch.from_numpy(found) - expected).abs().max())
    if not apart < _CLOSE:
        raise SteadyganError(f"ONNX makes other samples than torch, {apart:.2g} apart.")
    return f"{path.name}: onnxruntime's samples are within {apart:.1g} of torch's"


def _inputs(loaded: Loaded, n: int) -> tuple[Tensor, ...]:
    z = latent(loaded.config).draw(n, torch.Generator().manual_seed(0))
    return (z, torch.arange(n) % loaded.classes) if loaded.classes else (z,)


def _line(line: str, own: dict[str, Any]) -> str:
    """Return a line of traced code in which weights are called by their names."""
    code, _, freed = line.partition(";")
    # Values that are used no more are let go, as torch writes it; the weights stay.
    names = [name for name in freed.replace(" ", "").split("=") if name and name != "None"]
    kept = [name for name in names if name not in own]
    code = re.sub(
        r"\w+", lambda match: f"w[{own[match[0]]!r}]" if match[0] in own else match[0], code
    )
    return code + (f";  {' = '.join(kept)} = None" if kept else "")
