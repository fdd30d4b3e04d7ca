"""What is known of targets: that of parts adds up to that of all rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skevo._rows import Part
from skevo._target import TargetRange


def rows_of(y, weight):
    y = np.array(y, dtype=float)
    return Part(np.zeros((len(y), 1)), y, np.array(weight, dtype=float))


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.5, 1.0])), min_size=2, max_size=20
    ),
    st.data(),
)
def test_that_of_parts_adds_up(rows, data):
    y, weight = zip(*rows, strict=True)
    cut = data.draw(st.integers(1, len(y) - 1))
    whole = TargetRange.of(rows_of(y, weight))
    parts = [rows_of(y[some], weight[some]) for some in (slice(cut), slice(cut, None))]
    found = TargetRange.of(parts[0]) + TargetRange.of(parts[1])
    assert found.total == whole.total
    assert (found.low, found.high) == (min(y), max(y))
    for k, end in (("at_low", min(y)), ("at_high", max(y))):
        (exact,), (added,) = getattr(whole, k), getattr(found, k)
        assert added == exact
        own = sum(w for one, w in rows if one == end)
        assert float(exact) == pytest.approx(own, rel=1e-12)
