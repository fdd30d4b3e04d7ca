"""Summaries: what is known of a row source as a whole, kept up as columns come and go."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .curvature import Curvature
from .heads import penalty_for, quadratic_model
from .losses import Loss
from .moments import Moments, Products, extend_moments, measure_moments, with_targets
from .population import Population
from .rows import HeldRows

__all__ = ["Summary", "SummaryState"]


class SummaryState(NamedTuple):
    """What is known of some rows; None where it is not.

    Attributes
    ----------
    moments : Moments or None
    factor : Curvature or None
    """

    moments: Moments | None
    factor: Curvature | None


class Summary:
    """Moments and factorised curvature of rows that hold the columns of a population.

    Parameters
    ----------
    rows : HeldRows
    loss : Loss

    Attributes
    ----------
    factor : Curvature or None
        That of the present columns and penalty, at whatever heads, if it is known; always None for
        losses without one curvature, which moves with the heads.
    loss : Loss
    """

    def __init__(self, rows: HeldRows, loss: Loss) -> None:
        self.rows = rows
        self.factor: Curvature | None = None
        self.loss = loss
        self._moments: Moments | None = None

    @property
    def moments(self) -> Moments:
        """Moments of the columns that the rows hold."""
        if self._moments is None:
            self._moments = measure_moments(self.rows)
        return self._moments

    @property
    def known(self) -> bool:
        """Whether anything has been measured yet."""
        return self._moments is not None

    def model(self, population: Population, alpha: Tensor) -> Curvature:
        """Return the quadratic model of the objective.

        Parameters
        ----------
        population : Population
            In the dtype of the rows.
        alpha : Tensor of shape (n_members,)
            Ridge penalty on these rows.
        """
        model = quadratic_model(self.rows, population, self.loss, alpha, self.moments, self.factor)
        self.keep(model)
        return model

    def keep(self, model: Curvature) -> None:
        """Take over a factorisation, if the loss has one that does not depend on the heads."""
        if self.loss.metric is not None:
            self.factor = model

    def replace(self, moments: Moments, model: Curvature) -> None:
        """Take over moments and factorisation."""
        self._moments, self.factor = moments, None
        self.keep(model)

    def retarget(self) -> None:
        """Take in that the targets of the rows differ."""
        if self._moments is not None:
            self._moments = with_targets(self.rows, self._moments)

    def forget(self) -> None:
        """Forget everything: the columns have changed."""
        self._moments = self.factor = None

    def extend(self, alpha: Tensor, products: Products | None = None) -> None:
        """Take in columns that the rows have got since all was measured, under the same penalty.

        Parameters
        ----------
        alpha : Tensor of shape (n_members,)
        products : Products, default=None
            Of the new columns, if they are known.
        """
        if products is None:
            self._moments = extend_moments(self.rows, self.moments)
        else:
            self._moments = self.moments.extended(products)
        if self.factor is not None:
            gram = self._moments.gram
            ridge = penalty_for(self.loss, gram, alpha, self.rows.columns.dtype)
            assert self.loss.metric is not None
            self.factor = self.factor.bordered(self.loss.metric * gram, ridge)

    def without(self, gone: Tensor) -> None:
        """Take out columns that are zero from now on, of shape (n_members, n_columns)."""
        if self._moments is not None:
            self._moments = self._moments.without(gone)
        if self.factor is not None:
            self.factor = self.factor.without(gone)

    def compact(self, kept: Tensor) -> None:
        """Keep some columns of each member, and zero where one is negative."""
        if self._moments is not None:
            self._moments = self._moments.compact(kept)
        if self.factor is not None:
            self.factor = self.factor.compact(kept)

    @property
    def state(self) -> SummaryState:
        """What it takes to go on from here."""
        return SummaryState(self._moments, self.factor)

    @state.setter
    def state(self, state: SummaryState) -> None:
        self._moments, self.factor = state
