"""
What one prediction is made of
==============================

`contributions` says what each column, or each term of the formula, adds to a prediction, compared
with a typical row. They sum to the prediction.
"""

# %%
import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from skevo import ContributionDisplay, EvolvingRegressor

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = EvolvingRegressor(n_members=4, random_state=0).fit(X_train, y_train)

# %%
# One patient. From the prediction of a typical row (dotted) bars lead to that of this one.

patient = X_test.iloc[[3]]
ContributionDisplay.from_estimator(model, patient)

# %%
# The same in numbers.

found = model.contributions(patient)
print(f"constant {found.constant[0]:.1f}, prediction {found.prediction[0]:.1f}")
print(pd.Series(found.values[0], found.names).round(1).sort_values(key=abs, ascending=False))

# %%
# All patients: a point for each, coloured by the value of the column.

ContributionDisplay.from_estimator(model, X_test)

# %%
# By term of the formula, of a model with few of them.

small = model.select(nodes=40)
ContributionDisplay.from_estimator(small, X_test, by="term", max_terms=8)

# %%
# How much the loss rises if what a column contributes is replaced by its mean.

print(pd.Series(model.feature_importances_, X.columns).round(3).sort_values(ascending=False))

plt.show()
