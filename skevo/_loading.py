"""Loading: models from files.

Whatever is read is checked, so that a file that was made up gives an error and not a model that
fails later. What it names is looked up, never imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ._classifier import EvolvingClassifier
from ._columns import Encoding
from ._container import ModelFileError, read_container
from ._explain import Measured
from ._packing import take, unpack_ensemble, unpack_path
from ._preprocessing import Scaling
from ._regressor import EvolvingRegressor
from ._storage import HISTORY, PATH, VERSION, check_numbers
from ._target import TargetUnits
from ._values import from_json
from .core.conformal import Intervals
from .core.difficulty import Difficulty
from .core.operators import Operator, get_operators
from .core.selection import MOST_INPUTS

__all__ = ["load"]

_ESTIMATORS = {cls.__name__: cls for cls in (EvolvingRegressor, EvolvingClassifier)}
# Parameters that constructors had when files were written, and no model depended on.
_GONE = {"block_size"}
# What anything made up can run into.
_MISFITS = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip

Arrays = Mapping[str, NDArray[Any]]


def load(
    path: str | os.PathLike[str], *, operators: Sequence[Operator] = ()
) -> EvolvingRegressor | EvolvingClassifier:
    """Return the model that was saved to a file; nothing in the file is run.

    Parameters
    ----------
    path : path-like
        What `EvolvingRegressor.save` or `EvolvingClassifier.save` wrote, on any device.
    operators : sequence of Operator, default=()
        Operators of your own that the model has and that are not registered, under the names that
        they had.

    Returns
    -------
    EvolvingRegressor or EvolvingClassifier
        On the CPU. It predicts what the saved one did, bit by bit on the same machine.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is no model, damaged or of a newer version, or if an operator is unknown.
    ImportError
        If safetensors is not installed.
    """
    header, arrays = read_container(path)
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path} is damaged: its version is {version!r}.")
    if version > VERSION:
        raise ModelFileError(
            f"{path} has version {version} of the format, of which this skevo knows {VERSION}: it "
            f"was written by skevo {header.get('skevo')}, load it with that or a newer one."
        )
    named = _Operators(operators)
    try:
        return _Reader(header, arrays, named).model()
    except _MISFITS as error:
        if named.unknown is not None:
            raise ValueError(
                f"{path} needs the operator {named.unknown!r}: register it with "
                "skevo.register_operator, or pass it in operators."
            ) from error
        missing = isinstance(error, KeyError)
        reason = f"there is no {error}" if missing else str(error) or type(error).__name__
        raise ModelFileError(f"{path} is no whole model of skevo: {reason}.") from error


class _Operators:
    """Operators by name: those that are passed, and then those that are registered."""

    def __init__(self, own: Sequence[Operator]) -> None:
        self._own = {operator.name: operator for operator in own}
        self.unknown: str | None = None

    def __call__(self, name: str) -> Operator:
        if name in self._own:
            return self._own[name]
        try:
            return get_operators([_typed(name, str, "the name of an operator")])[0]
        except ValueError:
            self.unknown = name
            raise


class _Reader:
    """A model in the making.

    Parameters
    ----------
    header : dict
    arrays : dict of str to ndarray
    operators : callable
        Returns the operator of a name.
    """

    def __init__(self, header: Mapping[str, Any], arrays: Arrays, operators: _Operators) -> None:
        self._header, self._arrays, self._operator = header, arrays, operators
        self._n_features = self._count("n_features")
        self._n_members, self._n_outputs = self._count("n_members"), self._count("n_outputs")

    def model(self) -> EvolvingRegressor | EvolvingClassifier:
        """Return the model."""
        check_numbers(self._arrays)
        header = self._header
        model: Any = _ESTIMATORS[header["estimator"]](**self._parameters())
        model.n_features_in_ = self._n_features
        if header["feature_names"] is not None:
            names = [_typed(name, str, "a feature's name") for name in header["feature_names"]]
            if len(names) != self._n_features:
                raise ValueError(f"there are {len(names)} names of {self._n_features} features")
            model.feature_names_in_ = np.array(names, dtype=object)
        model._encoding = encoding = self._encoding()
        model._scaling = self._scaling(len(encoding))
        operators = get_operators([*map(self._operator, header["operators"])])
        ensemble = unpack_ensemble(
            self._part("ensemble"), operators, len(encoding), self._n_members, self._n_outputs
        )
        path = self._part("path")
        model._ensemble, model._path = ensemble, unpack_path(path, operators, len(encoding))
        shape = {(len(point), len(network.bias)) for point in model._path for network in point}
        if shape != {(self._n_members, self._n_outputs)}:
            raise ValueError("the path is not that of the members")
        model.path_ = _columns(path, PATH, len(model._path))
        model.history_ = _columns(self._part("history"), HISTORY, None)
        model._typical = take(self._part("typical"), "inputs", "f", len(encoding))
        model._measured = self._measured(ensemble.network.topology.n_columns)
        model.n_members_ = ensemble.n_members
        model.n_nodes_, model.n_parameters_ = (
            ensemble.network.n_nodes,
            ensemble.network.n_parameters,
        )
        model.n_iter_ = self._count("n_iter", 0)
        model.stop_reason_ = _typed(header["stop_reason"], str, "stop_reason")
        model._seed = self._count("seed", 0)
        model.device_ = torch.device("cpu")
        # What it takes to go on is not in the file.
        model._members = model._sample = None
        if model._numeric_target:
            model._units, model._single_output = self._units()
            model._intervals = self._intervals(len(encoding))
        else:
            model.classes_ = self._classes()
        return model

    def _count(self, name: str, least: int = 1) -> int:
        value = _typed(self._header[name], int, name)
        if not least <= value < 2**63:
            raise ValueError(f"{name} is {value}")
        return value

    def _part(self, part: str) -> Arrays:
        """Return the arrays of a part, by their name in it."""
        named = self._arrays.items()
        return {
            name.removeprefix(f"{part}."): value
            for name, value in named
            if name.startswith(f"{part}.")
        }

    def _parameters(self) -> dict[str, Any]:
        return {
            _typed(name, str, "a parameter's name"): from_json(stored, self._other)
            for name, stored in self._header["parameters"].items()
            if name not in _GONE
        }

    def _other(self, kind: str, content: Any) -> Any:
        """Return the parameter that something stands for."""
        if kind == "operator":
            return self._operator(content)
        if kind == "function":
            return _typed(content, str, "the name of a function")
        if kind == "lost":
            return None
        raise ValueError(f"values of kind {kind!r} are unknown")

    def _encoding(self) -> Encoding:
        levels, part = self._levels(), self._part("encoding")
        n_numeric = self._n_features - len(levels)
        # Before anything is made of so many features.
        fill = take(part, "fill", "f", n_numeric)
        numeric = np.setdiff1d(np.arange(self._n_features), [*levels]).astype(np.int64)
        missing = take(part, "missing", "i", None).astype(np.int64)
        shown = take(part, "shown", "i", None, 2).astype(np.int64)
        told = take(part, "told", "i", None).astype(np.int64)
        if len(missing) and not 0 <= missing.min() <= missing.max() < self._n_features:
            raise ValueError("missing names columns that are not there")
        if any(not 0 <= code < len(levels[column]) for column, code in shown.tolist()):
            raise ValueError("shown names levels that are not there")
        means = [
            take(part, f"means.{k}", "f", self._n_outputs, len(levels[column]) + 2)
            for k, column in enumerate(told.tolist())
        ]
        return Encoding(self._n_features, levels, numeric, fill, missing, shown, told, tuple(means))

    def _levels(self) -> dict[int, tuple[Any, ...]]:
        levels: dict[int, tuple[Any, ...]] = {}
        for column, stored in self._header["levels"]:
            values = tuple(from_json(stored))
            if len(set(values)) < len(values):
                raise ValueError(f"levels of column {column} are not distinct")
            if not 0 <= _typed(column, int, "a column") < self._n_features or column in levels:
                raise ValueError(f"column {column} cannot have levels")
            levels[column] = values
        return levels

    def _scaling(self, n_columns: int) -> Scaling:
        part = self._part("scaling")
        names = ("center", "spread", "offset")
        # The first files do not say so.
        draws_in = _typed(self._header.get("draws_in", True), bool, "draws_in")
        center, spread, offset = (take(part, name, "f", n_columns) for name in names)
        return Scaling(center, spread, offset, draws_in)

    def _measured(self, n_columns: int) -> Measured | None:
        part = self._part("measured")
        if not part:
            return None
        return Measured(
            take(part, "importances", "f", self._n_features),
            take(part, "of_terms", "f", n_columns),
            take(part, "distance", "f", n_columns),
        )

    def _classes(self) -> NDArray[Any]:
        classes = from_json(self._header["classes"])
        n_classes = 2 if self._n_outputs == 1 else self._n_outputs
        if not isinstance(classes, np.ndarray) or classes.shape != (n_classes,):
            raise ValueError(f"classes must be {n_classes}")
        return classes

    def _units(self) -> tuple[TargetUnits, bool]:
        part = self._part("units")
        names = ("shift", "scale", "offset", "factor", "low", "high")
        numbers = {name: take(part, name, "f", self._n_outputs) for name in names}
        units = TargetUnits(**numbers, log=_typed(self._header["log"], bool, "log"))
        single = _typed(self._header["single_output"], bool, "single_output")
        if single and self._n_outputs > 1:
            raise ValueError("a single output cannot be several")
        return units, single

    def _intervals(self, n_inputs: int) -> Intervals | None:
        part, n = self._part("intervals"), self._n_outputs
        if not part:
            return None
        low, high = take(part, "limits", "f", 2, n, 1)
        scores = [take(part, f"scores.{k}", "f", None) for k in range(n)]
        weights = [take(part, f"weights.{k}", "f", len(known)) for k, known in enumerate(scores)]
        if not min(map(len, scores)):
            raise ValueError("intervals need scores")
        n_features = 3 + (n_inputs if n_inputs <= MOST_INPUTS else 0)
        difficulty = Difficulty(
            take(part, "coefficients", "f", n, n_features),
            take(part, "intercept", "f", n, 1),
            take(part, "error", "f", n, 1),
        )
        return Intervals(tuple(scores), tuple(weights), difficulty, (low, high))


def _typed(value: Any, kind: type, what: str) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{what} is {value!r}")
    return value


def _columns(part: Arrays, kinds: Mapping[str, str], length: int | None) -> dict[str, Any]:
    """Return the columns of a table, whose floats may be NaN."""
    columns = {name: part[name] for name in kinds}
    lengths = {column.shape for column in columns.values()}
    wrong = [name for name, kind in kinds.items() if columns[name].dtype.kind != kind]
    if wrong or len(lengths) > 1 or (length is not None and lengths != {(length,)}):
        raise ValueError(f"a table has columns of shapes {lengths}, of wrong dtype: {wrong}")
    if length is None and len(*lengths) != 1:
        raise ValueError(f"a table has columns of shapes {lengths}")
    return columns
