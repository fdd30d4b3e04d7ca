"""Measure coverage and width of prediction intervals, and print Markdown tables.

    python docs/benchmarks/bench_intervals.py
    python docs/benchmarks/bench_intervals.py --data DIR

DIR is laid out as for bench_suites.py: all tables of its folder `regression` are measured, and the
largest of `srbench`. Without it, tables that scikit-learn bundles or generates. Needs pandas.

Every table is split 75/25 with the seeds of bench_suites.py and at most 10,000 rows are trained on.
Coverage is the share of test rows inside their intervals, width the mean of the intervals in
standard deviations of the test rows' target; both are means over seeds. The references are made of
HistGradientBoosting: two fits with the quantile loss, and split conformal, where a fifth of the
training rows is held out and the intervals are as wide as a quantile of its absolute errors [1].

[1] J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani and L. Wasserman, "Distribution-free predictive
    inference for regression", Journal of the American Statistical Association 113, 2018.
"""

import argparse
import itertools
import os
import pathlib
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from tables import SEEDS, markdown, split, tables  # noqa: E402

from skevo import EvolvingRegressor  # noqa: E402

COVERAGES = (0.5, 0.8, 0.9, 0.95)
# Coverages whose widths are shown.
SHOWN = (0.5, 0.9)


def largest(n_tables, data):
    """Return the tables of the symbolic-regression benchmark with most rows, without data none."""
    found = [] if data is None else tables("srbench", data)
    return sorted(found, key=lambda table: -len(table[2]))[:n_tables]


def intervals(X, y, X_test, seed):
    """Yield (method, coverage, low, high) of the test rows."""
    model = EvolvingRegressor(random_state=seed).fit(X, y)
    for coverage in COVERAGES:
        yield "skevo", coverage, *model.predict_interval(X_test, coverage).T

    def boosting(**parameters):
        return HistGradientBoostingRegressor(
            random_state=seed, categorical_features="from_dtype", **parameters
        )

    for coverage in COVERAGES:
        low, high = (
            boosting(loss="quantile", quantile=level).fit(X, y).predict(X_test)
            for level in (0.5 - coverage / 2, 0.5 + coverage / 2)
        )
        yield "quantile loss", coverage, low, high
    kept, held = train_test_split(np.arange(len(y)), test_size=0.2, random_state=seed)
    model = boosting().fit(X.iloc[kept], y[kept])
    errors = np.sort(np.abs(y[held] - model.predict(X.iloc[held])))
    middle = model.predict(X_test)
    for coverage in COVERAGES:
        rank = int(np.ceil((len(errors) + 1) * coverage))
        half = errors[rank - 1] if rank <= len(errors) else np.inf
        yield "split conformal", coverage, middle - half, middle + half


def measure(options):
    """Return a frame with a row per (table, seed, method, coverage)."""
    rows = []
    others = largest(options.largest, options.data)
    for name, X, y in itertools.chain(tables("regression", options.data), others):
        for seed in SEEDS[: options.seeds]:
            train, test = split(y, seed)
            truth = y[test]
            for method, asked, low, high in intervals(X.iloc[train], y[train], X.iloc[test], seed):
                inside, width = np.mean((low <= truth) & (truth <= high)), np.mean(high - low)
                rows.append([name, seed, method, asked, 100 * inside, width / truth.std()])
    return pd.DataFrame(rows, columns=["table", "seed", "method", "asked", "coverage", "width"])


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=5, help="how many tables of srbench")
    parser.add_argument("--csv", help="file for a row per measurement")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    result = measure(options)
    if options.csv:
        result.to_csv(options.csv, index=False)
    mean = result.groupby(["table", "method", "asked"], sort=False)[["coverage", "width"]].mean()
    ours = mean.xs("skevo", level="method")["coverage"].unstack()
    ours.columns = [f"inside, of {100 * asked:g} %" for asked in ours.columns]
    markdown(ours.reset_index(), 1)
    for asked in SHOWN:
        wide = mean.xs(asked, level="asked").unstack(sort=False)
        wide.columns = [f"{method}, {what}" for what, method in wide.columns]
        print(f"{100 * asked:g} % asked for:\n")
        markdown(wide.reset_index(), 2)
    mean["miss"] = (mean["coverage"] - 100 * mean.index.get_level_values("asked")).abs()
    summary = mean.groupby(["method", "asked"], sort=False).agg(
        coverage=("coverage", "mean"),
        within_2_points=("miss", lambda miss: f"{(miss <= 2.0).sum()} of {len(miss)}"),
        mean_miss=("miss", "mean"),
        mean_width=("width", "mean"),
    )
    markdown(summary.reset_index(), 2)


if __name__ == "__main__":
    main()
