"""skevo: evolving networks for tabular data, as scikit-learn estimators around a torch layer."""

from ._classifier import EvolvingClassifier
from ._explain import Contributions
from ._regressor import EvolvingRegressor
from .core.layer import EvolvingLayer
from .core.operators import Operator, available_operators, register_operator

__all__ = [
    "Contributions",
    "EvolvingClassifier",
    "EvolvingLayer",
    "EvolvingRegressor",
    "Operator",
    "available_operators",
    "register_operator",
]
__version__ = "0.1.0"
