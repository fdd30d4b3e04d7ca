"""Pruning: rises and remaining weights against dense solutions without the column."""

import numpy as np
import pytest
import reference
import torch
from builders import network_of, normal, random_network, rows_for

from skevo.core.heads import coefficients, fit_head
from skevo.core.losses import SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.pruning import contribution_std, eliminate, weakest_leaf
from skevo.core.topology import CONSTANT, Topology

N = 100


def fitted(alpha=1.0, n_outputs=1, n_nodes=8, weighted=True):
    """Return rows, network with optimal head, inverse curvature and the dense problem."""
    network = random_network(2, n_nodes=n_nodes, n_outputs=n_outputs)
    inputs = normal(3, N)
    target = random_network(3, n_outputs=n_outputs).predict(inputs.T).T
    target = target + normal(n_outputs, N, seed=2)
    weight = normal(N, seed=6).abs() + 0.1 if weighted else None
    rows = rows_for(network, target, inputs, weight)
    network, curvature = fit_head(rows, network, SquaredError(), alpha, measure_moments(rows))
    columns, weight = rows.columns.T.numpy(), rows.weight.numpy()
    ridge = reference.ridge_of(columns, weight, alpha)
    return network, curvature.inverse, (columns, target.T.numpy(), weight, ridge)


def greedy(network, problem, threshold, n_forced=0):
    """Return the nodes that go, solving densely without every leaf, again after each removal."""
    n_inputs, gone = network.topology.n_inputs, []
    while True:
        leaves = [
            node
            for node in range(network.n_nodes)
            if node not in gone
            and set(reference.readers(network.topology, n_inputs + node)) <= set(gone)
        ]
        present = reference.rise(*problem, [n_inputs + node for node in gone])
        rises = [
            reference.rise(*problem, [n_inputs + other for other in (*gone, node)]) - present
            for node in leaves
        ]
        if not leaves or (len(gone) >= n_forced and min(rises) >= threshold):
            return sorted(gone)
        gone.append(leaves[int(np.argmin(rises))])


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.01, 10.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 3.0, 30.0, 1e9])
def test_eliminated_nodes_equal_solving_again_after_each(threshold, alpha, n_outputs):
    network, inverse, problem = fitted(alpha, n_outputs)
    found = eliminate(network, inverse, threshold).nodes
    assert found.tolist() == greedy(network, problem, threshold)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("n_forced", [1, 3, 8])
def test_remaining_weights_equal_dense_solution_without_the_nodes(n_forced, n_outputs):
    network, inverse, (columns, target, weight, ridge) = fitted(0.5, n_outputs)
    found = eliminate(network, inverse, 0.0, n_forced=n_forced)
    assert len(found.nodes) == n_forced
    kept = np.setdiff1d(np.arange(11), 3 + found.nodes)
    augmented = np.append(0, 1 + kept)
    expected = reference.solve_head(columns[:, kept], target, weight, ridge[augmented])
    # Up to eight rank-one corrections of an inverse of moderate condition.
    np.testing.assert_allclose(found.coefficients[augmented], expected, rtol=1e-6, atol=1e-8)
    assert (found.coefficients[4 + found.nodes] == 0.0).all()


@pytest.mark.parametrize("alpha", [0.01, 1.0])
@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_leaf_goes_exactly_if_its_rise_is_below_threshold(factor, alpha):
    network, inverse, problem = fitted(alpha)
    leaves = np.flatnonzero(network.topology.leaves)
    lowest = min(reference.rise(*problem, [3 + leaf]) for leaf in leaves)
    found = eliminate(network, inverse, factor * lowest)
    assert (len(found.nodes) > 0) == (factor > 1)


@pytest.mark.parametrize("n_forced", range(9))
def test_eliminated_nodes_can_be_pruned(n_forced):
    network, inverse, _ = fitted()
    found = eliminate(network, inverse, 0.0, n_forced=n_forced)
    # Refused if a node that stays reads one that goes.
    assert network.prune(found.nodes).n_nodes == 8 - n_forced


def test_whole_branch_goes_if_it_is_worth_nothing():
    topology = Topology(2, [0, 0, 0], [0, 2, 3], [1, 0, 1])
    network = network_of(topology, ("mul",))
    inputs = normal(2, N)
    # A linear target without noise.
    rows = rows_for(network, inputs[:1] - 2.0 * inputs[1:], inputs)
    network, curvature = fit_head(rows, network, SquaredError(), 0.0, measure_moments(rows))
    assert eliminate(network, curvature.inverse, 1e-6).nodes.tolist() == [0, 1, 2]


def test_operand_that_is_read_twice_by_one_node_is_freed_with_it():
    topology = Topology(1, [0, 0], [0, 1], [CONSTANT, 1])
    network = network_of(topology, ("tanh", "mul"))
    inputs = normal(1, N)
    rows = rows_for(network, inputs, inputs)
    network, curvature = fit_head(rows, network, SquaredError(), 0.0, measure_moments(rows))
    assert eliminate(network, curvature.inverse, 1e-6).nodes.tolist() == [0, 1]


def test_elimination_without_effect_returns_the_head_as_it_is():
    network, inverse, _ = fitted()
    found = eliminate(network, inverse, -1.0)
    assert found.nodes.tolist() == []
    assert torch.equal(found.coefficients, coefficients(network))


def test_elimination_leaves_its_arguments_alone():
    network, inverse, _ = fitted()
    weight, before = network.weight.clone(), inverse.clone()
    eliminate(network, inverse, 0.0, n_forced=3)
    assert torch.equal(network.weight, weight)
    assert torch.equal(inverse, before)


def test_elimination_of_no_nodes_is_empty():
    network = Network.linear(get_operators("mul"), 2, 1, dtype=torch.float64)
    found = eliminate(network, torch.eye(3, dtype=torch.float64), 1.0, n_forced=1)
    assert found.nodes.tolist() == []


# -- the source text's score -----------------------------------------------------------------------


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_contribution_std_equals_deviation_of_the_weighted_columns(n_outputs):
    weight, columns = normal(n_outputs, 6), normal(6, N, seed=1)
    contributions = weight.numpy()[:, :, None] * columns.numpy()[None]
    # The variances of a column's contributions to each output, added up.
    expected = np.sqrt(contributions.var(axis=2).sum(axis=0))
    found = contribution_std(weight, columns.std(dim=1, correction=0))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1.0, 5.0, 2.0, 3.0], 2), ([0.0, 0.0, 9.0, 3.0], 3), ([0.0, 1.0, 7.0, 7.0], 2)],
)
def test_weakest_leaf_has_lowest_score_among_leaves(scores, expected):
    # A chain 0 -> 1 -> 2, and node 3 beside it.
    topology = Topology(2, [0] * 4, [0, 2, 3, 0], [1, 1, 1, 0])
    assert weakest_leaf(network_of(topology, ("mul",)), torch.tensor(scores)) == expected


def test_weakest_leaf_of_no_nodes_is_none():
    network = Network.linear(get_operators("mul"), 2, 1)
    assert weakest_leaf(network, torch.empty(0)) is None
