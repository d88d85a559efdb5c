"""Pages that are generated: the reference from docstrings, commands, and files of the root.

Every name that a room exports (``__all__``) has one place: under the kind it is registered as, else
in the first room that exports it; other rooms link there. A name without a docstring fails a strict
build.
"""

import contextlib
import importlib
import io
import pkgutil
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

import steadygan
from steadygan.cli import COMMANDS, main
from steadygan.core import registry

ROOT = Path(__file__).parents[2]
COPIED = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files at the root of the repository, and the pages that they become."""

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import cell  # noqa: E402

KINDS = "kinds"
"""The folder of the pages about what is registered."""

Named = griffe.Object | griffe.Alias

log = get_plugin_logger("reference")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages where the navigation says ``reference/``."""
    pages = reference()
    kinds = [page for page in pages if page.startswith(f"reference/{KINDS}/")]
    rest = [page for page in pages if page not in kinds and page != "reference/index.md"]
    section = [{"steadygan": "reference/index.md"}, {"What specs name": kinds}, *rest]
    for entry in config.nav:
        for title, value in entry.items() if isinstance(entry, dict) else ():
            if value == "reference/":
                entry[title] = section
    config.extra["generated"] = pages | {
        page: _moved((ROOT / source).read_text()) for source, page in COPIED.items()
    }
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for page, text in config.extra.pop("generated").items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links to the root's files lead to the pages that they are here."""
    for source, page in COPIED.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./{source}", rf"](\1{page}", markdown)
    return markdown


def reference() -> dict[str, str]:
    """Return every page of the reference, by its place."""
    # As griffe reads the code, constants have a home, too.
    package = griffe.load("steadygan", search_paths=[ROOT / "src"])
    placed: set[str] = set()
    pages = {}
    for kind in registry.KINDS:
        classes = {name: registry.lookup(kind, name) for name in registry.names(kind)}
        homes = {name: package[_inside(f"{c.__module__}.{c.__qualname__}")]
                 for name, c in classes.items()}  # fmt: skip
        intro = f"`{kind}` in specs; `steadygan list {kind}` prints them, with their settings."
        pages[f"{KINDS}/{kind}"] = _page(kind.capitalize(), intro, homes, placed)
    for room in rooms():
        module = package[_inside(room)] if room != "steadygan" else package
        names = sorted(importlib.import_module(room).__all__, key=str.lower)
        homes = {name: module.members[name] for name in names if name != "__version__"}
        for name, home in homes.items():
            if not home.has_docstring:
                log.warning(f"{room}.{name} is public and has no docstring.")
        pages[room] = _page(room, _summary(module), homes, placed)
    pages["index"] = pages.pop("steadygan")
    pages["commands"] = _commands()
    return {f"reference/{place}.md": text for place, text in pages.items()}


def rooms() -> list[str]:
    """Return every room that says what it exports, in the arrows' order, the face last."""
    order = ["core", "problems", "analysis", "training", "evaluation", "sweeps", "report"]
    found = [
        name
        for _, name, package in pkgutil.walk_packages(steadygan.__path__, "steadygan.")
        if package or name == "steadygan.adversarial"
        if hasattr(importlib.import_module(name), "__all__")
    ]
    top = {name: name.split(".")[1] for name in found}
    found.sort(key=lambda name: (order.index(top[name]) if top[name] in order else 99, name))
    return [*found, "steadygan"]


def _page(title: str, intro: str, homes: Mapping[str, Named], placed: set[str]) -> str:
    """Return a page about names: a table of them, then those that no other page has."""
    lines = [f"# {title}", "", intro, "", "| name | what |", "|---|---|"]
    new = []
    for name, held in homes.items():
        home = held.final_target if isinstance(held, griffe.Alias) else held
        link = f"`{name}`" if home.is_module else f"[`{name}`][{home.path}]"
        lines.append(f"| {link} | {_summary(home)} |")
        if home.path not in placed and not home.is_module:
            new += ["", f"::: {home.path}", "    options:", f"      heading: {name}"]
            new.append(f"      toc_label: {name}")
            placed.add(home.path)
    return "\n".join([*lines, *new]) + "\n"


def _summary(home: Named) -> str:
    return cell(home.docstring.value) if home.docstring else ""


def _inside(path: str) -> str:
    """Return a path as the package knows it."""
    return path.removeprefix("steadygan.")


def _commands() -> str:
    """Return the page about commands: the help of each."""
    lines = ["# Commands", "", "What `steadygan COMMAND --help` prints."]
    for command in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            main([command, "--help"])
        lines += ["", f"## {command}", "", "```text", out.getvalue().strip(), "```"]
    return "\n".join(lines) + "\n"


def _moved(text: str) -> str:
    """Return a page of the root with its links as they are from docs/."""
    return re.sub(r"\]\(docs/", "](", text)
