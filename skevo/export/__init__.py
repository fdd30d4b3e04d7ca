"""Fitted models as formulas and as programs of other languages.

The estimators' methods (``to_source``, ``to_sympy``, ``to_latex``, ``to_torch``, ``to_onnx``) are
the way in. For pipelines there is `register_onnx_converters`.
"""

from __future__ import annotations

from .._optional import needed_by

__all__ = ["register_onnx_converters"]


def register_onnx_converters() -> None:
    """Tell skl2onnx of the estimators, so that it converts pipelines that end in one.

    Raises
    ------
    ImportError
        If skl2onnx is not installed: ``pip install skevo[onnx]``.
    """
    # skl2onnx is slow to import.
    with needed_by("Converters of pipelines", "onnx"):
        from .onnx_converter import register

    register()
