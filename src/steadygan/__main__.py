"""``python -m steadygan``: the command line."""

from .cli import entry

entry()
