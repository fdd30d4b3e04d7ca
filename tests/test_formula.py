"""Formulas: few numbers, and the value of the network."""

import numpy as np
import pytest
import torch
from builders import network_of
from numpy.testing import assert_allclose

from skevo._formula import column_texts, formula_text
from skevo._preprocessing import Scaling
from skevo.core.operators import Operator
from skevo.core.topology import CONSTANT, Topology

A, B, FIRST, SECOND = range(4)
# Doubles its first operand, and has a minus before what it multiplies.
TWICE = Operator("twice", lambda a, b: 2.0 * a - 3.0 * b, "(2 * {a} - 3 * {b})")
# Nodes as (operator, left, right), the last one with its text. A constant is 2, a weight -3; the
# column b is doubled where it enters.
CASES = {
    "6 / a": [("div", CONSTANT, A)],
    "6 * b / a": [("div", B, A)],
    "12 * b / a": [("div", CONSTANT, A), ("mul", FIRST, B)],
    "3 * a / a / b": [("div", CONSTANT, B), ("div", A, A), ("mul", FIRST, SECOND)],
    "6 / a / b": [("div", CONSTANT, A), ("div", CONSTANT, B), ("mul", FIRST, SECOND)],
    "3 * a / (1 / b)": [("div", CONSTANT, B), ("div", A, FIRST)],
    "3 / b / a": [("div", CONSTANT, B), ("div", FIRST, A)],
    "3 * a * sigmoid(8 * b)": [("gate", A, B)],
    "6 * sigmoid(8 * b) / a": [("div", CONSTANT, A), ("gate", FIRST, B)],
    "6 * sigmoid(8 * b)": [("gate", CONSTANT, B)],
    "3 * tanh(2 / a + 2 * b)": [("div", CONSTANT, A), ("tanh", FIRST, B)],
    "3 * (2 * a - 6 * b)": [("twice", A, B)],
    "3 * sigmoid(16 * (a - 2))": [("steep", A, CONSTANT)],
}


@pytest.fixture
def scaling():
    spread = np.array([1.0, 0.5])
    return Scaling(np.zeros(2), spread, np.zeros(2))


def network_with(nodes, constant=2.0):
    """Return a network that gives -3 times its last node."""
    operators = ("div", "mul", "gate", "tanh", "max", "steep", TWICE)
    names = [getattr(operator, "name", operator) for operator in operators]
    operator, left, right = zip(*nodes, strict=True)
    topology = Topology(2, [names.index(name) for name in operator], left, right)
    network = network_of(topology, operators)
    network.constants[:], network.scale[:], network.weight[:] = constant, 1.0, 0.0
    network.weight[0, -1], network.bias[:] = -3.0, 0.5
    return network


@pytest.mark.parametrize(("text", "nodes"), CASES.items(), ids=CASES)
def test_formula_has_one_number_per_product(scaling, text, nodes):
    network = network_with(nodes)
    assert formula_text(network, scaling, ["a", "b"], ["y"]) == f"y = 0.5 - {text}"
    # It is what the network computes, within three spreads of the centre.
    a, b = np.random.default_rng(0).uniform(0.5, 1.4, (2, 50))
    functions = {"tanh": np.tanh, "max": np.maximum, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
    by_hand = 0.5 - eval(text, {"a": a, "b": b, **functions})
    inputs = torch.from_numpy(scaling.columns(np.column_stack([a, b])))
    found = network.weight @ network.columns(inputs) + network.bias[:, None]
    assert_allclose(found[0], by_hand, rtol=1e-12)


@pytest.mark.parametrize(
    ("nodes", "text"),
    [([("div", CONSTANT, A)], "1 / a"), ([("max", A, CONSTANT)], "max(a, 1)")],
)
def test_expressions_without_their_factor_are_complete(scaling, nodes, text):
    network = network_with(nodes, constant=1.0)
    assert column_texts(network, scaling, ["a", "b"])[-1] == (1.0, text)
