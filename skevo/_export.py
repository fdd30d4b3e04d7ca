"""Export: what both estimators can be turned into."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ._explain import Explains
from ._optional import needed_by
from ._target import TargetUnits
from .export.model import Model, Scale, express, heads, inputs
from .export.to_c import c_source
from .export.to_numpy import numpy_source
from .export.to_python import python_source
from .export.to_sql import DIALECTS, sql_source
from .export.to_torch import TorchModel

__all__ = ["Exports"]

_LANGUAGES = {"python": python_source, "numpy": numpy_source, "c": c_source}


class Exports(Explains):
    """Formulas, programs and graphs of a fitted estimator."""

    # How outputs become predictions; None where they are log-odds.
    _units: TargetUnits | None = None

    def to_source(self, language: str, *, dialect: str | None = None) -> str:
        """Write the model as source that needs nothing of this package.

        It computes in double precision what `predict` or ``predict_proba`` does: missing cells,
        categories, scaling, members and class probabilities are folded in.

        Parameters
        ----------
        language : {"python", "numpy", "c", "sql"}
            - ``"python"``: a module with ``predict(row)``, for Python's standard library. A row is
              a mapping from column names if the model was fitted to a frame, else a sequence. None
              or NaN is a missing cell.
            - ``"numpy"``: a module with ``predict(X)``, for NumPy. Columns are found by position.
            - ``"c"``: C99 with ``double predict(const double *x)``, or ``void predict(const double
              *x, double *y)`` for several targets. NAN is a missing cell; categories are passed as
              the numbers that a comment lists.
            - ``"sql"``: an expression over the columns of a table, or one per target or class,
              named and separated by commas. NULL is a missing cell.

            Of a classifier, Python and NumPy have ``predict_proba`` beside ``predict``; C has
            ``void predict_proba(const double *x, double *proba)`` and ``int predict(const double
            *x)``, the position of the class; SQL has the probabilities.
        dialect : {"sqlite", "duckdb", "postgresql"}, default=None
            Of SQL; required there. SQLite must have been built with its mathematical functions.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If there is no such language or dialect, or an operator of the user's does what cannot
            be exported.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from skevo import EvolvingRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = EvolvingRegressor(n_members=1, n_generations=5, random_state=0).fit(X, y)
        >>> module = {}
        >>> exec(model.to_source("python"), module)
        >>> bool(abs(module["predict"](X[0]) - model.predict(X[:1])[0]) < 1e-9)
        True
        """
        if language == "sql":
            if dialect not in DIALECTS:
                raise ValueError(f"dialect must be one of {[*DIALECTS]}, got {dialect!r}.")
            return sql_source(self._exported(), dialect)
        if language not in _LANGUAGES:
            raise ValueError(f"language must be one of {[*_LANGUAGES, 'sql']}, got {language!r}.")
        if dialect is not None:
            raise ValueError(f"dialect is of SQL, must be None for {language!r}, got {dialect!r}.")
        return _LANGUAGES[language](self._exported())

    def to_sympy(self, *, exact: bool = True, simplify: bool = False) -> Any:
        """Return the model as SymPy expressions.

        Symbols are called as the columns are. A column that had missing cells has a second symbol,
        ``missing(name)``, and a level of a category has ``[name = level]``: they are 1 where it is
        so, else 0. Three functions are of `skevo.export.to_sympy`: ``Scaled``, which draws in
        far values, ``Sigmoid``, and ``Midmean``, which averages four members or more.

        To evaluate them, use `sympy.lambdify` with ``cse=True`` or, at a point, ``xreplace``: other
        ways have SymPy compare the operands of each maximum, which takes long.

        Parameters
        ----------
        exact : bool, default=True
            Whether to evaluate them equals `predict` or ``predict_proba``, up to rounding if the
            model is in double precision. Otherwise they are as `formula_` shows them, with all
            digits: far values are not drawn in, denominators near zero not moved away from it, and
            predictions not clipped. That is shorter, and better to differentiate or simplify.
        simplify : bool, default=False
            Whether SymPy is to simplify them, which takes long where there are many nodes.

        Returns
        -------
        sympy.Expr, or list of sympy.Expr
            A list for several targets, and for classes, whose probabilities they are.

        Raises
        ------
        ImportError
            If SymPy is not installed: ``pip install skevo[sympy]``.
        ValueError
            If an operator of the user's does what cannot be exported.
        """
        with needed_by("SymPy expressions", "sympy"):
            from .export.to_sympy import scaled, sympy_outputs

        return sympy_outputs(self._exported(exact, scaled), simplify)

    def to_latex(self, *, digits: int = 4, simplify: bool = False) -> str:
        """Write the formula in LaTeX, for reading.

        As `formula_` it leaves out that far values are drawn in, denominators near zero moved away
        from it, and predictions clipped.

        Parameters
        ----------
        digits : int, default=4
            Numbers are rounded to so many.
        simplify : bool, default=False
            Whether SymPy is to simplify it, which takes long where there are many nodes.

        Returns
        -------
        str
            To stand in an equation. Where there are several outputs or members, an ``aligned``
            environment with a line for each, and how they are combined.

        Raises
        ------
        ImportError
            If SymPy is not installed: ``pip install skevo[sympy]``.
        """
        with needed_by("Formulas in LaTeX", "sympy"):
            from .export.to_latex import latex_source

        model = self._exported(exact=False)
        limits: list[Any] = []
        if self._ensemble.limits is not None:
            limits = self._limits_in_units().T.tolist()
        columns = inputs(self._encoding, self._scaling, None)
        lines = heads(self._network_in_units(), columns, exact=False)
        return latex_source(model, lines, self._output_names(), limits, digits, simplify)

    def to_torch(self) -> TorchModel:
        """Return the model as a torch module, with its constants and heads as parameters.

        Returns
        -------
        TorchModel
            On the CPU, in evaluation mode, where it computes what `predict` does or, of a
            classifier, ``decision_function``.

        Examples
        --------
        >>> import torch
        >>> from sklearn.datasets import load_diabetes
        >>> from skevo import EvolvingRegressor
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = EvolvingRegressor(n_members=1, n_generations=5, random_state=0).fit(X, y)
        >>> module = model.to_torch()
        >>> output = module(module.read(X))
        >>> bool(torch.allclose(output, torch.from_numpy(model.predict(X))))
        True
        """
        check_is_fitted(self)
        single = getattr(self, "_single_output", self._ensemble.n_outputs == 1)
        parts = (self._encoding, self._scaling, self._ensemble.to("cpu"))
        return TorchModel(*parts, self._units, single).eval()

    def to_onnx(self, path: str | PathLike[str] | None = None) -> Any:
        """Return the model as an ONNX graph of standard operators.

        The input is ``X`` of shape (n_samples, n_features), in single precision. Where there are
        categories, each column is an input of its own, of shape (n_samples, 1), called as the
        column is: text or numbers, an empty text being a missing cell. Outputs are ``variable`` of
        shape (n_samples, n_outputs) or, of a classifier, ``label`` and ``probabilities``. The graph
        computes in the precision of the model, and equals it within the rounding of the input and
        output.

        Parameters
        ----------
        path : str or path-like, default=None
            Where to write it, if anywhere.

        Returns
        -------
        onnx.ModelProto

        Raises
        ------
        ImportError
            If onnx is not installed: ``pip install skevo[onnx]``.
        ValueError
            If an operator of the user's, or a column of levels, cannot be exported.

        See Also
        --------
        skevo.export.register_onnx_converters : For pipelines.
        """
        with needed_by("ONNX graphs", "onnx"):
            from .export.to_onnx import onnx_model

        result = onnx_model(self._exported(), self._exported_dtype())
        if path is not None:
            with open(path, "wb") as file:
                file.write(result.SerializeToString())
        return result

    def _exported(self, exact: bool = True, scale: Scale | None = None) -> Model:
        """Return what a language has to write; see `skevo.export.model.express`."""
        check_is_fitted(self)
        encoding, classes = self._encoding, getattr(self, "classes_", None)
        called = self._target_names()
        if classes is not None:
            called = [f"proba({label})" for label in classes]
        return Model(
            columns=tuple(self._column_names()),
            targets=tuple(self._target_names()),
            named=hasattr(self, "feature_names_in_"),
            levels=encoding.levels,
            indicated=frozenset(encoding.missing.tolist()),
            expressions=tuple(
                express(encoding, self._scaling, self._ensemble, self._units, exact, scale)
            ),
            outputs=tuple(called),
            classes=None if classes is None else tuple(classes.tolist()),
            single=getattr(self, "_single_output", False),
        )

    def _exported_dtype(self) -> np.dtype[Any]:
        """Return the precision of the model."""
        double = self._ensemble.network.weight.dtype == torch.float64
        return np.dtype(np.float64 if double else np.float32)
