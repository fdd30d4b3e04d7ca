"""A fitted model as a torch module that can be trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._columns import Encoding
from .._frames import read_codes
from .._preprocessing import KNEE, Scaling
from .._target import TargetUnits
from ..core.ensemble import Ensemble
from ..core.layer import EvolvingLayer
from ..core.statistics import midmean

__all__ = ["TorchModel"]


class TorchModel(nn.Module):
    """The function of a fitted estimator, with its constants and heads as parameters.

    Topology, scaling and what stands for missing cells are buffers. Weights that are zero stay so:
    a member does not begin to hear the nodes of the others. In training mode predictions are not
    clipped, which would stop their gradient.

    Parameters
    ----------
    encoding : Encoding
    scaling : Scaling
    ensemble : Ensemble
    units : TargetUnits or None
        None for log-odds.
    single : bool
        Whether there is one number per row.

    Notes
    -----
    **Shape.** Input ``(n_samples, n_features)``: numbers, NaN where a cell is missing, and codes of
    levels, as `read` gives them. Output ``(n_samples,)`` or ``(n_samples, n_outputs)``: predictions
    of a regressor; of a classifier log-odds of the second of two classes, or one per class.
    """

    heard: Tensor
    numeric: Tensor
    fill: Tensor
    missing: Tensor
    column: Tensor
    level: Tensor
    shift: Tensor
    spread: Tensor
    offset: Tensor
    least: Tensor
    most: Tensor
    target_factor: Tensor
    target_offset: Tensor
    target_low: Tensor
    target_high: Tensor

    def __init__(
        self,
        encoding: Encoding,
        scaling: Scaling,
        ensemble: Ensemble,
        units: TargetUnits | None,
        single: bool,
    ) -> None:
        super().__init__()
        self.levels = encoding.levels
        self.n_members = ensemble.n_members
        self.n_outputs = ensemble.n_outputs
        self.single = single
        self.layer = EvolvingLayer.from_network(ensemble.network)
        self._keep(heard=ensemble.network.weight != 0)
        self._keep(numeric=encoding.numeric, fill=encoding.fill[:, None], missing=encoding.missing)
        self.told = encoding.told.tolist()
        for column, means in zip(self.told, encoding.means, strict=True):
            self._keep(**{f"means_{column}": means})
        self._keep(column=encoding.shown[:, 0], level=encoding.shown[:, 1:])
        self.draws_in = scaling.draws_in
        shift = scaling.center * (scaling.offset == 0.0)
        for name, part in (
            ("shift", shift),
            ("spread", scaling.spread),
            ("offset", scaling.offset),
        ):
            self._keep(**{name: part[:, None]})
        if ensemble.limits is not None:
            self._keep(least=ensemble.limits[0], most=ensemble.limits[1])
        self.has_rest = ensemble.limits is not None
        self.has_units = units is not None
        self.log = units is not None and units.log
        if units is not None:
            for name in ("factor", "offset", "low", "high"):
                self._keep(**{f"target_{name}": getattr(units, name)})

    def read(self, X: Any) -> Tensor:
        """Return a table as a tensor of numbers and codes of levels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_features)
        """
        return torch.from_numpy(read_codes(X, self.levels)).to(self.spread)

    def forward(self, x: Tensor) -> Tensor:
        """Return predictions or log-odds.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples,) or (n_samples, n_outputs)
        """
        columns = self.layer.columns(self._scaled(x.T).T.to(self.layer.weight.dtype))
        heads = nn.functional.linear(columns, self.layer.weight * self.heard, self.layer.bias).T
        n_average = self.n_members * self.n_outputs
        output = midmean(heads[:n_average].unflatten(0, (self.n_members, self.n_outputs)))
        if self.has_rest:
            output = output + heads[n_average:].clamp(self.least, self.most)
        result = output.T
        if self.has_units:
            result = result.to(self.spread.dtype) * self.target_factor + self.target_offset
            if not self.training:
                result = result.clamp(self.target_low, self.target_high)
            result = result.exp() if self.log else result
        return result[:, 0] if self.single else result

    def _scaled(self, cells: Tensor) -> Tensor:
        """Encode and scale cells of shape (n_features, n_samples); see `Encoding`, `Scaling`."""
        cells = cells.to(self.spread.dtype)
        numbers = cells[self.numeric]
        parts = (
            torch.where(numbers.isnan(), self.fill, numbers),
            cells[self.missing].isnan().to(cells.dtype),
            (cells[self.column] == self.level).to(cells.dtype),
            *(self._means(column, cells[column]) for column in self.told),
        )
        scaled = (torch.cat(parts) - self.shift) / self.spread
        if not self.draws_in:
            return scaled
        distance = scaled - self.offset
        near = torch.minimum(torch.maximum(scaled, self.offset - KNEE), self.offset + KNEE)
        above, below = ((far.clamp(min=KNEE) - (KNEE - 1.0)).log() for far in (distance, -distance))
        return near + above - below

    def _means(self, column: int, codes: Tensor) -> Tensor:
        """Return what is said for the levels of a column, of shape (n_outputs, n_samples)."""
        means = getattr(self, f"means_{column}")
        n_levels = means.shape[1] - 2
        place = torch.where(codes < 0, n_levels + 1, codes.nan_to_num(nan=float(n_levels)))
        return means[:, place.long()]

    def _keep(self, **buffers: Any) -> None:
        for name, value in buffers.items():
            is_tensor = isinstance(value, Tensor)
            self.register_buffer(name, value.clone() if is_tensor else torch.tensor(value))
