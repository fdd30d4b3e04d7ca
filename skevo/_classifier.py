"""The classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from ._base import BaseEvolving
from ._docstring import describe
from .core.calibration import fit_scale
from .core.losses import CrossEntropy, LogLoss

__all__ = ["EvolvingClassifier"]


@describe(
    summary="""
    Classification with networks that change their topology while they train.
    """,
    loss="""
    loss : "auto" or "log_loss", default="auto"
        ``"auto"`` is ``"log_loss"``.
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
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseEvolving._parameter_constraints,
        "loss": [StrOptions({"auto", "log_loss"})],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
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
            where rows are held out, copies may fall into different folds.

        Returns
        -------
        EvolvingClassifier
            Itself.

        Raises
        ------
        ValueError
            If the rows or a parameter are not what is required, or there is one class only.
        """
        X, y, sample_weight = self._validate(X, y, sample_weight)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes = len(self.classes_)
        if n_classes < 2:
            raise ValueError(
                f"y must have at least 2 classes, got one class only: {self.classes_[0]!r}."
            )
        binary = n_classes == 2
        target = codes[:, None].astype(np.float64) if binary else np.eye(n_classes)[codes]
        loss = LogLoss() if binary else CrossEntropy()
        members, ensemble, held_out = self._grow(X, target, sample_weight, loss)
        self._store(members, ensemble.scaled(fit_scale(held_out, loss)))
        return self

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

    def _output_names(self) -> list[str]:
        """Return what the formula calls the outputs."""
        shown = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        return [f"logit({label})" for label in shown]
