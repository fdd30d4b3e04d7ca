"""The classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import column_or_1d

from ._base import BaseEvolving
from ._callbacks import with_callbacks
from ._docstring import describe
from ._fitting import Goal
from ._labels import Labels, indicators, multiply_weights
from ._reading import RowsT
from ._rows import TrainingRows
from ._signature import adds_to
from .core.calibration import fit_scale
from .core.course import Evolution
from .core.ensemble import Ensemble
from .core.held_out import HeldOut
from .core.losses import CrossEntropy, LogLoss

__all__ = ["EvolvingClassifier"]


@describe(
    summary="""
    Classification with networks that change their topology while they train.
    """,
    members="""
        ``"auto"`` is 8.
    """,
    loss="""
    loss : "auto" or "log_loss", default="auto"
        ``"auto"`` is ``"log_loss"``.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, by label, which the rows' own are multiplied with; a label that is
        not named weighs 1. ``"balanced"`` gives all classes the same total, and leaves that of all
        rows what it is.
    """,
    fitted="""
    classes_ : ndarray of shape (n_classes,)
        The labels.
    """,
    history="""
        The losses are log-losses, in nats per row.
    """,
    example="""
    >>> from sklearn.datasets import load_iris
    >>> from skevo import EvolvingClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = EvolvingClassifier(n_members=2, random_state=0).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    >>> bool(model.score(X, y) > 0.95)
    True
    """,
)
class EvolvingClassifier(ClassifierMixin, BaseEvolving):
    _numeric_target: ClassVar[bool] = False
    # More of few rows have no lower log-loss.
    _most_members: ClassVar[int] = 8
    # A generation takes little of the time that other classifiers take.
    _patience: ClassVar[tuple[tuple[int, int], tuple[int, int]]] = (10, 0), (10, 0)
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseEvolving._parameter_constraints,
        "loss": [StrOptions({"auto", "log_loss"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    @adds_to(BaseEvolving)
    def __init__(self, *, class_weight: Any = None, **common: Any) -> None:
        super().__init__(**common)
        self.class_weight = class_weight

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> EvolvingClassifier:
        """Grow the networks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, NaN where a cell is missing; text and categories in ``categorical_features``.
        y : array-like of shape (n_samples,)
            Labels of two classes or more.
        sample_weight : array-like of shape (n_samples,), default=None
            A weight of 0 is as good as the row's removal, and a weight of k as k copies of it; but
            where rows are held out, copies may fall into different folds. Weights whose mean is
            below 1 are divided by it.
        X_val : array-like of shape (n_val_samples, n_features), default=None
            Validation rows. All members are judged by them instead of by folds that they hold out,
            and train on all of ``X``.
        y_val : array-like of shape (n_val_samples,) or (n_val_samples, n_outputs), default=None
            What ``y`` is of ``X``, of ``X_val``.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            Weights of the validation rows.

        Returns
        -------
        EvolvingClassifier
            Itself.

        Raises
        ------
        ValueError
            If the rows or a parameter are not what is required, or there is one class only.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> EvolvingClassifier:
        """Take in more rows, and grow the networks by a generation.

        The first call fits how columns are encoded and scaled. The model keeps a uniform sample of
        at most 20,000 rows of all that have come, and each call grows one generation on it, from
        the networks as they are. So the order of rows does not matter, and no row is forgotten for
        having come early. After `fit` it goes on from its networks, with a new sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), default=None
            All labels that will come; required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        EvolvingClassifier
            Itself. ``n_iter_`` counts generations, and ``history_`` is that of the last call.
        """
        if _check_partial_fit_first_call(self, classes) and len(self.classes_) < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes_.tolist()}.")
        return self._partial_fit(X, y, sample_weight)

    def _prepare(self, rows: TrainingRows, known: bool = False) -> Goal:
        """Learn the classes, and return the log-loss."""
        if not known:
            self.classes_ = classes = rows.sum(Labels.of).classes
            if len(classes) < 2:
                raise ValueError(
                    f"y must have at least 2 classes, got one class only: {classes[0]!r}."
                )
        else:
            unknown = np.setdiff1d(rows.sum(Labels.of).classes, self.classes_)
            _refuse(unknown)
        return Goal(LogLoss() if len(self.classes_) == 2 else CrossEntropy())

    def _finish(
        self, ensemble: Ensemble, held_out: HeldOut, members: Sequence[Evolution], goal: Goal
    ) -> Ensemble:
        """Return the ensemble with its log-odds drawn towards zero."""
        return ensemble.scaled(fit_scale(held_out, goal.loss))

    @property
    def _n_outputs(self) -> int:
        """Outputs of a network."""
        return len(self._shown_classes)

    @property
    def _as_targets(self) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
        """What turns labels into the second class's or every class's indicator."""
        return partial(indicators, classes=self.classes_)

    def _in_user_units(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return the indicators."""
        return indicators(y, self.classes_)

    def _check_given(self, y: NDArray[Any]) -> None:
        """Raise ValueError if there are labels of unknown classes."""
        _refuse(np.setdiff1d(column_or_1d(y), self.classes_))

    def _weighed(self, rows: RowsT) -> RowsT:
        """Return rows whose weights are multiplied with those of their classes."""
        if self.class_weight is None:
            return rows
        classes, factors = rows.sum(Labels.of).factors(self.class_weight)
        return rows.map(partial(multiply_weights, classes=classes, factors=factors))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return log-odds of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Of the second class where there are two; else of each class, up to a common term.
        """
        output = self._output(X)
        return output[:, 0] if len(self.classes_) == 2 else output

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return class probabilities of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        output = torch.from_numpy(self._output(X))
        if len(self.classes_) == 2:
            return torch.cat([torch.sigmoid(-output), torch.sigmoid(output)], dim=1).numpy()
        return torch.softmax(output, dim=1).numpy()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        output = self._output(X)
        codes = (output[:, 0] > 0).astype(int) if len(self.classes_) == 2 else output.argmax(axis=1)
        return self.classes_[codes]

    def _target_names(self) -> list[str]:
        """Return what the formula calls the targets."""
        return [f"[class = {label}]" for label in self._shown_classes]

    def _output_names(self) -> list[str]:
        """Return what the formula calls the outputs."""
        return [f"logit({label})" for label in self._shown_classes]

    @property
    def _shown_classes(self) -> NDArray[Any]:
        """The classes that have an output."""
        return self.classes_[1:] if len(self.classes_) == 2 else self.classes_


def _refuse(unknown: NDArray[Any]) -> None:
    """Raise ValueError if there are unknown labels."""
    if len(unknown):
        raise ValueError(f"y has labels that are not among the classes: {unknown.tolist()}.")
