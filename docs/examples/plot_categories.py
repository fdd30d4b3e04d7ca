"""
Categories and missing cells
============================

A frame is fitted as it is: text and categories become columns that are 1 for a level, and a missing
cell has a column of its own. Both can stand in the formula.
"""

# %%
# Rents of flats that we make up, so that we know the truth: a square metre costs 13 in Bonn, 10 in
# Ulm, 8 in Kiel; a balcony is 60; and where nobody noted the year of construction, 90 are missing.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from skevo import EvolvingRegressor, TopologyDisplay

draw = np.random.default_rng(0)
n = 1200
flats = pd.DataFrame(
    {
        "area": draw.uniform(25, 120, n).round(),
        "town": draw.choice(["Ulm", "Bonn", "Kiel"], n),
        "balcony": draw.random(n) < 0.4,
        "year": draw.integers(1900, 2024, n).astype(float),
    }
)
unknown = draw.random(n) < 0.2
flats.loc[unknown, "year"] = np.nan
price = flats["town"].map({"Ulm": 10.0, "Bonn": 13.0, "Kiel": 8.0})
rent = price * flats["area"] + 60 * flats["balcony"] - 90 * unknown + draw.normal(0, 25, n)
print(flats.head(4))

# %%
# Two nodes are enough: products of the area and a level.

train, test, rent_train, rent_test = train_test_split(flats, rent, random_state=0)
model = EvolvingRegressor(n_members=1, max_nodes=2, operators=("mul",), random_state=0)
model.fit(train, rent_train)
print(f"R2 {model.score(test, rent_test):.3f}")
print(model.formula_)

# %%
# The sum of squares that no model can explain is that of the noise, so the best R2 is

print(f"{1 - 25**2 / rent_test.var():.3f}")

# %%
TopologyDisplay.from_estimator(model)

# %%
# What the model makes of towns and areas. A town that it has not seen has no level, so that it is
# taken for the one that the products do not name.

area = np.linspace(25, 120, 50)
figure, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
for town, style in [("Bonn", "-"), ("Ulm", "-"), ("Kiel", "-"), ("Rome", "k:")]:
    rows = pd.DataFrame({"area": area, "town": town, "balcony": False, "year": 1990.0})
    ax.plot(area, model.predict(rows), style, label=town)
ax.set(xlabel="area", ylabel="predicted rent")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

plt.show()
