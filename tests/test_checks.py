"""scikit-learn's own checks, in full: no expected failures."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skevo import EvolvingClassifier, EvolvingRegressor, EvolvingTransformer

ESTIMATORS = [
    EvolvingRegressor(),
    EvolvingClassifier(),
    EvolvingRegressor(n_members=1),
    EvolvingClassifier(n_members=1),
    EvolvingRegressor(loss="absolute_error"),
    EvolvingRegressor(loss="huber", n_members=1),
    EvolvingRegressor(loss="quantile", quantile=0.8),
    EvolvingClassifier(class_weight="balanced"),
    EvolvingRegressor(solver="adam", n_members=1),
    EvolvingClassifier(solver="adam", n_members=1),
    EvolvingTransformer(),
    EvolvingTransformer(estimator=EvolvingRegressor(n_members=1), passthrough=False),
]


# One-sample and one-feature tables make scikit-learn's own checks warn; what they test is errors.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
# Of some of these tables no node explains more than noise.
@pytest.mark.filterwarnings("ignore:There is no column")
@parametrize_with_checks(ESTIMATORS)
def test_sklearn_check_passes(estimator, check):
    check(estimator)
