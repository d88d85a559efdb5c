"""Imports run one way: core -> problems -> analysis | training | evaluation -> experiments ->
report, watch, cli. And what no file may do."""

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "steadygan"

ROOMS = (
    "core",
    "adversarial",
    "problems",
    "runs",
    "analysis",
    "training",
    "sweeps",
    "evaluation",
    "experiments",
    "report",
    "watch",
    "export",
)
# layer: the layers that it may import besides itself. A file in no layer (or a new one) is an
# error.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "adversarial": {"core"},
    "problems": {"core"},
    "analysis": {"core", "problems", "runs"},
    "runs": {"core", "problems"},
    "training": {"core", "problems", "runs"},
    "sweeps": {"core", "problems", "runs", "training"},
    "evaluation": {"core", "problems", "runs"},
    "experiments": {"core", "problems", "runs", "analysis", "training", "evaluation", "sweeps"},
    "report": {"core", "problems", "runs"},  # it reads run folders, and nothing that wrote them
    "watch": {"core", "problems", "runs", "report"},
    "export": {"core", "problems", "runs"},
    "cli": {*ROOMS},
    "__main__": {"cli"},
    "__init__": {*ROOMS},  # names that are imported when they are first used
}
LONGEST = 420  # lines
# Each runs code that came with the data; a subclass of pickle.Unpickler that refuses all names is
# how a foreign pickle may be read.
FORBIDDEN = {
    "torch.load",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "eval",
    "exec",
    "joblib.load",
    "dill.load",
    "__import__",
}


def layer(file: Path, root: Path) -> str:
    return file.relative_to(root).parts[0].removesuffix(".py")


def imported(tree: ast.AST, file: Path, root: Path) -> list[tuple[int, str, str]]:
    """(line, top-level package, what follows it) of every import, relative ones resolved;
    ``steadygan.x`` as ('steadygan', 'x')."""
    package = ["steadygan", *file.relative_to(root).parts[:-1]]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return [(line, *f"{name}.".split(".")[:2]) for line, name in found]


def violations(root: Path) -> list[str]:
    """Everything under a source tree that breaks a rule, as ``file:line what``."""
    found = []
    for file in sorted(root.rglob("*.py")):
        text, here = file.read_text(), layer(file, root)
        tree, place = ast.parse(text), file.relative_to(root)
        if here not in MAY_IMPORT:
            found.append(f"{place}:1 is in no layer")
            continue
        for line, package, name in imported(tree, file, root):
            if package == "steadygan":
                # The package itself offers nothing but its version to those inside.
                allowed = name == here or name in MAY_IMPORT[here] or name == "__version__"
                if not allowed:
                    found.append(f"{place}:{line} {here} imports {name or 'steadygan'}")
            elif here == "core" and package != "torch" and package not in sys.stdlib_module_names:
                found.append(f"{place}:{line} core imports {package}")
            elif package == "torchvision":
                found.append(f"{place}:{line} imports torchvision")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in FORBIDDEN:
                found.append(f"{place}:{node.lineno} calls {name}")
        if len(text.splitlines()) >= LONGEST:
            found.append(f"{place}:{LONGEST} is longer than {LONGEST} lines")
    return found


def test_the_tree_keeps_the_rules():
    assert violations(SOURCE) == []


def test_every_layer_of_the_design_that_exists_is_checked():
    there = {layer(file, SOURCE) for file in SOURCE.rglob("*.py")}
    assert {"core", "problems"} <= there and sum(1 for _ in SOURCE.rglob("*.py")) > 15


PLANTED = {
    "a back-arrow": ("core/game.py", "from ..problems import toys", "core imports problems"),
    "an absolute one": (
        "core/game.py",
        "import steadygan.training.trainer",
        "core imports training",
    ),
    "one from the package": ("problems/toys.py", "from .. import cli", "problems imports cli"),
    "one in a function": (
        "core/game.py",
        "def f():\n    from ..analysis.linearize import jacobian",
        "core imports analysis",
    ),
    "one from deep inside": (
        "problems/networks/mlp.py",
        "from ...training import trainer",
        "problems imports training",
    ),
    "training to analysis": (
        "training/trainer.py",
        "from ..analysis import spectra",
        "training imports analysis",
    ),
    "analysis to training": (
        "analysis/linearize.py",
        "from steadygan.training.trainer import train",
        "analysis imports training",
    ),
    "evaluation to training": (
        "evaluation/modes.py",
        "from ..training import trainer",
        "evaluation imports training",
    ),
    "report to training": (
        "report/page.py",
        "from ..training.logging import read",
        "report imports training",
    ),
    "experiments to cli": (
        "experiments/demo.py",
        "from ..cli import main",
        "experiments imports cli",
    ),
    "the root's shortcuts": ("training/trainer.py", "from .. import Game", "training imports Game"),
    "the root itself": ("training/trainer.py", "import steadygan", "training imports steadygan"),
    "numpy in core": ("core/game.py", "import numpy as np", "core imports numpy"),
    "torchvision": (
        "problems/images.py",
        "from torchvision.datasets import CIFAR10",
        "imports torchvision",
    ),
    "a pickle": ("training/checkpoint.py", "import torch\ntorch.load('x')", "calls torch.load"),
    "another pickle": (
        "problems/readers.py",
        "import pickle\npickle.load(open('x', 'rb'))",
        "calls pickle.load",
    ),
    "eval": ("cli.py", "eval('1')", "calls eval"),
    "an unknown layer": ("helpers/misc.py", "x = 1", "is in no layer"),
    "a long file": ("core/game.py", "x = 1\n" * LONGEST, "longer than"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_the_checker_sees(what, tmp_path):
    place, text, answer = PLANTED[what]
    root = tmp_path / "steadygan"
    (root / place).parent.mkdir(parents=True)
    (root / place).write_text(text)
    found = violations(root)
    assert len(found) == 1 and answer in found[0] and found[0].startswith(place)


ALLOWED = {
    "core/game.py": "import math\nimport torch.nn.functional as F\nfrom torch import"
    " Tensor\nfrom .errors import SteadyganError",
    "problems/networks/mlp.py": "from ...core.registry import register\nfrom ..problem import"
    " Problem\nimport numpy",
    "training/trainer.py": "from .. import __version__\nfrom ..core import Game\nfrom"
    " ..problems.toys import Dirac\nmodel.eval()",
    "cli.py": "from .training import trainer\nfrom .report import page",
    "problems/readers.py": "import pickle\nclass Safe(pickle.Unpickler):\n   "
    " pass\nSafe(file).load()",
}


def test_the_checker_lets_the_rest_pass(tmp_path):
    for place, text in ALLOWED.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    assert violations(tmp_path) == []
