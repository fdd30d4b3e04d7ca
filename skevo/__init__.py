"""skevo: evolving networks for tabular data, as scikit-learn estimators around a torch layer."""

from ._classifier import EvolvingClassifier
from ._explain import Contributions
from ._regressor import EvolvingRegressor
from .core.layer import EvolvingLayer
from .core.operators import Operator, available_operators, register_operator
from .display import ContributionDisplay, EvolutionDisplay, PathDisplay, TopologyDisplay

__all__ = [
    "ContributionDisplay",
    "Contributions",
    "EvolutionDisplay",
    "EvolvingClassifier",
    "EvolvingLayer",
    "EvolvingRegressor",
    "Operator",
    "PathDisplay",
    "TopologyDisplay",
    "available_operators",
    "register_operator",
]
__version__ = "0.1.0"
