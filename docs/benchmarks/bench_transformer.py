"""Measure EvolvingTransformer in front of linear models and boosted trees; print Markdown tables.

    python docs/benchmarks/bench_transformer.py
    python docs/benchmarks/bench_transformer.py --data DIR --seeds 1

DIR is laid out as for bench_suites.py: the tables of its folders `regression`, `classification` and
`srbench` are measured. Without it, tables that scikit-learn bundles or generates. Needs pandas.

Every table is split 75/25 with the seeds of bench_suites.py and at most 10,000 rows are trained on.
Ridge, LogisticRegression and HistGradientBoosting are fitted to the columns of the table and to
those of EvolvingTransformer with its defaults, which has the columns of the table in front. Linear
models stand behind StandardScaler. Of the table text becomes one-hot columns and missing cells
medians for them, while HistGradientBoosting has its own way. Scores are R2, the higher the better,
or log-loss, the lower the better; means over seeds.
"""

import argparse
import os
import pathlib
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.metrics import log_loss, r2_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from tables import SEEDS, markdown, numbers, split, tables  # noqa: E402

from skevo import EvolvingClassifier, EvolvingRegressor, EvolvingTransformer  # noqa: E402

SUITES = ("regression", "srbench", "classification")
# Of more tables only the means are shown.
MOST_SHOWN = 20


def measure(X, y, train, test, seed, classify):
    """Return scores and the number and seconds of evolved columns, by name."""
    linear = LogisticRegression(max_iter=1000) if classify else Ridge()
    boosting = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    model = EvolvingClassifier if classify else EvolvingRegressor
    evolved = EvolvingTransformer(estimator=model(), random_state=seed)

    def score(fitted, X):
        if classify:
            return log_loss(y[test], fitted.predict_proba(X), labels=np.unique(y))
        return r2_score(y[test], fitted.predict(X))

    X, X_test, y_train = X.iloc[train], X.iloc[test], y[train]
    start = time.perf_counter()
    Z = evolved.fit_transform(X, y_train)
    seconds = time.perf_counter() - start
    Z_test = evolved.transform(X_test)
    name, trees = type(linear).__name__, "HistGradientBoosting"
    before = make_pipeline(numbers(), StandardScaler(), linear).fit(X, y_train)
    found = {f"{name}, table": score(before, X_test)}
    after = make_pipeline(StandardScaler(), linear).fit(Z, y_train)
    found[f"{name}, evolved"] = score(after, Z_test)
    before = boosting(random_state=seed, categorical_features="from_dtype").fit(X, y_train)
    found[f"{trees}, table"] = score(before, X_test)
    found[f"{trees}, evolved"] = score(boosting(random_state=seed).fit(Z, y_train), Z_test)
    found["its estimator"] = score(evolved.estimator_, X_test)
    return {**found, "columns": evolved.n_columns_, "fit s": seconds}


def suite_of(suite, options):
    """Return a frame with a row per (table, seed)."""
    classify, rows = suite == "classification", []
    for name, X, y in tables(suite, options.data):
        y = np.unique(y, return_inverse=True)[1] if classify else y
        for seed in SEEDS[: options.seeds]:
            train, test = split(y, seed, classify)
            found = measure(X, y, train, test, seed, classify)
            rows.append({"table": name, "seed": seed, **found})
    return pd.DataFrame(rows)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for suite in SUITES:
        if suite == "srbench" and options.data is None:
            # Those that take its place are the ones of regression.
            continue
        found = suite_of(suite, options)
        by_table = found.groupby("table", sort=False).mean().drop(columns="seed")
        sign = -1.0 if suite == "classification" else 1.0
        print(f"{suite}, {'log-loss' if sign < 0 else 'R2'}, {len(by_table)} tables:\n")
        if len(by_table) <= MOST_SHOWN:
            shown = by_table.copy()
            shown["columns"] = shown["columns"].round().astype(int)
            markdown(shown.reset_index())
        lines = []
        for name in dict.fromkeys(c.split(",")[0] for c in by_table if c.endswith("table")):
            before, after = by_table[f"{name}, table"], by_table[f"{name}, evolved"]
            better = f"{int((sign * (after - before) > 0).sum())} of {len(by_table)}"
            means = [before.mean(), after.mean(), before.median(), after.median()]
            lines.append([name, *map(float, means), better])
        heads = ["in front of", "mean, table", "mean, evolved", "median, table", "median, evolved"]
        markdown(pd.DataFrame(lines, columns=[*heads, "better on"]))


if __name__ == "__main__":
    main()
