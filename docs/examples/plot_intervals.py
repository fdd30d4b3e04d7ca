"""
How sure is a prediction?
=========================

`predict_interval` is made of the errors on rows that the members held out. It is wider where
errors are larger, and holds the share of new rows that was asked for.
"""

# %%
# One column, and noise that grows with it.

import matplotlib.pyplot as plt
import numpy as np

from skevo import EvolvingRegressor

draw = np.random.default_rng(0)


def rows(n):
    """Draw rows of a wave with growing noise."""
    x = draw.uniform(0, 10, n)
    return x[:, None], np.sin(x) + 0.5 * x + draw.normal(0, 0.08 + 0.09 * x)


X, y = rows(600)
model = EvolvingRegressor(n_members=4, random_state=0).fit(X, y)

# %%
# Intervals for 50 % and for 90 % of new rows.

grid = np.linspace(0, 10, 300)[:, None]
figure, ax = plt.subplots(figsize=(6.8, 4.2), layout="constrained")
ax.scatter(X, y, s=8, color="#8c8c8c", lw=0, label="training rows")
for coverage, alpha in [(0.9, 0.25), (0.5, 0.45)]:
    low, high = model.predict_interval(grid, coverage=coverage).T
    ax.fill_between(
        grid[:, 0], low, high, color="#3a8fd0", alpha=alpha, lw=0, label=f"{coverage:.0%} of rows"
    )
ax.plot(grid, model.predict(grid), color="#e0701a", lw=2, label="prediction")
ax.set(xlabel="x", ylabel="y")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper left")

# %%
# Do they hold what they promise? On 20,000 new rows:

X_new, y_new = rows(20_000)
for coverage in (0.5, 0.8, 0.9, 0.95):
    low, high = model.predict_interval(X_new, coverage=coverage).T
    inside = ((low <= y_new) & (y_new <= high)).mean()
    print(f"asked for {coverage:.0%}, inside {inside:.1%}, mean width {(high - low).mean():.2f}")

# %%
# The promise is one on average over all rows. Where noise is least the intervals hold more:

low, high = model.predict_interval(X_new, coverage=0.9).T
inside = (low <= y_new) & (y_new <= high)
for start in range(0, 10, 2):
    there = (X_new[:, 0] >= start) & (X_new[:, 0] < start + 2)
    print(f"{start} to {start + 2}: {inside[there].mean():.1%}")

plt.show()
