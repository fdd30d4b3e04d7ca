"""
A first fit, and its formula
============================

A regression whose law we know: accuracy beside other models, the network as a formula and as a
picture, and the course of its evolution.
"""

# %%
# How far does a car go until it stands? It goes on for the driver's reaction time, and then brakes
# as well as the road's grip allows: speed * reaction + speed ** 2 / (2 * 9.81 * grip) metres. The
# distances are measured with an error of two metres; the mass does not matter.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split

from skevo import EvolutionDisplay, EvolvingRegressor, TopologyDisplay

draw = np.random.default_rng(0)
n = 500
X = pd.DataFrame(
    {
        "speed": draw.uniform(5, 40, n),
        "reaction": draw.uniform(0.5, 2, n),
        "grip": draw.uniform(0.3, 0.9, n),
        "mass": draw.uniform(900, 2500, n),
    }
)
truth = X["speed"] * X["reaction"] + X["speed"] ** 2 / (2 * 9.81 * X["grip"])
y = truth + draw.normal(0, 2, n)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# Accuracy on the test rows, with the defaults of all:

model = EvolvingRegressor(random_state=0).fit(X_train, y_train)
for other in (model, HistGradientBoostingRegressor(random_state=0), RidgeCV()):
    score = other.fit(X_train, y_train).score(X_test, y_test)
    print(f"{type(other).__name__:32}R2 {score:.4f}")
print(f"{'the best that the error allows':32}R2 {1 - 2**2 / y_test.var():.4f}")

# %%
# The default combines eight networks. For a formula to read, grow one of few nodes; here of
# products and quotients alone.

small = EvolvingRegressor(n_members=1, max_nodes=3, operators=("mul", "div"), random_state=0)
small.fit(X_train, y_train)
print(f"R2 {small.score(X_test, y_test):.4f}")
print(small.formula_)
print(f"1 / (2 * 9.81) = {1 / (2 * 9.81):.4f}")

# %%
# The largest terms are the law, with its constants. The others are next to nothing: the head keeps
# every column, and ridge keeps it small.
#
# The same as a picture. A line to the head is as wide as the weight of its column; blue adds,
# orange subtracts.

TopologyDisplay.from_estimator(small)

# %%
# Losses and nodes, generation after generation, and the one that was kept:

EvolutionDisplay.from_estimator(small)
plt.show()

# %%
# Notebooks show formula and course below scikit-learn's diagram.

small
