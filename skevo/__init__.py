"""skevo: evolving networks for tabular data, as scikit-learn estimators around a torch layer."""

from ._classifier import EvolvingClassifier
from ._explain import Contributions
from ._loading import load
from ._regressor import EvolvingRegressor
from ._transformer import EvolvingTransformer
from ._version import __version__
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
    "EvolvingTransformer",
    "Operator",
    "PathDisplay",
    "TopologyDisplay",
    "__version__",
    "available_operators",
    "load",
    "register_operator",
]
