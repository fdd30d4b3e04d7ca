"""
Accuracy against complexity
===========================

A fit keeps the model of each generation that improved. `select` returns a smaller one of them,
without fitting again.
"""

# %%
# Friedman's first function: of ten columns five matter.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import make_friedman1
from sklearn.model_selection import train_test_split

from skevo import EvolvingRegressor, PathDisplay, TopologyDisplay

X, y = make_friedman1(n_samples=800, n_features=10, noise=1.5, random_state=0)
X = pd.DataFrame(X, columns=[*"abcdefghij"])
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

model = EvolvingRegressor(n_members=1, random_state=0).fit(X_train, y_train)

# %%
# Validation loss against nodes, and what each rule takes: the best model, the smallest one within
# a standard error of it, and the one where the loss fell most per node.

PathDisplay.from_estimator(model)

# %%
# What does a smaller formula cost? Noise of a deviation of 1.5 allows no more than this:

print(f"{'the best possible':36}R2 {1 - 1.5**2 / y_test.var():.3f}")
for rule in ("best", "one-standard-error", "steepest"):
    chosen = model.select(rule=rule)
    print(f"{rule:20}{chosen.n_nodes_:4} nodes      R2 {chosen.score(X_test, y_test):.3f}")

# %%
# Or say how many nodes you are ready to read.

readable = model.select(nodes=8)
print(f"{readable.n_nodes_} nodes, R2 {readable.score(X_test, y_test):.3f}")
print(readable.formula_)

TopologyDisplay.from_estimator(readable)

plt.show()
