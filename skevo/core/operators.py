"""Operators: the elementary functions of two columns that a node can compute.

An operator is elementwise, finite for every finite pair of operands, and differentiable almost
everywhere by torch. None is "protected" by a value that is wrong: a division by (almost) zero is
the one place where a mathematical definition has to be completed, and `div` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = [
    "DEFAULT_OPERATORS",
    "SMALLEST_DENOMINATOR",
    "Operator",
    "available_operators",
    "get_operators",
    "register_operator",
]

Function = Callable[..., Tensor]

# Denominators nearer to zero than this are moved to it; columns are scaled to unit spread.
SMALLEST_DENOMINATOR = 1e-3
_LARGEST_INVERSE = 1.0 / SMALLEST_DENOMINATOR
# Exponents are not below this, where the exponential is nothing beside 1 but its square is still a
# normal number in single precision. What is smaller than those takes a processor a hundred times as
# long, in the columns themselves and in their products.
_LOWEST_EXPONENT = -40.0
# As tensors: torch takes a microsecond to make one of a number.
_ZERO, _FOUR, _SIXTEEN = (torch.tensor(value, device="cpu") for value in (0.0, 4.0, 16.0))


@dataclass(frozen=True)
class Operator:
    """An elementwise function of two columns.

    Parameters
    ----------
    name : str
        The key in the registry.
    function : callable
        ``function(a, b)`` of two tensors of one shape returns a tensor of that shape. It must be a
        module-level function for models that use it to be pickled.
    text : str
        A format string with the fields ``{a}`` and ``{b}``, used to print formulas.
    commutative : bool
        Whether ``function(a, b) == function(b, a)``; the search then proposes one of the two.
    constant : {"right", "left", "none"}
        The operand that may be a trainable constant among screened candidates. ``"none"`` marks
        operators that a constant makes linear, so that the candidate would add nothing to the head.
    location : {1, -1}
        A candidate's constant is drawn as ``location * q`` with ``q`` a quantile of the other
        operand, so that the function changes where the data are: 1 for functions of ``a - b``, -1
        for functions of ``a + b``.
    monotonic : (int, int)
        For each operand, 1 or -1 if the function never decreases or never increases in it, whatever
        the other one is; 0 if it may do either. Networks with ``monotonic_constraints`` rest on it.
    divides : bool
        Whether the function divides by its right operand. A column that is zero in many rows, such
        as that of a level, is not proposed there: the node would be read as what it is not.
    """

    name: str
    function: Function
    text: str
    commutative: bool = False
    constant: Literal["right", "left", "none"] = "right"
    location: int = 1
    monotonic: tuple[int, int] = (0, 0)
    divides: bool = False

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Apply the function to two tensors that broadcast together."""
        return self.function(a, b)

    @property
    def is_built_in(self) -> bool:
        """Whether this is the record of that name that comes with the package."""
        return _BUILT_IN.get(self.name) is self

    @property
    def write(self) -> Function:
        """The function with a third operand, ``out``: where to, in none of the other two."""
        return self.function if self.is_built_in else self._copy

    def _copy(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        return out.copy_(self.function(a, b))

    def __reduce__(self) -> tuple[Any, ...]:
        # Registered operators travel by name when they are built in, whole otherwise: a model
        # with a user's operator must load in a process that has not registered it.
        if self.is_built_in:
            return _built_in, (self.name,)
        return Operator, (
            self.name,
            self.function,
            self.text,
            self.commutative,
            self.constant,
            self.location,
            self.monotonic,
            self.divides,
        )


# Without ``out`` differentiable, and what exports trace; with it, which is neither operand, all
# work is done there.


def _div(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    # The sum makes -0.0 positive.
    if out is None:
        away = torch.abs(b).clamp_(min=SMALLEST_DENOMINATOR)
        return torch.div(a, torch.copysign(away, b + 0.0))
    # An inverse, in half the time; but its derivative is not finite at zero.
    inverse = torch.add(b, _ZERO, out=out).reciprocal_()
    return torch.mul(a, inverse.clamp_(-_LARGEST_INVERSE, _LARGEST_INVERSE), out=out)


def _sin(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.sin(torch.add(a, b, out=out), out=out)


def _tanh(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.add(a, b, out=out).tanh_()


def _gauss(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    square = torch.square(torch.sub(a, b, out=out), out=out)
    return square.neg_().clamp_(min=_LOWEST_EXPONENT).exp_()


def _step(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.sub(a, b, out=out).mul_(_FOUR).sigmoid_()


def _steep(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.sub(a, b, out=out).mul_(_SIXTEEN).clamp_(min=_LOWEST_EXPONENT).sigmoid_()


def _relu(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.sub(a, b, out=out).relu_()


def _gate(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.mul(a, torch.mul(b, _FOUR, out=out).sigmoid_(), out=out)


_RISING, _DIFFERENCE = (1, 1), (1, -1)
_BUILT_IN: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(
            "add", torch.add, "({a} + {b})", commutative=True, constant="none", monotonic=_RISING
        ),
        Operator("sub", torch.sub, "({a} - {b})", constant="none", monotonic=_DIFFERENCE),
        Operator("mul", torch.mul, "({a} * {b})", commutative=True, constant="none"),
        Operator("div", _div, "({a} / {b})", constant="left", divides=True),
        Operator("max", torch.maximum, "max({a}, {b})", commutative=True, monotonic=_RISING),
        Operator("min", torch.minimum, "min({a}, {b})", commutative=True, monotonic=_RISING),
        Operator(
            "tanh", _tanh, "tanh({a} + {b})", commutative=True, location=-1, monotonic=_RISING
        ),
        Operator("sin", _sin, "sin({a} + {b})", commutative=True, location=-1),
        Operator("gauss", _gauss, "exp(-({a} - {b})^2)", commutative=True),
        Operator("step", _step, "sigmoid(4 * ({a} - {b}))", monotonic=_DIFFERENCE),
        Operator("steep", _steep, "sigmoid(16 * ({a} - {b}))", monotonic=_DIFFERENCE),
        Operator("relu", _relu, "relu({a} - {b})", monotonic=_DIFFERENCE),
        Operator("gate", _gate, "{a} * sigmoid(4 * {b})", constant="none", monotonic=(1, 0)),
    )
}
_REGISTRY: dict[str, Operator] = dict(_BUILT_IN)

# Sums and differences of columns lie in the span of the head and gain nothing when screened.
DEFAULT_OPERATORS = (
    "mul", "div", "max", "min", "tanh", "sin", "gauss", "step", "steep", "relu", "gate",
)  # fmt: skip


def _built_in(name: str) -> Operator:
    return _BUILT_IN[name]


def available_operators() -> tuple[str, ...]:
    """Return the names of all registered operators."""
    return tuple(_REGISTRY)


def get_operators(operators: Sequence[str | Operator]) -> tuple[Operator, ...]:
    """Look operators up by name; `Operator` records pass through.

    Parameters
    ----------
    operators : sequence of str or Operator
        Names in the registry, or records.

    Returns
    -------
    tuple of Operator

    Raises
    ------
    ValueError
        If a name is unknown, a name is given twice, or the sequence is empty.
    """
    if isinstance(operators, (str, Operator)):
        operators = (operators,)
    found = []
    for item in operators:
        if isinstance(item, Operator):
            found.append(item)
        elif item in _REGISTRY:
            found.append(_REGISTRY[item])
        else:
            raise ValueError(
                f"Unknown operator {item!r}; available are {', '.join(_REGISTRY)}. "
                "Add one with skevo.register_operator."
            )
    names = [operator.name for operator in found]
    if not names:
        raise ValueError("operators must name at least one operator, got an empty sequence.")
    if len(set(names)) < len(names):
        raise ValueError(f"operators must be distinct, got {names}.")
    return tuple(found)


def register_operator(
    name: str,
    function: Function,
    text: str | None = None,
    *,
    commutative: bool = False,
    constant: Literal["right", "left", "none"] = "right",
    location: int = 1,
    monotonic: tuple[int, int] = (0, 0),
    divides: bool = False,
    overwrite: bool = False,
) -> Operator:
    """Make a torch function of two columns available as an operator.

    The function is tried on zeros, negative, tiny and large values, in float32 and float64, and on
    several shapes. It must be elementwise and finite everywhere: the columns of new rows can take
    any value.

    Parameters
    ----------
    name : str
        A Python identifier, the key in the registry.
    function : callable
        ``function(a, b)`` of two tensors of one shape; see `Operator`.
    text : str, default=None
        Format string with ``{a}`` and ``{b}``; ``"name({a}, {b})"`` if None.
    commutative : bool, default=False
        Whether the operands may be exchanged.
    constant : {"right", "left", "none"}, default="right"
        The operand that may be a trainable constant; see `Operator`.
    location : {1, -1}, default=1
        Sign of the constants that are tried; see `Operator`.
    monotonic : (int, int), default=(0, 0)
        Which way the function goes in each operand; see `Operator`.
    divides : bool, default=False
        Whether the function divides by its right operand; see `Operator`.
    overwrite : bool, default=False
        Whether a registered operator of that name may be replaced. Built-in ones never are.

    Returns
    -------
    Operator
        The registered record, which can be passed in ``operators`` too.

    Raises
    ------
    ValueError
        If the name is taken or no identifier, the text lacks an operand, or the function fails on
        the trial values: raises, changes the shape or dtype, is not finite, depends on other rows,
        or is not commutative or monotonic though declared so.

    Examples
    --------
    >>> import torch
    >>> from skevo import register_operator
    >>> hypot = register_operator("hypot", torch.hypot, "hypot({a}, {b})", commutative=True)
    >>> hypot(torch.tensor([3.0]), torch.tensor([4.0]))
    tensor([5.])
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"name must be a Python identifier, got {name!r}.")
    if name in _BUILT_IN or (name in _REGISTRY and not overwrite):
        raise ValueError(f"Operator {name!r} is already registered.")
    if text is None:
        text = name + "({a}, {b})"
    if {field for _, field, _, _ in Formatter().parse(text) if field is not None} != {"a", "b"}:
        raise ValueError(f"text must have the fields {{a}} and {{b}} and no others, got {text!r}.")
    if constant not in ("right", "left", "none"):
        raise ValueError(f"constant must be 'right', 'left' or 'none', got {constant!r}.")
    if location not in (1, -1):
        raise ValueError(f"location must be 1 or -1, got {location!r}.")
    if len(monotonic) != 2 or not {*monotonic} <= {-1, 0, 1}:
        raise ValueError(f"monotonic must be two of -1, 0, and 1, got {monotonic!r}.")
    operator = Operator(
        name, function, text, commutative, constant, location,
        (monotonic[0], monotonic[1]), divides,
    )  # fmt: skip
    _try(operator)
    _REGISTRY[name] = operator
    return operator


def _try(operator: Operator) -> None:
    """Raise ValueError unless the operator is elementwise and finite on trial values."""
    values = [0.0, -0.0, 1e-30, -1e-30, 0.5, -0.5, 1.0, -1.0, 3.7, -12.0, 1e3, -1e3, 1e6, -1e6]
    for dtype in (torch.float32, torch.float64):
        points = torch.tensor(values, dtype=dtype)
        a = points.repeat_interleave(len(values))
        b = points.repeat(len(values))
        result = _call(operator, a, b)
        if not torch.isfinite(result).all():
            bad = int((~torch.isfinite(result)).nonzero()[0, 0])
            raise ValueError(
                f"Operator {operator.name!r} must be finite everywhere, but gives "
                f"{float(result[bad])} for a={float(a[bad])}, b={float(b[bad])}."
            )
        # Elementwise: neither the other rows, nor their order, nor the shape may matter.
        one_by_one = torch.cat([_call(operator, a[i : i + 1], b[i : i + 1]) for i in range(len(a))])
        side = len(values)
        square = _call(operator, a.reshape(side, side), b.reshape(side, side)).flatten()
        empty = _call(operator, a[:0], b[:0])
        for other in (one_by_one, square, _call(operator, a.flip(0), b.flip(0)).flip(0)):
            if not torch.allclose(result, other, rtol=1e-5, atol=1e-6) or len(empty):
                raise ValueError(
                    f"Operator {operator.name!r} must be elementwise, but its result depends on "
                    "the other rows or on the shape."
                )
        if operator.commutative and not torch.allclose(
            result, _call(operator, b, a), rtol=1e-5, atol=1e-6
        ):
            raise ValueError(f"Operator {operator.name!r} is not commutative, but declared so.")
        grid = points.sort().values
        ordered = _call(operator, *torch.meshgrid(grid, grid, indexing="ij"))
        for axis, sign in enumerate(operator.monotonic):
            if sign and (sign * ordered.diff(dim=axis) < 0).any():
                raise ValueError(f"Operator {operator.name!r} is not monotonic as declared.")


def _call(operator: Operator, a: Tensor, b: Tensor) -> Tensor:
    """Apply an operator under trial and check what comes back."""
    try:
        result = operator(a, b)
    except Exception as error:
        raise ValueError(
            f"Operator {operator.name!r} failed on tensors of shape {tuple(a.shape)} and "
            f"{a.dtype}: {error}"
        ) from error
    if not isinstance(result, Tensor) or result.shape != a.shape or result.dtype != a.dtype:
        raise ValueError(
            f"Operator {operator.name!r} must return a tensor of the operands' shape "
            f"{tuple(a.shape)} and dtype {a.dtype}."
        )
    return result
