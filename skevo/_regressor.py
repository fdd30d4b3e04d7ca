"""The regressor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions

from ._base import BaseEvolving
from ._callbacks import with_callbacks
from ._docstring import describe
from .core.losses import Loss, SquaredError, TorchLoss
from .core.network import Network
from .core.statistics import widened_range

__all__ = ["EvolvingRegressor"]


@describe(
    summary="""
    Regression with networks that change their topology while they train.
    """,
    loss="""
    loss : "auto", "squared_error" or callable, default="auto"
        ``"auto"`` is ``"squared_error"``. A callable is any torch loss
        ``loss(prediction, target)`` of tensors of shape (n_samples,) or (n_samples, n_outputs), in
        the units of ``y``; it returns one value per sample, or their mean.
    """,
    fitted="""
    """,
    history="""
        The losses are squared errors in units of the targets' variance (so one minus R2), or the
        values of a callable loss.
    """,
    example="""
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import cross_val_score
    >>> from skevo import EvolvingRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> scores = cross_val_score(EvolvingRegressor(n_members=2, random_state=0), X, y, cv=3)
    >>> bool(scores.mean() > 0.4)
    True
    """,
)
class EvolvingRegressor(MultiOutputMixin, RegressorMixin, BaseEvolving):
    _numeric_target: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseEvolving._parameter_constraints,
        "loss": [StrOptions({"auto", "squared_error"}), callable],
    }

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
    ) -> EvolvingRegressor:
        """Grow the networks.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, NaN where a cell is missing; text and categories in ``categorical_features``.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Several outputs share the nodes.
        sample_weight : array-like of shape (n_samples,), default=None
            A weight of 0 is as good as the row's removal, and a weight of k as k copies of it; but
            where rows are held out, copies may fall into different folds.
        X_val : array-like of shape (n_val_samples, n_features), default=None
            Validation rows. All members are judged by them instead of by folds that they hold out,
            and train on all of ``X``.
        y_val : array-like of shape (n_val_samples,) or (n_val_samples, n_outputs), default=None
            What ``y`` is of ``X``, of ``X_val``.
        sample_weight_val : array-like of shape (n_val_samples,), default=None
            Weights of the validation rows.

        Returns
        -------
        EvolvingRegressor
            Itself.

        Raises
        ------
        ValueError
            If the rows or a parameter are not what is required.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Never farther from the training targets than a tenth of their range.
        """
        output = self._output(X)
        np.clip(output, *self._range, out=output)
        return output[:, 0] if self._single_output else output

    def _prepare(
        self, y: NDArray[Any], sample_weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], Loss]:
        """Return standardised targets, and their loss."""
        self._single_output = y.ndim == 1
        target = _columns(y)
        mean = np.average(target, axis=0, weights=sample_weight)
        deviation = np.sqrt(np.average((target - mean) ** 2, axis=0, weights=sample_weight))
        scale = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
        low, high = widened_range(torch.from_numpy(target.T))
        self._range = low[:, 0].numpy(), high[:, 0].numpy()
        self._mean, self._scale = mean, scale
        return (target - mean) / scale, self._torch_loss(mean, scale, self._torch_dtype(len(y)))

    def _targets(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return standardised targets."""
        if y.ndim != (1 if self._single_output else 2) or _columns(y).shape[1] != len(self._mean):
            raise ValueError(
                f"y_val must have the outputs of y, {len(self._mean)}, got shape {y.shape}."
            )
        return (_columns(y) - self._mean) / self._scale

    def _torch_loss(
        self, mean: NDArray[np.float64], scale: NDArray[np.float64], dtype: torch.dtype
    ) -> Loss:
        """Return the loss of standardised targets."""
        if not callable(self.loss):
            return SquaredError()
        shift, factor = (
            torch.as_tensor(part, dtype=dtype)[:, None].to(self._device()) for part in (mean, scale)
        )
        return TorchLoss(self.loss, shift, factor)

    def _output(self, X: Any) -> NDArray[np.float64]:
        """Evaluate the network on new rows, in the target's units."""
        # In double precision: the mean may be many times the deviation.
        output = super()._output(X)
        output *= self._scale
        output += self._mean
        return output

    def _network_in_units(self) -> Network:
        """Return the network with its outputs in the target's units."""
        network = self._ensemble.network.to(dtype=torch.float64)
        n_heads = len(network.bias)
        factor, shift = (
            torch.as_tensor(np.resize(part, n_heads)).to(network.weight)
            for part in (self._scale, self._mean)
        )
        # A correction is added to an average that has the mean already.
        shift[self._ensemble.n_members * self._ensemble.n_outputs :] = 0.0
        return replace(
            network, weight=network.weight * factor[:, None], bias=network.bias * factor + shift
        )

    def _limits_in_units(self) -> NDArray[np.float64]:
        """Return what the correction is clipped to, in the target's units."""
        return super()._limits_in_units() * self._scale

    def _output_names(self) -> list[str]:
        """Return what the formula calls the outputs."""
        return ["y"] if self._single_output else [f"y{k}" for k in range(len(self._range[0]))]


def _columns(y: NDArray[Any]) -> NDArray[np.float64]:
    """Return targets with a column for each output."""
    return y.reshape(len(y), -1).astype(np.float64)
