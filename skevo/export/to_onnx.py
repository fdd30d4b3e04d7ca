"""ONNX graphs of standard operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .expression import Step
from .model import Model

__all__ = ["Graph", "onnx_model", "write_graph"]

# Operators of these versions are asked for, which runtimes have had for years.
_OPSET, _ML_OPSET = 17, 3

_OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "abs": "Abs",
    "max": "Max",
    "min": "Min",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "less": "Less",
    "where": "Where",
}
# Nodes that must name more than the output that is read.
N_OUTPUTS = {"TopK": 2}


class Graph(Protocol):
    """Where nodes go: a graph of its own, or part of one."""

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node, and return the name of what it computes."""

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant, and return its name."""


class _OwnGraph:
    """A graph that is being written.

    Attributes
    ----------
    nodes, constants : list
        Of ONNX's records.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        domain = "ai.onnx.ml" if operator == "LabelEncoder" else ""
        names = [name, f"{name}_index"][: N_OUTPUTS.get(operator, 1)]
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name


class _Writer:
    """Writes the steps of a program, each a column of shape (n_samples, 1).

    Parameters
    ----------
    graph : Graph
    model : Model
    cells : dict of int to str
        Names of the table's columns, of shape (n_samples, 1): numbers, or text in columns of text.
    dtype : dtype
        What to compute in.
    """

    def __init__(self, graph: Graph, model: Model, cells: Callable[[int], str], dtype: Any) -> None:
        self._graph, self._model, self._read, self._dtype = graph, model, cells, dtype
        self._to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._known: dict[Any, str] = {}

    def number(self, value: Any) -> str:
        """Return a constant."""
        array = np.array(value, dtype=self._dtype)
        return self._once(("number", value), lambda: self._graph.constant(array))

    def whole(self, *values: int) -> str:
        """Return a constant vector of whole numbers."""
        array = np.array(values, dtype=np.int64)
        return self._once(("whole", values), lambda: self._graph.constant(array))

    def step(self, step: Step, args: Sequence[str]) -> str:
        """Write a step, given its arguments."""
        match step.function:
            case "number":
                return self.number(step.value)
            case "cell":
                column, fill = step.value
                return self._node(
                    "Where", self._is_missing(column), self.number(fill), self._cell(column)
                )
            case "missing":
                return self._node("Cast", self._is_missing(step.value), to=self._to)
            case "level":
                column, code = step.value
                same = self._node("Equal", self._cell(column), self.number(float(code)))
                return self._node("Cast", same, to=self._to)
            case "mean":
                column, _, means = step.value
                return self._mean(column, means)
            case "affine":
                intercept, weights = step.value
                vector = self.number(tuple((weight,) for weight in weights))
                product = self._node("MatMul", self.columns(args), vector)
                return self._node("Add", product, self.number(intercept))
            case "midmean":
                return self._midmean(args, step.value)
            case "sigmoid":
                return self.sigmoid(args[0])
        return self._node(_OPERATORS[step.function], *args)

    def sigmoid(self, value: str) -> str:
        """Return the logistic function; onnxruntime's Sigmoid is off by 1e-8 where it is small."""
        odds = self._node("Exp", self._node("Neg", value))
        return self._node("Reciprocal", self._node("Add", odds, self.number(1.0)))

    def columns(self, args: Sequence[str]) -> str:
        """Put columns side by side; constants are made as long as they are."""
        full = [self._full(arg) if arg in self._numbers else arg for arg in args]
        if len(full) == 1:
            return full[0]
        return self._once(("columns", *full), lambda: self._node("Concat", *full, axis=1))

    def _full(self, constant: str) -> str:
        n_rows = self._once("rows", self._n_rows)
        return self._once(("full", constant), lambda: self._node("Expand", constant, n_rows))

    @property
    def _numbers(self) -> set[str]:
        return {name for key, name in self._known.items() if key[0] == "number"}

    def _n_rows(self) -> str:
        """Return the shape of a column."""
        shape = self._node("Shape", self._read(0))
        rows = self._node("Gather", shape, self.whole(0), axis=0)
        return self._node("Concat", rows, self.whole(1), axis=0)

    def _mean(self, column: int, means: Sequence[float]) -> str:
        code, n_levels = self._cell(column), len(means) - 2
        is_unknown = self._node("Less", code, self.number(0.0))
        place = self._node("Where", is_unknown, self.number(n_levels + 1.0), code)
        missing = self._is_missing(column)
        place = self._node("Where", missing, self.number(float(n_levels)), place)
        place = self._node("Cast", place, to=TensorProto.INT64)
        table = self._graph.constant(np.array(means, dtype=self._dtype))
        return self._node("Gather", table, place, axis=0)

    def _midmean(self, args: Sequence[str], left_out: int) -> str:
        n = len(args)
        ordered = self._node("TopK", self.columns(args), self.whole(n), axis=1)
        middle = self._node(
            "Slice", ordered, self.whole(left_out), self.whole(n - left_out), self.whole(1)
        )
        n_middle = n - 2 * left_out
        return self._node("MatMul", middle, self.number(((1.0 / n_middle,),) * n_middle))

    def _cell(self, column: int) -> str:
        """Return a column as numbers: cells, or codes of levels."""
        return self._once(("cell", column), lambda: self._read_cell(column))

    def _read_cell(self, column: int) -> str:
        cell = self._read(column)
        levels = self._model.levels.get(column)
        if levels is None:
            return self._node("Cast", cell, to=self._to)
        codes = [float(code) for code in range(len(levels))]
        if is_text(levels):
            keys = dict(zip(levels, codes, strict=True))
            keys.setdefault("", np.nan)
            names = {"keys_strings": [*keys], "values_floats": [*keys.values()]}
        else:
            cell = self._node("Cast", cell, to=TensorProto.FLOAT)
            keys = {float(level): code for level, code in zip(levels, codes, strict=True)}
            names = {"keys_floats": [*keys, np.nan], "values_floats": [*keys.values(), np.nan]}
        code = self._node("LabelEncoder", cell, default_float=-1.0, **names)
        return self._node("Cast", code, to=self._to)

    def _is_missing(self, column: int) -> str:
        return self._once(("missing", column), lambda: self._node("IsNaN", self._cell(column)))

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self._graph.node(operator, inputs, **attributes)

    def _once(self, key: Any, write: Callable[[], str]) -> str:
        if key not in self._known:
            self._known[key] = write()
        return self._known[key]


def is_text(levels: Sequence[Any]) -> bool:
    """Return whether levels are text and not numbers.

    Raises
    ------
    ValueError
        If some are and some are not.
    """
    text = [isinstance(level, str) for level in levels]
    if any(text) and not all(text):
        raise ValueError(f"Levels must be all text or all numbers for ONNX, got {levels[:5]}.")
    return any(text)


def write_graph(
    graph: Graph, model: Model, cells: Callable[[int], str], dtype: Any
) -> dict[str, str]:
    """Write a model.

    Parameters
    ----------
    graph : Graph
    model : Model
    cells : callable
        Returns the name of a column of the table, of shape (n_samples, 1).
    dtype : dtype
        What to compute in.

    Returns
    -------
    dict of str to str
        Names of what is computed: ``variable`` of shape (n_samples, n_outputs) or, for classes,
        ``label`` of shape (n_samples,) and ``probabilities`` of shape (n_samples, n_classes).
    """
    writer = _Writer(graph, model, cells, dtype)
    names: list[str] = []
    for step in model.program.steps:
        names.append(writer.step(step, [names[arg] for arg in step.args]))
    outputs = writer.columns([names[output] for output in model.program.outputs])
    single = TensorProto.FLOAT
    if model.classes is None:
        return {"variable": graph.node("Cast", [outputs], to=single)}
    if len(model.classes) == 2:
        outputs = graph.node("Concat", [graph.node("Neg", [outputs]), outputs], axis=1)
        probabilities = writer.sigmoid(outputs)
    else:
        probabilities = graph.node("Softmax", [outputs], axis=1)
    best = graph.node("ArgMax", [outputs], axis=1, keepdims=0)
    labels = graph.constant(label_array(model))
    return {
        "label": graph.node("Gather", [labels, best], axis=0),
        "probabilities": graph.node("Cast", [probabilities], to=single),
    }


def label_array(model: Model) -> NDArray[Any]:
    """Return the labels of classes as an array of ONNX's types."""
    labels = np.array(model.classes)
    if labels.dtype.kind in "US":
        return labels.astype(object)
    return labels.astype(np.int64)


def onnx_model(model: Model, dtype: Any) -> onnx.ModelProto:
    """Return a model as an ONNX model.

    Parameters
    ----------
    model : Model
    dtype : dtype
        What to compute in.

    Returns
    -------
    onnx.ModelProto
        Its input is ``X`` of shape (n_samples, n_features) or, where there are categories, each
        column of the table, of shape (n_samples, 1). Outputs: see `write_graph`.
    """
    graph = _OwnGraph()
    n_features = len(model.columns)
    if model.levels:
        inputs = {
            name: (TensorProto.STRING if is_text(model.levels.get(k, ())) else TensorProto.FLOAT, 1)
            for k, name in enumerate(model.columns)
        }
        cells: Mapping[int, str] = dict(enumerate(model.columns))
        outputs = write_graph(graph, model, cells.__getitem__, dtype)
    else:
        inputs = {"X": (TensorProto.FLOAT, n_features)}
        outputs = write_graph(graph, model, columns_of(graph, "X"), dtype)
    return _assemble(graph, inputs, outputs, model)


def columns_of(graph: Graph, table: str) -> Callable[[int], str]:
    """Return a function that names the columns of a table."""
    known: dict[int, str] = {}

    def column(number: int) -> str:
        if number not in known:
            place = graph.constant(np.array([number], dtype=np.int64))
            known[number] = graph.node("Gather", [table, place], axis=1)
        return known[number]

    return column


def _assemble(
    graph: _OwnGraph,
    inputs: Mapping[str, tuple[int, int]],
    outputs: Mapping[str, str],
    model: Model,
) -> onnx.ModelProto:
    """Return the graph with its inputs and outputs, checked."""
    for name, computed in outputs.items():
        graph.nodes.append(helper.make_node("Identity", [computed], [name]))
    n_outputs = len(model.outputs)
    kinds: dict[str, tuple[int, list[str | int | None]]]
    kinds = {"variable": (TensorProto.FLOAT, ["n", n_outputs])}
    if model.classes is not None:
        label = helper.np_dtype_to_tensor_dtype(label_array(model).dtype)
        kinds = {"label": (label, ["n"]), "probabilities": (TensorProto.FLOAT, ["n", n_outputs])}
    result = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "skevo",
            [
                helper.make_tensor_value_info(name, kind, ["n", width])
                for name, (kind, width) in inputs.items()
            ],
            [helper.make_tensor_value_info(name, *kinds[name]) for name in outputs],
            graph.constants,
        ),
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            helper.make_opsetid("ai.onnx.ml", _ML_OPSET),
        ],
        ir_version=8,
        producer_name="skevo",
    )
    onnx.checker.check_model(result, full_check=True)
    return result
