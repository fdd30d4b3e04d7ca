"""Path: what a fit went through, from the linear model on, and which part of it to keep."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .core.course import Evolution, Stopping
from .core.ensemble import Ensemble
from .core.network import Network

__all__ = ["RULES", "Kept", "Path", "path_of"]

RULES = ("best", "one-standard-error", "steepest")
# A model that is chosen for its steep gain has at most so many times the lowest loss.
_WORTH = 1.5

History = dict[str, NDArray[Any]]


class Path(NamedTuple):
    """The models that the fit would have given, had it stopped after a generation.

    Only generations that changed the model are there. A column each, of shape (n,).

    Attributes
    ----------
    generation : ndarray of int64
    n_nodes : ndarray of int64
        Of all members together.
    loss, validation_loss : ndarray of float64
        Means over the members; see ``history_``.
    standard_error : ndarray of float64
        Of ``validation_loss``.
    """

    generation: NDArray[np.int64]
    n_nodes: NDArray[np.int64]
    loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    standard_error: NDArray[np.float64]

    def choose(self, nodes: int | None, rule: str) -> int:
        """Return the position of the model that a rule chooses.

        Parameters
        ----------
        nodes : int or None
            At most so many; None for any number.
        rule : {"best", "one-standard-error", "steepest"}

        Raises
        ------
        ValueError
            If no model has so few nodes, or the rule needs positive losses.
        """
        if rule not in RULES:
            raise ValueError(f"rule must be one of {RULES}, got {rule!r}.")
        among = np.arange(len(self.n_nodes))
        if nodes is not None:
            among = among[self.n_nodes <= nodes]
            if not len(among):
                raise ValueError(
                    f"nodes must be >= {self.n_nodes.min()}, the smallest model, got {nodes}."
                )
        # The last is the best of those that are left: each was better than all before it.
        best = among[-1]
        if rule == "one-standard-error":
            bar = self.validation_loss[best] + self.standard_error[best]
            among = among[(self.validation_loss[among] <= bar) | (among == best)]
            n_nodes = self.n_nodes[among]
            return int(among[n_nodes == n_nodes.min()][-1])
        if rule == "steepest":
            return self._steepest(among)
        return int(best)

    def _steepest(self, among: NDArray[np.int64]) -> int:
        """Return where the logarithm of the loss falls most per node."""
        loss = self.validation_loss[among]
        if not (loss > 0).all():
            raise ValueError("rule='steepest' requires positive losses.")
        # A model is worth a look if no later one, which is better, has as few nodes.
        n_nodes = self.n_nodes[among]
        fewest_later = np.minimum.accumulate(n_nodes[::-1])[::-1][1:]
        kept = np.append(n_nodes[:-1] < fewest_later, True)
        among, loss, n_nodes = among[kept], loss[kept], n_nodes[kept]
        if len(among) == 1:
            return int(among[0])
        gain = -np.diff(np.log(loss)) / np.diff(n_nodes)
        gain[loss[1:] > _WORTH * loss.min()] = -np.inf
        return int(among[1 + np.argmax(gain)])


def path_of(members: Sequence[Evolution]) -> tuple[Path, list[list[Network]]]:
    """Return the path of members that are combined, and the networks at each of its points."""
    generations = sorted({generation for member in members for generation, _ in member.path})
    lines, networks = [], []
    for generation in generations:
        places = [bisect([own for own, _ in member.path], generation) - 1 for member in members]
        points = [member.path[place] for member, place in zip(members, places, strict=True)]
        records = [member.history[at] for member, (at, _) in zip(members, points, strict=True)]
        networks.append([network for _, network in points])
        n = len(records)
        lines.append(
            (
                generation,
                sum(network.n_nodes for network in networks[-1]),
                sum(record.loss for record in records) / n,
                sum(record.validation_loss for record in records) / n,
                sum(record.standard_error**2 for record in records) ** 0.5 / n,
            )
        )
    return Path(*map(np.array, zip(*lines, strict=True))), networks


class Kept(NamedTuple):
    """What the members have kept by each generation: their best networks so far.

    Each of shape (n_members, n_generations).

    Attributes
    ----------
    generation : ndarray of int64
        The one that the network is of.
    loss, validation_loss : ndarray of float64
        Of the network.
    expected_loss : ndarray of float64
        What it was kept for: the loss that is to be expected of the average of such members. It
        is the validation loss where that alone explains the path.
    n_nodes : ndarray of int64
    """

    generation: NDArray[np.int64]
    loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    expected_loss: NDArray[np.float64]
    n_nodes: NDArray[np.int64]

    @classmethod
    def of(cls, history: History, path: History) -> Self:
        """Return what the members have kept.

        Parameters
        ----------
        history, path : dict of str to ndarray
            See ``history_`` and ``path_`` of the estimators.
        """
        n_members = int(history["member"].max()) + 1
        columns = {
            name: history[name].reshape(n_members, -1)
            for name in ("generation", "loss", "validation_loss", "n_nodes")
        }
        # Where members train on the same rows, the validation loss itself is what counts. Whether
        # they do the path tells, unless it is the same by both; a single point does not.
        plain, at = cls._by(columns, 0.0), path["generation"]
        means = plain.validation_loss.mean(axis=0)[at]
        if len(at) > 1 and np.allclose(means, path["validation_loss"], 1e-9, 0.0, equal_nan=True):
            return plain
        return cls._by(columns, Stopping(n_averaged=n_members).training_share)

    @classmethod
    def _by(cls, columns: History, share: float) -> Self:
        """Return what has been kept with some share of the training loss in the judgement."""
        gap = columns["validation_loss"] - columns["loss"]
        expected = columns["validation_loss"] - share * gap
        # Losses may be unknown.
        judged = np.nan_to_num(expected, nan=np.inf)
        lowest = np.minimum.accumulate(judged, axis=1)
        is_better = np.zeros(judged.shape, dtype=bool)
        is_better[:, 1:] = judged[:, 1:] < lowest[:, :-1]
        best = np.maximum.accumulate(is_better * np.arange(judged.shape[1]), axis=1)
        columns = {**columns, "expected_loss": expected}
        return cls(*(np.take_along_axis(columns[name], best, axis=1) for name in cls._fields))

    def means(self) -> dict[str, NDArray[np.float64]]:
        """Return the means over members, each of shape (n_generations,)."""
        return {name: column.mean(axis=0) for name, column in self._asdict().items()}


class HasPath:
    """What both estimators do with the path of their fit."""

    path_: dict[str, NDArray[Any]]
    n_nodes_: int
    n_parameters_: int
    _path: list[list[Network]]
    _ensemble: Ensemble
    _members: list[Evolution] | None
    _intervals: Any
    _measured: Any

    def select(self, *, nodes: int | None = None, rule: str = "best") -> Self:
        """Return a model of the path that the fit took: a smaller one, without fitting again.

        The path, ``path_``, has the model of each generation that improved on those before: what
        the fit would have given, had it stopped there.

        Parameters
        ----------
        nodes : int, default=None
            At most so many nodes, of all members together. None stands for any number.
        rule : {"best", "one-standard-error", "steepest"}, default="best"
            Of these models, ``"best"`` takes the one whose loss is lowest, and
            ``"one-standard-error"`` the smallest whose validation loss is within a standard error
            of that [1]_. ``"steepest"`` takes the one where the logarithm of the validation loss
            fell most per node, among those with at most 1.5 times the lowest [2]_.

        Returns
        -------
        EvolvingRegressor or EvolvingClassifier
            A copy, without the rest of the path: it takes less to store. Its members are averaged
            without the correction, which is made for the last model of the path alone.

        Raises
        ------
        ValueError
            If no model has so few nodes, or there is no such rule.

        References
        ----------
        .. [1] L. Breiman, J. H. Friedman, R. A. Olshen and C. J. Stone, "Classification and
           regression trees", Wadsworth, 1984, section 3.4.3.
        .. [2] M. Cranmer, "Interpretable machine learning for science with PySR and
           SymbolicRegression.jl", arXiv:2305.01582, 2023.
        """
        check_is_fitted(self)
        place = Path(**self.path_).choose(nodes, rule)
        model = copy(self)
        own = slice(place, place + 1)
        model.path_ = {name: column[own] for name, column in self.path_.items()}
        model._path = self._path[own]
        if place < len(self._path) - 1:
            ensemble = Ensemble.of(self._path[place])
            model._ensemble, model._members = ensemble, None
            model._intervals = model._measured = None
            model.n_nodes_ = ensemble.network.n_nodes
            model.n_parameters_ = ensemble.network.n_parameters
        return model
