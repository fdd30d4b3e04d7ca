r"""Limited targets: squared error where targets have a floor or a ceiling.

Predictions end where targets do, see `skevo.core.ranges.target_range`. So an output beyond a
ceiling :math:`h` predicts a row at the ceiling as well as :math:`h` itself does, and what it misses
is

.. math:: \tfrac12 (\min(f_i, h) - h)^2 ,

which is nothing from :math:`h` on; at a floor the other way round. The sum over rows is convex, but
no longer quadratic. Working targets :math:`t_i = \max(f_i, h)`, taken at the present output
:math:`f_i`, make it so: squared error of them is nowhere below it and touches it at the present
heads, so that what lowers one lowers the other, too [1]_. All that squared error can do with
moments stays as it is.

Within the limits it is squared error, and a mean is never beyond them: what minimises the expected
loss is still the conditional mean, not what lies behind the limits as in tobit regression [2]_.

References
----------
.. [1] K. Lange, D. R. Hunter and I. Yang, "Optimization transfer using surrogate objective
   functions", Journal of Computational and Graphical Statistics 9, 2000.
.. [2] J. Tobin, "Estimation of relationships for limited dependent variables", Econometrica 26,
   1958.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from .losses import Loss, SquaredError
from .population import Population
from .rows import Block, RowSource, Sums

__all__ = ["LimitedSquaredError", "WorkingRows"]


@dataclass(frozen=True)
class LimitedSquaredError(SquaredError):
    """Half the squared error, but of outputs beyond a limit where the target is at that limit.

    Attributes
    ----------
    low, high : tuple of float, n_outputs of them
        The lowest and the highest target, where they are a floor or a ceiling; else infinite.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def working(self, output: Tensor, target: Tensor) -> Tensor:
        """Return targets that have moved along with outputs beyond the limits.

        Parameters
        ----------
        output : Tensor of shape (..., n_outputs, n_samples)
        target : Tensor of shape (..., n_outputs, n_samples)
            Which may have moved already.
        """
        low, high = (target.new_tensor(ends)[:, None] for ends in (self.low, self.high))
        target = target.clamp(low, high)
        above = torch.where(target >= high, torch.maximum(output, target), target)
        return torch.where(target <= low, torch.minimum(output, target), above)

    def value(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample."""
        return super().value(output, self.working(output, target))

    def residual(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative gradient."""
        return super().residual(output, self.working(output, target))

    def beyond(self, base: Tensor, target: Tensor) -> tuple[Loss, Tensor]:
        """Return the squared error of what is added to a fixed output."""
        return SquaredError().beyond(base, self.working(base, target))


class WorkingRows:
    """Rows of a source, with the working targets of a population.

    Parameters
    ----------
    source : RowSource
        With the columns of the population.
    population : Population
    loss : LimitedSquaredError
    """

    def __init__(
        self, source: RowSource, population: Population, loss: LimitedSquaredError
    ) -> None:
        self._source, self._population, self._loss = source, population, loss
        self.total_weight = source.total_weight

    def reduce(self, function: Callable[[Block], Sums]) -> Sums:
        """Return the sum over blocks of each tensor that ``function(block)`` returns."""
        # Without the source, which may not travel to where the rows are.
        return self._source.reduce(partial(_of_working, function, self._population, self._loss))


def _of_working(
    function: Callable[[Block], Sums],
    population: Population,
    loss: LimitedSquaredError,
    block: Block,
) -> Sums:
    target = loss.working(population.output(block.columns), block.target)
    return function(replace(block, target=target))
