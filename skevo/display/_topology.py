"""A network as a picture: inputs on the left, nodes by level, the head on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ..core.network import Network
from ..core.topology import CONSTANT
from ._layers import Layers
from ._style import GREY, NEGATIVE, POSITIVE, axes_for, ink, shorten, shorten_names

__all__ = ["TopologyDisplay"]

# What nodes are called, where it is not the operator's name.
_SIGNS = {
    "add": "+",
    "sub": "\N{MINUS SIGN}",
    "mul": "\N{MULTIPLICATION SIGN}",
    "div": "\N{DIVISION SIGN}",
}
# Letters of an input's name, of the output's, and of an operator's.
_LENGTH, _SHORT = 36, 20
# Inputs that no drawn node reads are left out beyond so many.
_MOST_INPUTS = 20
# Inches: around the picture, of a box's height and what is free above it, between levels.
_MARGIN, _UNIT, _GAP = 0.12, 0.34, (0.5, 1.0)
# Sizes of letters, in points.
_SMALLEST, _LARGEST = 4.0, 9.0
# Inches of what is around a text in its box, in sizes of its letters.
_PADDING = 0.3


class TopologyDisplay:
    """A network: inputs on the left, nodes by level, the head on the right.

    A line to the head is as wide as the weight of its column, in spreads of the column, and its
    colour is the sign's. Where members are combined, it is the mean of their weights, and the
    correction's. Thin lines lead from columns to the nodes that read them; lines that share a piece
    of their way come from the same column.

    A node is called by its operator (see `skevo.available_operators`): ``mul`` and ``div`` by their
    signs. The number beside it is its constant, in place of the operand on that side; it is one of
    scaled columns. So ``steep 1.8`` is ``sigmoid(16 * (a - 1.8))`` of what it reads, a smooth step
    where that is 1.8 spreads of the column. What is written in columns of the table, with their
    units, is ``formula_``.

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
    operands_ : list of matplotlib PathPatch
        The lines to the nodes, level by level.
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
        level = {int(column): int(self._level[column]) for column in shown}
        depth = max(level.values(), default=0)
        self._layers = Layers.of(
            level,
            {column: self._operands(column) for column in level},
            {column: depth for column in level if self._weight[column]},
        )
        self.figure_, self.ax_ = axes_for(self, ax, (5.0, 3.0))
        self.ax_.axis("off")
        if ax is None:
            self.ax_.set_position((0.0, 0.0, 1.0, 1.0))
        self._write(level)
        n_shown = int((self._level[shown] > 0).sum())
        self._place(level, depth, self._explain(n_shown), ax is None)
        self._draw_lines(level, depth)
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

    def _place(self, level: Mapping[int, int], depth: int, below: float, is_own: bool) -> None:
        """Put boxes in their places; coordinates are inches to the right, and heights of boxes.

        Parameters
        ----------
        level : dict of int to int
        depth : int
        below : float
            Inches that the legend takes.
        is_own : bool
            Whether the figure's size is for this display to choose.
        """
        widths = np.zeros(depth + 2)
        for column, text in self.boxes_.items():
            widths[level[column]] = max(widths[level[column]], self._width(text))
        widths[-1] = self._width(self.head_)
        if is_own:
            self._resize(widths, below)
        font = self._share_out(widths, below)
        for column, text in self.boxes_.items():
            at = level[column]
            # The padding of an input's box is outside of its text.
            inset = _PADDING * font / 72 if at == 0 else 0.0
            text.set_position((self._middle[at] - inset, self._layers.height[column, at]))
            text.set_fontsize(font)
        self.head_.set_position((self._middle[-1], self._layers.tall / 2))
        self.head_.set_fontsize(font)

    def _resize(self, widths: NDArray[np.float64], below: float) -> None:
        """Give the figure the size that the network needs."""
        near, far = _GAP
        # Steep lines take more room.
        gap = min(near + 0.03 * self._layers.tall, far)
        width = 2 * _MARGIN + widths.sum() + gap * (len(widths) - 1)
        height = 2 * _MARGIN + below + _UNIT * self._layers.tall
        self.figure_.set_size_inches(max(5.0, width), max(2.6, height))

    def _share_out(self, widths: NDArray[np.float64], below: float) -> float:
        """Share the axes out among levels of some widths, in inches; return the size of letters."""
        tall, box = self._layers.tall, self.ax_.get_position()
        width = box.width * self.figure_.get_figwidth()
        height = max(box.height * self.figure_.get_figheight() - 2 * _MARGIN - below, _UNIT)
        n_gaps, room = len(widths) - 1, width - 2 * _MARGIN
        share = min(1.0, (room - _GAP[0] * n_gaps) / widths.sum(), height / (_UNIT * tall))
        font = max(_SMALLEST, _LARGEST * share)
        widths = widths * font / _LARGEST
        gap = (room - widths.sum()) / n_gaps
        self._left = _MARGIN + np.append(0.0, np.cumsum(widths[:-1] + gap))
        self._right = self._left + widths
        # Where lines begin and end; inputs stand to the left of it.
        self._middle = (self._left + self._right) / 2
        self._middle[0] = self._right[0]
        unit = tall / height
        self.ax_.set(xlim=(0.0, width), ylim=(-(below + _MARGIN) * unit, tall + _MARGIN * unit))
        return font

    @staticmethod
    def _width(text: Any) -> float:
        """Return the width of a text and its box, in inches."""
        figure = text.get_figure()
        return text.get_window_extent().width / figure.dpi + 2 * _PADDING * text.get_fontsize() / 72

    def _write(self, level: Mapping[int, int]) -> None:
        """Write what stands in the boxes, which have no places yet."""
        inputs = [column for column, at in level.items() if at == 0]
        labels = dict(
            zip(inputs, shorten_names([self.names[k] for k in inputs], _LENGTH), strict=True)
        )
        paper = self.ax_.get_facecolor()
        self.boxes_ = {
            column: self._box(
                labels[column] if at == 0 else self._label(column),
                ha="right" if at == 0 else "center", ec=GREY if at == 0 else ink(), fc=paper,
            )
            for column, at in level.items()
        }  # fmt: skip
        self.head_ = self._box(shorten(self.output_name, _SHORT), ec=ink(), fc=ink(), color=paper)

    def _label(self, column: int) -> str:
        """Return what a node is called."""
        topology = self.network.topology
        node = column - topology.n_inputs
        name = self.network.operators[topology.operator[node]].name
        sign = _SIGNS.get(name, shorten(name, _SHORT))
        constant = f"{float(self.network.constants[node]):.2g}".replace("-", _SIGNS["sub"])
        if topology.left[node] == CONSTANT:
            return f"{constant} {sign}"
        return f"{sign} {constant}" if topology.right[node] == CONSTANT else sign

    def _box(self, text: str, *, ec: Any, fc: Any, ha: str = "center", **style: Any) -> Any:
        """Write a text into a box."""
        return self.ax_.text(
            0.0, 0.0, text, ha=ha, va="center", fontsize=_LARGEST, zorder=3, parse_math=False,
            bbox={"boxstyle": f"round,pad={_PADDING}", "ec": ec, "lw": 0.8, "fc": fc}, **style,
        )  # fmt: skip

    def _draw_lines(self, level: Mapping[int, int], depth: int) -> None:
        """Draw lines from operands to the nodes that read them, and from columns to the head."""
        height = self._layers.height
        self.operands_ = []
        for start, end in self._layers.lines:
            # On to where the next piece begins, behind the boxes that a lane passes.
            first, last = (
                self._middle[at] if at == level[column] else self._right[at]
                for column, at in (start, end)
            )
            stops = [(at, height[column, at]) for column, at in (start, end)]
            self.operands_.append(
                self._line(stops, first, last, ec=ink(), lw=0.9, alpha=0.6, zorder=2)
            )
        largest = max((abs(self._weight[column]) for column in level), default=0.0) or 1.0
        self.weights_ = {}
        for column, own in level.items():
            share = abs(self._weight[column]) / largest
            if share:
                stops = [(at, height[column, at]) for at in range(own, depth + 1)]
                stops.append((depth + 1, self._layers.tall / 2))
                self.weights_[column] = self._line(
                    stops, self._middle[own], self._middle[-1],
                    ec=POSITIVE if self._weight[column] > 0 else NEGATIVE,
                    lw=0.8 + 3.2 * share, alpha=0.5 + 0.35 * share, zorder=1,
                )  # fmt: skip

    def _line(
        self, stops: Sequence[tuple[int, float]], first: float, last: float, **style: Any
    ) -> Any:
        """Draw a line through heights at levels, level beside the boxes, from first to last."""
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        points, codes = [(first, stops[0][1])], [Path.MOVETO]
        for (at, start), (behind, end) in pairwise(stops):
            leave, arrive = self._right[at], self._left[behind]
            middle = (leave + arrive) / 2
            points += [(leave, start), (middle, start), (middle, end), (arrive, end)]
            codes += [Path.LINETO, *[Path.CURVE4] * 3]
        points.append((last, stops[-1][1]))
        path = Path(points, [*codes, Path.LINETO])
        return self.ax_.add_patch(PathPatch(path, fc="none", capstyle="butt", **style))

    def _explain(self, n_shown: int) -> float:
        """Say what the lines are, and what is left out; return the inches that it takes."""
        from matplotlib.lines import Line2D

        lines = [
            Line2D([], [], color=POSITIVE, lw=3, label="positive weight"),
            Line2D([], [], color=NEGATIVE, lw=3, label="negative weight"),
            Line2D([], [], color=ink(), lw=0.9, alpha=0.6, label="is read by"),
        ]
        n_nodes = self.network.n_nodes
        left_out = f"{n_shown} of {n_nodes} nodes, by weight" if n_shown < n_nodes else None
        box = self.ax_.get_position()
        for n_columns in (len(lines), 1):
            legend = self.ax_.legend(
                handles=lines, loc="lower center", ncols=n_columns, frameon=False,
                borderaxespad=0.2, fontsize="small", title=left_out, title_fontsize="small",
            )  # fmt: skip
            extent = legend.get_window_extent()
            if extent.width <= box.width * self.figure_.bbox.width:
                break
        return float(extent.height / self.figure_.dpi)
