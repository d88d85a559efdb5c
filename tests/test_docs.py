"""Every Python example of the documentation runs, and its asserts hold."""

import re
from pathlib import Path

import pytest
import torch

import steadygan
from steadygan.core import registry

# Everything that registers names, before an example does.
for kind in registry.KINDS:
    registry.names(kind)

ROOT = Path(__file__).parent.parent
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "```python" in path.read_text()]


def blocks(path):
    """Those that run in one process; fast/test_ranks.py runs the others."""
    found = re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.S | re.M)
    return [block for block in found if "torchrun" not in block.partition("\n")[0]]


@pytest.mark.parametrize(
    ("page", "index"),
    [(page, i) for page in PAGES for i in range(len(blocks(page)))],
    ids=lambda v: getattr(v, "stem", v),
)
def test_an_example_runs_on_its_own(page, index, monkeypatch, tmp_path):
    # What an example registers stays in it, and what it writes.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        registry, "_entries", {kind: dict(entries) for kind, entries in registry._entries.items()}
    )
    monkeypatch.setattr(registry, "_where", dict(registry._where))
    exec(compile(blocks(page)[index], f"{page.name}[{index}]", "exec"), {"__name__": "example"})


def test_the_readme_shows_the_five_lines_that_the_page_runs():
    (shown,) = (b for b in blocks(ROOT / "README.md") if "generator_loss" in b)
    lines = [re.sub(r"\s+#.*", "", line) for line in shown.splitlines() if line.strip()]
    looped = blocks(ROOT / "docs/own-loop.md")[0]
    assert len(lines) == 4 and all(line in looped for line in lines)


def test_the_readmes_patchgan_runs():
    five, _, patch = blocks(ROOT / "README.md")[:3]
    scope: dict = {"torch": torch, "nn": torch.nn, "critic_backward": steadygan.critic_backward}
    exec("real, fake = torch.randn(2, 4, 3, 32, 32)", scope)
    *lines, said = patch.strip().splitlines()
    exec("\n".join([five.split("game.critic_loss")[0], *lines]), scope)
    assert scope["found"].terms.how == said.partition("# ")[2].strip("'")
    # In the very five lines, too.
    exec("fake.requires_grad_()\n" + five, scope)
    assert scope["fake"].grad.abs().sum() > 0
