"""Explaining a model: contributions to predictions, importances, a table of its terms."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._formula import column_texts
from ._frames import Levels
from ._optional import needed_by
from ._reading import ReadsTables
from .core.attribution import attribute, loss_rises, most_typical
from .core.ensemble import Ensemble
from .core.losses import Loss
from .core.network import Network
from .core.table import AnyTable, every_so_many
from .core.threads import torch_threads

__all__ = ["Contributions", "Explains"]

# Importances are those of at most so many training rows: more would cost a small fit more than a
# fiftieth of its time.
_MOST_ROWS = 500
# Contributions that are in memory at a time.
_MOST_VALUES = 2**22


@dataclass(frozen=True)
class Contributions:
    """What each column or term adds to predictions, compared with a typical row.

    Attributes
    ----------
    by : {"column", "term"}
    names : list of str
        Of the columns, or the expressions of the terms.
    levels : dict of int to tuple
        What the codes of a category stand for, by its position.
    values : ndarray of shape (n_samples, n_terms)
        What each adds.
    cells : ndarray of shape (n_samples, n_terms)
        The cells of the columns, with codes for categories and NaN where one is missing, or what
        the expressions differ by from those of the typical row.
    constant : ndarray of shape (n_samples,)
        What the members that are heard for a row predict for the typical row.
    clipping : ndarray of shape (n_samples,)
        What clipping the correction and the prediction adds: zero for most rows.
    """

    by: str
    names: list[str]
    levels: Levels
    values: NDArray[np.float64]
    cells: NDArray[np.float64]
    constant: NDArray[np.float64]
    clipping: NDArray[np.float64]

    @property
    def prediction(self) -> NDArray[np.float64]:
        """The sum of all, of shape (n_samples,)."""
        return self.constant + self.values.sum(axis=1) + self.clipping


@dataclass(frozen=True)
class Measured:
    """What training rows say of the columns.

    Attributes
    ----------
    importances : ndarray of shape (n_features,)
        Of the columns of the table.
    of_terms : ndarray of shape (n_columns,)
        Importances of the columns of the network.
    distance : ndarray of shape (n_columns,)
        Of the columns of the network from those of the typical row, mean absolute value.
    """

    importances: NDArray[np.float64]
    of_terms: NDArray[np.float64]
    distance: NDArray[np.float64]


class Explains(ReadsTables):
    """What a fitted estimator says of itself."""

    _ensemble: Ensemble
    _measured: Measured | None
    # The inputs of a typical row, of shape (n_inputs,).
    _typical: NDArray[np.float64]

    @abstractmethod
    def _response(self, X: Any) -> NDArray[np.float64]:
        """Return what contributions sum to, of shape (n_samples, n_outputs)."""

    @abstractmethod
    def _network_in_units(self) -> Network:
        """Return the network whose outputs are what the formula calls them."""

    @abstractmethod
    def _limits_in_units(self) -> NDArray[np.float64]:
        """Return what the correction is clipped to, of shape (2, n_outputs)."""

    @abstractmethod
    def _column_names(self) -> list[str]:
        """Return what the columns of the table are called."""

    @abstractmethod
    def _target_names(self) -> list[str]:
        """Return what the targets are called."""

    @abstractmethod
    def _output_names(self) -> list[str]:
        """Return what the outputs are called."""

    # -- contributions -------------------------------------------------------------------------

    def contributions(
        self, X: Any, *, by: str = "column", output: int | None = None
    ) -> Contributions:
        """Return what each column, or each term of the head, adds to the predictions of rows.

        Together with a constant, and with what is clipped, the contributions sum to what
        ``predict`` returns or, of a classifier, ``decision_function``; with a log link, to the
        logarithm of predictions. They compare a row with a typical one, the training row whose
        terms are nearest to their means. A term, which is an input column or a node, contributes
        its weight in the head times its difference from that row. Where several members are
        combined, the weight is the mean of those that are heard for the row, and the correction's
        is added. By column, the contribution of a node is shared out among its operands in
        proportion to their Shapley values, and so on down to the table [1]_. The levels and the
        missing cells of a column count for it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        by : {"column", "term"}, default="column"
            Columns of the table, or terms of the head.
        output : int, default=None
            Which of several outputs, or classes.

        Returns
        -------
        Contributions

        Raises
        ------
        ValueError
            If there are several outputs and none is chosen, or there is no such output.

        References
        ----------
        .. [1] S. M. Lundberg and S.-I. Lee, "A unified approach to interpreting model predictions",
           Advances in Neural Information Processing Systems 30, 2017.
        """
        if by not in ("column", "term"):
            raise ValueError(f"by must be 'column' or 'term', got {by!r}.")
        rows = self._read(X)
        place = self._output_place(output)
        ensemble = self._of_output(place)
        size = max(1, _MOST_VALUES // ensemble.network.topology.n_columns)
        blocks = [
            self._attributed(ensemble, rows[start : start + size], by)
            for start in range(0, len(rows), size)
        ]
        values, cells, constant = (np.concatenate(part) for part in zip(*blocks, strict=True))
        names, levels = self._column_names(), self._encoding.levels
        if by == "term":
            texts = self._texts()
            names, levels = [texts[column][1] for column in self._terms(ensemble)], {}
        clipping = self._response(X)[:, place] - constant - values.sum(axis=1)
        return Contributions(by, names, levels, values, cells, constant, clipping)

    def _attributed(
        self, ensemble: Ensemble, rows: NDArray[np.floating], by: str
    ) -> tuple[NDArray[np.floating], ...]:
        """Return values, cells and constant of `Contributions` for some rows."""
        network = ensemble.network
        columns, typical = network.columns(self._scaled(rows)), network.columns(self._reference)
        found = attribute(ensemble, columns, typical)
        constant = found.constant[0].numpy()
        if by == "column":
            return self._by_source(found.inputs)[0].T.numpy(), rows, constant
        terms = self._terms(ensemble)
        factor = np.array([factor for factor, _ in self._texts()])
        distance = (columns - typical).T.numpy() / factor
        return found.columns[0].T.numpy()[:, terms], distance[:, terms], constant

    def _output_place(self, output: int | None) -> int:
        """Return the position of an output."""
        names = self._output_names()
        if output is None and len(names) == 1:
            return 0
        if output is None or not 0 <= output < len(names):
            known = " or ".join(f"{place} for {name}" for place, name in enumerate(names))
            raise ValueError(f"output must be {known}, got {output}.")
        return output

    def _of_output(self, place: int) -> Ensemble:
        """Return the ensemble for one of the outputs, in its units and in double precision."""
        network, n_outputs = self._network_in_units(), self._ensemble.n_outputs
        own = slice(place, None, n_outputs)
        network = replace(network, weight=network.weight[own], bias=network.bias[own])
        ensemble = Ensemble(network.to("cpu", torch.float64), self._ensemble.n_members, 1)
        if self._ensemble.limits is None:
            return ensemble
        low, high = torch.from_numpy(self._limits_in_units()[:, place, None, None])
        return replace(ensemble, limits=(low, high))

    def _in_double(self) -> Ensemble:
        """Return the ensemble on the CPU and in double precision."""
        ensemble = self._ensemble.to("cpu")
        return replace(ensemble, network=ensemble.network.to(dtype=torch.float64))

    def _scaled(self, rows: NDArray[np.floating]) -> torch.Tensor:
        """Return the inputs of rows, of shape (n_inputs, n_samples)."""
        return torch.from_numpy(self._scaling.columns(self._encoding(rows)))

    @property
    def _reference(self) -> torch.Tensor:
        """The inputs of the typical row, of shape (n_inputs, 1)."""
        return torch.from_numpy(self._typical)[:, None]

    def _by_source(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return contributions of the columns of the table, from those of the inputs."""
        shape = (len(inputs), self._encoding.n_features, inputs.shape[-1])
        sources = torch.from_numpy(self._encoding.sources)
        return inputs.new_zeros(shape).index_add_(1, sources, inputs)

    @staticmethod
    def _terms(ensemble: Ensemble) -> NDArray[np.int64]:
        """Return the columns of the network that the head reads."""
        return np.flatnonzero((ensemble.network.weight != 0).any(dim=0).numpy())

    def _texts(self) -> list[tuple[float, str]]:
        """Return the columns of the network as factors and expressions."""
        return column_texts(self._ensemble.network, self._scaling, self._input_names())

    def _input_names(self) -> list[str]:
        """Return what the columns of the encoded table are called."""
        return self._encoding.names(self._column_names(), self._target_names())

    # -- importances ---------------------------------------------------------------------------

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """How much the loss rises when a column's contributions are replaced by their mean.

        The rise is exact, in the units of ``history_``, for the contributions that `contributions`
        describes. It is measured at the end of the fit on the training rows, or on 500 of them. It
        does not sum to 1, and is negative for a column that harms.
        """
        return self._known().importances

    def nodes_table(self, *, output: int | None = None) -> Any:
        """Return the terms of the head as a table: input columns, and nodes by level.

        Parameters
        ----------
        output : int, default=None
            Which of several outputs, or classes.

        Returns
        -------
        pandas.DataFrame
            A line per term, the largest contribution first. ``expression`` is the term in columns
            of the table, ``level`` is 0 for an input and else the length of the longest path from
            one, and ``weight`` what the expression is multiplied with: the mean of the members, and
            the correction. ``contribution`` is the mean absolute contribution to the output,
            compared with a typical row, and ``importance`` what the loss, of all outputs,
            rises when the contributions are replaced by their mean, both on training rows; NaN for
            a model that `select` returned.
        """
        with needed_by("Tables of terms", "frames"):
            import pandas as pd

        check_is_fitted(self)
        network = self._mean_network(self._output_place(output))
        n_inputs, weight = network.topology.n_inputs, network.weight[0].numpy()
        texts = self._texts()
        unknown = np.full(network.topology.n_columns, np.nan)
        measured = getattr(self, "_measured", None) or Measured(unknown, unknown, unknown)
        table = pd.DataFrame(
            {
                "expression": [text for _, text in texts],
                "level": np.append(np.zeros(n_inputs, dtype=int), network.topology.levels),
                "weight": weight * [factor for factor, _ in texts],
                "contribution": np.abs(weight) * measured.distance,
                "importance": measured.of_terms,
            }
        )
        # By weight on scaled columns, where contributions are not known.
        shown = np.flatnonzero(weight)
        table = table.iloc[shown[np.argsort(-np.abs(weight[shown]), kind="stable")]]
        return table.sort_values("contribution", ascending=False, kind="stable", ignore_index=True)

    def _mean_network(self, place: int) -> Network:
        """Return the network with one output, in units: the mean of the members, corrected."""
        ensemble = self._of_output(place)
        n_members, network = ensemble.n_members, ensemble.network
        weight, bias = (
            part[:n_members].mean(dim=0, keepdim=True) + part[n_members:].sum(dim=0)
            for part in (network.weight, network.bias)
        )
        return replace(network, weight=weight, bias=bias)

    def _known(self) -> Measured:
        """Return what was measured in the fit."""
        check_is_fitted(self)
        measured = getattr(self, "_measured", None)
        if measured is None:
            raise AttributeError(
                "feature_importances_ are measured at the end of a fit; a model that select() "
                "returned has none. sklearn.inspection.permutation_importance measures any model."
            )
        return measured

    def _measure(self, table: AnyTable, loss: Loss) -> None:
        """Find a typical row, and measure the columns, on some of the training rows.

        Parameters
        ----------
        table : AnyTable
            The training rows.
        loss : Loss
        """
        like, n_outputs = self._ensemble.network.weight, self._ensemble.n_outputs
        n_rows = max(1, min(_MOST_ROWS, _MOST_VALUES // (n_outputs * like.shape[1])))
        some = table.take(every_so_many(len(table), n_rows))
        inputs, target, weight = (
            part.to("cpu", torch.float64) for part in (some.inputs[:, :], some.target, some.weight)
        )
        # Several threads would show in the last bits.
        with torch_threads(1):
            ensemble = self._in_double()
            columns = ensemble.network.columns(inputs)
            place = most_typical(ensemble.network, columns)
            typical = columns[:, place, None]
            found = attribute(ensemble, columns, typical)

            def rises(contributions: torch.Tensor) -> NDArray[np.float64]:
                # A loss may have tensors of its own.
                parts = (part.to(like) for part in (found.output, target, weight, contributions))
                rise = loss_rises(loss, *parts).tolist()
                return np.array([loss.reported(value, n_outputs) for value in rise])

            distance = np.average((columns - typical).abs(), axis=1, weights=weight)
            self._measured = Measured(
                rises(self._by_source(found.inputs)), rises(found.columns), distance
            )
        self._typical = inputs[:, place].numpy().copy()
