"""Reading: what users pass, checked and brought to rows of numbers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

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

from ._columns import Cells, Encoding, fit_encoding
from ._frames import Levels, categorical_columns, find_levels, read_codes
from ._level_means import OrderedMeans
from ._preprocessing import Scaling, fit_scaling
from ._rows import Part, TrainingRows, Whole
from ._target import refuse_text

__all__ = ["CHECKS", "ReadsTables", "as_copies"]

RowsT = TypeVar("RowsT", bound=TrainingRows)

# What is asked of rows; cells may be missing.
CHECKS: dict[str, Any] = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}
# Weights whose mean is 1 up to rounding stay as they are.
_ROUNDING = 1e-9


class ReadsTables(BaseEstimator):
    """What both estimators do with the tables that they are given."""

    _numeric_target: ClassVar[bool]
    _encoding: Encoding
    _scaling: Scaling
    init: Any
    categorical_features: Any

    def _take_in(
        self, X: Any, y: Any, sample_weight: Any, known: bool, reset: bool = True
    ) -> TrainingRows:
        """Check rows and weights; rows of weight zero are left out.

        Parameters
        ----------
        X, y, sample_weight : array-like
        known : bool
            Whether the columns are those of the fit before; else they are fitted.
        reset : bool, default=True
            Whether names and number of columns may differ from those of the fit before.
        """
        if known or self.init is not None:
            levels = (self if known else self._start())._encoding.levels
        else:
            levels = self._find_levels(X)
        rows = self._weighed(self._rows(X, y, sample_weight, levels, reset)).map(_that_count)
        if not len(rows):
            raise ValueError("sample_weight must have at least one positive value.")
        if not known:
            self._encoding = (
                _fit_encoding(as_copies(rows), levels)
                if self.init is None
                else self._start()._encoding
            )
        return rows

    def _find_levels(self, X: Any) -> Levels:
        """Return the levels of the categorical columns."""
        return find_levels(X, categorical_columns(X, self.categorical_features))

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, levels: Levels, reset: bool
    ) -> TrainingRows:
        """Check rows and weights, and return them with codes for levels."""
        if self._numeric_target:
            refuse_text(y)
        checks: dict[str, Any] = {
            **CHECKS,
            "multi_output": True,
            "y_numeric": self._numeric_target,
            "ensure_min_samples": 2 if reset else 1,
        }
        if levels:
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            X, y = check_X_y(read_codes(X, levels), y, estimator=self, **checks)
        else:
            X, y = validate_data(self, X, y, reset=reset, **checks)
        return Whole(Part(X, y, _weights(sample_weight, X)))

    def _learn_scale(self, rows: TrainingRows, known: bool) -> None:
        """Fit how columns are scaled, and the means of the target at levels of categories.

        Parameters
        ----------
        rows : TrainingRows
        known : bool
            Whether the columns are those of the fit before.
        """
        if len(self._encoding.told):
            self._encoding = self._tell(rows)
        if self.init is None and not known:
            sample = rows.sample()
            target = self._as_targets(sample.y)
            self._scaling = fit_scaling(sample.X, target, sample.weight, self._encoding)
        elif not known:
            start = self._start()
            if self.n_features_in_ != start.n_features_in_:
                raise ValueError(
                    f"init must be fitted to the same columns, {self.n_features_in_}, got "
                    f"{start.n_features_in_}."
                )
            if len(self._encoding) != len(start._encoding):
                raise ValueError(
                    "init must be fitted to as many outputs, for categories with many levels are "
                    "encoded as means of the outputs."
                )
            self._scaling = start._scaling

    def _tell(self, rows: TrainingRows) -> Encoding:
        """Return the encoding with means of the target, which the rows are told of as well."""
        assert isinstance(rows, Whole)
        encoding, part = self._encoding, rows.part
        n_levels = [len(encoding.levels[column]) for column in encoding.told]
        shown = self._in_user_units(part.y)
        rows.means = OrderedMeans(part.X[:, encoding.told], n_levels, shown, part.weight)
        return replace(encoding, means=rows.means.means)

    @abstractmethod
    def _in_user_units(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return targets, of shape (n_samples, n_outputs), as users know them."""

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

    def _given(self, X: Any, y: Any, sample_weight: Any) -> Whole | None:
        """Check the validation rows that are given, if there are any."""
        if X is None and y is None:
            if sample_weight is not None:
                raise ValueError("sample_weight_val requires X_val and y_val.")
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together.")
        X = self._read(X)
        if self._numeric_target:
            refuse_text(y)
        y = check_array(
            y,
            ensure_2d=False,
            dtype=np.float64 if self._numeric_target else None,
            input_name="y_val",
        )
        check_consistent_length(X, y)
        rows = self._weighed(Whole(Part(X, y, _weights(sample_weight, X)))).map(_that_count)
        if not len(rows):
            raise ValueError("sample_weight_val must have at least one positive value.")
        self._check_given(rows.part.y)
        return as_copies(rows)

    def _weighed(self, rows: RowsT) -> RowsT:
        """Return rows with their weights, given what the user says of each."""
        return rows

    @abstractmethod
    def _check_given(self, y: NDArray[Any]) -> None:
        """Raise ValueError if targets are none that members can be judged by."""

    def _read(self, X: Any) -> NDArray[np.floating]:
        """Check new rows, and return them with codes for levels."""
        if self._encoding.levels and not issparse(X):
            validate_data(self, X, reset=False, skip_check_array=True)
            X = check_array(read_codes(X, self._encoding.levels), estimator=self, **CHECKS)
        else:
            X = validate_data(self, X, reset=False, **CHECKS)
        rows: NDArray[np.floating] = X
        return rows

    def __sklearn_tags__(self) -> Any:
        """Return what is accepted: cells may be missing, columns may be categories."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


def _weights(sample_weight: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the weights of rows; those that are not given take no memory."""
    if sample_weight is None:
        return np.broadcast_to(np.float64(1.0), len(X))
    return _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)


def _that_count(part: Part) -> Part:
    """Return the rows whose weight is not zero."""
    counts = part.weight > 0
    return part if counts.all() else part.of(counts)


def as_copies(rows: RowsT) -> RowsT:
    """Return rows whose weights are 1 on average, or more.

    A weight of k stands for k copies of a row. Weights with a mean below 1 can only be relative:
    boosting has them sum to 1.
    """
    mean = rows.sum(_sum_of_weights) / len(rows)
    return rows.map(partial(_divided, mean=mean)) if mean < 1.0 - _ROUNDING else rows


def _sum_of_weights(part: Part) -> float:
    return float(part.weight.sum())


def _divided(part: Part, mean: float) -> Part:
    return part._replace(weight=part.weight / mean)


def _fit_encoding(rows: TrainingRows, levels: Levels) -> Encoding:
    """Fit how the cells of rows become columns of finite numbers."""
    cells = rows.sum(partial(_cells_of, levels=levels))
    sample = rows.sample()
    return fit_encoding(sample.X, sample.weight, levels, cells)


def _cells_of(part: Part, levels: Levels) -> Cells:
    return Cells.of(part.X, part.weight, levels)
