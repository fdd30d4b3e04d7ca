"""Residuals: what networks leave of the rows, and what noise would make of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .curvature import Curvature
from .heads import coefficients, objective
from .losses import Loss, SquaredError
from .measures import dispersion, mean_loss
from .moments import Moments
from .population import Population
from .rows import HeldRows

__all__ = ["Residuals"]


@dataclass(frozen=True)
class Residuals:
    """What networks leave of rows, in units of the curvature of the loss.

    For squared error everything follows from the moments, without a look at the rows.

    Attributes
    ----------
    rows : HeldRows
        Holding the columns of the population.
    population : Population
    loss : Loss
    moments : Moments or None
        Of the rows; needed for squared error alone.
    """

    rows: HeldRows
    population: Population
    loss: Loss
    moments: Moments | None

    @property
    def summed_square(self) -> Tensor:
        """Sum of squared residuals over rows and outputs, of shape (n_members,)."""
        if not self._from_moments:
            return self.mean_square * self.rows.total_weight
        assert self.moments is not None
        return self.moments.squared_residual(coefficients(self.population))

    @property
    def mean_square(self) -> Tensor:
        """Mean over rows of squared residuals, summed over outputs, of shape (n_members,)."""
        if not self._from_moments:
            return dispersion(self.rows, self.population, self.loss)
        return self.summed_square / self.rows.total_weight

    @property
    def mean_loss(self) -> Tensor:
        """Mean loss, of shape (n_members,)."""
        if self._from_moments:
            return 0.5 * self.mean_square
        return mean_loss(self.rows, self.population, self.loss)

    def objective(self, ridge: Tensor) -> Tensor:
        """Return the penalised summed loss, of shape (n_members,).

        Parameters
        ----------
        ridge : Tensor of shape (n_members, n_columns + 1)
            Diagonal of the penalty.
        """
        if not self._from_moments:
            return objective(self.rows, self.population, self.loss, ridge)
        penalised = (ridge[..., None] * coefficients(self.population).square()).sum(dim=(1, 2))
        return 0.5 * (self.summed_square + penalised)

    def noise(self, model: Curvature) -> Tensor:
        """Return what a column of pure noise lowers the objective by, on average.

        Half the variance of the residual, or 1/2 for log-likelihoods.

        Parameters
        ----------
        model : Curvature
            Of the objective at the heads.

        Returns
        -------
        Tensor of shape (n_members,)
        """
        if self.loss.known_scale:
            return torch.full_like(self.rows.total_weight, 0.5)
        return self.scatter(model)

    def scatter(self, model: Curvature) -> Tensor:
        """Return half the mean squared residual, corrected by what noise has been fitted away.

        It is what noise lowers the quadratic model of the objective by. A bound on the curvature
        makes that less than `noise`: where the fit is confident, many times.
        """
        spent = model.degrees / self.rows.total_weight
        return 0.5 * self.mean_square / (1.0 - spent).clamp(min=0.1)

    @property
    def _from_moments(self) -> bool:
        return isinstance(self.loss, SquaredError)
