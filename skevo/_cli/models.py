"""Models in files: loaded, made smaller, and given the columns that they know."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._loading import load
from .columns import categories, import_pandas, numbers
from .errors import CommandError
from .messages import counted, say
from .parsing import Parser, integer
from .tables import check_columns, listed

__all__ = ["add_model_options", "explained", "features_of", "open_model", "text_columns"]

_RULES = ("best", "one-standard-error", "steepest")


def add_model_options(parser: Parser) -> None:
    """Add what says which model is meant."""
    parser.add_argument("model", help="model file that fit wrote")
    parser.add_argument(
        "--nodes", type=integer(0), metavar="N", help="take a smaller model: at most N nodes"
    )
    parser.add_argument(
        "--rule", choices=_RULES, help="take the model of the path that this rule selects"
    )


def open_model(options: Namespace) -> Any:
    """Return the model that is meant."""
    with explained():
        try:
            model = load(options.model)
        except OSError as error:
            raise CommandError(f"cannot read {options.model}: {error.strerror}.") from error
        if options.nodes is None and options.rule is None:
            return model
        smaller = model.select(nodes=options.nodes, rule=options.rule or "best")
    if options.nodes != 0 and smaller.n_nodes_ == 0 < model.n_nodes_:
        sizes = model.path_["n_nodes"]
        say(
            "note: the model that is selected has no nodes, it is linear; the smallest that is not "
            f"has {counted(sizes[sizes > 0].min(), 'node')}, of all members together."
        )
    return smaller


@contextmanager
def explained() -> Iterator[None]:
    """Have what the library says of wrong values be what the command says."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error


def text_columns(model: Any) -> list[str]:
    """Return the names of columns that are to be read as text, since their levels are text."""
    names = getattr(model, "feature_names_in_", [])
    return [name for k, name in enumerate(names) if _is_text(model._encoding.levels.get(k, ()))]


def _is_text(levels: tuple[Any, ...]) -> bool:
    return any(isinstance(level, str) for level in levels)


def features_of(model: Any, path: str, table: Any, kept: Sequence[str] = ()) -> Any:
    """Return the columns that a model knows, in its order, as a pandas frame.

    Parameters
    ----------
    model : EvolvingRegressor or EvolvingClassifier
        If it was fitted to an array, columns are taken by position.
    path : str
        Where the table is from.
    table : pyarrow.Table
    kept : sequence of str, default=()
        Columns that are of use elsewhere: that others are not used is said.
    """
    levels = model._encoding.levels
    is_named = hasattr(model, "feature_names_in_")
    names = model.feature_names_in_.tolist() if is_named else table.column_names
    if len(names) != model.n_features_in_:
        raise CommandError(
            f"the model knows {model.n_features_in_} columns by position, {path} has {len(names)}."
        )
    check_columns(path, table, names)
    others = [name for name in table.column_names if name not in names and name not in kept]
    if others:
        say(f"note: the model does not read {listed(others)}.")
    columns = {}
    for place, name in enumerate(names):
        read = categories if _is_text(levels.get(place, ())) else numbers
        columns[name] = read(name, table[name])
    frame = import_pandas().DataFrame(columns)
    return frame if is_named else frame.to_numpy()
