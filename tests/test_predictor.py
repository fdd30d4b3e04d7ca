"""Predictor: few rows and many, all operators, agree with the reference."""

import numpy as np
import pytest
import reference
import torch
from builders import OPERATORS, network_of, normal, random_network, topologies
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_operators import smooth

from skevo.core.operators import Operator
from skevo.core.topology import CONSTANT, Topology

# Two evaluations whose elementary functions and sums round differently.
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}
# Rows computed in Python's floats, and rows computed as tensors.
FEW, MANY = 3, 50


@settings(max_examples=60, deadline=None, derandomize=True)
@given(topologies(), st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([FEW, MANY]))
def test_predict_equals_reference(topology, seed, n_outputs, n_rows):
    network = network_of(topology, n_outputs=n_outputs, seed=seed)
    x = normal(n_rows, topology.n_inputs, seed=seed + 1)
    # Where columns are huge, the rounding of an operand is amplified without limit by sin.
    assume(np.abs(reference.columns(network, x)).max() < 1e3)
    np.testing.assert_allclose(network.predict(x), reference.output(network, x), **ROUNDING)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("sides", [(0, 1), (CONSTANT, 1), (0, CONSTANT)])
@pytest.mark.parametrize("n_rows", [FEW, MANY])
def test_predict_reads_columns_and_constants(name, sides, n_rows):
    # The first node is read by the second, which is a leaf.
    topology = Topology(2, [0, 0], [sides[0], 2], [sides[1], 0])
    network, x = network_of(topology, (name,)), normal(n_rows, 2)
    np.testing.assert_allclose(network.predict(x), reference.output(network, x), **ROUNDING)


@pytest.mark.parametrize("n_rows", [FEW, MANY])
def test_predict_in_single_precision_agrees(n_rows):
    network, x = random_network(n_nodes=12, operators=OPERATORS), normal(n_rows, 3)
    single = network.to(dtype=torch.float32).predict(x)
    assert single.dtype == torch.float32
    # Rounded in single precision, and amplified by a step's slope of up to 16.
    torch.testing.assert_close(single.double(), network.predict(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_rows", [1, FEW, MANY])
def test_predict_calls_functions_of_users_with_tensors(n_rows):
    # Of a built-in operator's name, but another function.
    own = Operator("mul", smooth, "{a} {b}")
    network, x = network_of(Topology(2, [0], [0], [1]), (own,)), normal(n_rows, 2)
    torch.testing.assert_close(network.predict(x), network.output(network.columns(x.T)).T)


@pytest.mark.parametrize("value", [1e-30, 1e6, -1e6, 1e150])
@pytest.mark.parametrize("name", OPERATORS)
def test_few_rows_of_extreme_values_agree_with_many(name, value):
    network = network_of(Topology(2, [0, 0], [0, 1], [1, 0]), (name,))
    x = torch.tensor([[value, 0.5], [-value, value], [value, -value]], dtype=torch.float64)
    many = network.predict(x.repeat(MANY, 1))
    torch.testing.assert_close(network.predict(x), many[:3], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_rows", [FEW, MANY])
def test_predict_leaves_network_and_rows_alone(n_rows):
    network, x = random_network(n_outputs=2), normal(n_rows, 3)
    weight, rows = network.weight.clone(), x.clone()
    first = network.predict(x)
    assert torch.equal(network.predict(x), first)
    assert torch.equal(network.weight, weight)
    assert torch.equal(x, rows)


@pytest.mark.parametrize("n_outputs", [1, 4, 5, 9])
def test_predict_of_any_number_of_outputs_equals_reference(n_outputs):
    network, x = random_network(n_nodes=12, n_outputs=n_outputs), normal(MANY, 3)
    # Heard by some outputs, by one, and by none.
    network.weight[1:, 5] = network.weight[:1, 6] = network.weight[:, 14] = 0.0
    np.testing.assert_allclose(network.predict(x), reference.output(network, x), **ROUNDING)
