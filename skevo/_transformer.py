"""The transformer: nodes of evolving networks as columns for other estimators."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from ._base import BaseEvolving
from ._classifier import EvolvingClassifier
from ._formula import column_texts
from ._regressor import EvolvingRegressor
from ._rows import Part, Whole
from .core.distinct import choose_distinct, output_noise
from .core.losses import Loss
from .core.ranges import widened_range
from .core.table import every_so_many
from .core.threads import torch_threads

__all__ = ["EvolvingTransformer"]

# Whole numbers are labels if there are no more distinct ones.
_MOST_LABELS = 20
# Columns are chosen on at most so many training rows, and so many values of all nodes.
_MOST_ROWS, _MOST_VALUES = 20_000, 2**25


class EvolvingTransformer(TransformerMixin, BaseEstimator):
    """Columns that evolving networks have found useful, for another estimator.

    An evolving network is fitted to the target. Of the nodes of all its members those are taken
    that together reproduce its output best, one after another, as long as each explains more of it
    than the noise of four rows. No two of them are near-copies, and each has a short formula,
    which is its name.

    Parameters
    ----------
    estimator : EvolvingRegressor or EvolvingClassifier, default=None
        What finds the nodes; a clone of it is fitted. None stands for an `EvolvingClassifier` with
        its defaults where the target is labels: text, booleans, or at most 20 distinct whole
        numbers; else for an `EvolvingRegressor`.
    max_columns : int, default=50
        So many evolved columns at most.
    max_operators : int, default=4
        So many operators at most in the formula of a column.
    max_correlation : float in (0, 1], default=0.95
        Largest absolute correlation, on the training rows, of an evolved column with another one
        or, if they are passed through, with a column of the table. Those of the table may be
        near-copies of each other.
    passthrough : bool, default=True
        Whether the columns of the table come first, as the estimators read them: missing cells
        filled with the median and marked by a column, and a column per level of a category.
        Otherwise there are the evolved columns alone.
    random_state : int, RandomState instance or None, default=None
        Given to the estimator, unless it is None.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of the table.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if they are all strings.
    estimator_ : EvolvingRegressor or EvolvingClassifier
        The fitted estimator, with its history and formula.
    n_columns_ : int
        Number of evolved columns. There may be none: where the target is as good as linear.

    See Also
    --------
    EvolvingRegressor, EvolvingClassifier : Which predict with all nodes.

    Notes
    -----
    A column is what its name says, but for numbers, which are rounded in the name, far values of
    the table's columns, which are drawn in before they enter, denominators near zero, which are
    moved away from it, and values on new rows beyond the range of the training rows by more than a
    tenth of it, which are clipped.

    Columns are functions of ``X`` alone, but they were chosen with the target of the training rows.
    What is fitted to these columns, of the same rows, is therefore somewhat too sure of them.
    Scores on rows that the whole pipeline has not seen are honest, as always. Where a category is
    replaced by means of the target, `fit_transform` tells no row its own target, and so differs
    from `transform`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skevo import EvolvingTransformer
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> evolved = EvolvingTransformer(passthrough=False, random_state=0).fit(X, y)
    >>> evolved.transform(X).shape == (442, evolved.n_columns_)
    True
    >>> model = make_pipeline(EvolvingTransformer(random_state=0), StandardScaler(), RidgeCV())
    >>> bool(cross_val_score(model, X, y, cv=3).mean() > 0.4)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "max_columns": [Interval(Integral, 0, None, closed="left")],
        "max_operators": [Interval(Integral, 1, None, closed="left")],
        "max_correlation": [Interval(Real, 0, 1, closed="right")],
        "passthrough": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        estimator: Any = None,
        max_columns: int = 50,
        max_operators: int = 4,
        max_correlation: float = 0.95,
        passthrough: bool = True,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.max_columns = max_columns
        self.max_operators = max_operators
        self.max_correlation = max_correlation
        self.passthrough = passthrough
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> EvolvingTransformer:
        """Grow networks, and choose columns of theirs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, NaN where a cell is missing; text and categories as the estimators take them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers or labels.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        EvolvingTransformer
            Itself.

        Raises
        ------
        ValueError
            If the rows or a parameter are not what is required.
        """
        self._fit(X, y, sample_weight)
        return self

    def fit_transform(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Fit, and return the columns of the training rows.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
            As `transform` would return it, but that no row is told its own target where means of
            the target stand for the levels of a category.
        """
        train = self._fit(X, y, sample_weight)
        model = self.estimator_
        columns = self._evaluate(model._read(X))
        if train.means is not None:
            weight = _check_sample_weight(sample_weight, columns, dtype=np.float64)
            rows = model._weighed(Whole(Part(columns, np.asarray(y), weight)))
            present = rows.part.weight > 0
            columns[present] = self._evaluate(train.part.X, train.means.of())
        return columns

    def transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the columns of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_columns)
            Finite; in single precision if ``X`` is, else in double.
        """
        check_is_fitted(self)
        return self._evaluate(self.estimator_._read(X))

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Return what the columns are called: their formulas, with rounded numbers.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Names of the table's columns: ``feature_names_in_`` if they are known, else, if None,
            ``x0``, ``x1`` and so on.

        Returns
        -------
        ndarray of str
            No two are alike: of those that rounding makes alike the second ends on `` #2``.
        """
        check_is_fitted(self)
        names = self._encoded_names(_check_feature_names_in(self, input_features))
        evolved = [text for _, text in self._texts(names)]
        return np.array(_unique([*(names if self.passthrough else []), *evolved]), dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Return what is accepted, and that the target is needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # -- fitting -------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=False)
    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Whole:
        """Fit, and return the training rows."""
        model = self._estimator(y, sample_weight).fit(X, y, sample_weight)
        with torch_threads(1), torch.no_grad():
            train, loss = model._training_rows(X, y, sample_weight)
            places, limits = self._choose(model, train, loss)
        validate_data(self, X, y, skip_check_array=True)
        self.estimator_, self._places, self._limits = model, places, limits
        self.n_columns_ = len(places)
        texts = self._texts(self._encoded_names(model._column_names()))
        # What nodes are multiples of, in the units of their formulas.
        self._factors = np.array([factor for factor, _ in texts])
        if not len(places) and not self.passthrough:
            warnings.warn(
                "There is no column: none of the estimator's nodes explains enough of its output.",
                stacklevel=4,
            )
        return train

    def _estimator(self, y: Any, sample_weight: Any) -> Any:
        """Return what finds the nodes, not yet fitted."""
        if self.estimator is None:
            labels = _are_labels(y, sample_weight)
            model: Any = EvolvingClassifier() if labels else EvolvingRegressor()
        elif isinstance(self.estimator, BaseEvolving):
            model = clone(self.estimator)
        else:
            raise ValueError(
                "estimator must be an EvolvingRegressor or an EvolvingClassifier, got "
                f"{type(self.estimator).__name__}."
            )
        if self.random_state is not None:
            model.set_params(random_state=self.random_state)
        return model

    def _choose(
        self, model: BaseEvolving, train: Whole, loss: Loss
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Choose columns.

        Returns
        -------
        places : ndarray of shape (n_columns_,)
            The columns of the network.
        limits : ndarray of shape (2, n_columns_)
            How low and how high they may go.
        """
        network = model._ensemble.network
        n_inputs = network.topology.n_inputs
        n_rows = max(1, min(_MOST_ROWS, _MOST_VALUES // network.topology.n_columns))
        table = train.table(model._recipe(network.weight.dtype))
        some = table.take(every_so_many(len(table), n_rows))
        inputs, target, weight = (
            part.to("cpu", torch.float64) for part in (some.inputs[:, :], some.target, some.weight)
        )

        def noise(output: torch.Tensor) -> float:
            # A loss may have tensors of its own, where the network is.
            return output_noise(
                loss, *(part.to(network.weight) for part in (output, target, weight))
            )

        ensemble = model._in_double()
        columns = ensemble.network.columns(inputs)
        output = ensemble.combine(ensemble.network.output(columns))
        sizes = network.topology.sizes
        short = np.array([k for k, n in enumerate(sizes, n_inputs) if n <= self.max_operators], int)
        chosen = choose_distinct(
            columns[short],
            inputs if self.passthrough else inputs[:0],
            output,
            weight,
            noise,
            self.max_columns,
            self.max_correlation,
        )
        places = short[chosen]
        return places, torch.cat(widened_range(columns[places]), dim=1).T.numpy()

    # -- evaluation ----------------------------------------------------------------------------

    def _evaluate(
        self, rows: NDArray[np.floating], told: NDArray[np.float64] | None = None
    ) -> NDArray[np.floating]:
        """Return the columns of rows.

        Parameters
        ----------
        rows : ndarray of shape (n_samples, n_features)
            With codes for levels, and NaN for missing cells.
        told : ndarray of shape (n_told, n_samples), default=None
            What stands in the encoding's columns of means.
        """
        model = self.estimator_
        encoded = model._encoding(rows)
        if told is not None:
            encoded[:, len(model._encoding) - len(told) :] = told.T
        inputs = torch.from_numpy(model._scaling.columns(encoded))
        network = model._in_double().network
        # A head for each column, which hears it alone.
        heads = torch.eye(network.topology.n_columns, dtype=torch.float64)[self._places]
        network = replace(network, weight=heads, bias=heads.new_zeros(len(heads)))
        nodes = np.empty((len(rows), 0))
        if len(heads):
            with torch_threads(1):
                nodes = network.predict(inputs.T).numpy()
        most = np.finfo(rows.dtype).max
        evolved = np.clip(np.clip(nodes, *self._limits) / self._factors, -most, most)
        return np.hstack([encoded, evolved] if self.passthrough else [evolved], dtype=rows.dtype)

    def _texts(self, names: Sequence[str]) -> list[tuple[float, str]]:
        """Return the evolved columns as factors and formulas, from names of the encoded table."""
        model = self.estimator_
        texts = column_texts(model._ensemble.network, model._scaling, names)
        return [texts[place] for place in self._places]

    def _encoded_names(self, names: Sequence[str]) -> list[str]:
        """Return what the columns are called that the network reads."""
        model = self.estimator_
        return model._encoding.names(names, model._target_names())


def _are_labels(y: Any, sample_weight: Any) -> bool:
    """Return whether a target is labels, not numbers; rows of weight zero do not count."""
    y = np.asarray(y)
    if y.ndim == 0 or y.size != len(y):
        return False
    if y.dtype.kind not in "fiu":
        return True
    weight = np.asarray(sample_weight)
    # What else comes the estimator refuses.
    if weight.shape == y.shape and weight.dtype.kind in "fiub":
        y = y[weight > 0]
    distinct = np.unique(y)
    return len(distinct) <= _MOST_LABELS and bool((distinct == np.floor(distinct)).all())


def _unique(names: Sequence[str]) -> list[str]:
    """Return names with a number behind those that were there before."""
    taken: dict[str, None] = {}
    for name in names:
        own, count = name, 1
        while own in taken:
            count += 1
            own = f"{name} #{count}"
        taken[own] = None
    return [*taken]
