"""The estimators for rows on a Dask cluster (``pip install 'skevo[dask]'``)."""

from ._classifier import DaskEvolvingClassifier
from ._regressor import DaskEvolvingRegressor

__all__ = ["DaskEvolvingClassifier", "DaskEvolvingRegressor"]
