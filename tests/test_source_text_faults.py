"""The faults of the source text's printed code, which must not come back.

Each fault is shown on a case where the printed rule, written down here as it is printed, gives
another answer than the right one; the layer must give the right one.
"""

import numpy as np
import pytest
import torch
from builders import assert_same_network, normal, random_network

from skevo import EvolvingLayer
from skevo.core.network import Network, Nodes
from skevo.core.operators import get_operators
from skevo.core.population import EMPTY, Population
from skevo.core.proposals import propose, propose_blindly
from skevo.core.pruning import contribution_std, weakest_leaf
from skevo.core.quantiles import quantile_table
from skevo.core.rows import MemoryRows
from skevo.core.topology import CONSTANT

N_INPUTS = 3


def layer_of(left, right, n_outputs=1):
    """Return a layer of sums with the given wiring, head weights one."""
    layer = EvolvingLayer(N_INPUTS, n_outputs, operators=("add", "mul"), dtype=torch.float64)
    layer.grow([0] * len(left), left, right, constant=0.5)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    return layer


# -- the printed rules -----------------------------------------------------------------------------


def printed_operand(column):
    """``if p1: ... else: self.p1 = torch.nn.Parameter(0.)``."""
    return column if column else CONSTANT


def printed_leaf_mask(left, right):
    """``leaf_ops``: 1 for what is taken to be read by another node."""
    mask = torch.zeros(len(left))
    for operand in (*left, *right):
        if operand > N_INPUTS:
            mask[N_INPUTS - operand] = 1.0
    return mask


def printed_removal(stddev, mask):
    """``stddev2 = stddev + mask * 1000; rm_op = torch.argmin(stddev2)``."""
    return int(torch.argmin(stddev + mask * 1000))


def printed_shift(operand, removed):
    """``decrement_indexes_above``."""
    return operand - 1 if operand > removed else operand


def printed_weight(weight):
    """``per_op_weight``."""
    return torch.sum(weight, dim=0)


# -- if p1: column 0 counts as no operand ----------------------------------------------------------


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 2), (2, 0)])
def test_column_zero_is_an_operand_like_any_other(left, right):
    assert CONSTANT in (printed_operand(left), printed_operand(right))
    layer, x = layer_of([left], [right]), normal(10, N_INPUTS)
    assert torch.equal(layer.columns(x)[:, N_INPUTS], x[:, left] + x[:, right])


@pytest.mark.parametrize(("left", "right"), [(0, CONSTANT), (CONSTANT, 0)])
def test_column_zero_beside_a_constant_is_an_operand(left, right):
    assert printed_operand(0) == CONSTANT
    layer, x = layer_of([left], [right]), normal(10, N_INPUTS)
    assert torch.equal(layer.columns(x)[:, N_INPUTS], x[:, 0] + 0.5)


def test_blind_mutation_of_a_single_column_reads_it():
    generator = torch.Generator().manual_seed(0)
    draws = [propose_blindly(1, 1, generator)[1:3] for _ in range(200)]
    # The only column is number 0, and every node must read it.
    assert {max(operands) for operands in draws} == {0}
    assert {(0, 0), (0, CONSTANT), (CONSTANT, 0)} == set(draws)


def test_screened_candidates_read_column_zero():
    network = Network.linear(get_operators("mul"), 1, 1, dtype=torch.float64)
    table = quantile_table(normal(1, 50), torch.ones(50, dtype=torch.float64))
    generators = [torch.Generator().manual_seed(0)]
    pool = propose(Population.of([network]), 10, table[None], generators, 0)
    present = pool.operator != EMPTY
    assert (pool.left[present].tolist(), pool.right[present].tolist()) == ([0], [0])


# -- the leaf test: > instead of >=, and the sign of the index -------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "leaves"),
    [
        pytest.param([0, 3], [1, 1], [1], id="first-node-is-read"),
        pytest.param([0, 0, 1, 4], [1, 2, 2, 0], [0, 2, 3], id="second-of-four-is-read"),
        pytest.param([0, 0, 1, 0, 5], [1, 2, 2, 0, 0], [0, 1, 3, 4], id="third-of-five-is-read"),
        pytest.param([0, 3, 4], [1, 3, 3], [2], id="chain"),
        pytest.param([0, 1, 2], [CONSTANT, 2, 0], [0, 1, 2], id="all-read-inputs"),
    ],
)
def test_leaf_nodes_are_those_no_other_node_reads(left, right, leaves):
    layer = layer_of(left, right)
    assert layer.leaf_nodes() == leaves
    printed = np.flatnonzero(printed_leaf_mask(left, right) == 0).tolist()
    # The printed test is right only where nothing is read.
    assert (printed == leaves) == (len(leaves) == len(left))


def test_last_input_column_is_no_node():
    # Operand n_inputs - 1 is the last input, n_inputs the first node.
    layer = layer_of([N_INPUTS - 1, N_INPUTS - 1], [N_INPUTS - 1, CONSTANT])
    assert layer.leaf_nodes() == [0, 1]
    layer = layer_of([0, N_INPUTS], [0, CONSTANT])
    assert layer.leaf_nodes() == [1]


# -- a mask of 1000 instead of exclusion -----------------------------------------------------------


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param([1.0, 2.0, 5000.0, 4000.0], id="leaves-far-above-1000"),
        pytest.param([0.0, 0.0, 1e30, 1e20], id="mask-lost-in-rounding"),
        pytest.param([0.0, 0.0, torch.inf, 1e6], id="infinite-leaf"),
    ],
)
def test_node_that_is_read_is_never_the_weakest_leaf(scores):
    # Nodes 0 and 1 are read by 2 and 3.
    layer = layer_of([0, 1, 3, 4], [1, 2, 0, 0])
    assert layer.leaf_nodes() == [2, 3]
    scores = torch.tensor(scores, dtype=torch.float64)
    assert printed_removal(scores, torch.tensor([1.0, 1.0, 0.0, 0.0])) in (0, 1)
    leaves = layer.topology.leaves[None]
    assert weakest_leaf(scores[None], leaves).tolist() == [[False, False, False, True]]


def test_weakest_leaf_is_found_among_nodes_far_above_1000():
    # Every node that is read has a deviation far above 1000, and so have the leaves.
    layer = layer_of([0, 1, 3, 4], [1, 2, 0, 0])
    scores = torch.tensor([5e4, 4e4, 9e4, 8e4], dtype=torch.float64)
    assert printed_removal(scores, torch.tensor([1.0, 1.0, 0.0, 0.0])) == 1
    leaves = layer.topology.leaves[None]
    assert weakest_leaf(scores[None], leaves).tolist() == [[False, False, False, True]]


def test_evolve_never_prunes_a_node_that_is_read():
    layer = layer_of([0, 1, 3, 4], [1, 2, 0, 0])
    x = 1e5 * normal(100, N_INPUTS)
    with torch.no_grad():
        # What is read contributes next to nothing, the leaves far above 1000.
        layer.weight[0, N_INPUTS:] = torch.tensor([1e-9, 1e-9, 3.0, 2.0], dtype=torch.float64)
    stddev = (layer.weight[0, N_INPUTS:] * layer.columns(x)[:, N_INPUTS:]).std(dim=0)
    assert printed_removal(stddev, torch.tensor([1.0, 1.0, 0.0, 0.0])) in (0, 1)
    layer.evolve(x, generator=torch.Generator().manual_seed(0))
    assert layer.left.tolist()[:3] == [0, 1, 3]
    assert layer.weight[0, N_INPUTS:].tolist() == [1e-9, 1e-9, 3.0, 0.0]


# -- index shifts that forget the input columns ----------------------------------------------------


@pytest.mark.parametrize("removed", [0, 1])
def test_pruning_shifts_nodes_and_leaves_input_columns_alone(removed):
    # Nodes 0 and 1 are leaves; 2 and 3 are read by 3 and 4, along with inputs 1 and 2.
    left, right = [0, 0, 1, 5, 6], [1, 2, 2, 2, 1]
    layer, x = layer_of(left, right), normal(10, N_INPUTS)
    before = layer.columns(x)
    layer.prune([removed])
    assert layer.left.tolist()[1:] == [1, 4, 5]
    assert layer.right.tolist()[1:] == [2, 2, 1]
    printed = [printed_shift(operand, removed) for operand in right[2:]]
    assert printed != layer.right.tolist()[1:]
    kept = [column for column in range(8) if column != N_INPUTS + removed]
    assert torch.equal(layer.columns(x), before[:, kept])


def test_pruning_takes_the_nodes_head_weight_not_an_inputs():
    layer = layer_of([0, 0, 1], [1, 2, 2], n_outputs=2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(12.0).reshape(2, 6))
    layer.prune([1])
    # The printed code drops column 1 of the head, an input's.
    assert layer.weight.tolist() == [[0.0, 1.0, 2.0, 3.0, 5.0], [6.0, 7.0, 8.0, 9.0, 11.0]]


def test_columns_in_memory_follow_the_same_shift():
    population = Population.of([random_network(n_nodes=6)])
    rows = MemoryRows(*(normal(1, n, 20) for n in (3, 1)), torch.ones(1, 20, dtype=torch.float64))
    rows.assign(population)
    before = rows.columns.clone()
    gone = weakest_leaf(normal(1, 6), population.wiring.leaves)
    leaf = int(gone[0].argmax())
    rows.without(population.without(gone), np.pad(gone, ((0, 0), (3, 0))))
    pruned, kept = population.without(gone).compact()
    rows.compact(pruned, torch.from_numpy(kept))
    stayed = [column for column in range(9) if column != 3 + leaf]
    assert torch.equal(rows.columns, before[:, stayed])
    # Computed anew, in other groups, up to the rounding of elementary functions.
    torch.testing.assert_close(
        pruned.network(0).columns(before[0, :3]), before[0, stayed], rtol=1e-12, atol=1e-12
    )


# -- head weights summed over outputs --------------------------------------------------------------


def test_weights_of_opposite_sign_do_not_cancel():
    weight = torch.tensor([[5.0, 0.1], [-5.0, 0.1]])
    deviation = torch.ones(2)
    printed = printed_weight(weight).abs() * deviation
    assert int(printed.argmin()) == 0
    assert int(contribution_std(weight, deviation).argmin()) == 1


def test_evolve_keeps_node_whose_weights_have_opposite_signs():
    layer, x = layer_of([0, 1], [1, 2], n_outputs=2), normal(100, N_INPUTS)
    with torch.no_grad():
        layer.weight[:, N_INPUTS:] = torch.tensor([[5.0, 0.1], [-5.0, 0.1]])
    layer.evolve(x, generator=torch.Generator().manual_seed(0))
    assert layer.weight[:, N_INPUTS].tolist() == [5.0, -5.0]
    assert layer.weight.shape == (2, 5)


# -- an output that depends on the rows beside it --------------------------------------------------


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("rows", [[0], [3, 7], list(range(5)), [*range(9, -1, -1)]])
def test_output_of_a_row_is_independent_of_its_batch(rows, train):
    layer = layer_of([0, 0, 3], [1, CONSTANT, 4]).train(train)
    x = normal(10, N_INPUTS)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        layer.evolve(x, generator=generator)
    with torch.no_grad():
        layer.weight.fill_(0.7)
    # Matrix products of other sizes round differently; the printed normalisation is off by far.
    torch.testing.assert_close(layer(x[rows]), layer(x)[rows], rtol=1e-13, atol=1e-13)
    node = layer.columns(x)[:, -1]
    printed = torch.nn.functional.normalize(node, dim=0)[rows]
    assert not torch.allclose(torch.nn.functional.normalize(node[rows], dim=0), printed) or len(
        rows
    ) == len(x)


def test_output_is_independent_of_values_in_other_rows():
    layer, x = layer_of([0, 3], [1, 2]), normal(10, N_INPUTS)
    before = layer(x)
    other = x.clone()
    other[1:] *= 1e6
    # The same matrix product, row by row.
    assert torch.equal(layer(other)[0], before[0])


def test_evaluating_a_layer_changes_nothing_in_it():
    layer = layer_of([0, 3], [1, 2])
    before = layer.network
    layer.train()(normal(10, N_INPUTS))
    assert_same_network(layer.network, before)


def test_network_and_layer_agree_after_growth_on_any_batch():
    network = random_network()
    grown = network.grow(
        Nodes(
            np.array([1]), np.array([0]), np.array([7]),
            torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64),
        )
    )  # fmt: skip
    x = normal(10, N_INPUTS)
    alone = torch.cat([grown.predict(row[None]) for row in x])
    # As above.
    torch.testing.assert_close(alone, grown.predict(x), rtol=1e-13, atol=1e-13)
