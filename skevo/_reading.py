"""Reading: what users pass, checked and brought to rows of numbers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_X_y,
    validate_data,
)

from ._columns import (
    Encoding,
    categorical_columns,
    find_levels,
    fit_encoding,
    read_codes,
)
from ._level_means import OrderedMeans
from ._preprocessing import Scaling, fit_scaling

__all__ = ["ReadsTables", "Rows"]

# What is asked of rows; cells may be missing.
_CHECKS: dict[str, Any] = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}


class Rows(NamedTuple):
    """Rows to fit to, or to be judged by.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        With codes for levels, and NaN for missing cells.
    target : ndarray of shape (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,)
    means : OrderedMeans, or None
        What rows to fit to are told of categories of many levels, if there are any.
    """

    X: NDArray[np.floating]
    target: NDArray[np.float64]
    weight: NDArray[np.float64]
    means: OrderedMeans | None = None


class ReadsTables(BaseEstimator):
    """What both estimators do with the tables that they are given."""

    _numeric_target: ClassVar[bool]
    _encoding: Encoding
    _scaling: Scaling
    init: Any
    categorical_features: Any

    def _validate(
        self, X: Any, y: Any, sample_weight: Any, known: bool, reset: bool = True
    ) -> tuple[NDArray[np.floating], NDArray[Any], NDArray[np.float64]]:
        """Check rows and weights; rows of weight zero are left out.

        Parameters
        ----------
        X, y, sample_weight : array-like
        known : bool
            Whether the columns are those of the fit before; else they are fitted.
        reset : bool, default=True
            Whether names and number of columns may differ from those of the fit before.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            With codes for levels, and NaN for missing cells.
        y : ndarray
        sample_weight : ndarray of shape (n_samples,)
        """
        checks: dict[str, Any] = {
            **_CHECKS,
            "multi_output": True,
            "y_numeric": self._numeric_target,
            "ensure_min_samples": 2 if reset else 1,
        }
        if known or self.init is not None:
            levels = (self if known else self._start())._encoding.levels
        else:
            levels = find_levels(X, categorical_columns(X, self.categorical_features))
        if levels:
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            X, y = check_X_y(read_codes(X, levels), y, estimator=self, **checks)
        else:
            X, y = validate_data(self, X, y, reset=reset, **checks)
        sample_weight = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True
        )
        sample_weight = self._weights(y, sample_weight)
        rows = sample_weight > 0
        if not rows.any():
            raise ValueError("sample_weight must have at least one positive value.")
        if not rows.all():
            X, y, sample_weight = X[rows], y[rows], sample_weight[rows]
        if not known:
            self._encoding = (
                fit_encoding(X, sample_weight, levels)
                if self.init is None
                else self._start()._encoding
            )
        return X, y, sample_weight

    def _learn_scale(
        self,
        X: NDArray[np.floating],
        target: NDArray[np.float64],
        sample_weight: NDArray[np.float64],
        known: bool,
    ) -> OrderedMeans | None:
        """Fit how columns are scaled, and the means of the target at levels of categories.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        target : ndarray of shape (n_samples, n_outputs)
            In the user's units.
        sample_weight : ndarray of shape (n_samples,)
        known : bool
            Whether the columns are those of the fit before.
        """
        encoding, means = self._encoding, None
        if len(encoding.told):
            n_levels = [len(encoding.levels[column]) for column in encoding.told]
            means = OrderedMeans(X[:, encoding.told], n_levels, target, sample_weight)
            self._encoding = encoding = replace(encoding, means=means.means)
        if self.init is None and not known:
            self._scaling = fit_scaling(X, sample_weight, encoding)
        elif not known:
            start = self._start()
            if self.n_features_in_ != start.n_features_in_:
                raise ValueError(
                    f"init must be fitted to the same columns, {self.n_features_in_}, got "
                    f"{start.n_features_in_}."
                )
            if len(encoding) != len(start._encoding):
                raise ValueError(
                    "init must be fitted to as many outputs, for categories with many levels are "
                    "encoded as means of the outputs."
                )
            self._scaling = start._scaling
        return means

    def _start(self) -> ReadsTables:
        """Return the fitted estimator whose networks the members start from."""
        start = self.init.estimator if isinstance(self.init, FrozenEstimator) else self.init
        if not isinstance(start, ReadsTables):
            raise ValueError(
                "init must be a fitted EvolvingRegressor or EvolvingClassifier, got "
                f"{type(start).__name__}."
            )
        if not hasattr(start, "_encoding"):
            raise NotFittedError(
                "init is not fitted. Cloning an estimator, as searches do, leaves it so: pass "
                "init=sklearn.frozen.FrozenEstimator(fitted)."
            )
        return start

    def _given(self, X: Any, y: Any, sample_weight: Any) -> Rows | None:
        """Check the validation rows that are given, if there are any."""
        if X is None and y is None:
            if sample_weight is not None:
                raise ValueError("sample_weight_val requires X_val and y_val.")
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together.")
        X = self._read(X)
        y = check_array(
            y,
            ensure_2d=False,
            dtype=np.float64 if self._numeric_target else None,
            input_name="y_val",
        )
        check_consistent_length(X, y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        weight = self._weights(y, weight)
        rows = weight > 0
        if not rows.any():
            raise ValueError("sample_weight_val must have at least one positive value.")
        return Rows(X[rows], self._targets(y[rows]), weight[rows])

    def _weights(self, y: NDArray[Any], sample_weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what rows weigh, given what the user says of each."""
        return sample_weight

    @abstractmethod
    def _targets(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return targets of shape (n_samples, n_outputs) of rows that are not trained on."""

    def _read(self, X: Any) -> NDArray[np.floating]:
        """Check new rows, and return them with codes for levels."""
        if self._encoding.levels and not issparse(X):
            validate_data(self, X, reset=False, skip_check_array=True)
            X = check_array(read_codes(X, self._encoding.levels), estimator=self, **_CHECKS)
        else:
            X = validate_data(self, X, reset=False, **_CHECKS)
        rows: NDArray[np.floating] = X
        return rows

    def __sklearn_tags__(self) -> Any:
        """Return what is accepted: cells may be missing, columns may be categories."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags
