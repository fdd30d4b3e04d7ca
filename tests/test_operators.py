"""Operators and their registry."""

import copy
import pickle

import pytest
import torch
from reference import SCALARS

from skevo import Operator, available_operators, register_operator
from skevo.core import operators as module
from skevo.core import scalars
from skevo.core.operators import DEFAULT_OPERATORS, get_operators

BUILT_IN = tuple(module._BUILT_IN)
VALUES = (0.0, -0.0, 1e-30, -1e-30, 5e-4, -5e-4, 0.3, -0.3, 1.0, -1.0, 2.5, -7.0, 1e3, -1e3)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Have registrations forgotten after each test."""
    monkeypatch.setattr(module, "_REGISTRY", dict(module._REGISTRY))


def pairs(dtype=torch.float64):
    points = torch.tensor(VALUES, dtype=dtype)
    return points.repeat_interleave(len(points)), points.repeat(len(points))


def smooth(a, b):
    return torch.atan(a - 2.0 * b)


# -- the built-in functions ------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_operator_equals_scalar_definition(name):
    a, b = pairs()
    expected = [SCALARS[name](x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    # Two implementations of exp, sin and tanh may differ in the last bits.
    torch.testing.assert_close(
        module._BUILT_IN[name](a, b), torch.tensor(expected, dtype=a.dtype), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_built_in_operator_passes_own_trial(name, dtype):
    module._try(module._BUILT_IN[name])
    a, b = pairs(dtype)
    assert module._BUILT_IN[name](a, b).dtype == dtype


@pytest.mark.parametrize("name", ["gauss", "steep"])
def test_far_values_and_their_products_are_zero_or_normal_numbers(name):
    """Computing with subnormal numbers takes a processor a hundred times as long."""
    a = torch.linspace(-8.0, 0.0, 4001)
    value = module._BUILT_IN[name](a, torch.zeros_like(a))
    assert (value < 1e-16).any()
    for far in (value, value.square()):
        assert ((far == 0) | (far >= torch.finfo(torch.float32).tiny)).all()


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_write_equals_call(name, dtype):
    a, b = pairs(dtype)
    out = torch.full_like(a, torch.nan)
    module._BUILT_IN[name].write(a, b, out=out)
    # A quotient is written as the product with an inverse: each of them is rounded.
    rtol = 3 * torch.finfo(dtype).eps if name == "div" else 0.0
    torch.testing.assert_close(out, module._BUILT_IN[name](a, b), rtol=rtol, atol=0.0)


def test_write_of_own_operator_equals_call():
    a, b = pairs()
    own, out = Operator("smooth", smooth, "{a} {b}"), torch.empty_like(a)
    own.write(a, b, out=out)
    assert torch.equal(out, smooth(a, b))


@pytest.mark.parametrize("name", BUILT_IN)
def test_scalars_equal_scalar_definition(name):
    for x, y in zip(*(side.tolist() for side in pairs()), strict=True):
        assert scalars.SCALARS[name](x, y) == pytest.approx(SCALARS[name](x, y), rel=1e-13)


@pytest.mark.parametrize("name", BUILT_IN)
def test_commutative_flag_says_whether_operands_commute(name):
    a, b = pairs()
    operator = module._BUILT_IN[name]
    # Equal to the last bit but for the rounding of transcendental functions of a rounded argument.
    same = torch.allclose(operator(a, b), operator(b, a), rtol=1e-14, atol=0.0)
    assert same == operator.commutative


@pytest.mark.parametrize("name", BUILT_IN)
def test_operator_gradients_pass_gradcheck(name):
    # Away from kinks and from the small denominators.
    a = torch.tensor([0.4, -1.3, 2.1, 0.9], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([1.1, 0.8, -0.6, -1.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module._BUILT_IN[name], (a, b))


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in ("add", "sub")])
def test_default_operators_hold_all_nonlinear_ones(name):
    assert name in DEFAULT_OPERATORS


@pytest.mark.parametrize("name", ["add", "sub"])
def test_default_operators_leave_out_span_of_head(name):
    assert name not in DEFAULT_OPERATORS


@pytest.mark.parametrize("name", BUILT_IN)
def test_constant_is_none_where_a_constant_makes_the_node_linear(name):
    # A right operand of 0.7 with the left one on an even grid: is the result linear in it?
    a = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
    column = module._BUILT_IN[name](a, torch.full_like(a, 0.7))
    # Second differences of a linear function vanish to rounding.
    linear = column.diff(n=2).abs().max() < 1e-12
    expected = {"div": "left"}.get(name, "none" if linear else "right")
    assert module._BUILT_IN[name].constant == expected


# -- pickling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("through", [lambda o: pickle.loads(pickle.dumps(o)), copy.deepcopy])
def test_copied_built_in_operator_is_same_object(name, through):
    assert through(module._BUILT_IN[name]) is module._BUILT_IN[name]


def test_pickled_user_operator_keeps_every_field():
    operator = Operator("smooth", smooth, "atan({a} - 2 * {b})", False, "left", -1)
    assert pickle.loads(pickle.dumps(operator)) == operator


def test_user_operator_named_like_built_in_keeps_own_function():
    operator = Operator("mul", smooth, "{a} {b}")
    assert pickle.loads(pickle.dumps(operator)).function is smooth


# -- the registry ----------------------------------------------------------------------------------


def test_get_operators_keeps_order_and_records():
    own = Operator("smooth", smooth, "{a} {b}")
    found = get_operators(["tanh", own, "add"])
    assert [operator.name for operator in found] == ["tanh", "smooth", "add"]
    assert found[1] is own


@pytest.mark.parametrize("single", ["mul", module._BUILT_IN["mul"]])
def test_get_operators_accepts_single_item(single):
    assert get_operators(single) == (module._BUILT_IN["mul"],)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("mul", "nothing"), "Unknown operator 'nothing'"),
        (("mul", "mul"), "distinct"),
        ((), "at least one"),
    ],
)
def test_get_operators_refuses_bad_names(names, message):
    with pytest.raises(ValueError, match=message):
        get_operators(names)


def test_registered_operator_is_found_by_name():
    operator = register_operator("smooth", smooth, constant="left", location=-1, divides=True)
    assert get_operators("smooth") == (operator,)
    assert "smooth" in available_operators()
    assert operator.text == "smooth({a}, {b})"
    assert (operator.constant, operator.location, operator.commutative) == ("left", -1, False)
    assert operator.divides
    assert pickle.loads(pickle.dumps(operator)) == operator


def test_registered_operator_is_replaced_only_with_overwrite():
    register_operator("smooth", smooth)
    with pytest.raises(ValueError, match="already registered"):
        register_operator("smooth", torch.add)
    assert register_operator("smooth", torch.add, overwrite=True).function is torch.add
    assert get_operators("smooth")[0].function is torch.add


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", BUILT_IN)
def test_register_operator_refuses_built_in_names(name, overwrite):
    with pytest.raises(ValueError, match="already registered"):
        register_operator(name, smooth, overwrite=overwrite)


def in_place(a, b):
    return a.add_(b)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(torch.div, "finite", id="division-by-zero"),
        pytest.param(lambda a, b: torch.exp(a) + b, "finite", id="overflow"),
        pytest.param(lambda a, b: torch.log(a) * b, "finite", id="nan"),
        pytest.param(lambda a, b: a - a.mean() + b, "elementwise", id="mean-of-rows"),
        pytest.param(lambda a, b: (a + b).cumsum(-1), "elementwise", id="order-of-rows"),
        pytest.param(
            lambda a, b: torch.nn.functional.normalize(a + b, dim=0),
            "elementwise",
            id="printed-normalisation",
        ),
        pytest.param(lambda a, b: (a + b).sum(), "shape", id="reduces"),
        pytest.param(lambda a, b: torch.stack([a, b]), "shape", id="stacks"),
        pytest.param(lambda a, b: a > b, "dtype", id="boolean"),
        pytest.param(lambda a, b: (a + b).float(), "dtype", id="float32"),
        pytest.param(lambda a, b: 1.0, "must return a tensor", id="no-tensor"),
        pytest.param(lambda a: a, "failed on tensors", id="unary"),
        pytest.param(lambda a, b: a @ b.T if a.ndim == 2 else a * b, "elementwise", id="by-shape"),
        pytest.param(in_place, "elementwise", id="changes-its-operands"),
    ],
)
def test_register_operator_refuses_bad_function(function, message):
    with pytest.raises(ValueError, match=message):
        register_operator("bad", function)
    assert "bad" not in available_operators()


def test_register_operator_refuses_wrong_commutativity():
    with pytest.raises(ValueError, match="not commutative"):
        register_operator("smooth", smooth, commutative=True)
    assert "smooth" not in available_operators()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two words"}, "identifier"),
        ({"name": 3}, "identifier"),
        ({"text": "f({a})"}, "must have the fields"),
        ({"text": "f({a}, {b}, {c})"}, "must have the fields"),
        ({"text": "f({a}, {b}}"}, "Single"),
        ({"constant": "both"}, "constant must be"),
        ({"location": 0}, "location must be"),
    ],
)
def test_register_operator_refuses_bad_argument(changes, message):
    with pytest.raises(ValueError, match=message):
        register_operator(**{"name": "smooth", "function": smooth, **changes})
