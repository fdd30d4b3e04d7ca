"""``skevo predict``: the predictions of a model for the rows of a table."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np

from .columns import import_pandas
from .errors import UsageError
from .models import add_model_options, explained, features_of, open_model, text_columns
from .outputs import STANDARD, check_output
from .parsing import add_command, real
from .tables import check_columns, read_table, write_frame

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to a program."""
    parser = add_command(
        commands,
        "predict",
        _run,
        "Predict the rows of a table with a saved model.",
        "skevo predict rent.skevo flats.csv --out predictions.csv",
        "skevo predict rent.skevo flats.csv --keep id --interval 0.9",
        "skevo predict species.skevo - --proba < flowers.csv",
    )
    add_model_options(parser)
    add = parser.add_argument
    add("data", help="CSV or Parquet file; - is CSV from the standard input")
    add(
        "--out",
        default=STANDARD,
        metavar="FILE",
        help="CSV or Parquet file; - is CSV to the standard output (-)",
    )
    add("--force", action="store_true", help="replace a file that is there")
    add(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMN",
        help="column to copy beside the predictions (repeatable)",
    )
    add("--proba", action="store_true", help="probabilities of the classes too")
    add(
        "--interval",
        type=real(0, 1),
        metavar="COVERAGE",
        help="intervals too that hold this share of targets",
    )


def _run(options: Namespace) -> int:
    check_output(options.out, options.force, options.model, options.data)
    model = open_model(options)
    is_classifier = hasattr(model, "classes_")
    if options.proba and not is_classifier:
        raise UsageError("--proba is for models of classes, this is a regression.")
    if options.interval is not None and is_classifier:
        raise UsageError("--interval is for regressions, this model is of classes.")
    known = set(getattr(model, "feature_names_in_", []))
    # Kept columns as they are: 007 is not 7.
    as_text = [*text_columns(model), *(set(options.keep) - known)]
    table = read_table(options.data, as_text)
    check_columns(options.data, table, options.keep)
    X = features_of(model, options.data, table, options.keep)
    columns = {name: table[name].to_pandas() for name in options.keep}
    with explained():
        predicted = _predictions(model, X, options)
    clash = [name for name in predicted if name in columns]
    if clash:
        raise UsageError(f"--keep {clash[0]!r} is what a column of predictions is called.")
    frame = import_pandas().DataFrame({**columns, **predicted})
    write_frame(frame, options.out, options.force)
    return 0


def _predictions(model: Any, X: Any, options: Namespace) -> dict[str, Any]:
    """Return the columns to write, by name."""
    prediction = np.asarray(model.predict(X))
    columns = _named("prediction", prediction)
    if options.interval is not None:
        interval = model.predict_interval(X, coverage=options.interval)
        columns |= _named("low", interval[..., 0]) | _named("high", interval[..., 1])
    if options.proba:
        names = [f"proba({label})" for label in model.classes_]
        columns |= dict(zip(names, model.predict_proba(X).T, strict=True))
    return columns


def _named(name: str, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the columns of one output, or of several by number."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}{output}": column for output, column in enumerate(values.T)}
