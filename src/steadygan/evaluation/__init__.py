"""How good samples are: features -> statistics -> numbers, each with how sure it is.

See ``steadygan.evaluation.distances``.
"""

from .evaluator import Evaluator
from .extractors import EffNetLite0, Inception2015
from .features import Features, Pixels, build_features, extract
from .judging import evaluate, judge
from .metrics import Metric, Number, Pair
from .statistics import Statistics

__all__ = [
    "EffNetLite0",
    "Evaluator",
    "Features",
    "Inception2015",
    "Metric",
    "Number",
    "Pair",
    "Pixels",
    "Statistics",
    "build_features",
    "evaluate",
    "extract",
    "judge",
]
