"""``skevo fit``: cross-validate, fit to all rows, save."""

from __future__ import annotations

import contextlib
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score
from sklearn.model_selection import KFold, StratifiedKFold

from .._classifier import EvolvingClassifier
from .._regressor import EvolvingRegressor
from .errors import CommandError, UsageError
from .messages import Progress, counted
from .models import explained
from .outputs import STANDARD, check_output, new_file
from .parsing import add_command, integer, parameter, real
from .rows import TASKS, Training, read_training
from .tables import listed

__all__ = ["add_parser"]

# What options of their own set.
_PARAMETERS = {
    "loss": "loss",
    "members": "n_members",
    "max_nodes": "max_nodes",
    "max_time": "max_time",
    "seed": "random_state",
    "jobs": "n_jobs",
}
_SCORES = {"regression": ("R2", "MAE"), "classification": ("accuracy", "log-loss")}


def add_parser(commands: Any) -> None:
    """Add the command to a program."""
    parser = add_command(
        commands,
        "fit",
        _run,
        "Fit a model to a table, with a cross-validated score, and save it.",
        "skevo fit flats.csv --target rent --out rent.skevo",
        "skevo fit flats.parquet --target rent --out rent.skevo --members 1 --max-nodes 5",
        "skevo fit visits.csv --target visits --loss poisson --drop id --no-cv --out visits.skevo",
    )
    add = parser.add_argument
    add("data", help="CSV or Parquet file; - is CSV from the standard input")
    add("--target", required=True, metavar="COLUMN", help="column to predict")
    add("--out", required=True, metavar="FILE", help="where to write the model")
    add("--force", action="store_true", help="replace a file that is there")
    add("--task", choices=TASKS, default="auto", help="auto: what the target looks like")
    add("--weight", metavar="COLUMN", help="column that says what rows weigh")
    for name, what in (
        ("--drop", "column to leave out"),
        ("--categorical", "column of numbers to take as a category"),
    ):
        add(name, metavar="COLUMN", action="append", default=[], help=f"{what} (repeatable)")
    add("--drop-missing-target", action="store_true", help="leave out rows without a target")
    validation = parser.add_mutually_exclusive_group()
    validation.add_argument(
        "--folds", type=integer(2), default=5, metavar="N", help="of the cross-validation (5)"
    )
    validation.add_argument("--no-cv", action="store_true", help="do not cross-validate")
    add("--loss", help="what is minimised, as poisson (squared_error or log_loss)")
    add(
        "--members",
        type=integer(1),
        metavar="N",
        help="networks to average (8; regression: more of few rows)",
    )
    add("--max-nodes", type=integer(0), metavar="N", help="of a member (200)")
    add("--max-time", type=real(0), metavar="SECONDS", help="for each fit (no limit)")
    add("--seed", type=integer(0), metavar="N", help="of all that is random (0)")
    add("--jobs", type=integer(1), metavar="N", help="threads that share the members (1)")
    add(
        "--param",
        type=parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other parameter of the estimator (repeatable)",
    )
    add("--quiet", action="store_true", help="show no progress")


def _run(options: Namespace) -> int:
    if options.out == STANDARD:
        raise UsageError("a model cannot be written to the standard output.")
    check_output(options.out, options.force, options.data, ordinary=True)
    # Before the work, not after it.
    if find_spec("safetensors") is None:
        raise CommandError("models require safetensors: install it with pip install 'skevo[cli]'.")
    rows = read_training(
        options.data,
        options.target,
        options.task,
        weight=options.weight,
        drop=options.drop,
        categorical=options.categorical,
        drop_missing_target=options.drop_missing_target,
    )
    model = _estimator(rows.task, options)
    progress = Progress(options.quiet)
    print(_about(options, rows), flush=True)
    if not options.no_cv:
        rows.check_folds(options.folds)
        scores = _cross_validate(model, rows, options, progress)
        print(f"{options.folds} folds: {_shown(rows.task, scores)}", flush=True)
    progress.label = "all rows"
    _fit(model, rows, progress)
    progress.clear()
    model.set_params(verbose=0)
    with new_file(options.out, options.force) as part, explained():
        model.save(part)
    sizes = {"member": model.n_members_, "node": model.n_nodes_, "number": model.n_parameters_}
    print(f"{options.out}: {', '.join(counted(size, what) for what, size in sizes.items())}")
    if model.stop_reason_ == "interrupted":
        raise KeyboardInterrupt(f"{options.out} has the best model until then.")
    return 0


def _about(options: Namespace, rows: Training) -> str:
    """Return what is fitted."""
    n_rows, n_columns = rows.X.shape
    size = f"{n_rows} rows x {counted(n_columns, 'column')}"
    text = f"{options.data}: {rows.task} of {options.target}, {size}"
    return f"{text}, categories: {listed(rows.categories)}" if rows.categories else text


def _estimator(task: str, options: Namespace) -> Any:
    """Return the estimator that the options describe."""
    parameters = _parameters(options)
    estimator = EvolvingRegressor if task == "regression" else EvolvingClassifier
    try:
        model = estimator(**parameters)
        model._validate_params()
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    return model


def _parameters(options: Namespace) -> Mapping[str, Any]:
    """Return the parameters that were given, by name."""
    given = [
        (name, getattr(options, option))
        for option, name in _PARAMETERS.items()
        if getattr(options, option) is not None
    ]
    given += options.param
    names = [name for name, _ in given]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UsageError(f"{', '.join(sorted(twice))} is given twice.")
    # The same command gives the same model.
    return {"random_state": 0, **dict(given)}


def _fit(model: Any, rows: Training, progress: Progress) -> None:
    """Fit a model, what it prints being shown as progress."""
    model.set_params(verbose=int(progress.is_live))
    with contextlib.redirect_stdout(progress), explained():
        model.fit(rows.X, rows.y, sample_weight=rows.weight)


def _cross_validate(
    model: Any, rows: Training, options: Namespace, progress: Progress
) -> np.ndarray[Any, Any]:
    """Return the scores of each fold, of shape (n_folds, n_scores)."""
    scores = []
    for number, (train, test) in enumerate(_splits(model, rows, options.folds), start=1):
        progress.label = f"fold {number} of {options.folds}"
        start, fold = time.perf_counter(), clone(model)
        _fit(fold, rows.take(train), progress)
        if fold.stop_reason_ == "interrupted":
            raise KeyboardInterrupt("no model was fitted to all rows.")
        scores.append(_score(fold, rows.take(test)))
        seconds = time.perf_counter() - start
        progress.done(f"{_shown(rows.task, scores[-1:])}, {seconds:.1f} s")
    return np.array(scores)


def _splits(model: Any, rows: Training, n_folds: int) -> Iterator[tuple[Any, Any]]:
    """Yield training and test rows of each fold."""
    splitter = KFold if rows.task == "regression" else StratifiedKFold
    folds = splitter(n_folds, shuffle=True, random_state=model.random_state)
    yield from folds.split(rows.X, rows.y)


def _score(model: Any, rows: Training) -> tuple[float, float]:
    """Return the scores of a model on rows that it does not know."""
    known = {"sample_weight": rows.weight}
    if rows.task == "regression":
        prediction = model.predict(rows.X)
        score = r2_score, mean_absolute_error
        return score[0](rows.y, prediction, **known), score[1](rows.y, prediction, **known)
    probability = model.predict_proba(rows.X)
    return (
        accuracy_score(rows.y, model.classes_[probability.argmax(axis=1)], **known),
        log_loss(rows.y, probability, labels=model.classes_, **known),
    )


def _shown(task: str, scores: Any) -> str:
    """Return scores of folds as text: the mean and, of several, the spread."""
    parts = []
    for name, values in zip(_SCORES[task], np.transpose(scores), strict=True):
        spread = f" +- {values.std():.3g}" if len(values) > 1 else ""
        parts.append(f"{name} {values.mean():.4g}{spread}")
    return ", ".join(parts)
