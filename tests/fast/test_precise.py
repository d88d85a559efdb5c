"""Full precision on request, whichever of torch's two ways of setting it somebody has used."""

import subprocess
import sys

import pytest
import torch

newer = pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="torch has it from 2.9 on"
)
LOOK = """
import os
import torch
from steadygan.core.gradients.paths import precise

b = torch.backends
OPERATIONS = b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv


def old(read):
    try:
        return read()
    except RuntimeError:
        return "refused"


def look():
    more = b.fp32_precision, b.cudnn.fp32_precision, b.mkldnn.fp32_precision
    ways = torch.get_float32_matmul_precision, lambda: b.cudnn.allow_tf32
    return [op.fp32_precision for op in OPERATIONS], more, [old(read) for read in ways]


def tried(setting, afterwards):
    exec(setting, globals())
    before = look()
    with precise(torch.device("cpu")):
        assert not {"tf32", "bf16"} & set(look()[0]), look()
    assert look() == before, (look(), before)
    exec(afterwards, globals())


for case in CASES:
    # Settings are a process's own.
    if not (child := os.fork()):
        tried(*case)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, case
"""
SETTINGS = [
    "",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('medium'); b.cudnn.allow_tf32 = False",
    "b.cuda.matmul.fp32_precision = 'tf32'",
    "b.cuda.matmul.fp32_precision = 'ieee'",
    "b.cudnn.conv.fp32_precision = 'ieee'",
    "b.cudnn.fp32_precision = 'tf32'; b.cuda.matmul.fp32_precision = 'ieee'",
    "torch.set_float32_matmul_precision('high'); b.cudnn.conv.fp32_precision = 'ieee'",
    "b.fp32_precision = 'tf32'",
    "b.fp32_precision = 'ieee'",
]


def run(cases):
    code = LOOK.replace("CASES", repr(cases))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@newer
def test_products_are_whole_inside_and_settings_as_before_afterwards():
    run([(setting, "") for setting in SETTINGS])


@newer
def test_products_still_follow_torchs_general_setting_afterwards():
    cases = []
    for name in ("cuda.matmul", "cudnn.conv"):
        change = f"b.fp32_precision = 'tf32'\nassert b.{name}.fp32_precision == 'tf32'\n"
        settings = ["b.fp32_precision = 'ieee'", "b.fp32_precision = 'tf32'"]
        settings += [""] if name == "cuda.matmul" else []
        cases += [(setting, change + change.replace("tf32", "ieee")) for setting in settings]
    run(cases)
