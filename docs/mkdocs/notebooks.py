"""Executed notebooks as pages: text as it is, code and what it printed as blocks, pictures inlined.

Nothing is run. HTML that a cell showed stands in a shadow root, so that its style stays its own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, beside it."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text = page(json.loads(Path(file.abs_src_path).read_text()))
        place = file.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links to notebooks lead to their pages."""
    return re.sub(r"\]\(([\w/.-]+)\.ipynb", r"](\1.md", markdown)


def page(notebook: Mapping[str, Any]) -> str:
    """Return a notebook as Markdown."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source.strip():
            parts += [_block("python", source), *map(_output, cell["outputs"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _block("text", "".join(output["text"]))
    data = output.get("data", {})
    if "image/png" in data:
        picture = "".join(data["image/png"]).replace("\n", "")
        return f"![what the cell drew](data:image/png;base64,{picture})"
    if "text/html" in data:
        html = "\n".join(_lines("".join(data["text/html"])))
        return f'<div><template shadowrootmode="open">{html}</template></div>'
    return _block("text", "".join(data.get("text/plain", "")))


def _block(language: str, text: str) -> str:
    return f"~~~~{language}\n{text.rstrip()}\n~~~~"


def _lines(html: str) -> Iterator[str]:
    """Yield the lines that are not empty: an empty one ends HTML in Markdown."""
    return (line for line in html.splitlines() if line.strip())
