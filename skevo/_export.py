"""Export: what both estimators can be turned into."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from sklearn.utils.validation import check_is_fitted

from ._columns import Encoding
from ._preprocessing import Scaling
from .core.ensemble import Ensemble
from .export.expression import Expression
from .export.model import Model, express
from .export.to_numpy import numpy_source
from .export.to_python import python_source

__all__ = ["ExportMixin"]

class ExportMixin:
    """Formulas, programs and graphs of a fitted estimator."""

    _encoding: Encoding
    _scaling: Scaling
    _ensemble: Ensemble
    n_features_in_: int

    @abstractmethod
    def _finish(self, outputs: Sequence[Expression]) -> Sequence[Expression]:
        """Return predictions, or log-odds, from the outputs of the ensemble."""

    @abstractmethod
    def _output_names(self) -> list[str]:
        """Return what the formula calls the outputs."""

    def _exported(self) -> Model:
        """Return what a language has to write."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        encoding = self._encoding
        classes = getattr(self, "classes_", None)
        outputs = express(encoding, self._scaling, self._ensemble, self._finish)
        if classes is None:
            called = self._output_names()
        else:
            called = [f"proba({label})" for label in classes]
        return Model(
            columns=tuple(self._column_names()),
            named=names is not None,
            levels=encoding.levels,
            indicated=frozenset(encoding.missing.tolist()),
            expressions=tuple(outputs),
            outputs=tuple(called),
            classes=None if classes is None else tuple(classes.tolist()),
            single=getattr(self, "_single_output", False),
        )

    def to_sympy(self, *, simplify: bool = False) -> Any:
        from .export.to_sympy import sympy_outputs

        return sympy_outputs(self._exported(), simplify)

    def to_source(self, language: str) -> str:
        return {"python": python_source, "numpy": numpy_source}[language](self._exported())
