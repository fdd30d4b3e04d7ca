"""What both estimators do on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, ClassVar, Self

import dask.base
import torch
from sklearn.base import _clone_parametrized
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted, validate_data

from .._base import BaseEvolving
from .._columns import Encoding
from .._devices import CPU
from .._frames import Levels
from .._rows import TrainingRows
from ..core.nursery import Nursery
from ._cluster import Cluster
from ._collections import gather_raw, lazily, levels_of, outline, read, refuse_other
from ._growing import ClusterNursery
from ._partitions import Partitions

__all__ = ["OnDask"]

# Attributes that are there during a fit, and all that a local model has no use for.
_OF_FIT = ("_cluster", "_raw")
_OF_CLUSTER = (*_OF_FIT, "client")


class OnDask(BaseEvolving):
    """Fit to collections, and predict them lazily."""

    _local: ClassVar[type[BaseEvolving]]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseEvolving._parameter_constraints,
        "client": [HasMethods(["submit", "gather", "compute"]), None],
    }
    _beside_the_model = (*BaseEvolving._beside_the_model, "client")
    client: Any

    def to_local(self) -> Any:
        """Return the fitted model as the estimator for rows in memory.

        It needs no Dask: to be pickled, saved, exported and drawn, and to predict.

        Returns
        -------
        EvolvingRegressor or EvolvingClassifier
        """
        check_is_fitted(self)
        local = self._local.__new__(self._local)
        local.__dict__.update(
            (name, value)
            for name, value in self.__dict__.items()
            # Callbacks may hold collections.
            if name not in _OF_CLUSTER and not name.startswith(("_callback_", "_skl_"))
        )
        return local

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to a file, from which `skevo.load` reads the local estimator.

        Parameters
        ----------
        path : path-like
        """
        self.to_local().save(path)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, without the client."""
        return {**super().__getstate__(), "client": None}

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy with the same client, which cannot be copied."""
        without = copy(self)
        without.client = None
        copied: Self = _clone_parametrized(without)
        copied.client = self.client
        return copied

    # -- fitting -------------------------------------------------------------------------------

    def _fit_collections(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Fit to collections."""
        refuse_other(self._local.__name__, X=X, y=y, sample_weight=sample_weight)
        self._cluster = Cluster(self.client)
        try:
            return self._fit(X, y, sample_weight, (None, None, None))
        finally:
            for name in _OF_FIT:
                self.__dict__.pop(name, None)

    def _take_in(
        self, X: Any, y: Any, sample_weight: Any, known: bool, reset: bool = True
    ) -> TrainingRows:
        """Check rows and weights, on the workers; rows of weight zero are left out."""
        validate_data(self, outline(X), reset=reset, skip_check_array=True)
        self._raw = gather_raw(self._cluster, X, y, sample_weight)
        rows = super()._take_in(X, y, sample_weight, known, reset)
        del self._raw
        if len(rows) < 2:
            raise ValueError(f"X must have at least two rows, got {len(rows)}.")
        return rows

    def _find_levels(self, X: Any) -> Levels:
        """Return the levels of the categorical columns."""
        return levels_of(self._cluster, self._raw, self.categorical_features)

    def _rows(self, X: Any, y: Any, sample_weight: Any, levels: Levels, reset: bool) -> Partitions:
        """Check rows and weights, and return them with codes for levels."""
        name = type(self).__name__
        parts = [
            self._cluster.submit(read, raw, levels, self._numeric_target, name) for raw in self._raw
        ]
        identity = dask.base.tokenize(X, y, sample_weight)
        return Partitions(self._cluster, parts, identity, self.device)

    def _tell(self, rows: TrainingRows) -> Encoding:
        """Raise ValueError: the order that means of the target rest on is that of all rows."""
        column = int(self._encoding.told[0])
        raise ValueError(
            f"categories of more than 255 levels that occur twice require skevo."
            f"{self._local.__name__}; column {column} has "
            f"{len(self._encoding.levels[column])} levels: group or hash them."
        )

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Raise ValueError: the sample that it keeps is in memory."""
        raise ValueError(
            "partial_fit requires rows in memory and the estimator for them: "
            f"to_local() returns the {self._local.__name__}."
        )

    def _check_memory(self, n_rows: int, n_members: int, dtype: torch.dtype) -> None:
        """Do nothing: the rows are elsewhere."""

    @contextmanager
    def _nursery(self, n_rows: int, n_jobs: int) -> Iterator[Nursery]:
        """Provide where the members grow: the workers."""
        yield ClusterNursery(self._cluster, self._operators, self.device)

    def _device(self, n_rows: int) -> torch.device:
        """Return that of what comes back from the workers, which may have others than this."""
        return CPU

    # -- evaluation ----------------------------------------------------------------------------

    def _lazily(self, method: str, X: Any) -> Any:
        """Return what a method of the local estimator gives for a collection."""
        refuse_other(self._local.__name__, X=X)
        return lazily(self.to_local(), method, X)

    def _total(self, function: Any, X: Any, y: Any, sample_weight: Any) -> Any:
        """Return the sum over partitions of what a function of the model and rows returns."""
        refuse_other(self._local.__name__, X=X, y=y, sample_weight=sample_weight)
        cluster = Cluster(self.client)
        model = cluster.share(self.to_local())
        raw = gather_raw(cluster, X, y, sample_weight)
        return cluster.total([cluster.submit(function, part, model) for part in raw])
