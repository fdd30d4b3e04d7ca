"""Path: what a fit went through, from the linear model on, and which part of it to keep."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from .core.course import Evolution
from .core.ensemble import Ensemble
from .core.network import Network

__all__ = ["RULES", "Path", "mean_history", "path_of"]

RULES = ("best", "one-standard-error", "steepest")
# A model that is chosen for its steep gain has at most so many times the lowest loss.
_WORTH = 1.5


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


def mean_history(history: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the history's means over members, of shape (n_generations,), by generation."""
    generation, at, count = np.unique(
        history["generation"], return_inverse=True, return_counts=True
    )
    means = {
        name: np.bincount(at, history[name]) / count
        for name in ("loss", "validation_loss", "n_nodes")
    }
    return {"generation": generation, **means}


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
