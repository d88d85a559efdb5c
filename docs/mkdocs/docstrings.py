"""Docstrings as the source has them, made Markdown: examples, literal blocks and formulas.

A doctest becomes a block of Python, what follows ``::`` a block of text, ``.. math::`` MathML,
which browsers draw without a script.
"""

import re
import textwrap

import griffe
from latex2mathml.converter import convert

_DOCTEST = re.compile(r"^( *)>>> .*(?:\n\1.*\S.*)*", re.M)
_LITERAL = re.compile(r"^(.*?) ?::\n\n((?:(?: {4}.*)?\n)*(?: {4}.*))", re.M)
_MATH = re.compile(r"^( *)\.\. math:: (.*(?:\n(?!\s*$).*)*)", re.M)
_INLINE = re.compile(r":math:`([^`]+)`")
_AS_IS = re.compile(r"(```.*?```|`+[^`]+`+|<math.*?</math>)", re.S)
_NAMED = re.compile(r"^(?:Reference|Metric|Needs|Example)s?: (?=\S)", re.M)


def markdown(text: str) -> str:
    """Return a docstring whose examples, literal blocks and formulas are Markdown."""
    text = _MATH.sub(_formula, text)
    text = _INLINE.sub(lambda found: convert(found[1]), text)
    text = _LITERAL.sub(_literal, text)
    text = _DOCTEST.sub(_example, text)
    # A star is of a formula, f*(t), or of a shape.
    parts = _AS_IS.split(text)
    parts[::2] = [part.replace("*", r"\*") for part in parts[::2]]
    return _NAMED.sub(lambda found: f"*{found[0].strip()}* ", "".join(parts))


def cell(text: str) -> str:
    """Return the first line of a docstring, as it fits into a table."""
    parts = _AS_IS.split(markdown(text.strip().splitlines()[0]))
    parts[::2] = [part.replace("|", "&#124;") for part in parts[::2]]
    return "".join(parts)


def _formula(found: re.Match[str]) -> str:
    return f"{found[1]}{convert(' '.join(found[2].split()), display='block')}"


def _literal(found: re.Match[str]) -> str:
    block = textwrap.dedent(found[2]).strip("\n")
    language = "python" if re.search(r"^(from|import|def|class|with) ", block, re.M) else "text"
    return f"{found[1]}:\n\n```{language}\n{block}\n```"


def _example(found: re.Match[str]) -> str:
    indent, block = found[1], textwrap.dedent(found[0])
    return textwrap.indent(f"```pycon\n{block}\n```", indent)


class Docstrings(griffe.Extension):
    """Rewrites every docstring when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
