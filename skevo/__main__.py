"""The main job: evolving networks beside what a user would pick instead, on real tables.

`python -m skevo` runs it on tables that scikit-learn bundles, `python -m skevo data.csv --target
price` on a user's.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.parallel import Parallel, delayed

from ._classifier import EvolvingClassifier
from ._regressor import EvolvingRegressor
from ._table import Table, TableError, read_csv

_SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the main job.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Of the command line; those of the process if None.

    Returns
    -------
    int
        Exit status: 0, or 2 if the input is not what is required.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.data is None:
            if options.target or options.save:
                raise TableError("--target and --save need a CSV file to be named.")
            tables = list(_bundled())
        elif options.target is None:
            raise TableError(f"name the column of {options.data} to predict, with --target.")
        else:
            tables = [read_csv(options.data, options.target, options.task)]
        for table in tables:
            _check(table, options.folds)
        if options.save and not Path(options.save).absolute().parent.is_dir():
            raise TableError(f"there is no folder to save {options.save} in.")
    except TableError as error:
        print(f"skevo: {error}", file=sys.stderr)
        return 2
    _compare(tables, options.folds, options.jobs)
    _show(tables[0])
    if options.save:
        model = _evolving(tables[0], n_jobs=options.jobs).fit(tables[0].X, tables[0].y)
        with open(options.save, "wb") as file:
            pickle.dump(model, file)
        print(f"\nThe model fitted to all rows is in {options.save}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skevo",
        description="Cross-validate evolving networks beside linear models, boosted trees and a "
        "multi-layer perceptron, on bundled tables or on a CSV file, and show a small network.",
    )
    parser.add_argument("data", nargs="?", help="CSV file, its first line the column names")
    parser.add_argument("--target", help="column to predict")
    parser.add_argument("--task", choices=["auto", "regression", "classification"], default="auto")
    parser.add_argument("--save", metavar="FILE", help="pickle the model fitted to all rows")
    parser.add_argument("--folds", type=int, default=3, help="of the cross-validation (default 3)")
    parser.add_argument("--jobs", type=int, default=2, help="fits at a time (default 2)")
    return parser


def _bundled() -> Iterator[Table]:
    """Yield tables that scikit-learn bundles."""
    rng = np.random.default_rng(_SEED)
    for title, task, load in (
        ("diabetes", "regression", datasets.load_diabetes),
        ("breast cancer", "classification", datasets.load_breast_cancer),
        ("wine", "classification", datasets.load_wine),
        ("digits, 400 rows", "classification", datasets.load_digits),
    ):
        bunch = load()
        rows = np.sort(
            rng.permutation(len(bunch.target))[: 400 if load is datasets.load_digits else None]
        )
        names = [str(name).replace(" ", "_") for name in bunch.feature_names]
        yield Table(title, names, bunch.data[rows], bunch.target[rows], [], task)


def _check(table: Table, folds: int) -> None:
    """Raise TableError if the table cannot be cross-validated."""
    if folds < 2:
        raise TableError(f"--folds must be >= 2, got {folds}.")
    smallest = (
        int(np.unique(table.y, return_counts=True)[1].min())
        if table.task == "classification"
        else len(table.y) // 2
    )
    if smallest < folds:
        what = "in its rarest class" if table.task == "classification" else "per fold"
        raise TableError(f"{table.title} has too few rows {what} for {folds} folds.")


def _evolving(table: Table, **parameters: Any) -> BaseEstimator:
    estimator = EvolvingRegressor if table.task == "regression" else EvolvingClassifier
    return estimator(categorical_features=table.text, random_state=_SEED, **parameters)


def _models(table: Table) -> dict[str, BaseEstimator]:
    """Return the models to compare."""
    task, text = table.task, table.text
    if task == "regression":
        linear, trees, mlp = Ridge(), HistGradientBoostingRegressor, MLPRegressor
    else:
        linear, trees, mlp = (
            LogisticRegression(max_iter=1000),
            HistGradientBoostingClassifier,
            MLPClassifier,
        )
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
        remainder=SimpleImputer(add_indicator=True, keep_empty_features=True),
    )
    # Boosted trees take at most so many levels, as codes.
    codes = make_column_transformer(
        (
            OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=200
            ),
            text,
        ),
        remainder="passthrough",
    )
    return {
        "evolving network": _evolving(table),
        type(linear).__name__: make_pipeline(columns, StandardScaler(), linear),
        "HistGradientBoosting": make_pipeline(
            codes, trees(categorical_features=[*range(len(text))], random_state=_SEED)
        ),
        "MLP": make_pipeline(
            columns,
            StandardScaler(),
            mlp(max_iter=1000, early_stopping=True, random_state=_SEED),
        ),
    }


def _compare(tables: Sequence[Table], folds: int, jobs: int) -> None:
    """Cross-validate the models on tables and print a line for each."""
    tasks = [
        (table, model, split)
        for table in tables
        for model in _models(table).values()
        for split in _splits(table, folds)
    ]
    # In processes: the fits of small tables are too short-winded for threads.
    lines = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_fit_and_score)(*task) for task in tasks
    )
    for table in tables:
        scores = ("R2",) if table.task == "regression" else ("accuracy", "log-loss")
        rows, columns = table.X.shape
        print(f"\n{table.title}: {table.task}, {rows} rows x {columns} columns")
        print(f"  {'model':22s}" + "".join(f"{name:>18s}" for name in (*scores, "fit s", "size")))
        for name in _models(table):
            part = np.array([next(lines) for _ in range(folds)])
            mean, spread = part.mean(axis=0), part.std(axis=0)
            shown = [f"{m:.3f} +- {s:.3f}" for m, s in zip(mean[:-2], spread[:-2], strict=True)]
            shown += [f"{mean[-2]:.2f}", f"{mean[-1]:.0f}"]
            print(f"  {name:22s}" + "".join(f"{cell:>18s}" for cell in shown), flush=True)
    print("\nsize: numbers in the model (weights and constants; nodes of trees)")


def _splits(table: Table, folds: int) -> list[tuple[Any, Any]]:
    """Return training and test rows of each fold."""
    splitter = KFold if table.task == "regression" else StratifiedKFold
    return list(splitter(folds, shuffle=True, random_state=_SEED).split(table.X, table.y))


def _fit_and_score(table: Table, model: Any, split: tuple[Any, Any]) -> list[float]:
    """Return a model's scores on the test rows, the seconds its fit took, and its size."""
    train, test = split
    start = time.perf_counter()
    with warnings.catch_warnings():
        # Whether a reference has converged is not the user's concern here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = clone(model).fit(table.X[train], table.y[train])
    seconds = time.perf_counter() - start
    X, y = table.X[test], table.y[test]
    if table.task == "regression":
        return [r2_score(y, fitted.predict(X)), seconds, _size(fitted)]
    probability = fitted.predict_proba(X)
    return [
        accuracy_score(y, fitted.classes_[probability.argmax(axis=1)]),
        log_loss(y, probability, labels=fitted.classes_),
        seconds,
        _size(fitted),
    ]


def _size(model: Any) -> int:
    """Count the numbers that a model has learnt."""
    model = model[-1] if hasattr(model, "steps") else model
    if isinstance(model, (EvolvingRegressor, EvolvingClassifier)):
        return model.n_parameters_
    if hasattr(model, "coefs_"):
        return sum(part.size for part in (*model.coefs_, *model.intercepts_))
    if hasattr(model, "coef_"):
        return int(np.size(model.coef_) + np.size(model.intercept_))
    return sum(len(tree.nodes) for trees in model._predictors for tree in trees)


def _show(table: Table) -> None:
    """Grow one small network on a table, print its course and its formula."""
    print(f"\nA small network on {table.title}, as it evolves:", flush=True)
    model = _evolving(table, n_members=1, max_nodes=4, n_generations=12, verbose=1)
    model.fit(table.X, table.y)
    print(f"\nIts formula:\n{model._formula(table.names)}")


if __name__ == "__main__":
    sys.exit(main())
