"""A trained generator taken away: a folder that others can use, and the way to the Hub."""

from .folder import FORMATS, export
from .hub import push

__all__ = ["FORMATS", "export", "push"]
