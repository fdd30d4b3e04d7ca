"""A network as a picture: inputs on the left, nodes by level, the head on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression
from sklearn.utils.validation import check_is_fitted

from ..core.network import Network
from ..core.topology import CONSTANT
from ._style import GREY, NEGATIVE, POSITIVE, axes_for, ink, shorten

__all__ = ["TopologyDisplay"]

# What nodes are called, where it is not the operator's name.
_SIGNS = {
    "add": "+",
    "sub": "\N{MINUS SIGN}",
    "mul": "\N{MULTIPLICATION SIGN}",
    "div": "\N{DIVISION SIGN}",
}
# Letters of an input's name.
_LENGTH = 18
# Inputs that no drawn node reads are left out beyond so many.
_MOST_INPUTS = 20
# Times that the heights are fitted to those of the neighbours, to the left and to the right.
_SWEEPS = 8


class TopologyDisplay:
    """A network: inputs on the left, nodes by level, the head on the right.

    A line to the head is as wide as the weight of its column, in spreads of the column, and its
    colour is the sign's. Where members are combined, it is the mean of their weights, and the
    correction's.

    Parameters
    ----------
    network : Network
        With one output.
    names : sequence of str
        Of the inputs.
    output_name : str, default="y"

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    boxes_ : dict of int to matplotlib Text
        The inputs and nodes that are drawn, by their column.
    head_ : matplotlib Text
    weights_ : dict of int to matplotlib PathPatch
        The lines to the head.
    """

    def __init__(self, network: Network, names: Sequence[str], output_name: str = "y") -> None:
        self.network = network
        self.names = names
        self.output_name = output_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, output: int | None = None, max_nodes: int = 60, ax: Any = None
    ) -> Self:
        """Draw the network of an estimator.

        Parameters
        ----------
        estimator : EvolvingRegressor or EvolvingClassifier
            Fitted.
        output : int, default=None
            Which of several outputs, or classes.
        max_nodes : int, default=60
            Of a larger network, as that of several members is, so many nodes are drawn: those with
            the largest weights, and the ones that they read.
        ax : matplotlib Axes, default=None
            Where to; a new figure if None.

        Returns
        -------
        TopologyDisplay
        """
        check_is_fitted(estimator)
        place = estimator._output_place(output)
        network, names = estimator._mean_network(place), estimator._input_names()
        name = estimator._output_names()[place]
        return cls(network, names, name).plot(ax, max_nodes=max_nodes)

    def plot(self, ax: Any = None, *, max_nodes: int = 60) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to; a new figure, of a size that fits the network, if None.
        max_nodes : int, default=60
            At most so many nodes.

        Returns
        -------
        TopologyDisplay
            Itself.
        """
        topology = self.network.topology
        self._weight = self.network.weight[0].numpy(force=True)
        self._level = np.append(np.zeros(topology.n_inputs, dtype=int), topology.levels)
        shown = self._shown(max_nodes)
        place = self._places(shown)
        depth = int(self._level[shown].max(initial=0))
        tall = max(place.values(), default=0.0)
        size = (max(5.0, 2.6 + 1.0 * depth), max(2.8, 1.2 + 0.34 * tall))
        self.figure_, self.ax_ = axes_for(self, ax, size)
        self.ax_.set(xlim=(-0.9, depth + 1.7), ylim=(-1.0, tall + 1.0))
        self.ax_.axis("off")
        self._font = self._font_size(depth, tall)
        self._draw_operands(place)
        self._draw_head(place, (depth + 1.3, tall / 2))
        self.boxes_ = {
            column: self._box(self._label(column), self._level[column], height, column)
            for column, height in place.items()
        }
        self._explain(len(shown) - int((self._level[shown] == 0).sum()))
        return self

    # -- what is drawn where -------------------------------------------------------------------

    def _operands(self, column: int) -> list[int]:
        """Return the columns that a column reads."""
        topology = self.network.topology
        if column < topology.n_inputs:
            return []
        node = column - topology.n_inputs
        both = {int(topology.left[node]), int(topology.right[node])}
        return sorted(both - {CONSTANT})

    def _shown(self, max_nodes: int) -> NDArray[np.int64]:
        """Return the columns to draw."""
        n_inputs = self.network.topology.n_inputs
        nodes: set[int] = set()
        for column in np.argsort(-np.abs(self._weight), kind="stable"):
            if column < n_inputs or not self._weight[column]:
                continue
            # The node and all that it is computed from.
            needed, stack = set(nodes), [int(column)]
            while stack:
                last = stack.pop()
                if last >= n_inputs and last not in needed:
                    needed.add(last)
                    stack += self._operands(last)
            if len(needed) <= max_nodes:
                nodes = needed
        read = {operand for node in nodes for operand in self._operands(node)} - nodes
        linear = np.argsort(-np.abs(self._weight[:n_inputs]), kind="stable")
        for column in linear[self._weight[linear] != 0]:
            if len(read) < _MOST_INPUTS:
                read.add(int(column))
        return np.array(sorted(read | nodes), dtype=np.int64)

    def _places(self, shown: NDArray[np.int64]) -> dict[int, float]:
        """Return the heights of columns: near those that they read and are read by."""
        neighbours: dict[int, list[int]] = {int(column): [] for column in shown}
        for column in neighbours:
            for operand in self._operands(column):
                neighbours[column].append(operand)
                neighbours[operand].append(column)
        levels = [shown[self._level[shown] == level] for level in np.unique(self._level[shown])]
        tall = max(map(len, levels), default=1) - 1.0
        height = {
            int(column): tall * (len(level) - place - 0.5) / len(level)
            for level in levels
            for place, column in enumerate(level)
        }
        for sweep in range(_SWEEPS):
            for level in levels if sweep % 2 else levels[::-1]:
                wanted = [_mean(height, neighbours[int(column)], int(column)) for column in level]
                height.update(zip(level.tolist(), _apart(np.array(wanted), tall), strict=True))
        return height

    # -- how -----------------------------------------------------------------------------------

    def _font_size(self, depth: int, tall: float) -> float:
        """Return a size at which boxes do not touch, in points."""
        box, figure = self.ax_.get_position(), self.figure_
        per_node = 72 * box.height * figure.get_figheight() / (tall + 2.0)
        per_level = 72 * box.width * figure.get_figwidth() / (depth + 2.6)
        # A box is about two lines high, and a dozen letters wide.
        return float(np.clip(min(per_node / 2.2, per_level / 7.5), 4.0, 9.0))

    def _label(self, column: int) -> str:
        """Return what is written into a box."""
        topology = self.network.topology
        if column < topology.n_inputs:
            return shorten(self.names[column], _LENGTH)
        node = column - topology.n_inputs
        name = self.network.operators[topology.operator[node]].name
        sign = _SIGNS.get(name, shorten(name, _LENGTH))
        constant = f"{float(self.network.constants[node]):.2g}".replace("-", _SIGNS["sub"])
        if topology.left[node] == CONSTANT:
            return f"{constant} {sign}"
        return f"{sign} {constant}" if topology.right[node] == CONSTANT else sign

    def _box(self, text: str, x: float, y: float, column: int) -> Any:
        """Write a text into a box."""
        is_input = column < self.network.topology.n_inputs
        return self.ax_.text(
            x, y, text, ha="right" if is_input else "center", va="center", fontsize=self._font,
            zorder=3, parse_math=False,
            bbox={
                "boxstyle": "round,pad=0.3", "ec": GREY if is_input else ink(), "lw": 0.8,
                "fc": self.ax_.get_facecolor(),
            },
        )  # fmt: skip

    def _curve(self, start: tuple[float, float], end: tuple[float, float], **style: Any) -> Any:
        """Draw a line that leaves and arrives from left to right."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        middle = (start[0] + end[0]) / 2
        points = [start, (middle, start[1]), (middle, end[1]), end]
        path = Path(points, [Path.MOVETO, *[Path.CURVE4] * 3])
        return self.ax_.add_patch(PathPatch(path, fc="none", capstyle="round", **style))

    def _draw_operands(self, place: Mapping[int, float]) -> None:
        """Draw lines from operands to the nodes that read them."""
        for column, height in place.items():
            for operand in self._operands(column):
                start = (float(self._level[operand]), place[operand])
                end = (float(self._level[column]), height)
                self._curve(start, end, ec=ink(), lw=0.9, alpha=0.55, zorder=2)

    def _draw_head(self, place: Mapping[int, float], head: tuple[float, float]) -> None:
        """Draw the head, and lines to it."""
        largest = max((abs(self._weight[column]) for column in place), default=0.0) or 1.0
        self.weights_ = {}
        for column, height in place.items():
            share = abs(self._weight[column]) / largest
            if share:
                self.weights_[column] = self._curve(
                    (float(self._level[column]), height), head,
                    ec=POSITIVE if self._weight[column] > 0 else NEGATIVE,
                    lw=0.4 + 3.6 * share, alpha=0.25 + 0.6 * share, zorder=1,
                )  # fmt: skip
        self.head_ = self.ax_.text(
            *head, shorten(self.output_name, _LENGTH), ha="center", va="center", zorder=3,
            fontsize=self._font + 1, color=self.ax_.get_facecolor(), parse_math=False,
            bbox={"boxstyle": "round,pad=0.4", "fc": ink(), "ec": ink()},
        )  # fmt: skip

    def _explain(self, n_shown: int) -> None:
        """Say what the lines are, and what is left out."""
        from matplotlib.lines import Line2D

        lines = [
            Line2D([], [], color=POSITIVE, lw=3, label="positive weight"),
            Line2D([], [], color=NEGATIVE, lw=3, label="negative weight"),
            Line2D([], [], color=ink(), lw=0.9, alpha=0.55, label="is read by"),
        ]
        n_nodes = self.network.n_nodes
        left_out = f"{n_shown} of {n_nodes} nodes, by weight" if n_shown < n_nodes else None
        self.ax_.legend(
            handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=3, frameon=False,
            fontsize="small", title=left_out, title_fontsize="small",
        )  # fmt: skip


def _mean(height: Mapping[int, float], neighbours: Sequence[int], column: int) -> float:
    """Return the mean height of the neighbours, or that of the column if it has none."""
    return float(np.mean([height[neighbour] for neighbour in neighbours or [column]]))


def _apart(wanted: NDArray[np.float64], tall: float) -> NDArray[np.float64]:
    """Return the heights nearest to some, in squares, that are a unit or more apart.

    Parameters
    ----------
    wanted : ndarray of shape (n,)
    tall : float
        The highest there may be, at least n - 1; the lowest is 0.
    """
    order = np.argsort(wanted, kind="stable")
    steps = np.arange(len(wanted), dtype=float)
    room = tall - len(wanted) + 1.0
    height = np.empty(len(wanted))
    height[order] = isotonic_regression(wanted[order] - steps, y_min=0.0, y_max=room) + steps
    return height
