"""
Losses: quantiles, counts, outliers
===================================

The loss says what is predicted: a mean, a median or another quantile, or the mean of counts.
"""

# %%
# Quantiles
# ---------
# A skewed target. Each quantile is a model of its own; between the outer two lie 80 % of the rows.
# The dotted lines are the true quantiles.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import gamma
from sklearn.metrics import mean_poisson_deviance

from skevo import EvolvingRegressor

draw = np.random.default_rng(0)
x = np.sort(draw.uniform(0, 6, 800))
X = x[:, None]
y = 2 + np.sin(x) + draw.gamma(1.5, 0.1 + 0.1 * x)

figure, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
ax.scatter(x, y, s=8, color="#8c8c8c", lw=0)
for quantile, colour in [(0.9, "#e0701a"), (0.5, "black"), (0.1, "#3a8fd0")]:
    model = EvolvingRegressor(loss="quantile", quantile=quantile, random_state=0).fit(X, y)
    predicted = model.predict(X)
    below = (y <= predicted).mean()
    label = f"quantile {quantile}: {below:.0%} of rows below"
    ax.plot(x, predicted, color=colour, lw=2, label=label)
    truth = 2 + np.sin(x) + gamma.ppf(quantile, 1.5, scale=0.1 + 0.1 * x)
    ax.plot(x, truth, color=colour, lw=1.2, ls=":")
ax.set(xlabel="x", ylabel="y")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper left")

# %%
# Counts
# ------
# With ``loss="poisson"`` the network is the logarithm of the rate, so that terms multiply, and no
# prediction is negative.

rate = np.exp(1.2 * np.sin(x) - 0.4)
counts = draw.poisson(rate)
squared = EvolvingRegressor(n_members=2, random_state=0).fit(X, counts)
poisson = EvolvingRegressor(loss="poisson", n_members=2, random_state=0).fit(X, counts)

figure, ax = plt.subplots(figsize=(6.8, 3.8), layout="constrained")
ax.scatter(x, counts + draw.uniform(-0.15, 0.15, len(x)), s=6, color="#b0b0b0", lw=0)
ax.plot(x, rate, color="black", lw=2, ls=":", label="true rate")
ax.plot(x, squared.predict(X), color="#3a8fd0", lw=2, label="squared error")
ax.plot(x, poisson.predict(X), color="#e0701a", lw=2, label="Poisson")
ax.set(xlabel="x", ylabel="count")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

new_counts = draw.poisson(rate)
print(f"deviance on new counts: {mean_poisson_deviance(new_counts, poisson.predict(X)):.3f}")
print(f"lowest prediction of squared error: {squared.predict(X).min():.2f}")

# %%
# Outliers
# --------
# One target in twenty is far off. The squared error follows them, the absolute error does not.

X_new = draw.uniform(0, 6, (400, 1))
truth = np.sin(X_new[:, 0])
clean = np.sin(x) + draw.normal(0, 0.1, len(x))
spoilt = np.where(draw.random(len(x)) < 0.05, 8.0, clean)
for loss in ("squared_error", "huber", "absolute_error"):
    model = EvolvingRegressor(loss=loss, n_members=2, random_state=0).fit(X, spoilt)
    error = np.abs(model.predict(X_new) - truth).mean()
    print(f"{loss:16}mean error from the truth {error:.3f}")

plt.show()
