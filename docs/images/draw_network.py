"""Draw the README's picture: a small network evolved on Friedman's function.

    python docs/images/draw_network.py docs/images/network.png

Needs the extra `plot`, and pandas.
"""

import sys

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import make_friedman1

from skevo import EvolvingRegressor
from skevo.core.topology import CONSTANT

INK, BLUE, RED, PAPER = "#22303c", "#2a6f97", "#b5483a", "#f4f1ea"


def draw(model, names, file):
    network = model._ensemble.network
    topology = network.topology
    weight = network.weight[0].numpy() / np.abs(network.weight[0].numpy()).max()
    shown = list(range(len(names)))
    depth = topology.depth

    per_level = [np.flatnonzero(topology.levels == level) for level in range(1, depth + 1)]
    tall = max(len(names), *map(len, per_level)) - 1
    place = {column: (0.0, -tall * column / (len(names) - 1)) for column in shown}
    for level, members in enumerate(per_level, start=1):
        for position, node in enumerate(members):
            # Neighbouring levels are staggered, so that lines do not run through nodes.
            height = -tall * (position + 0.5) / len(members)
            place[topology.n_inputs + node] = (2.6 * level, height + 0.3 * (level % 2))
    head = (2.6 * (depth + 1) + 0.6, -tall / 2)

    figure, axes = plt.subplots(figsize=(10, 4.8), dpi=160)
    figure.patch.set_facecolor("white")
    for column, (x, y) in place.items():
        size = abs(weight[column])
        axes.plot(
            [x, head[0]], [y, head[1]], color=BLUE if weight[column] > 0 else RED,
            lw=0.3 + 4.0 * size, alpha=0.15 + 0.5 * size, zorder=1, solid_capstyle="round",
        )  # fmt: skip
    for node in range(topology.n_nodes):
        x, y = place[topology.n_inputs + node]
        for operand in (topology.left[node], topology.right[node]):
            if operand != CONSTANT:
                a, b = place[int(operand)]
                axes.plot([a, x], [b, y], color=INK, lw=1.3, zorder=2)
    for column, (x, y) in place.items():
        if column < len(names):
            label, face = names[column], PAPER
        else:
            node = column - topology.n_inputs
            label, face = network.operators[topology.operator[node]].name, "white"
            if CONSTANT in (topology.left[node], topology.right[node]):
                label += f"  {float(network.constants[node]):.2g}"
        axes.text(
            x, y, label, ha="center", va="center", fontsize=10, color=INK, zorder=3,
            bbox={"boxstyle": "round,pad=0.35", "fc": face, "ec": INK, "lw": 1.1},
        )  # fmt: skip
    axes.text(
        *head, "y", ha="center", va="center", fontsize=10.5, color="white",
        zorder=3, bbox={"boxstyle": "round,pad=0.5", "fc": INK, "ec": INK},
    )  # fmt: skip
    bottom = -tall - 0.9
    axes.text(0, bottom, "inputs", ha="center", va="top", fontsize=9, color="#667")
    axes.text(2.6 * (depth + 1) / 2, bottom, "nodes, by level", ha="center", va="top",
              fontsize=9, color="#667")  # fmt: skip
    axes.text(head[0], bottom, "linear head\n(blue +, red -)", ha="center", va="top",
              fontsize=9, color="#667")  # fmt: skip
    axes.set_xlim(-0.9, head[0] + 1.3)
    axes.set_ylim(bottom - 1.0, 0.8)
    axes.axis("off")
    figure.savefig(file, bbox_inches="tight")


if __name__ == "__main__":
    X, y = make_friedman1(n_samples=500, n_features=5, noise=0.5, random_state=0)
    names = ["a", "b", "c", "d", "e"]
    model = EvolvingRegressor(n_members=1, max_nodes=7, n_generations=60, random_state=5)
    model.fit(pd.DataFrame(X, columns=names), y)
    print(f"R2 {model.score(pd.DataFrame(X, columns=names), y):.3f}\n{model.formula_}")
    draw(model, names, sys.argv[1])
