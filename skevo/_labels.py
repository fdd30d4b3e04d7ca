"""Labels: what they are, what they weigh, and how they become targets."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from ._exact import exact_sum
from ._rows import Part

__all__ = ["Labels", "indicators", "multiply_weights"]


@dataclass(frozen=True)
class Labels:
    """What is known of the labels of some rows, and by a sum of those of all.

    Attributes
    ----------
    weight : dict of label to Fraction
        What the rows of each weigh, which is more than zero.
    dtype : numpy.dtype
        Of the labels.
    """

    weight: dict[Any, Fraction]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, part: Part) -> Labels:
        """Return that of some rows."""
        y = column_or_1d(part.y, warn=True)
        counts = part.weight > 0
        if not counts.any():
            return cls({}, y.dtype)
        y, weight = y[counts], part.weight[counts]
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        parts = np.split(weight[order], np.searchsorted(codes[order], np.arange(1, len(classes))))
        return cls(dict(zip(classes.tolist(), map(exact_sum, parts), strict=True)), y.dtype)

    def __add__(self, other: Labels) -> Labels:
        if not self.weight or not other.weight:
            # Of no rows the dtype may be any.
            return self if self.weight else other
        weight = dict(self.weight)
        for label, own in other.weight.items():
            weight[label] = weight.get(label, Fraction(0)) + own
        return Labels(weight, np.promote_types(self.dtype, other.dtype))

    @property
    def classes(self) -> NDArray[Any]:
        """The labels, in order."""
        return np.unique(np.array(list(self.weight), dtype=self.dtype))

    def factors(self, class_weight: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return the classes, and what the weights of their rows are multiplied with.

        Parameters
        ----------
        class_weight : dict or "balanced"
        """
        classes = self.classes
        total = np.array([float(self.weight[label]) for label in classes.tolist()])
        factors = compute_class_weight(
            class_weight, classes=classes, y=classes, sample_weight=total
        )
        if (factors < 0).any():
            raise ValueError(f"class_weight must not be negative, got {class_weight}.")
        return classes, factors


def multiply_weights(part: Part, classes: NDArray[Any], factors: NDArray[np.float64]) -> Part:
    """Return rows whose weights are multiplied with those of their classes."""
    # A class of which no row weighs anything is as good as absent.
    counts = part.weight > 0
    weight = np.zeros_like(part.weight)
    codes = np.searchsorted(classes, column_or_1d(part.y)[counts])
    weight[counts] = part.weight[counts] * factors[codes]
    return part._replace(weight=weight)


def indicators(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the second class's or every class's indicator, of shape (n_samples, n_outputs)."""
    codes = np.searchsorted(classes, column_or_1d(y))
    if len(classes) == 2:
        return codes[:, None].astype(np.float64)
    return np.eye(len(classes))[codes]
