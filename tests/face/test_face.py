"""The public face: every name is one import away, loads on first use, and nothing heavy before."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import steadygan
import steadygan.core

HEAVY = ("torch._dynamo", "torch._inductor", "matplotlib", "jinja2")

BARE = f"""
import sys
import steadygan

assert "torch" not in sys.modules, "a bare import waits for torch"
assert steadygan.names("problem") == sorted(steadygan.names("problem"))
assert {{"mixture3d", "images", "dirac"}} <= set(steadygan.names("problem"))
assert {{"mlp", "dcgan", "resnet", "point"}} <= set(steadygan.names("network"))
assert steadygan.build("problem", "mixture3d").event == (3,)
for name in steadygan.__all__:
    getattr(steadygan, name)
print(*[m for m in {HEAVY} if m in sys.modules])
"""


def test_a_bare_import_is_light_and_finds_every_name():
    done = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("package", [steadygan, steadygan.core])
def test_what_a_checker_reads_is_what_runs(package):
    """The imports under TYPE_CHECKING and the table of homes say the same."""
    tree = ast.parse(Path(package.__file__).read_text())
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    read = {alias.asname: node.module for node in block.body for alias in node.names}
    assert read == package._HOMES
    assert {*package.__all__} - {"__version__"} == set(package._HOMES)
    assert set(package.__all__) <= set(dir(package))


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Gmae'"):
        steadygan.Gmae  # noqa: B018


def test_the_docs_take_from_the_face_what_it_has():
    """A name of the face is imported from steadygan itself on every page."""
    root = Path(__file__).parent.parent.parent
    pages = [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]
    for page in pages:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.S | re.M):
            for module, names in re.findall(
                r"^from (steadygan\.\S+) import ([\w, ]+)$", block, re.M
            ):
                taken = {name.strip() for name in names.split(",")}
                assert not taken & set(steadygan.__all__), f"{page.name}: {module} {taken}"


USER = """
import torch
from torch import Tensor, nn

import steadygan
from steadygan import Config, Context, Game, build, critic_backward, names, resume, train

game = Game("nonsaturating", ["js:gamma=0.1"])
D, G = nn.Linear(3, 1), nn.Linear(2, 3)
real, fake = torch.randn(8, 3), G(torch.randn(8, 2))
loss: Tensor = game.critic_loss(D, real, fake.detach(), at=Context(progress=0.5))
loss.backward()
path: str = critic_backward(game, D, real, fake).path
outcome = train(build("problem", "mixture3d"), Config(steps=3), "run", show=False)
again: int = resume(outcome.path, steps=4).step
all_of_them: list[str] = names("problem")
value: float = steadygan.evaluate(["run"], metrics="energy")[0].numbers["energy"].value
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (USER, ""),
        (USER.replace("loss: Tensor", "loss: int"), 'expression has type "Tensor"'),
        (USER.replace("Game, build", "Gmae, build"), 'no attribute "Gmae"'),
    ],
)
def test_a_users_file_passes_a_strict_checker_and_mistakes_do_not(tmp_path, text, complaint):
    (tmp_path / "user.py").write_text(text)
    cache = Path(__file__).parent.parent.parent / ".mypy_cache"
    # torch's own backward() is not annotated, whoever calls it.
    options = ["--strict", "--untyped-calls-exclude=torch", "--cache-dir", cache]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "user.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode == 0) == (complaint == "") and complaint in done.stdout, done.stdout
