"""What the two estimators share: fit, evaluate, show, export, store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ._export import Exports
from ._fitting import Fits
from ._formula import formula_text
from ._html import ShowsHTML
from ._packing import pack_state, unpack_state
from ._path import HasPath
from ._storage import save
from .core.network import Network

__all__ = ["BaseEvolving"]


class BaseEvolving(Fits, HasPath, ShowsHTML, Exports):
    """Evaluation, and all that can be had of a fitted model."""

    def _output(self, X: Any) -> NDArray[np.float64]:
        """Evaluate the network on new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_outputs)
            The interquartile mean of the members, corrected.
        """
        check_is_fitted(self)
        return self._evaluate(X, self._ensemble.output)

    def _evaluate(self, X: Any, function: Callable[..., torch.Tensor]) -> NDArray[np.float64]:
        """Return what a function of the arguments of `Ensemble.output` gives for new rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        function : callable

        Returns
        -------
        ndarray of shape (n_samples, n)
            The transpose of what the function returns.
        """
        X = self._read(X)
        size = self._ensemble.network.predictor.block_size(len(X))
        encoding = self._encoding
        memory = np.empty(size * len(encoding))

        def read(rows: slice) -> torch.Tensor:
            part = encoding(X[rows])
            return torch.from_numpy(self._scaling.columns(part, memory[: part.size]))

        with torch.no_grad():
            output = function(read, len(X), size)
        return output.T.double().numpy(force=True)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, from which `skevo.load` reads it on any device.

        The file is in the safetensors format: numbers and text, nothing that could run. It is
        written whole or not at all. A loaded model does all that a fitted one does, bit by bit on
        the same machine, but that a warm start begins anew, and `partial_fit` goes on from the
        networks with a new sample, for no rows are in the file. A loss of your own is replaced by
        its name, which `fit` refuses; operators of your own are looked up by name when the file is
        loaded. ``init`` and random number generators are replaced by None, with a warning.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        ImportError
            If safetensors is not installed.
        ValueError
            If a category has levels that are neither numbers nor text nor booleans.
        """
        save(self, path)

    def __copy__(self) -> Self:
        """Return a copy that shares what was fitted, without a detour through the stored state."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: a network grown on a GPU loads where there is none."""
        state = super().__getstate__()
        if "_ensemble" in state:
            state = {**state, **pack_state(state)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state that was pickled."""
        super().__setstate__({**state, **unpack_state(state)} if "_ensemble" in state else state)

    @property
    def formula_(self) -> str:
        """The network as text, with the user's column names.

        A line per output or, where there are several members, per output of each and one per
        output that says how they are combined.
        """
        check_is_fitted(self)
        return self._formula(self._column_names())

    def _column_names(self) -> list[str]:
        """Return what the columns of the table are called."""
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return [f"x{column}" for column in range(self.n_features_in_)]
        return [str(name) for name in names]

    def _response(self, X: Any) -> NDArray[np.float64]:
        """Return what contributions sum to, of shape (n_samples, n_outputs)."""
        return self._output(X)

    def _network_in_units(self) -> Network:
        """Return the network whose outputs are what the formula calls them."""
        return self._ensemble.network

    def _limits_in_units(self) -> NDArray[np.float64]:
        """Return what the correction is clipped to, of shape (2, n_outputs)."""
        limits = self._ensemble.limits
        assert limits is not None
        return torch.cat(limits, dim=1).T.double().numpy(force=True)

    def _formula(self, names: Sequence[str]) -> str:
        """Write the network, the columns of the table being called by the given names."""
        names = self._encoding.names(names, self._target_names())
        outputs, network = self._output_names(), self._network_in_units()
        ensemble = self._ensemble
        if ensemble.n_members == 1:
            return formula_text(network, self._scaling, names, outputs)
        heads = [f"{output}[{k}]" for k in range(ensemble.n_members) for output in outputs]
        rests = [f"{output}[rest]" for output in outputs if ensemble.limits is not None]
        text = formula_text(network, self._scaling, names, heads + rests)
        how = "mean" if ensemble.n_members < 4 else "midmean"
        means = [
            f"{output} = {how}({', '.join(heads[k :: len(outputs)])})"
            for k, output in enumerate(outputs)
        ]
        if rests:
            low, high = (limit.tolist() for limit in self._limits_in_units())
            means = [
                f"{mean} + clip({rest}, {a:.4g}, {b:.4g})"
                for mean, rest, a, b in zip(means, rests, low, high, strict=True)
            ]
        return "\n".join([text, *means])
