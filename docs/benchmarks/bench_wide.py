"""Measure what is found among many columns, and print a Markdown table.

    python docs/benchmarks/bench_wide.py

The target is x0 + x1 x2 + 0.5 noise, all columns standard normal: x1 and x2 tell nothing but
together. R2 on 1,000 further rows; the noise leaves 0.89, x0 alone has 0.44. Medians of three
draws, default parameters, one thread. CatBoost takes part if it is installed.
"""

import importlib.util
import os
import time
import warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: E402
from sklearn.linear_model import LassoCV  # noqa: E402
from sklearn.metrics import r2_score  # noqa: E402
from tables import markdown  # noqa: E402

from skevo import EvolvingRegressor  # noqa: E402

warnings.simplefilter("ignore")
N_TEST = 1000


def draw(n_rows, n_columns, seed):
    """Return X and y."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns))
    return X, X[:, 0] + X[:, 1] * X[:, 2] + 0.5 * rng.normal(size=n_rows)


def methods(seed):
    """Return the estimators to compare, by name."""
    found = {
        "skevo": EvolvingRegressor(random_state=seed),
        "HistGradientBoosting": HistGradientBoostingRegressor(random_state=seed),
        "LassoCV": LassoCV(),
    }
    if importlib.util.find_spec("catboost"):
        from catboost import CatBoostRegressor

        found["CatBoost"] = CatBoostRegressor(
            random_seed=seed, thread_count=1, verbose=0, allow_writing_files=False
        )
    return found


rows = []
for n_rows, n_columns in ((300, 30), (300, 100), (1000, 100), (1000, 300), (3000, 300)):
    for seed in range(3):
        X, y = draw(n_rows + N_TEST, n_columns, seed)
        for method, model in methods(seed).items():
            start = time.perf_counter()
            model.fit(X[:n_rows], y[:n_rows])
            seconds = time.perf_counter() - start
            score = r2_score(y[n_rows:], model.predict(X[n_rows:]))
            rows.append([n_rows, n_columns, method, score, seconds])
result = pd.DataFrame(rows, columns=["rows", "columns", "method", "R2", "fit s"])
wide = result.groupby(["rows", "columns", "method"], sort=False).median().unstack(sort=False)
wide.columns = [f"{method} {value}" for value, method in wide.columns]
markdown(wide.reset_index())
