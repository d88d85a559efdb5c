"""Many trainings, here or on many machines: what varies, which run is where, who trains it."""

from .axes import points
from .halving import halve
from .plan import Task, plan
from .pool import Cluster
from .work import Ended, work

__all__ = ["Cluster", "Ended", "Task", "halve", "plan", "points", "work"]
