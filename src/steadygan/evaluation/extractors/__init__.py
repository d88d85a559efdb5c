"""Networks whose features distances are measured in; importing them registers them."""

from .effnet import EffNetLite0
from .inception import Inception2015

__all__ = ["EffNetLite0", "Inception2015"]
