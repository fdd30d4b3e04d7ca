"""
Probabilities of classes
========================

A classifier's formula is that of the log-odds. Its probabilities are drawn towards even odds as far
as rows that the members held out demand it, so that they mean what they say.
"""

# %%
# Two moons, of which one in ten points has the wrong label.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import make_moons
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import log_loss

from skevo import EvolvingClassifier

draw = np.random.default_rng(0)


def rows(n):
    """Draw points with noisy labels."""
    X, y = make_moons(n, noise=0.2, random_state=int(draw.integers(1000)))
    return X, np.where(draw.random(n) < 0.1, 1 - y, y)


X, y = rows(500)
X_new, y_new = rows(5000)
small = EvolvingClassifier(n_members=1, max_nodes=4, random_state=0).fit(X, y)
print(small.formula_)

# %%
# The probability of the second class, and where it is one half.

model = EvolvingClassifier(random_state=0).fit(X, y)
figure, ax = plt.subplots(figsize=(6.6, 4.4), layout="constrained")
shown = DecisionBoundaryDisplay.from_estimator(
    model, X, ax=ax, response_method="predict_proba", class_of_interest=1, plot_method="contourf",
    levels=np.linspace(0, 1, 11), cmap="PuOr_r", grid_resolution=150, eps=0.2, alpha=0.6,
)  # fmt: skip
ax.contour(shown.xx0, shown.xx1, shown.response, levels=[0.5], colors="black", linewidths=1.2)
for label, (marker, colour) in enumerate([("o", "#542788"), ("s", "#b35806")]):
    ax.scatter(
        *X[y == label].T, s=16, marker=marker, c=colour, ec="white", lw=0.5, label=f"class {label}"
    )
figure.colorbar(shown.surface_, ax=ax, label="probability of class 1")
ax.set(xlabel="first column", ylabel="second column")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)

# %%
# On new rows: of those that get a probability of 0.8, do 80 % belong to the class?

boosted = HistGradientBoostingClassifier(random_state=0).fit(X, y)
figure, ax = plt.subplots(figsize=(5.4, 5.0), layout="constrained")
for name, classifier, colour in [
    ("evolving network", model, "#e0701a"),
    ("boosted trees", boosted, "#3a8fd0"),
]:
    loss = log_loss(y_new, classifier.predict_proba(X_new))
    CalibrationDisplay.from_estimator(
        classifier, X_new, y_new, n_bins=8, strategy="quantile", ax=ax, color=colour,
        name=f"{name}, log-loss {loss:.3f}",
    )  # fmt: skip
ax.spines[["top", "right"]].set_visible(False)

plt.show()
