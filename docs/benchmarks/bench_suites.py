"""Measure the estimators beside references, in one run, and print Markdown tables.

    python docs/benchmarks/bench_suites.py regression
    python docs/benchmarks/bench_suites.py regression --also EBM,RealMLP,TabM --seeds 1
    python docs/benchmarks/bench_suites.py classification --data DIR
    python docs/benchmarks/bench_suites.py srbench --data DIR --seeds 2
    python docs/benchmarks/bench_suites.py feynman --data DIR
    python docs/benchmarks/bench_suites.py source-text --data DIR

DIR holds a folder per suite with a CSV or TSV file per table, gzipped or not, whose column `target`
is to be predicted; `srbench` also `published.csv` (columns dataset, algorithm, r2_test). `feynman`
is the file DIR/feynman.json, formulas by name with the ranges of their variables. Without --data,
tables that scikit-learn bundles or generates are used. Needs pandas; xgboost, lightgbm and catboost
take part in `regression` and `classification`, and pyoperon in `feynman`, if they are installed.
What takes minutes for a fit only does if --also names it: EBM (interpret-core), RealMLP and TabM
(pytabkit), all with default parameters.

Every table is split 75/25 with the seeds of the published benchmark and at most 10,000 rows are
trained on. Text is passed as categories and missing cells as they are; for linear models they
become one-hot columns and medians. ECE is the expected calibration error, of 15 bins of as
many rows. One thread unless --threads says otherwise.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import time
import warnings
from functools import partial

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument(
    "suite", choices=["regression", "classification", "srbench", "feynman", "source-text"]
)
parser.add_argument("--data", type=pathlib.Path)
parser.add_argument("--seeds", type=int, default=2)
parser.add_argument("--rows", type=int, default=10_000, help="rows to train on, at most")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--only", default="", help="comma list of tables")
parser.add_argument("--csv", help="file for a row per fit")
parser.add_argument(
    "--members", type=int, help="n_members of the estimator, instead of its default"
)
parser.add_argument("--also", default="", help="comma list of EBM, RealMLP, TabM")
parser.add_argument("--ours", action="store_true", help="leave other packages out")
options = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(options.threads)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV  # noqa: E402
from sklearn.metrics import accuracy_score, log_loss, r2_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, StandardScaler  # noqa: E402
from tables import SEEDS, filled, markdown, numbers, split, tables  # noqa: E402

from skevo import EvolvingClassifier, EvolvingRegressor  # noqa: E402

warnings.simplefilter("ignore")
# The source text's own algorithm.
SOURCE_TEXT = {
    "operators": ("add", "mul"),
    "n_candidates": 1,
    "pruning": "std",
    "solver": "adam",
    "n_members": 1,
}


def formulas():
    """Yield (name, X, y, X_test, y_test) of formulas of physics, without noise."""
    names = ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh", "pi", "arcsin", "arccos")
    space = {name: getattr(np, name) for name in names}
    space |= {"asin": np.arcsin, "acos": np.arccos, "ln": np.log}
    for name, entry in sorted(json.loads((options.data / "feynman.json").read_text()).items()):
        if options.only and name not in options.only.split(","):
            continue
        draws = []
        for n_rows, seed in ((3000, 1), (2000, 2)):
            rng = np.random.default_rng(seed)
            values = {key: rng.uniform(*r, n_rows) for key, r in entry["ranges"].items()}
            y = eval(entry["formula"].split("=", 1)[1], dict(space), values)
            finite = np.isfinite(y)
            draws += [np.column_stack(list(values.values()))[finite], y[finite]]
        yield name, *draws


def measure_formulas():
    """Print the share of formulas with R2 above 0.999, and the median fit time."""
    makers = {"skevo": lambda: EvolvingRegressor(random_state=0)}
    if importlib.util.find_spec("pyoperon") and not options.ours:
        from pyoperon.sklearn import SymbolicRegressor

        # The settings that were published with the benchmark.
        makers["Operon"] = lambda: SymbolicRegressor(
            allowed_symbols="add,sub,mul,aq,sin,constant,variable", optimizer_iterations=5,
            max_evaluations=500_000, population_size=500, pool_size=500, max_length=50,
            n_threads=options.threads, random_state=0,
        )  # fmt: skip
    rows = []
    for name, X, y, X_test, y_test in formulas():
        for method, make in makers.items():
            model, start = make(), time.perf_counter()
            model.fit(X, y)
            seconds = time.perf_counter() - start
            rows.append([method, name, r2_score(y_test, model.predict(X_test)), seconds])
    found = pd.DataFrame(rows, columns=["method", "formula", "R2", "fit s"])
    found["solved"] = found["R2"] > 0.999
    if options.csv:
        found.to_csv(options.csv, index=False)
    summary = found.groupby("method", sort=False).agg(
        formulas=("R2", "size"),
        solved=("solved", "mean"),
        median_R2=("R2", "median"),
        median_fit_s=("fit s", "median"),
    )
    markdown(summary.reset_index())


def numeric(estimator, X):
    """Put an estimator behind what makes numbers of a table, if that is needed."""
    text = X.select_dtypes("category")
    if not len(text.columns) and not X.isna().any(axis=None):
        return estimator
    return make_pipeline(numbers(), estimator)


def methods(suite, X, seed):
    """Return the estimators to compare, by name."""
    if suite == "source-text":
        return {
            "defaults": EvolvingRegressor(random_state=seed),
            "defaults, one member": EvolvingRegressor(n_members=1, random_state=seed),
            "source text, 200 generations": EvolvingRegressor(
                **SOURCE_TEXT, n_generations=200, n_iter_no_change=None, random_state=seed
            ),
        }
    parameters = {} if options.members is None else {"n_members": options.members}
    if suite == "classification":
        return {
            "skevo": EvolvingClassifier(random_state=seed, **parameters),
            "HistGradientBoosting": HistGradientBoostingClassifier(
                random_state=seed, categorical_features="from_dtype"
            ),
            "LogisticRegression": numeric(
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)), X
            ),
            **peers(X, seed, "Classifier"),
        }
    ours = {"skevo": EvolvingRegressor(random_state=seed, **parameters)}
    if suite == "srbench":
        return ours
    return {
        **ours,
        "HistGradientBoosting": HistGradientBoostingRegressor(
            random_state=seed, categorical_features="from_dtype"
        ),
        "RidgeCV": numeric(make_pipeline(StandardScaler(), RidgeCV()), X),
        **peers(X, seed, "Regressor"),
    }


def peers(X, seed, kind):
    """Return other packages' estimators of a kind, with default parameters, if they are there."""
    found = {}
    if options.ours:
        return found
    threads = options.threads
    if importlib.util.find_spec("xgboost"):
        import xgboost

        found["XGBoost"] = getattr(xgboost, f"XGB{kind}")(
            random_state=seed, n_jobs=threads, enable_categorical=True
        )
    if importlib.util.find_spec("lightgbm"):
        import lightgbm

        found["LightGBM"] = getattr(lightgbm, f"LGBM{kind}")(
            random_state=seed, n_jobs=threads, verbose=-1
        )
    if importlib.util.find_spec("catboost"):
        import catboost

        found["CatBoost"] = make_pipeline(
            FunctionTransformer(text_for_catboost),
            getattr(catboost, f"CatBoost{kind}")(
                random_seed=seed,
                thread_count=threads,
                verbose=0,
                allow_writing_files=False,
                cat_features=list(X.select_dtypes("category").columns),
            ),
        )
    for name in filter(None, options.also.split(",")):
        found[name] = SLOW[name](seed, kind)
    return found


def explainable(seed, kind):
    """Return an explainable boosting machine."""
    from interpret import glassbox

    maker = getattr(glassbox, f"ExplainableBoosting{kind}")
    return maker(random_state=seed, n_jobs=options.threads)


def neural(name, seed, kind):
    """Return a neural network behind what fills cells, as it takes none that is missing."""
    import pytabkit

    network = getattr(pytabkit, f"{name}_{kind}")(
        device="cpu", n_threads=options.threads, random_state=seed
    )
    return make_pipeline(filled(), network)


SLOW = {
    "EBM": explainable,
    "RealMLP": partial(neural, "RealMLP_TD"),
    "TabM": partial(neural, "TabM_D"),
}


def text_for_catboost(X):
    """Return a frame whose categories are text, none of them missing."""
    X = X.copy()
    for column in X.select_dtypes("category"):
        X[column] = X[column].astype(object).where(X[column].notna(), "missing").astype(str)
    return X


def measure(suite):
    """Return a frame with a row per (table, seed, method)."""
    classify = suite == "classification"
    rows = []
    folder = "regression" if suite == "source-text" else suite
    for name, X, y in tables(folder, options.data, set(filter(None, options.only.split(",")))):
        if classify:
            y = np.unique(y, return_inverse=True)[1]
        for seed in SEEDS[: options.seeds]:
            train, test = split(y, seed, classify, options.rows)
            for method, model in methods(suite, X, seed).items():
                start = time.perf_counter()
                model.fit(X.iloc[train], y[train])
                row = {"table": name, "seed": seed, "method": method}
                row["fit s"] = time.perf_counter() - start
                if classify:
                    # A class may not be among few rows.
                    probability = np.zeros((len(test), y.max() + 1))
                    probability[:, np.unique(y[train])] = model.predict_proba(X.iloc[test])
                    row["log-loss"] = log_loss(y[test], probability, labels=np.unique(y))
                    row["ECE"] = calibration_error(y[test], probability)
                    row["accuracy"] = accuracy_score(y[test], probability.argmax(axis=1))
                else:
                    row["R2"] = r2_score(y[test], model.predict(X.iloc[test]))
                rows.append(row)
    return pd.DataFrame(rows)


def calibration_error(y, probability, n_bins=15):
    """Return the expected calibration error.

    Rows are sorted by the probability of the second of two classes, or of the most probable of
    more, and cut into bins of as many rows; it is the mean distance between the mean probability
    of a bin and the share of its rows that are of that class.
    """
    if probability.shape[1] == 2:
        confidence, hit = probability[:, 1], y == 1
    else:
        confidence, hit = probability.max(axis=1), y == probability.argmax(axis=1)
    order = np.argsort(confidence, kind="stable")
    distances = [
        len(rows) * abs(confidence[rows].mean() - hit[rows].mean())
        for rows in np.array_split(order, n_bins)
    ]
    return sum(distances) / len(y)


if options.suite == "feynman":
    measure_formulas()
    raise SystemExit
result = measure(options.suite)
if options.csv:
    result.to_csv(options.csv, index=False)
scores = ["log-loss", "ECE"] if options.suite == "classification" else ["R2"]
score = scores[0]
wide = result.groupby(["table", "method"], sort=False)[[*scores, "fit s"]]
wide = wide.median().unstack(sort=False)
if options.suite != "srbench":
    wide.columns = [f"{method} {value}" for value, method in wide.columns]
    markdown(wide.reset_index())
    summary = result.groupby("method", sort=False)[[*scores, "fit s"]]
    summary = summary.agg(dict.fromkeys(scores, "mean") | {"fit s": "median"}).add_prefix("mean ")
    summary = summary.rename(columns={"mean fit s": "median fit s"})
    by_table = result.groupby(["table", "method"])[score].median().unstack()
    summary["mean rank"] = by_table.rank(axis=1, ascending=score == "log-loss").mean()
    markdown(summary.reset_index())
else:
    mine = result.groupby("table")[["R2", "fit s"]].median()
    print(f"{len(mine)} tables, median R2 {mine['R2'].median():.4f}, ", end="")
    print(f"median fit {mine['fit s'].median():.2f} s, lowest R2 of a fit {result['R2'].min():.2f}")
    if options.data is not None and (options.data / "srbench" / "published.csv").exists():
        published = pd.read_csv(options.data / "srbench" / "published.csv")
        board = published.pivot(index="dataset", columns="algorithm", values="r2_test")
        board = board.loc[board.index.intersection(mine.index)]
        board["skevo"] = mine["R2"]
        rank = board.rank(axis=1, ascending=False).mean().sort_values()
        best = pd.DataFrame({"method": rank.index, "mean rank": rank.to_numpy()}).head(8)
        markdown(best)
        other = ~board.index.str.contains("_fri_c")
        rank = board[other].rank(axis=1, ascending=False).mean()
        print(f"without the {(~other).sum()} `fri_c` tables: mean rank {rank['skevo']:.2f}")
