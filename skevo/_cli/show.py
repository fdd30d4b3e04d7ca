"""``skevo show``: what a model is, as text or as a picture."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from .._optional import needed_by
from ..display import ContributionDisplay, EvolutionDisplay, PathDisplay, TopologyDisplay
from .columns import import_pandas
from .errors import CommandError, UsageError
from .messages import counted
from .models import add_model_options, explained, features_of, open_model, text_columns
from .outputs import STANDARD, check_output, open_output
from .parsing import add_command, integer
from .tables import read_table

__all__ = ["add_parser"]

# A line for each term: the expression, which may be long, comes last.
_TERM_COLUMNS = ["weight", "contribution", "importance", "level", "nodes", "expression"]
_TERM = "{:>12s} {:>12s} {:>12s} {:>6} {:>6}  {}"
# A formula of more characters is not for reading: among other parts it is left out.
_MOST_CHARACTERS = 2000
_KINDS = ("topology", "evolution", "path", "contribution")


def add_parser(commands: Any) -> None:
    """Add the command to a program."""
    parser = add_command(
        commands,
        "show",
        _run,
        "Show a saved model: parameters, importances, terms, path and formula, or a picture.",
        "skevo show rent.skevo",
        "skevo show rent.skevo --part formula --nodes 20",
        "skevo show rent.skevo --plot rent.png",
        "skevo show rent.skevo --plot row.svg --kind contribution --data flats.csv --row 3",
    )
    add_model_options(parser)
    add = parser.add_argument
    add("--part", action="append", choices=[*_PARTS], help="show this part alone (repeatable)")
    add("--terms", type=integer(1), default=20, metavar="N", help="show so many terms (20)")
    add("--plot", metavar="FILE", help="draw a picture instead: .png, .svg, .pdf")
    add("--kind", choices=_KINDS, help="of the picture (topology)")
    add("--output", type=integer(0), metavar="N", help="which output or class, from 0")
    add("--data", metavar="FILE", help="rows whose contributions are drawn")
    add("--row", type=integer(1), metavar="N", help="draw one of them, from 1")
    add("--force", action="store_true", help="replace a picture that is there")


def _run(options: Namespace) -> int:
    if options.plot is None:
        if options.kind or options.data or options.row or options.output is not None:
            raise UsageError("--kind, --output, --data and --row are of pictures: add --plot FILE.")
        return _print(open_model(options), options)
    if options.part:
        raise UsageError("--part is of the text, --plot draws a picture instead.")
    kind = options.kind or "topology"
    if (kind == "contribution") != (options.data is not None):
        raise UsageError("--kind contribution requires --data, and no other kind takes it.")
    if options.row and options.data is None:
        raise UsageError("--row requires --data.")
    if options.plot == STANDARD:
        raise UsageError("a picture requires a file.")
    check_output(options.plot, options.force, options.model, options.data)
    _draw(open_model(options), kind, options)
    return 0


# -- text ------------------------------------------------------------------------------------------


def _print(model: Any, options: Namespace) -> int:
    # Before anything is printed: terms and path are tables of pandas.
    import_pandas()
    parts = options.part or [*_PARTS]
    for number, part in enumerate(parts):
        if len(parts) > 1:
            print(f"{'' if number == 0 else chr(10)}{part.capitalize()}")
        print(_PARTS[part](model, options), flush=True)
    return 0


def _parameters(model: Any, _: Namespace) -> str:
    counts = {
        "column": model.n_features_in_,
        "member": model.n_members_,
        "node": model.n_nodes_,
        "number": model.n_parameters_,
        "generation": model.n_iter_,
    }
    sizes = ", ".join(counted(count, name) for name, count in counts.items())
    return f"{model!r}\n{sizes}; stopped: {model.stop_reason_}"


def _importances(model: Any, _: Namespace) -> str:
    try:
        values = model.feature_importances_
    except AttributeError:
        return "not known: they are measured at the end of a fit, of its whole model"
    found = import_pandas().Series(values, model._column_names()).sort_values(ascending=False)
    return found.to_string(float_format="{:.4g}".format)


def _terms(model: Any, options: Namespace) -> str:
    names, texts = model._output_names(), []
    for output, name in enumerate(names):
        table = _merged(model.nodes_table(output=output))
        lines = [f"{name} is the sum of", _TERM.format(*_TERM_COLUMNS)]
        for *measures, level, nodes, expression in (
            table[_TERM_COLUMNS].head(options.terms).itertuples(index=False)
        ):
            shown = ["-" if isnan(measure) else f"{measure:.4g}" for measure in measures]
            lines.append(_TERM.format(*shown, level, nodes, expression))
        if len(table) > options.terms:
            lines.append(f"and {len(table) - options.terms} more: --terms {len(table)}")
        texts += ["\n".join(lines)]
    return "\n".join(texts)


def _merged(terms: Any) -> Any:
    """Return a table of terms with one line per expression, and how many nodes compute it.

    Several members may have the same. Weights add up, and so do contributions, by the signs of the
    weights. What the loss would rise without all of them does not follow from what it rises without
    each.
    """
    signed = terms["contribution"] * np.sign(terms["weight"])
    terms = terms.assign(contribution=signed, nodes=terms["level"] > 0)
    groups = terms.groupby("expression", sort=False)
    merged = groups.agg({"weight": "sum", "level": "first", "nodes": "sum"})
    merged["contribution"] = groups["contribution"].sum(min_count=1).abs()
    merged["importance"] = groups["importance"].first().where(groups.size() == 1)
    return merged.reset_index().sort_values("contribution", ascending=False, kind="stable")


def _path(model: Any, _: Namespace) -> str:
    frame = import_pandas().DataFrame(model.path_)
    return frame.to_string(index=False, float_format="{:.5g}".format)


def _formula(model: Any, options: Namespace) -> str:
    text = model.formula_
    if options.part or len(text) <= _MOST_CHARACTERS:
        return text
    return f"{len(text)} characters: --part formula prints them"


_PARTS: Mapping[str, Callable[[Any, Namespace], str]] = {
    "parameters": _parameters,
    "importances": _importances,
    "terms": _terms,
    "path": _path,
    "formula": _formula,
}


# -- pictures --------------------------------------------------------------------------------------


def _draw(model: Any, kind: str, options: Namespace) -> None:
    """Draw a picture to a file."""
    with needed_by("pictures", "plot"):
        import matplotlib as mpl
    # To files alone: there may be no screen.
    mpl.use("agg")
    from matplotlib import pyplot as plt

    suffix = Path(options.plot).suffix.lower().lstrip(".")
    known = plt.figure().canvas.get_supported_filetypes()
    if suffix not in known:
        raise UsageError(f"a picture must be one of .{', .'.join(sorted(known))}.")
    with explained():
        figure = _display(model, kind, options).figure_
    with open_output(options.plot, options.force) as file:
        figure.savefig(file, format=suffix, dpi=150)
    plt.close("all")


def _display(model: Any, kind: str, options: Namespace) -> Any:
    if kind == "evolution":
        return EvolutionDisplay.from_estimator(model)
    if kind == "path":
        return PathDisplay.from_estimator(model)
    if kind == "topology":
        return TopologyDisplay.from_estimator(model, output=options.output)
    X = features_of(model, options.data, read_table(options.data, text_columns(model)))
    if options.row:
        if options.row > len(X):
            raise CommandError(f"{options.data} has {len(X)} rows, there is no row {options.row}.")
        X = X[options.row - 1 : options.row]
    return ContributionDisplay.from_estimator(model, X, output=options.output)
