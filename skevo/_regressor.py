"""The regressor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from ._base import BaseEvolving
from ._docstring import describe
from .core.conformal import Intervals, fit_intervals
from .core.course import Evolution
from .core.held_out import HeldOut
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
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

        Returns
        -------
        EvolvingRegressor
            Itself.

        Raises
        ------
        ValueError
            If the rows or a parameter are not what is required.
        """
        X, y, sample_weight = self._validate(X, y, sample_weight)
        target = y.reshape(len(y), -1).astype(np.float64)
        mean = np.average(target, axis=0, weights=sample_weight)
        deviation = np.sqrt(np.average((target - mean) ** 2, axis=0, weights=sample_weight))
        scale = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
        loss = self._torch_loss(mean, scale, self._torch_dtype(len(y)))
        members, ensemble, held_out = self._grow(X, (target - mean) / scale, sample_weight, loss)
        self._single_output = y.ndim == 1
        low, high = widened_range(torch.from_numpy(target.T))
        self._range = low[:, 0].numpy(), high[:, 0].numpy()
        self._mean, self._scale = mean, scale
        self._intervals = self._fit_intervals(held_out, members, loss)
        self._store(members, ensemble)
        return self

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

    @validate_params(
        {"coverage": [Interval(Real, 0, 1, closed="neither")]}, prefer_skip_nested_validation=True
    )
    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> NDArray[np.float64]:
        r"""Predict intervals that hold the targets of a share of new rows.

        Conformal intervals from the errors of the members on the rows that they held out, wider
        where errors are larger or the members disagree:

        .. math:: \hat y(x) \pm q \, \sigma(x),

        where :math:`\sigma` is the size that is expected of a row's error, by the spread of the
        members, the prediction and the inputs, and :math:`q` a quantile of the held-out errors in
        that unit, of rank :math:`\lceil (n + 1) \cdot \text{coverage} \rceil` of :math:`n` rows
        [1]_ [2]_ [3]_. An error counts as far as it would remain of the members' average.

        Where no row was held out, the errors on the training rows are taken, multiplied by what the
        criterion that selected the size says of new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        coverage : float in (0, 1), default=0.9
            The share of new rows, of each output, whose target is to be inside: rows that come
            from where the training rows came from, and on average over them.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Low and high, `predict` in the middle. They never reach farther from it than the range
            of the training targets and a fifth more, which is also what they do where there are too
            few rows for the coverage.

        Raises
        ------
        ValueError
            If ``coverage`` is not between 0 and 1, or if no row was held out and the loss is not
            the squared error.

        References
        ----------
        .. [1] R. F. Barber, E. J. Candès, A. Ramdas and R. J. Tibshirani, "Predictive inference
           with the jackknife+", Annals of Statistics 49, 2021.
        .. [2] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial
           Intelligence 74, 2015.
        .. [3] H. Papadopoulos, V. Vovk and A. Gammerman, "Regression conformal prediction with
           nearest neighbours", Journal of Artificial Intelligence Research 40, 2011.
        """
        check_is_fitted(self)
        ensemble, intervals = self._ensemble, self._intervals
        predictor = ensemble.network.predictor
        if intervals is None:
            raise ValueError(
                "predict_interval requires rows that members held out, or the squared error as "
                "loss: set validation_fraction, or fit rows of a total weight of 40 or more."
            )

        def of_block(inputs: torch.Tensor) -> torch.Tensor:
            (heads,) = predictor.blocks(lambda _: inputs, inputs.shape[1], inputs.shape[1])
            half = intervals.half_width(inputs, ensemble.members(heads), coverage)
            return torch.cat([ensemble.combine(heads), half])

        def evaluate(read: Callable[[slice], torch.Tensor], n: int, size: int) -> torch.Tensor:
            blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
            return torch.cat([of_block(read(block)) for block in blocks], dim=1)

        middle, half = np.hsplit(self._evaluate(X, evaluate), 2)
        middle = np.clip(self._in_units(middle), *self._range)
        half *= self._scale
        interval = np.stack([middle - half, middle + half], axis=-1)
        return interval[:, 0] if self._single_output else interval

    def _fit_intervals(
        self, held_out: HeldOut, members: list[Evolution], loss: Loss
    ) -> Intervals | None:
        """Return what intervals are made of; None if nothing is known of the errors on new rows."""
        inflation = None
        if held_out.holder is None:
            if not isinstance(loss, SquaredError):
                return None
            best = [member.history[member.best_generation] for member in members]
            inflation = torch.tensor(
                [(new.validation_loss / new.loss) ** 0.5 if new.loss > 0 else 1.0 for new in best]
            )
        low, high = (
            torch.from_numpy((part - self._mean) / self._scale)[:, None] for part in self._range
        )
        return fit_intervals(held_out, (low, high), inflation)

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
        return self._in_units(super()._output(X))

    def _in_units(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring an output to the target's units, in place."""
        # In double precision: the mean may be many times the deviation.
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
