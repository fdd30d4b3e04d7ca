"""The classifier for rows on a Dask cluster."""

from __future__ import annotations

from typing import Any, ClassVar

from sklearn.base import _fit_context

from .._callbacks import with_callbacks
from .._classifier import EvolvingClassifier
from .._signature import adds_to
from ._base import OnDask
from ._scores import Hits

__all__ = ["DaskEvolvingClassifier"]


class DaskEvolvingClassifier(OnDask, EvolvingClassifier):
    """`EvolvingClassifier` for rows on a Dask cluster.

    The model is that of the local estimator on the same rows, for any number of partitions. Rows
    stay on the workers: each generation sends some kilobytes for each member, whatever their
    number.

    Parameters
    ----------
    client : distributed.Client, default=None
        The client of the cluster; the default one if None.
    **common
        All other parameters are those of `EvolvingClassifier`. ``n_jobs`` is of no use: members
        grow on workers of their own.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_nodes_, n_parameters_, history_, formula_
        And all others of a fitted `EvolvingClassifier`.

    See Also
    --------
    skevo.EvolvingClassifier

    Examples
    --------
    >>> import dask.array as da
    >>> from distributed import Client, LocalCluster
    >>> from skevo.dask import DaskEvolvingClassifier
    >>> cluster = LocalCluster(n_workers=1, processes=False, dashboard_address=":0")
    >>> client = Client(cluster)
    >>> X = da.random.default_rng(0).normal(size=(600, 3), chunks=(200, 3))
    >>> y = X[:, 0] * X[:, 1] > 0
    >>> model = DaskEvolvingClassifier(n_members=2, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    >>> model.predict_proba(X).chunks
    ((200, 200, 200), (2,))
    >>> client.close(); cluster.close()
    """

    _local: ClassVar = EvolvingClassifier
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **EvolvingClassifier._parameter_constraints,
        "client": OnDask._parameter_constraints["client"],
    }

    @adds_to(EvolvingClassifier)
    def __init__(self, *, client: Any = None, **common: Any) -> None:
        super().__init__(**common)
        self.client = client

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DaskEvolvingClassifier:
        """Grow the networks.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)
            Partitions may be of unknown, unequal or no length.
        y : dask Array or Series of shape (n_samples,)
            With the partitions of ``X``.
        sample_weight : dask Array or Series of shape (n_samples,), default=None

        Returns
        -------
        DaskEvolvingClassifier
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
        """Return the most probable class of rows, lazily.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        dask Array of shape (n_samples,)
            Of a DataFrame a Series with the same index.
        """
        return self._lazily("predict", X)

    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities of rows, lazily.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        dask Array of shape (n_samples, n_classes)
            Of a DataFrame a DataFrame with the same index.
        """
        return self._lazily("predict_proba", X)

    def decision_function(self, X: Any) -> Any:
        """Return log-odds of rows, lazily.

        Parameters
        ----------
        X : dask Array or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        dask Array of shape (n_samples,) or (n_samples, n_classes)
            Of a DataFrame a Series or DataFrame with the same index.
        """
        return self._lazily("decision_function", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows whose predicted class is right.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.

        Returns
        -------
        float
        """
        hits: Hits = self._total(Hits.of, X, y, sample_weight)
        return hits.accuracy
