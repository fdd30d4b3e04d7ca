"""skevo: evolving networks for tabular data, as scikit-learn estimators around a torch layer."""

from ._classifier import EvolvingClassifier
from ._loading import load
from ._regressor import EvolvingRegressor
from ._version import __version__
from .core.layer import EvolvingLayer
from .core.operators import Operator, available_operators, register_operator

__all__ = [
    "EvolvingClassifier",
    "EvolvingLayer",
    "EvolvingRegressor",
    "Operator",
    "__version__",
    "available_operators",
    "load",
    "register_operator",
]
