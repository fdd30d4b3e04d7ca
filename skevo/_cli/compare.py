"""``skevo compare``, the main job: evolving networks beside what a user would pick instead."""

from __future__ import annotations

import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
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

from .._classifier import EvolvingClassifier
from .._regressor import EvolvingRegressor
from .errors import UsageError
from .parsing import add_command, integer
from .rows import TASKS, Training, read_training

__all__ = ["add_parser"]

_SEED = 0


@dataclass(frozen=True)
class Table:
    """Columns and target of a data set.

    Attributes
    ----------
    title : str
    names : list of str
        Of the columns.
    X : ndarray of shape (n_samples, n_features)
        Of numbers, NaN where a cell is missing; of objects where there is text, None where a cell
        is missing there.
    y : ndarray of shape (n_samples,)
    text : list of int
        Positions of the columns that are text.
    task : {"regression", "classification"}
    """

    title: str
    names: list[str]
    X: NDArray[Any]
    y: NDArray[Any]
    text: list[int]
    task: str


def add_parser(commands: Any) -> None:
    """Add the command to a program."""
    parser = add_command(
        commands,
        "compare",
        _run,
        "Cross-validate evolving networks beside linear models, boosted trees and a multi-layer "
        "perceptron, and show a small network.",
        "skevo compare",
        "skevo compare flats.csv --target rent",
    )
    add = parser.add_argument
    add("data", nargs="?", help="CSV or Parquet file (tables that scikit-learn bundles)")
    add("--target", metavar="COLUMN", help="column to predict")
    add("--task", choices=TASKS, default="auto", help="auto: what the target looks like")
    add("--folds", type=integer(2), default=3, metavar="N", help="of the cross-validation (3)")
    add("--jobs", type=integer(1), default=2, metavar="N", help="fits at a time (2)")


def _run(options: Namespace) -> int:
    if (options.data is None) != (options.target is None):
        raise UsageError("a file of your own and its --target go together.")
    if options.data is None:
        tables = list(_bundled())
    else:
        rows = read_training(options.data, options.target, options.task)
        rows.check_folds(options.folds)
        tables = [_of_rows(Path(options.data).name, rows)]
    _compare(tables, options.folds, options.jobs)
    _show(tables[0])
    return 0


def _of_rows(title: str, rows: Training) -> Table:
    """Return rows as a table: all that is compared takes arrays."""
    # Objects where there is text, with None where a cell is missing.
    columns = [
        column.astype(object).where(column.notna(), None) if column.dtype == "category" else column
        for _, column in rows.X.items()
    ]
    names = [*rows.X.columns]
    text = [names.index(name) for name in rows.categories]
    return Table(title, names, np.column_stack(columns), rows.y, text, rows.task)


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
    tables = [_with_codes(table) for table in tables]
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


def _with_codes(table: Table) -> Table:
    """Return a table with numbers for classes: scikit-learn 1.7's MLP does not stop at others."""
    if table.task == "regression":
        return table
    return replace(table, y=np.unique(table.y, return_inverse=True)[1])


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
