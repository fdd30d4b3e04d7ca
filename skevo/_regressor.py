"""The regressor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted

from ._base import BaseEvolving
from ._callbacks import with_callbacks
from ._docstring import describe
from ._fitting import Goal
from ._rows import TrainingRows
from ._signature import adds_to
from ._target import (
    TargetRange,
    TargetUnits,
    columns_of,
    logarithmic,
    pinball,
    squared_error,
    standard,
    summed_loss_of_mean,
)
from .core.conformal import Intervals, fit_intervals
from .core.course import Evolution
from .core.deviances import Deviance, GammaDeviance, PoissonDeviance
from .core.ensemble import Ensemble
from .core.held_out import HeldOut
from .core.losses import Loss, SquaredError, TorchLoss
from .core.network import Network
from .core.pinball import huber, quantile_loss

__all__ = ["EvolvingRegressor"]


@describe(
    summary="""
    Regression with networks that change their topology while they train.
    """,
    members="""
        ``"auto"`` is 8, and more of 48 to 266 rows, where each takes little time: as many as have
        2,400 rows together, at most 24, and at most one for three rows. It is 8 where no fold is
        held out, with ``partial_fit`` and with ``solver="adam"``.
    """,
    loss="""
    loss : str or callable, default="auto"
        What is minimised:

        - ``"squared_error"``, which ``"auto"`` stands for, predicts the mean; where a hundredth of
          the rows have the lowest or the highest target, a floor or a ceiling, outputs beyond count
          as if they were there, as predictions do;
        - ``"absolute_error"`` the median;
        - ``"huber"`` something between the two: errors beyond 1.345 times their robust standard
          deviation (the median absolute error over 0.6745) count by their size, not its square;
        - ``"quantile"`` the ``quantile``;
        - ``"poisson"`` and ``"gamma"`` the mean, by its logarithm, of counts or amounts whose
          variance grows with the mean or its square; ``y`` must not be negative, or must be
          positive;
        - a callable is any torch loss ``loss(prediction, target)`` of tensors of shape (n_samples,)
          or (n_samples, n_outputs), in the units of ``y``; it returns one value per sample, or
          their mean.
    quantile : float in (0, 1), default=None
        Which quantile ``loss="quantile"`` predicts.
    """,
    fitted="""
    """,
    history="""
        The losses are relative to that of the best constant: squared errors to the variance (so one
        minus R2), absolute errors (of ``"huber"`` too), pinball losses and deviances likewise (one
        minus D2). Of a callable loss they are its values.
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
    _most_members: ClassVar[int] = 24
    _patience: ClassVar[tuple[tuple[int, int], tuple[int, int]]] = (10, 0), (7, 45)
    _units: TargetUnits
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseEvolving._parameter_constraints,
        "loss": [
            StrOptions(
                {"auto", "squared_error", "absolute_error", "huber", "quantile", "poisson", "gamma"}
            ),
            callable,
        ],
        "quantile": [Interval(Real, 0, 1, closed="neither"), None],
    }

    @adds_to(BaseEvolving)
    def __init__(self, *, quantile: float | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.quantile = quantile

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
        EvolvingRegressor
            Itself.

        Raises
        ------
        ValueError
            If the rows or a parameter are not what is required.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> EvolvingRegressor:
        """Take in more rows, and grow the networks by a generation.

        The first call fits how columns are encoded and scaled. The model keeps a uniform sample of
        at most 20,000 rows of all that have come, and each call grows one generation on it, from
        the networks as they are. So the order of rows does not matter, and no row is forgotten for
        having come early. After `fit` it goes on from its networks, with a new sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        EvolvingRegressor
            Itself. ``n_iter_`` counts generations, and ``history_`` is that of the last call.
        """
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict the targets of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            They leave the range of the training targets by a tenth of it at most; with four members
            or more by up to all of it, the more of the variance on held-out rows is explained: a
            tenth down from an R2 of 0.9, all from 0.99 on. They end at the lowest or the highest
            target where five rows or more have it; with a log link they leave the range by a tenth,
            and are positive.
        """
        output = self._output(X)
        output = self._units.predictions(output)
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
            Low and high, `predict` in the middle. They never reach farther from it than the lowest
            and the highest that `predict` can return are apart, which is also what they do where
            there are too few rows for the coverage.

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
                "loss, and a model that select has not made smaller: set validation_fraction, or "
                "fit rows of a total weight of 40 or more."
            )

        units = self._units

        def of_block(inputs: torch.Tensor) -> torch.Tensor:
            (heads,) = predictor.blocks(
                lambda rows: inputs[:, rows], inputs.shape[1], inputs.shape[1]
            )
            members = units.values(ensemble.members(heads))
            half = intervals.half_width(inputs, members, coverage)
            return torch.cat([ensemble.combine(heads), half])

        def evaluate(read: Callable[[slice], torch.Tensor], n: int, size: int) -> torch.Tensor:
            blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
            return torch.cat([of_block(read(block)) for block in blocks], dim=1)

        output, half = np.hsplit(self._evaluate(X, evaluate), 2)
        middle = units.predictions(self._in_units(output))
        half *= units.scale
        interval = np.stack([middle - half, middle + half], axis=-1)
        return interval[:, 0] if self._single_output else interval

    def _prepare(self, rows: TrainingRows, known: bool = False) -> Goal:
        """Learn the units of the targets, and return the loss in the network's units."""
        found = rows.sum(TargetRange.of)
        self._single_output = found.single
        self._check_targets(found.low)
        self._units = self._target_units(rows, found)
        return Goal(self._loss(rows, found), found)

    def _loss(self, rows: TrainingRows, found: TargetRange) -> Loss:
        """Return the loss in the network's units."""
        if self.loss in ("poisson", "gamma"):
            return self._deviance(rows, found)
        if self.loss in ("auto", "squared_error"):
            return squared_error(found, self._units)
        return self._torch_loss(self._units, len(rows))

    def _in_user_units(self, y: NDArray[Any]) -> NDArray[np.float64]:
        """Return targets as they were passed."""
        return columns_of(y)

    def _check_targets(self, lowest: NDArray[np.float64]) -> None:
        """Raise ValueError if the loss cannot be had of targets, given the lowest of each."""
        if self.loss == "poisson" and not (lowest >= 0).all():
            raise ValueError("loss='poisson' requires non-negative y and sum(y) > 0.")
        if self.loss == "gamma" and not (lowest > 0).all():
            raise ValueError("loss='gamma' requires strictly positive y.")

    def _target_units(self, rows: TrainingRows, found: TargetRange) -> TargetUnits:
        """Return the units to work in."""
        if self.loss == "quantile":
            if self.quantile is None:
                raise ValueError("quantile must be set when loss='quantile', got None.")
            return pinball(rows, found, self.quantile)
        if self.loss in ("absolute_error", "huber"):
            return pinball(rows, found, 0.5)
        if self.loss == "poisson" and not (found.high > 0).all():
            raise ValueError("loss='poisson' requires non-negative y and sum(y) > 0.")
        if self.loss in ("poisson", "gamma"):
            return logarithmic(found)
        return standard(rows, found)

    @property
    def _n_outputs(self) -> int:
        """Outputs of a network."""
        return len(self._units.low)

    @property
    def _as_targets(self) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
        """What brings targets to the network's units."""
        return self._units.of

    def _check_given(self, y: NDArray[Any]) -> None:
        """Raise ValueError if targets are none that members can be judged by."""
        target = columns_of(y)
        if y.ndim != (1 if self._single_output else 2) or target.shape[1] != self._n_outputs:
            raise ValueError(
                f"y_val must have the outputs of y, {self._n_outputs}, got shape {y.shape}."
            )
        self._check_targets(target.min(axis=0))

    def _finish(
        self, ensemble: Ensemble, held_out: HeldOut, members: Sequence[Evolution], goal: Goal
    ) -> Ensemble:
        """Measure what intervals are made of, and how far predictions may go.

        Where nothing is known of errors on new rows there are no intervals.
        """
        self._intervals: Intervals | None = None
        inflation = None
        if held_out.holder is None:
            if not isinstance(goal.loss, SquaredError):
                return ensemble
            best = [member.history[member.best_generation] for member in members]
            inflation = torch.tensor(
                [(new.validation_loss / new.loss) ** 0.5 if new.loss > 0 else 1.0 for new in best]
            )
        held_out = replace(held_out, outputs=self._units.values(held_out.outputs))
        assert goal.targets is not None
        self._units = self._units.trusted(goal.targets, held_out, inflation)
        self._intervals = fit_intervals(held_out, self._units.limits, inflation)
        return ensemble

    def _torch_loss(self, units: TargetUnits, n_rows: int) -> Loss:
        """Return the loss of targets in the network's units, where all rows have the same."""
        if callable(self.loss):
            dtype, device = self._torch_dtype(n_rows), self._device(n_rows)
            shift, factor = (
                torch.as_tensor(part, dtype=dtype, device=device)[:, None]
                for part in (units.shift, units.scale)
            )
            return TorchLoss(self.loss, shift, factor)
        if self.loss == "quantile":
            assert self.quantile is not None
            return quantile_loss(self.quantile)
        return huber() if self.loss == "huber" else quantile_loss(0.5)

    def _deviance(self, rows: TrainingRows, found: TargetRange) -> Deviance:
        """Return the deviance of targets in the network's units."""
        low, high = ((limit - self._units.offset) for limit in (self._units.low, self._units.high))
        deviance = (PoissonDeviance if self.loss == "poisson" else GammaDeviance)(
            float(low.min()), float(high.max())
        )
        total = rows.sum(partial(summed_loss_of_mean, loss=deviance, units=self._units))
        return replace(deviance, constant=float(total / found.weight) or 1.0)

    def _output(self, X: Any) -> NDArray[np.float64]:
        """Evaluate the network on new rows, in the target's units or their logarithm."""
        return self._in_units(super()._output(X))

    def _in_units(self, output: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring an output to the target's units or their logarithm, in place."""
        # In double precision: the mean may be many times the deviation.
        output *= self._units.factor
        output += self._units.offset
        return output

    def _response(self, X: Any) -> NDArray[np.float64]:
        """Return predictions or their logarithm, of shape (n_samples, n_outputs)."""
        return np.clip(self._output(X), self._units.low, self._units.high)

    def _network_in_units(self) -> Network:
        """Return the network with its outputs in the target's units, or their logarithm."""
        network = self._ensemble.network.to(dtype=torch.float64)
        n_heads = len(network.bias)
        factor, shift = (
            torch.as_tensor(np.resize(part, n_heads)).to(network.weight)
            for part in (self._units.factor, self._units.offset)
        )
        # A correction is added to an average that has the mean already.
        shift[self._ensemble.n_members * self._ensemble.n_outputs :] = 0.0
        return replace(
            network, weight=network.weight * factor[:, None], bias=network.bias * factor + shift
        )

    def _limits_in_units(self) -> NDArray[np.float64]:
        """Return what the correction is clipped to, in the target's units."""
        return super()._limits_in_units() * self._units.factor

    def _target_names(self) -> list[str]:
        """Return what the formula calls the targets."""
        return ["y"] if self._single_output else [f"y{k}" for k in range(len(self._units.low))]

    def _output_names(self) -> list[str]:
        """Return what the formula calls the outputs."""
        names = self._target_names()
        return [f"log({name})" for name in names] if self._units.log else names
