"""Text: what the languages share that write a program as source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from .expression import Program, Step

__all__ = ["Language", "Statement", "statements", "write_sum"]

# Compilers and parsers limit how deep brackets may nest, and sums are nested too.
_DEEPEST = 12
_LONGEST_SUM = 16


class Statement(NamedTuple):
    """A variable, what it is, and how many statements stand between it and the cells."""

    name: str
    text: str
    level: int


class Language(ABC):
    """How the functions of expressions are written.

    Parameters
    ----------
    levels : dict of int to tuple
        The levels of each categorical column.
    """

    # Arguments stand in brackets of their own where they need them.
    templates: ClassVar[dict[str, str]] = {
        "add": "({0} + {1})",
        "sub": "({0} - {1})",
        "mul": "({0} * {1})",
        "div": "({0} / {1})",
        "neg": "(-{0})",
        "less": "({0} < {1})",
    }

    def number(self, value: float) -> str:
        """Write a constant."""
        return f"({value!r})" if value < 0 else repr(value)

    @abstractmethod
    def cell(self, column: int, fill: float) -> str:
        """Write a cell of numbers; ``fill`` stands for a missing one."""

    @abstractmethod
    def missing(self, column: int) -> str:
        """Write 1 where a cell is missing, else 0."""

    @abstractmethod
    def level(self, column: int, code: int) -> str:
        """Write 1 where a cell is that level, else 0."""

    @abstractmethod
    def mean(self, column: int, means: Sequence[float]) -> str:
        """Write what is said for a level; the last two are for missing cells and other levels."""

    @abstractmethod
    def midmean(self, args: Sequence[str], left_out: int) -> str:
        """Write the mean without so many of the lowest and of the highest."""

    def write(self, step: Step, args: Sequence[str]) -> str:
        """Write a step, given its arguments."""
        match step.function:
            case "number":
                return self.number(step.value)
            case "cell":
                return self.cell(*step.value)
            case "missing":
                return self.missing(step.value)
            case "level":
                return self.level(*step.value)
            case "mean":
                column, _, means = step.value
                return self.mean(column, means)
            case "midmean":
                return self.midmean(args, step.value)
            case "affine":
                intercept, weights = step.value
                terms = [self.number(intercept)] if intercept else []
                for weight, arg in zip(weights, args, strict=True):
                    terms.append(f"{self.number(weight)} * {arg}")
                return f"({write_sum(terms)})"
        return self.templates[step.function].format(*args)


def write_sum(terms: Sequence[str]) -> str:
    """Write a sum, in brackets of not too many terms each."""
    if len(terms) <= _LONGEST_SUM:
        return " + ".join(terms)
    half = len(terms) // 2
    return f"({write_sum(terms[:half])}) + ({write_sum(terms[half:])})"


def statements(
    program: Program, language: Language, prefix: str = "v"
) -> tuple[list[Statement], list[str]]:
    """Write a program, parts that are used more than once as variables.

    Parameters
    ----------
    program : Program
    language : Language
    prefix : str, default="v"
        Variables are called so, with a number.

    Returns
    -------
    statements : list of Statement
    outputs : list of str
        The outputs, in terms of the variables.
    """
    found: list[Statement] = []
    texts: list[str] = []
    depths: list[int] = []
    levels: list[int] = []
    for step, uses in zip(program.steps, program.uses, strict=True):
        text = language.write(step, [texts[arg] for arg in step.args])
        depth = 1 + max((depths[arg] for arg in step.args), default=0)
        level = max((levels[arg] for arg in step.args), default=0)
        is_line = step.function in ("affine", "midmean")
        if step.function != "number" and (uses > 1 or depth > _DEEPEST or is_line):
            name = f"{prefix}{len(found)}"
            found.append(Statement(name, text, level))
            text, depth, level = name, 0, level + 1
        texts.append(text)
        depths.append(depth)
        levels.append(level)
    return found, [texts[output] for output in program.outputs]
