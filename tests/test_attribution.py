"""Attribution: contributions of columns and of inputs, and what they are worth."""

import pytest
import torch
from builders import network_of, random_network
from numpy.testing import assert_allclose

from skevo.core.attribution import attribute, loss_rises, most_typical
from skevo.core.ensemble import Ensemble
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.statistics import midmean, midmean_weights
from skevo.core.topology import CONSTANT, Topology


def attributed(ensemble, inputs):
    columns = ensemble.network.columns(inputs)
    return attribute(ensemble, columns, columns[:, :1])


def single(operator, left, right, n_inputs=2):
    """Return an ensemble of one network, with one node, that hears nothing else."""
    network = network_of(Topology(n_inputs, [0], [left], [right]), operators=(operator,))
    network.weight[:, :n_inputs] = 0.0
    return Ensemble.of([network])


@pytest.mark.parametrize("n", [1, 3, 4, 8, 9])
def test_midmean_weights_give_midmean(n):
    values = torch.randn(n, 2, 50, dtype=torch.float64)
    values[:, :, 0] = 1.0  # ties
    weights = midmean_weights(values)
    assert_allclose(weights.sum(dim=0), 1.0, rtol=1e-14)
    assert_allclose((weights * values).sum(dim=0), midmean(values), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_members", [1, 4])
def test_contributions_sum_to_output(seed, n_members):
    networks = [
        random_network(seed=10 * seed + k, n_nodes=8, n_outputs=2) for k in range(n_members)
    ]
    found = attributed(Ensemble.of(networks), torch.randn(3, 40, dtype=torch.float64))
    for parts in (found.columns, found.inputs):
        assert_allclose(found.constant + parts.sum(dim=1), found.output, rtol=1e-10, atol=1e-10)
    # Compared with itself a row has no contributions.
    assert not found.columns[..., 0].any()
    assert not found.inputs[..., 0].any()


def test_product_of_two_is_shared_by_shapley_values():
    ensemble = single("mul", 0, 1)
    x = torch.tensor([[1.0, 3.0], [2.0, 7.0]], dtype=torch.float64)
    found = attributed(ensemble, x)
    unit = (ensemble.network.weight[0, 2] / ensemble.network.scale[0]).item()
    # From 1 * 2 to 3 * 7: half of (3 - 1) * (2 + 7), and half of (7 - 2) * (1 + 3).
    assert_allclose(found.inputs[0, :, 1], [9.0 * unit, 10.0 * unit], rtol=1e-12)


@pytest.mark.parametrize(("left", "right"), [(0, CONSTANT), (CONSTANT, 0), (0, 0)])
def test_node_of_one_input_is_all_of_that_input(left, right):
    found = attributed(single("mul", left, right), torch.randn(2, 20, dtype=torch.float64))
    assert_allclose(found.inputs[0, 0], found.columns[0, 2], rtol=1e-12)
    assert not found.inputs[0, 1].any()


def test_sum_within_a_node_keeps_signs():
    network = network_of(Topology(2, [0, 1], [0, 2], [1, CONSTANT]), operators=("add", "tanh"))
    network.weight[:] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    x = torch.tensor([[0.0, 1.0], [0.0, -0.5]], dtype=torch.float64)
    one, other = attributed(Ensemble.of([network]), x).inputs[0, :, 1]
    # Of a + b = 1 - 1/2, twice the whole and minus the whole.
    assert_allclose(one / other, -2.0, rtol=1e-12)


def test_operands_that_cancel_do_not_blow_up():
    network = network_of(Topology(2, [0, 1], [0, CONSTANT], [1, 2]), operators=("sub", "div"))
    network.weight[:, :3] = 0.0
    x = torch.tensor([[1.0, 5.0], [0.9, 5.0 - 0.1 + 1e-9]], dtype=torch.float64)
    found = attributed(Ensemble.of([network]), x)
    assert found.inputs[..., 1].abs().max() < 10.0 * found.columns[..., 1].abs().max()


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (SquaredError(), torch.randn(1, 60, dtype=torch.float64)),
        (LogLoss(), torch.randint(2, (1, 60)).double()),
        (CrossEntropy(), torch.eye(3, dtype=torch.float64)[torch.randint(3, (60,))].T),
    ],
    ids=["squared", "binary", "classes"],
)
def test_loss_rises_equal_those_computed_one_by_one(loss, target):
    output = torch.randn(len(target), 60, dtype=torch.float64)
    contributions = torch.randn(len(target), 4, 60, dtype=torch.float64)
    weight = torch.rand(60, dtype=torch.float64)

    def mean(values):
        return (values * weight).sum() / weight.sum()

    for column, rise in enumerate(loss_rises(loss, output, target, weight, contributions)):
        without = output.clone()
        for of_output, own in zip(without, contributions[:, column], strict=True):
            of_output -= own - mean(own)
        expected = mean(loss.value(without, target)) - mean(loss.value(output, target))
        assert_allclose(rise, expected, rtol=1e-9, atol=1e-12)


def test_most_typical_row_is_nearest_to_means():
    network = random_network()
    columns = network.columns(torch.randn(3, 30, dtype=torch.float64))
    mean = columns.mean(dim=1)
    distances = [(network.weight.abs() @ (column - mean).abs()).sum() for column in columns.T]
    assert most_typical(network, columns) == int(torch.stack(distances).argmin())
