"""SQL: expressions over the columns of a table, or a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .expression import Expression, Program, apply, number
from .model import Model
from .text import Language, Statement, statements
from .to_python import plain

__all__ = ["DIALECTS", "sql_source"]

# Databases limit the length and depth of an expression.
_LONGEST = 20_000
_LARGEST_EXPONENT = 700.0
# What the names of columns begin with that a query adds to those of the table.
_PREFIX = "skevo_"


class _SQL(Language):
    """What the dialects share.

    Attributes
    ----------
    double : str
        The type of numbers.
    fence : str
        Ends a query so that it is not merged into the one around it, which would write out the
        variables at each place again.
    """

    templates: ClassVar[dict[str, str]] = {
        **Language.templates,
        "max": "greatest({0}, {1})",
        "min": "least({0}, {1})",
        "log": "ln({0})",
        "where": "CASE WHEN {0} THEN {1} ELSE {2} END",
        "sigmoid": "(1.0 / (1.0 + exp(-{0})))",
        **{name: name + "({0})" for name in ("abs", "exp", "sqrt", "tanh", "sin", "cos")},
    }
    double = "DOUBLE"
    fence = ""

    def __init__(self, model: Model) -> None:
        self._model = model

    def cell(self, column: int, fill: float) -> str:
        name = identifier(self._model.columns[column])
        return f"coalesce(CAST({name} AS {self.double}), {self.number(fill)})"

    def missing(self, column: int) -> str:
        return self._indicator(f"{identifier(self._model.columns[column])} IS NULL")

    def level(self, column: int, code: int) -> str:
        name, level = self._model.columns[column], plain(self._model.levels[column][code])
        return self._indicator(f"{identifier(name)} = {_literal(level)}")

    def midmean(self, args: Sequence[str], left_out: int) -> str:
        values = " UNION ALL ".join(f"SELECT {arg} AS value" for arg in args)
        middle = f"ORDER BY value LIMIT {len(args) - 2 * left_out} OFFSET {left_out}"
        return f"(SELECT avg(value) FROM (SELECT value FROM ({values}) AS members {middle}) AS mid)"

    def mean(self, column: int, means: Sequence[float]) -> str:
        name = identifier(self._model.columns[column])
        *known, missing, unknown = map(self.number, means)
        cases = [
            f"WHEN {name} = {_literal(plain(level))} THEN {value}"
            for level, value in zip(self._model.levels[column], known, strict=True)
        ]
        cases = [f"WHEN {name} IS NULL THEN {missing}", *cases, f"ELSE {unknown}"]
        return f"CAST(CASE {' '.join(cases)} END AS {self.double})"

    def _indicator(self, condition: str) -> str:
        return f"CASE WHEN {condition} THEN {self.number(1.0)} ELSE {self.number(0.0)} END"


class _SQLite(_SQL):
    templates: ClassVar[dict[str, str]] = {
        **_SQL.templates,
        "max": "max({0}, {1})",
        "min": "min({0}, {1})",
    }
    double = "REAL"
    fence = " LIMIT -1 OFFSET 0"


class _DuckDB(_SQL):
    def number(self, value: float) -> str:
        # Without an exponent it would be a decimal.
        text = repr(value)
        text = text if "e" in text else f"{text}e0"
        return f"({text})" if value < 0 else text

    def midmean(self, args: Sequence[str], left_out: int) -> str:
        middle = f"[{left_out + 1}:{len(args) - left_out}]"
        return f"list_avg(list_sort([{', '.join(args)}]){middle})"


class _PostgreSQL(_SQL):
    # Over- and underflow are errors there.
    templates: ClassVar[dict[str, str]] = {
        **_SQL.templates,
        "exp": f"exp(least(greatest({{0}}, -{_LARGEST_EXPONENT}), {_LARGEST_EXPONENT}))",
        "sigmoid": "(1.0 / (1.0 + exp(least(greatest(-{0}, "
        f"-{_LARGEST_EXPONENT}), {_LARGEST_EXPONENT}))))",
    }
    double = "DOUBLE PRECISION"
    fence = " OFFSET 0"

    def _indicator(self, condition: str) -> str:
        return f"CAST(({condition}) IS TRUE AS INTEGER)::DOUBLE PRECISION"


DIALECTS: dict[str, type[_SQL]] = {
    "sqlite": _SQLite,
    "duckdb": _DuckDB,
    "postgresql": _PostgreSQL,
}


def sql_source(
    model: Model, dialect: str, table: str | None = None, keep: Sequence[str] = ()
) -> str:
    """Write a model in SQL.

    Parameters
    ----------
    model : Model
    dialect : str
        One of `DIALECTS`.
    table : str, default=None
        The table that a query is to read; expressions are written if None.
    keep : sequence of str, default=()
        Columns of the table that the query returns beside the predictions.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If an expression would be too long.
    """
    language = DIALECTS[dialect](model)
    outputs = [
        _inlined(program, language) or _nested(program, language)
        for program in (Program.of([output]) for output in _predictions(model))
    ]
    return _select_list(model, outputs, named=not model.single)


def _inlined(program: Program, language: _SQL) -> str | None:
    """Write an output without variables; None if that is too long."""
    texts: list[str] = []
    for step in program.steps:
        text = language.write(step, [texts[arg] for arg in step.args])
        if len(text) > _LONGEST:
            return None
        texts.append(text)
    return texts[program.outputs[0]]


def _nested(program: Program, language: _SQL) -> str:
    """Write an output as a sub-select of one row, its variables level by level."""
    variables, (output,) = statements(program, language, _PREFIX)
    tables: list[str] = []
    for level, columns in enumerate(_levels(variables)):
        source = f"*, {', '.join(columns)} FROM {_PREFIX}level_{level - 1}"
        query = f"SELECT {source if level else ', '.join(columns)}{language.fence}"
        tables.append(f"{_PREFIX}level_{level} AS ({query})")
    return f"(WITH {', '.join(tables)} SELECT {output} FROM {_PREFIX}level_{len(tables) - 1})"


def _levels(variables: Sequence[Statement]) -> list[list[str]]:
    """Return the variables as columns, those first that read no others."""
    levels: list[list[str]] = [[] for _ in range(1 + max((v.level for v in variables), default=-1))]
    for name, text, level in variables:
        levels[level].append(f"{text} AS {name}")
    return levels


def _select_list(model: Model, outputs: Sequence[str], named: bool) -> str:
    """Write what is predicted."""
    if not named:
        return outputs[0]
    return ", ".join(
        f"{text} AS {identifier(name)}" for text, name in zip(outputs, model.outputs, strict=True)
    )


def _predictions(model: Model) -> list[Expression]:
    """Return the predictions, or the class probabilities from their log-odds."""
    if model.classes is None:
        return [*model.expressions]
    if len(model.expressions) == 1:
        (logit,) = model.expressions
        return [apply("sigmoid", -logit), apply("sigmoid", logit)]
    probabilities = []
    for logit in model.expressions:
        odds = number(0.0)
        for other in model.expressions:
            odds = apply("exp", apply("min", other - logit, _LARGEST_EXPONENT)) + odds
        probabilities.append(apply("div", 1.0, odds))
    return probabilities


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value).upper() if isinstance(value, bool) else repr(value)
