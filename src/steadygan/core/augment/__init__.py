"""Changes of images before the critic sees them, for small data: by spec, or in one's own loop."""

from .own import Augmenter, augment
from .policies import ADA, Augment, DiffAugment

__all__ = ["ADA", "Augment", "Augmenter", "DiffAugment", "augment"]
