"""Pictures of fitted estimators, in scikit-learn's Display convention.

Each has a class method ``from_estimator``, and draws itself with ``plot``; both need the extra
``plot``, matplotlib, which is imported when something is drawn and not before.
"""

from ._contribution import ContributionDisplay
from ._evolution import EvolutionDisplay
from ._path import PathDisplay
from ._topology import TopologyDisplay

__all__ = ["ContributionDisplay", "EvolutionDisplay", "PathDisplay", "TopologyDisplay"]
