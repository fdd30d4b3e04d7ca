"""Pruning: rises and remaining weights against dense solutions, alone and in a crowd."""

import numpy as np
import pytest
import reference
import torch
from builders import alone, crowd, network_of, normal, random_network, rows_for, singles

from skevo.core.heads import coefficients, fit_head
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.pruning import contribution_std, eliminate, weakest_leaf
from skevo.core.topology import CONSTANT, Topology

N = 100


def fitted(alpha=1.0, n_outputs=1, n_nodes=8, weighted=True):
    """Return population of one with optimal head, inverse curvature and the dense problem."""
    population = alone(random_network(2, n_nodes=n_nodes, n_outputs=n_outputs))
    inputs = normal(3, N)
    target = random_network(3, n_outputs=n_outputs).predict(inputs.T).T
    target = target + normal(n_outputs, N, seed=2)
    weight = normal(N, seed=6).abs() + 0.1 if weighted else None
    rows = rows_for(population, target, inputs, weight)
    population, inverse = optimal(rows, population, alpha)
    columns, weight = rows.columns[0].T.numpy(), rows.weight[0].numpy()
    ridge = reference.ridge_of(columns, weight, alpha)
    return population, inverse, (columns, target.T.numpy(), weight, ridge)


def optimal(rows, population, alpha):
    """Return the population with optimal heads, and the inverse curvature."""
    alpha = torch.full_like(rows.total_weight, alpha)
    population, curvature = fit_head(rows, population, SquaredError(), alpha, measure_moments(rows))
    return population, curvature.inverse


def removed(population, inverse, threshold, n_forced=0):
    """Return the nodes that a population of one loses, and its coefficients without them."""
    threshold = torch.tensor([threshold], dtype=torch.float64)
    found = eliminate(population, inverse, threshold, np.array([n_forced]))
    return np.flatnonzero(found.gone[0]), found.coefficients[0]


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
    population, inverse, problem = fitted(alpha, n_outputs)
    found, _ = removed(population, inverse, threshold)
    assert found.tolist() == greedy(population.network(0), problem, threshold)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("n_forced", [1, 3, 8])
def test_remaining_weights_equal_dense_solution_without_the_nodes(n_forced, n_outputs):
    population, inverse, (columns, target, weight, ridge) = fitted(0.5, n_outputs)
    nodes, found = removed(population, inverse, 0.0, n_forced)
    assert len(nodes) == n_forced
    kept = np.setdiff1d(np.arange(11), 3 + nodes)
    augmented = np.append(0, 1 + kept)
    expected = reference.solve_head(columns[:, kept], target, weight, ridge[augmented])
    # Up to eight rank-one corrections of an inverse of moderate condition.
    np.testing.assert_allclose(found[augmented], expected, rtol=1e-6, atol=1e-8)
    assert (found[4 + nodes] == 0.0).all()


@pytest.mark.parametrize("alpha", [0.01, 1.0])
@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_leaf_goes_exactly_if_its_rise_is_below_threshold(factor, alpha):
    population, inverse, problem = fitted(alpha)
    leaves = np.flatnonzero(population.wiring.leaves[0])
    lowest = min(reference.rise(*problem, [3 + leaf]) for leaf in leaves)
    nodes, _ = removed(population, inverse, factor * lowest)
    assert (len(nodes) > 0) == (factor > 1)


@pytest.mark.parametrize("n_forced", range(9))
def test_eliminated_nodes_can_be_pruned(n_forced):
    population, inverse, _ = fitted()
    nodes, _ = removed(population, inverse, 0.0, n_forced)
    # Refused if a node that stays reads one that goes.
    assert population.network(0).prune(nodes).n_nodes == 8 - n_forced


def test_whole_branch_goes_if_it_is_worth_nothing():
    population = alone(network_of(Topology(2, [0, 0, 0], [0, 2, 3], [1, 0, 1]), ("mul",)))
    inputs = normal(2, N)
    # A linear target without noise.
    rows = rows_for(population, inputs[:1] - 2.0 * inputs[1:], inputs)
    assert removed(*optimal(rows, population, 0.0), 1e-6)[0].tolist() == [0, 1, 2]


def test_operand_that_is_read_twice_by_one_node_is_freed_with_it():
    topology = Topology(1, [0, 0], [0, 1], [CONSTANT, 1])
    population, inputs = alone(network_of(topology, ("tanh", "mul"))), normal(1, N)
    rows = rows_for(population, inputs, inputs)
    assert removed(*optimal(rows, population, 0.0), 1e-6)[0].tolist() == [0, 1]


def test_elimination_without_effect_returns_the_head_as_it_is():
    population, inverse, _ = fitted()
    nodes, found = removed(population, inverse, -1.0)
    assert nodes.tolist() == []
    assert torch.equal(found, coefficients(population)[0])


def test_elimination_leaves_its_arguments_alone():
    population, inverse, _ = fitted()
    weight, before, use = population.weight.clone(), inverse.clone(), population.wiring.use.copy()
    removed(population, inverse, 0.0, 3)
    assert torch.equal(population.weight, weight)
    assert torch.equal(inverse, before)
    assert population.wiring.use.tolist() == use.tolist()


def test_elimination_of_no_nodes_is_empty():
    population = alone(Network.linear(get_operators("mul"), 2, 1, dtype=torch.float64))
    nodes, _ = removed(population, torch.eye(3, dtype=torch.float64)[None], 1.0, 1)
    assert nodes.tolist() == []


# -- members side by side --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "n_outputs"), [(SquaredError(), 2), (LogLoss(), 1), (CrossEntropy(), 3)]
)
@pytest.mark.parametrize(
    ("threshold", "n_forced"),
    [
        pytest.param([-1.0] * 4, [0, 2, 5, 1], id="forced"),
        pytest.param([0.3, 0.5, 30.0, 1.0], [0] * 4, id="by-threshold"),
        pytest.param([0.1, 1.0, -1.0, 1e9], [3, 0, 0, 0], id="both"),
    ],
)
def test_elimination_of_each_member_is_its_own(threshold, n_forced, loss, n_outputs):
    rows, population = crowd(loss, n_outputs)
    alpha = torch.tensor([0.3, 3.0, 0.01, 30.0], dtype=torch.float64)
    population, model = fit_head(rows, population, loss, alpha, measure_moments(rows))
    threshold = torch.tensor(threshold, dtype=torch.float64)
    found = eliminate(population, model.inverse, threshold, np.array(n_forced))
    for member, (_, own, columns, at) in enumerate(singles(rows, population)):
        inverse = model.inverse[member][at[:, None], at]
        nodes, expected = removed(own, inverse[None], float(threshold[member]), n_forced[member])
        slots = columns[3:].numpy() - 3
        assert np.flatnonzero(found.gone[member]).tolist() == slots[nodes].tolist()
        whole = torch.zeros_like(found.coefficients[member])
        whole[at] = expected
        # The same numbers, in arrays of other sizes.
        torch.testing.assert_close(found.coefficients[member], whole, rtol=1e-10, atol=1e-10)
    n_gone = found.gone.sum(axis=1)
    assert (n_gone >= np.minimum(n_forced, population.wiring.n_nodes)).all()
    assert len(set(n_gone.tolist())) > 1


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
    leaves = alone(network_of(topology, ("mul",))).wiring.leaves
    found = weakest_leaf(torch.tensor([scores]), leaves)
    assert np.argwhere(found).tolist() == [[0, expected]]


def test_weakest_leaf_is_one_of_each_member_that_has_any():
    leaves = np.array([[True, False, True], [False] * 3, [False, True, False]])
    scores = torch.tensor([[3.0, 0.0, 2.0], [0.0, 0.0, 0.0], [1.0, 9.0, 1.0]])
    found = weakest_leaf(scores, leaves)
    assert np.argwhere(found).tolist() == [[0, 2], [2, 1]]


def test_weakest_leaf_of_no_nodes_is_nowhere():
    found = weakest_leaf(torch.empty(2, 0), np.empty((2, 0), dtype=bool))
    assert found.shape == (2, 0)
