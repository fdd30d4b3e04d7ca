"""The regressor for rows on a Dask cluster."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import _fit_context

from .._callbacks import with_callbacks
from .._regressor import EvolvingRegressor
from .._signature import adds_to
from ._base import OnDask
from ._scores import Squares

__all__ = ["DaskEvolvingRegressor"]


class DaskEvolvingRegressor(OnDask, EvolvingRegressor):
    """`EvolvingRegressor` for rows on a Dask cluster.

    The model is that of the local estimator on the same rows, for any number of partitions. Rows
    stay on the workers: each generation sends some kilobytes for each member, whatever their
    number.

    Parameters
    ----------
    client : distributed.Client, default=None
        The client of the cluster; the default one if None.
    **common
        All other parameters are those of `EvolvingRegressor`. ``n_jobs`` is of no use: members grow
        on workers of their own.

    Attributes
    ----------
    n_nodes_, n_parameters_, history_, formula_
        And all others of a fitted `EvolvingRegressor`.

    See Also
    --------
    skevo.EvolvingRegressor

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from skevo.dask import DaskEvolvingRegressor
    >>> cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=":0")
    >>> client = Client(cluster)
    >>> X = da.random.default_rng(0).normal(size=(600, 3), chunks=(200, 3))
    >>> y = X[:, 0] * X[:, 1]
    >>> model = DaskEvolvingRegressor(n_members=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.99)
    True
    >>> model.predict(X)
    dask.array<_call, shape=(600,), dtype=float64, chunksize=(200,), chunktype=numpy.ndarray>
    >>> model.to_local().predict(X[:2].compute()).shape
    (2,)
    >>> client.close(); cluster.close()
    """

    _local: ClassVar = EvolvingRegressor
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **EvolvingRegressor._parameter_constraints,
        "client": OnDask._parameter_constraints["client"],
    }

    @adds_to(EvolvingRegressor)
    def __init__(self, *, client: Any = None, **common: Any) -> None:
        super().__init__(**common)
        self.client = client

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DaskEvolvingRegressor:
        """Grow the networks.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Partitions may be of unknown, unequal or no length.
        y : dask Array, Series or DataFrame of shape (n_samples,) or (n_samples, n_outputs)
            With the partitions of ``X``.
        sample_weight : dask Array or Series of shape (n_samples,), default=None

        Returns
        -------
        DaskEvolvingRegressor
            Itself.

        Raises
        ------
        TypeError
            If the rows are not those of a Dask collection.
        ValueError
            If they or a parameter are not what is required.
        """
        self._fit_collections(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> Any:
        """Predict the targets of rows, lazily.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        dask Array of shape (n_samples,) or (n_samples, n_outputs)
            Of a DataFrame a Series or DataFrame with the same index.
        """
        return self._lazily("predict", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2 of the predictions, averaged over outputs.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.

        Returns
        -------
        float
        """
        squares: Squares = self._total(Squares.of, X, y, sample_weight)
        return squares.r2
