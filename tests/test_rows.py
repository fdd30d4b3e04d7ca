"""Rows in memory: sums over blocks, and columns that follow the network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import normal, random_network, rows_for

from skevo.core.heads import mean_loss
from skevo.core.losses import SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Nodes
from skevo.core.rows import MemoryRows, StreamedRows, node_columns
from skevo.core.topology import CONSTANT

BLOCK_SIZES = (1, 7, 64, 200, 100_000)


def make_rows(block_size=4096, n=200, network=None):
    network = random_network() if network is None else network
    weight = torch.rand(n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return rows_for(network, normal(1, n, seed=1), normal(3, n), weight, block_size)


def fresh_nodes(network, n):
    """Return ``n`` nodes of mixed operators, every third with a constant."""
    draw = np.random.default_rng(0)
    operator = draw.integers(len(network.operators), size=n)
    left, right = draw.integers(network.topology.n_columns, size=(2, n))
    right[::3] = CONSTANT
    return Nodes(operator, left, right, normal(n), 0.5 + normal(n, seed=1).abs())


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_reduce_sums_over_all_rows_once(block_size):
    rows = make_rows(block_size)
    total, count = rows.reduce(
        lambda block: (
            (block.columns * block.weight * block.target).sum(dim=1),
            torch.tensor(block.columns.shape[1]),
        )
    )
    # Partial sums are added in another order.
    torch.testing.assert_close(
        total, (rows.columns * rows.weight * rows.target).sum(dim=1), rtol=1e-12, atol=1e-12
    )
    assert count == 200


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_reduce_hands_over_blocks_of_the_given_size(block_size):
    sizes = []

    def function(block):
        assert block.columns.shape[1] == block.target.shape[1] == len(block.weight)
        sizes.append(len(block.weight))
        return (block.weight.sum(),)

    make_rows(block_size).reduce(function)
    assert sum(sizes) == 200
    assert set(sizes[:-1]) <= {block_size}
    assert 0 < sizes[-1] <= block_size


@pytest.mark.parametrize("block_size", [64, 100_000])
def test_statistics_are_independent_of_block_size(block_size):
    network = random_network()
    rows, whole = make_rows(block_size, 500), make_rows(500, 500)
    # Sums of 500 terms of order one in another order: some ulps of the largest.
    gram, of_whole = measure_moments(rows).gram, measure_moments(whole).gram
    torch.testing.assert_close(gram, of_whole, rtol=1e-12, atol=1e-12)
    assert mean_loss(rows, network, SquaredError()) == pytest.approx(
        mean_loss(whole, network, SquaredError()), rel=1e-12
    )


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("n_nodes", [0, 5, 40])
def test_assigned_columns_are_those_of_the_network(n_nodes, block_size):
    network = random_network(n_nodes=n_nodes)
    rows = make_rows(block_size, network=network)
    # Vectorised elementary functions may differ in the last bit from their scalar remainder loop.
    torch.testing.assert_close(
        rows.columns, network.columns(normal(3, 200)), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("n_new", [1, 3, 30])
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_grown_columns_are_those_of_the_grown_network(block_size, n_new):
    network = random_network()
    rows, nodes = make_rows(block_size), fresh_nodes(network, n_new)
    before = rows.columns.clone()
    rows.grow(network.grow(nodes), nodes)
    assert torch.equal(rows.columns[:8], before)
    # As above; a node is computed in a group there and in a run of its operator here.
    torch.testing.assert_close(
        rows.columns, network.grow(nodes).columns(normal(3, 200)), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("gone", [[4], [1, 2, 3, 4], [0, 1, 2, 3, 4], []])
def test_pruned_columns_are_those_that_were_kept(gone):
    network, rows = random_network(), make_rows()
    before = rows.columns.clone()
    kept = np.setdiff1d(np.arange(5), gone)
    rows.prune(network, kept)
    assert torch.equal(rows.columns, before[np.concatenate([np.arange(3), 3 + kept])])


def test_columns_can_be_assigned_again_after_growing_and_pruning():
    network, other = random_network(), random_network(7, n_nodes=25)
    rows = make_rows()
    nodes = fresh_nodes(network, 20)
    rows.grow(network.grow(nodes), nodes)
    rows.prune(network, np.arange(2))
    rows.assign(other)
    torch.testing.assert_close(rows.columns, other.columns(normal(3, 200)), rtol=1e-12, atol=1e-12)


def test_columns_are_computed_once_for_a_network():
    network, rows = random_network(), make_rows()
    rows.assign(network)
    rows.columns[-1] = 7.0
    # A head does not change columns, constants do.
    rows.assign(replace(network, weight=network.weight + 1.0))
    assert (rows.columns[-1] == 7.0).all()
    rows.assign(replace(network, constants=network.constants.clone()))
    assert not (rows.columns[-1] == 7.0).any()


def test_rows_leave_the_inputs_they_were_given_alone():
    inputs = normal(3, 20)
    rows = MemoryRows(inputs, normal(1, 20), torch.ones(20, dtype=torch.float64))
    rows.columns.fill_(0.0)
    assert torch.equal(inputs, normal(3, 20))


def test_total_weight_is_the_sum_of_weights():
    rows = MemoryRows(normal(1, 3), normal(1, 3), torch.tensor([0.5, 2.0, 0.25]))
    assert rows.total_weight == 2.75


def test_node_columns_of_no_nodes_are_empty():
    network = random_network()
    columns = normal(8, 20)
    assert node_columns(network, fresh_nodes(network, 0), columns).shape == (0, 20)


def test_node_columns_follow_the_order_of_the_nodes():
    network = random_network()
    columns, nodes = normal(8, 20), fresh_nodes(network, 12)
    together = node_columns(network, nodes, columns)
    one_by_one = [node_columns(network, nodes.take([k]), columns) for k in range(12)]
    # The vectorised loop's remainder may round elementary functions differently.
    torch.testing.assert_close(together, torch.cat(one_by_one), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("block_size", [7, 64, 100_000])
def test_streamed_rows_have_the_sums_of_rows_in_memory(block_size):
    network = random_network()
    rows = make_rows(block_size)
    rows.assign(network)
    inputs = rows.columns[: rows.n_inputs].clone()
    streamed = StreamedRows(inputs, rows.target, rows.weight, network, block_size)
    assert streamed.total_weight == rows.total_weight
    found, expected = measure_moments(streamed), measure_moments(rows)
    torch.testing.assert_close(found.gram, expected.gram, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.cross, expected.cross, rtol=1e-12, atol=1e-12)
