"""Every command of the README, the docs and ``--help`` goes through bash and the real parser.

A stub named steadygan keeps the words as bash passes them, so that braces which the shell takes
apart are seen; then the parser reads them, and what is cheap is run.
"""

import dataclasses
import os
import re
import subprocess
from pathlib import Path

import pytest

from steadygan.cli import COMMANDS, main, parse
from steadygan.cli.arguments import grid
from steadygan.cli.theory import Analyze
from steadygan.cli.train import Train
from steadygan.core import SteadyganError, build
from steadygan.core.registry import KINDS, lookup
from steadygan.runs.config import Config
from steadygan.runs.description import _program
from steadygan.training import grid as members

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STUB = r"""#!/bin/sh
printf '%s\0' "$@" >> "$WORDS"
printf '\n' >> "$WORDS"
"""


def from_page(text):
    """Commands in blocks that are not Python, their lines joined, and in running text."""
    blocks = re.findall(r"^```(?!python)\w*\n(.*?)^```", text, flags=re.S | re.M)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    # NAME stands for something; a command without arguments is only talked about.
    inline = (" ".join(c.split()) for c in re.findall(r"`(steadygan\s[^`]+)`", prose))
    inline = (c for c in inline if "NAME" not in c and len(c.split()) > 2)
    return [*(c for block in blocks for c in from_block(block)), *inline]


def from_block(text):
    joined = text.replace("\\\n", " ")
    return re.findall(r"^\s*(?:\$ )?(steadygan .*)$", joined, flags=re.M)


@pytest.fixture(scope="module")
def helps():
    """The help of every command, printed by one process."""
    import contextlib
    import io

    found = {}
    for command in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert main([command, "--help"]) == 0
        found[command] = out.getvalue()
    return found


@pytest.fixture(scope="module")
def commands(helps, tmp_path_factory):
    """Each command line with the words that bash makes of it."""
    lines = [c for page in PAGES for c in from_page(page.read_text())]
    lines += [c for text in helps.values() for c in from_block(text.partition("usage:")[0])]
    lines = [line for line in dict.fromkeys(lines) if line.split()[1] in COMMANDS]
    folder = tmp_path_factory.mktemp("stub")
    (folder / "steadygan").write_text(STUB)
    (folder / "steadygan").chmod(0o755)
    words = folder / "words"
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "WORDS": str(words)}
    subprocess.run(["bash", "-c", "\n".join(lines)], env=env, cwd=folder, check=True)
    spoken = [line.split("\0")[:-1] for line in words.read_text().splitlines()]
    assert len(spoken) == len(lines) > 50
    return list(zip(lines, spoken, strict=True))


def specs(command):
    """(kind, spec) of every option of a command that takes specs."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if dataclasses.is_dataclass(value):
            yield from specs(value)
        # A number or a spec in train, a width in sample: whoever takes it reads it.
        elif field.name != "ema" and field.name.removeprefix("critic_") in KINDS and value:
            kind = field.name.removeprefix("critic_")
            yield from ((kind, v) for v in (value if isinstance(value, tuple) else [value]))


def test_every_command_is_what_the_shell_leaves_of_it(commands):
    for line, words in commands:
        command = parse(words)  # refuses unknown options and words that nothing takes
        if command.modules if hasattr(command, "modules") else ():
            continue  # names that a module of the reader's own registers
        for kind, text in specs(command):
            for each in grid(kind, text) if ":" in text or "{" in text else [text]:
                if each and each != "all" and not re.search(r"\.py:", each):
                    build(kind, each)
        if isinstance(command, Train) and command.config_file is None:
            assert isinstance(command.config(), Config), line
            problem = lookup("problem", command.problem)
            for member in members(command.config(), 1):
                member.resolve(problem())


def test_unquoted_braces_are_explained(capsys):
    assert main(["analyze", "dirac", "--regularizer", "r1:gamma=0.3", "js"]) == 2
    said = capsys.readouterr().err
    assert "'js'" in said and "quoted" in said and "'{r1,js}'" in said


def test_the_cheap_ones_run(commands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ran = 0
    for line, words in commands:
        cheap = words[0] in ("list", "convert-gamma", "analyze")
        if cheap and not {"all", "--plot"} & {*words}:
            assert main(words) == 0, line
            ran += 1
    assert ran > 5
    capsys.readouterr()


def test_a_command_with_what_a_shell_makes_of_braces_is_refused():
    """The README's theory command as it once stood: bash takes its braces apart."""
    words = subprocess.run(
        ["bash", "-c", "printf '%s\\n' analyze dirac --regularizer {,r1,js}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert words[-1] == "js" and Analyze is COMMANDS["analyze"]
    with pytest.raises(SteadyganError, match="quoted"):
        parse(words)


def test_a_run_remembers_its_command_as_one_types_it():
    assert _program(Path("/usr/bin/steadygan")) == "steadygan"
    assert _program(Path("/lib/steadygan/__main__.py")) == "steadygan"
