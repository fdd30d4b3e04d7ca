"""Draw the README's pictures: a network evolved on Friedman's function, and one as it evolves.

    python docs/images/make_images.py docs/images

Needs the extra `plot`, and pandas.
"""

import io
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.datasets import make_friedman1

from skevo import EvolvingRegressor, TopologyDisplay

POINTS, CURVE = "#8c8c8c", "#e0701a"
SECONDS, LAST_SECONDS = 0.9, 4.0


def draw_network(file):
    """Draw a network of seven nodes."""
    X, y = make_friedman1(n_samples=500, n_features=5, noise=0.5, random_state=0)
    X = pd.DataFrame(X, columns=["a", "b", "c", "d", "e"])
    model = EvolvingRegressor(n_members=1, max_nodes=7, n_generations=60, random_state=0).fit(X, y)
    print(f"R2 {model.score(X, y):.3f}\n{model.formula_}")
    TopologyDisplay.from_estimator(model).figure_.savefig(file, dpi=130)


def draw_evolution(file):
    """Draw the network of each generation that improved, beside what it predicts."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-3, 3, 400))
    y = np.sin(2 * x) * np.abs(x) + 2 * (x > 1) + 0.3 * rng.normal(size=len(x))
    X, parameters = pd.DataFrame({"x": x}), {"n_members": 1, "max_nodes": 16, "random_state": 1}
    path = EvolvingRegressor(**parameters).fit(X, y).path_
    frames = []
    for generation in path["generation"]:
        model = EvolvingRegressor(**parameters, n_generations=int(generation)).fit(X, y)
        frames.append(frame(model, X, y, f"generation {generation}"))
    frames = [picture.quantize(64, dither=Image.Dither.NONE) for picture in frames]
    times = [int(1000 * SECONDS)] * (len(frames) - 1) + [int(1000 * LAST_SECONDS)]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=times, loop=0)


def frame(model, X, y, title):
    """Return a picture of a model of one column."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=(1.8, 1)
    )
    TopologyDisplay.from_estimator(model, ax=left)
    right.scatter(X["x"], y, s=5, color=POINTS, lw=0)
    right.plot(X["x"], model.predict(X), color=CURVE, lw=2)
    right.set(xlabel="x", ylabel="y")
    right.set_title(f"{title}: {model.n_nodes_} nodes, R2 {model.score(X, y):.2f}")
    right.spines[["top", "right"]].set_visible(False)
    memory = io.BytesIO()
    figure.savefig(memory, dpi=75)
    plt.close(figure)
    return Image.open(memory).convert("RGB")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_network(folder / "network.png")
    draw_evolution(folder / "evolution.gif")
