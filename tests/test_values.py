"""Values as JSON: with their types there and back."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skevo._values import from_json, to_json

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda items: (
        st.lists(items)
        | st.lists(items).map(tuple)
        | st.dictionaries(SCALARS.filter(lambda key: key == key), items)
    ),
)


@given(VALUES)
def test_values_come_back_with_their_types(value):
    # What is written shows types, the sign of zeros, and NaN.
    assert repr(from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.array([1, -2], dtype=np.int8),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array([0.1, math.inf], dtype=np.float16),
        np.array([0.1, -0.0]),
        np.array(["a", "älter"]),
        np.array(["a", 1, None, 2.5, True], dtype=object),
    ],
    ids=lambda array: array.dtype.name,
)
def test_arrays_come_back_with_their_dtype(array):
    back = from_json(json.loads(json.dumps(to_json(array), allow_nan=False)))
    assert back.dtype == array.dtype
    assert repr(back) == repr(array)


@pytest.mark.parametrize("scalar", [np.int64(3), np.float32(0.5), np.str_("a"), np.bool_(True)])
def test_scalars_of_numpy_become_those_of_python(scalar):
    back = from_json(to_json(scalar))
    assert back == scalar
    assert type(back) in (int, float, str, bool)


@pytest.mark.parametrize("value", [1j, {1, 2}, [b"a"], np.array(["2020-01-01"], dtype="M8[D]")])
def test_other_values_are_refused(value):
    with pytest.raises(TypeError):
        to_json(value)


@pytest.mark.parametrize(
    "stored",
    [
        {"set": []},
        {},
        {"tuple": 1},
        {"array": ["V9", []]},
        {"array": ["str", ["a" * 2**14] * 2**13]},
    ],
)
def test_what_stands_for_nothing_is_refused(stored):
    with pytest.raises((ValueError, TypeError)):
        from_json(stored)
