"""Fitted models as formulas and as programs of other languages.

The estimators' methods (``to_source``, ``to_sympy``, ``to_latex``, ``to_torch``, ``to_onnx``) are
the way in. For pipelines there is `register_onnx_converters`.
"""

from __future__ import annotations

__all__ = ["register_onnx_converters"]


def register_onnx_converters() -> None:
    """Tell skl2onnx of the estimators, so that it converts pipelines that end in one.

    Raises
    ------
    ImportError
        If skl2onnx is not installed: ``pip install skevo[onnx]``.
    """
    # skl2onnx is an optional dependency, and slow to import.
    from .onnx_converter import register

    register()
