"""Converters for skl2onnx, so that pipelines become ONNX graphs with the estimators in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

from .._classifier import EvolvingClassifier
from .._regressor import EvolvingRegressor
from .to_onnx import N_OUTPUTS, columns_of, write_graph

__all__ = ["register"]

# Where operators are that are not ONNX's own, and their versions.
_DOMAINS = {"LabelEncoder": {"op_domain": "ai.onnx.ml", "op_version": 2}}


class _PartOfGraph:
    """Where nodes go in a graph that skl2onnx writes; see `skevo.export.to_onnx.Graph`."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        names = [
            self._scope.get_unique_variable_name("skevo") for _ in range(N_OUTPUTS.get(operator, 1))
        ]
        self._container.add_node(
            operator,
            [*inputs],
            names,
            **_DOMAINS.get(operator, {}),
            name=self._scope.get_unique_operator_name(operator),
            **attributes,
        )
        return names[0]

    def constant(self, value: NDArray[Any]) -> str:
        name = self._scope.get_unique_variable_name("skevo")
        is_text = value.dtype == object
        kind = TensorProto.STRING if is_text else helper.np_dtype_to_tensor_dtype(value.dtype)
        content = [text.encode() for text in value] if is_text else value.ravel().tolist()
        self._container.add_initializer(name, kind, value.shape, content)
        return name


def register() -> None:
    """Tell skl2onnx of both estimators."""
    update_registered_converter(
        EvolvingRegressor, "SkevoEvolvingRegressor", _regressor_shapes, _convert
    )
    update_registered_converter(
        EvolvingClassifier,
        "SkevoEvolvingClassifier",
        _classifier_shapes,
        _convert,
        # A zipmap asks for nocl too.
        options={"zipmap": [True, False, "columns"], "nocl": [False]},
    )


def _regressor_shapes(operator: Any) -> None:
    """Say what a regressor puts out."""
    n_outputs = operator.raw_operator._ensemble.n_outputs
    first = operator.inputs[0]
    kind = DoubleTensorType if isinstance(first.type, DoubleTensorType) else FloatTensorType
    operator.outputs[0].set_type(kind([first.get_first_dimension(), n_outputs]))


def _classifier_shapes(operator: Any) -> None:
    """Say what a classifier puts out."""
    classes = operator.raw_operator.classes_
    kind = StringTensorType if classes.dtype.kind in "OSU" else Int64TensorType
    n_rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].set_type(kind([n_rows]))
    # What makes maps of them takes single precision alone.
    operator.outputs[1].set_type(FloatTensorType([n_rows, len(classes)]))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Write an estimator into the graph."""
    graph = _PartOfGraph(scope, container)
    model = operator.raw_operator
    columns = []
    for table in operator.inputs:
        width, column = table.type.shape[1], columns_of(graph, table.onnx_name)
        columns += [table.onnx_name] if width == 1 else [*map(column, range(width))]
    outputs = write_graph(graph, model._exported(), columns.__getitem__, model._exported_dtype())
    for output, computed in zip(operator.outputs, outputs.values(), strict=True):
        is_double = isinstance(output.type, DoubleTensorType)
        container.add_node(
            "Cast" if is_double else "Identity",
            [computed],
            [output.onnx_name],
            name=scope.get_unique_operator_name("output"),
            **({"to": TensorProto.DOUBLE} if is_double else {}),
        )
