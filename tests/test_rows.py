"""Rows in memory: sums over blocks, and columns that follow the population."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import alone, crowd, normal, random_network, rows_for, singles

from skevo.core import columns as module
from skevo.core.columns import compute_columns, node_columns
from skevo.core.losses import SquaredError
from skevo.core.measures import mean_loss
from skevo.core.moments import measure_moments
from skevo.core.network import Nodes
from skevo.core.operators import Operator
from skevo.core.population import EMPTY
from skevo.core.rows import MemoryRows, StreamedRows
from skevo.core.threads import torch_threads
from skevo.core.topology import CONSTANT

BLOCK_SIZES = (1, 7, 64, 120, 100_000)
# Vectorised elementary functions may differ in the last bit from their scalar remainder loop.
NEAR = {"rtol": 1e-12, "atol": 1e-12}
# From 2048 rows on nodes are computed one by one.
N_SAMPLES = pytest.mark.parametrize("n_samples", [120, 2100])


def make_rows(block_size=4096, n=200, population=None):
    population = alone(random_network()) if population is None else population
    weight = torch.rand(n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return rows_for(population, normal(1, n, seed=1), normal(3, n), weight, block_size)


def fresh_nodes(population, n, *, aligned=False, empty=0):
    """Return ``n`` nodes of each member that read its columns, every third with a constant.

    Parameters
    ----------
    population : Population
    n : int
    aligned : bool, default=False
        Whether members have the same operators in order, as in pools.
    empty : int, default=0
        Every so many places are empty, others of each member; none if 0.
    """
    draw, wiring = np.random.default_rng(0), population.wiring
    n_members, n_operators = len(population), len(population.operators)
    operator = draw.integers(n_operators, size=(n_members, n))
    # A constant at the right of the last operator, so that the kinds are in order.
    constant = np.broadcast_to(np.arange(n) % 3 == 0, operator.shape)
    if aligned:
        operator[:] = np.sort(operator[0])
        constant = operator == n_operators - 1
    columns = [
        np.append(np.arange(wiring.n_inputs), wiring.n_inputs + np.flatnonzero(present))
        for present in wiring.present
    ]
    left, right = (np.stack([draw.choice(own, n) for own in columns]) for _ in range(2))
    right = np.where(constant, CONSTANT, right)
    if empty:
        place = np.arange(n) + np.arange(n_members)[:, None]
        operator[place % empty == 0] = EMPTY
    return Nodes(
        operator, left, right, normal(n_members, n), 0.5 + normal(n_members, n, seed=1).abs()
    )


def assert_columns(rows, population):
    """Fail unless rows hold the columns that each member's network computes, else zeros."""
    inputs = rows.columns[:, :3]
    assert rows.columns.shape[1] == population.n_columns
    for member, present in enumerate(population.wiring.present):
        columns = rows.columns[member]
        own = np.pad(present, (3, 0), constant_values=True)
        expected = population.network(member).columns(inputs[member])
        torch.testing.assert_close(columns[own], expected, **NEAR)
        assert (columns[~own] == 0.0).all()


# -- sums over blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_reduce_sums_over_all_rows_once(block_size):
    rows, _ = crowd(block_size=block_size)
    total, count = rows.reduce(
        lambda block: (
            (block.columns * block.weight[:, None] * block.target).sum(dim=2),
            torch.tensor(block.columns.shape[2]),
        )
    )
    expected = (rows.columns * rows.weight[:, None] * rows.target).sum(dim=2)
    # Partial sums are added in another order.
    torch.testing.assert_close(total, expected, **NEAR)
    assert count == 120


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_reduce_hands_over_blocks_of_the_given_size(block_size):
    sizes = []

    def function(block):
        n = block.weight.shape[1]
        assert block.columns.shape[2] == block.target.shape[2] == n
        sizes.append(n)
        return (block.weight.sum(),)

    crowd(block_size=block_size)[0].reduce(function)
    assert sum(sizes) == 120
    assert set(sizes[:-1]) <= {block_size}
    assert 0 < sizes[-1] <= block_size


@pytest.mark.parametrize("block_size", [64, 100_000])
def test_statistics_are_independent_of_block_size(block_size):
    (rows, population), (whole, _) = (
        crowd(n_samples=500, block_size=size) for size in (block_size, 500)
    )
    # Sums of 500 terms of order one in another order: some ulps of the largest.
    gram, of_whole = measure_moments(rows).gram, measure_moments(whole).gram
    torch.testing.assert_close(gram, of_whole, rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(
        mean_loss(rows, population, SquaredError()),
        mean_loss(whole, population, SquaredError()),
        **NEAR,
    )


def test_total_weight_is_the_sum_of_each_members_weights():
    weight = torch.tensor([[0.5, 2.0, 0.25], [0.0, 0.0, 1.0]])
    rows = MemoryRows(normal(2, 1, 3), normal(2, 1, 3), weight)
    assert rows.total_weight.tolist() == [2.75, 1.0]


# -- columns that follow the population ------------------------------------------------------------


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("n_nodes", [0, 5, 40])
def test_assigned_columns_are_those_of_the_network(n_nodes, block_size):
    population = alone(random_network(n_nodes=n_nodes))
    assert_columns(make_rows(block_size, population=population), population)


@N_SAMPLES
@pytest.mark.parametrize("block_size", [7, 64, 8192])
def test_assigned_columns_are_those_of_each_members_network(block_size, n_samples):
    assert_columns(*crowd(block_size=block_size, n_samples=n_samples))


@N_SAMPLES
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("n_new", [0, 1, 3, 30])
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_grown_columns_are_those_of_the_grown_networks(block_size, n_new, aligned, n_samples):
    rows, population = crowd(block_size=block_size, n_samples=n_samples)
    nodes = fresh_nodes(population, n_new, aligned=aligned, empty=3)
    before, n_old = rows.columns.clone(), population.n_columns
    grown = population.grow(nodes)
    rows.grow(grown, nodes)
    assert rows.holds(grown)
    assert torch.equal(rows.columns[:, :n_old], before)
    assert_columns(rows, grown)


def test_grown_column_is_zero_in_an_empty_place_where_the_others_operator_overflows():
    # The members' nodes are computed in one call of the operator, on any column where empty.
    cube = Operator("cube", lambda a, b: a * a * a + b, "{a}^3 + {b}")
    population = alone(random_network(n_nodes=0, operators=(cube,))).take([0, 0])
    # Finite and so are its squares, but not its cubes.
    inputs = torch.stack([torch.ones(3, 20), torch.full((3, 20), 1e14)])
    rows = MemoryRows(inputs, torch.ones(2, 1, 20), torch.ones(2, 20))
    rows.assign(population)
    operator, zero, one = np.array([[0], [EMPTY]]), np.zeros((2, 1), dtype=int), torch.ones(2, 1)
    nodes = Nodes(operator, zero, zero, one, one)
    rows.grow(population.grow(nodes), nodes)
    assert rows.columns[0, 3].tolist() == [2.0] * 20
    assert rows.columns[1, 3].tolist() == [0.0] * 20


@pytest.mark.parametrize("n_moved", [1, 3, 32])
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_columns_of_slots_that_are_emptied_and_spared_are_those_of_the_networks(
    block_size, n_moved, monkeypatch
):
    monkeypatch.setattr("skevo.core.rows._MOVED", n_moved)
    rows, population = crowd(block_size=block_size)
    for _ in range(3):
        gone = population.wiring.leaves
        gone[2] = False
        fewer = population.without(gone)
        rows.without(fewer, ~fewer.wiring.columns)
        assert rows.holds(fewer)
        assert_columns(rows, fewer)
        population, kept = fewer.compact()
        rows.compact(population, torch.from_numpy(kept))
        assert rows.holds(population)
        assert_columns(rows, population)


def test_columns_of_a_population_that_lost_every_node_are_the_inputs():
    rows, population = crowd()
    gone = population.wiring.present
    population = population.without(gone)
    rows.without(population, ~population.wiring.columns)
    population, kept = population.compact()
    rows.compact(population, torch.from_numpy(kept))
    assert torch.equal(rows.columns, normal(4, 3, 120))


def test_columns_can_be_assigned_again_after_growing_and_sparing():
    rows, population = crowd()
    nodes = fresh_nodes(population, 20)
    rows.grow(population.grow(nodes), nodes)
    fewer, kept = population.compact()
    rows.compact(fewer, torch.from_numpy(kept))
    other = alone(random_network(7, n_nodes=25)).take([0] * 4)
    rows.assign(other)
    assert_columns(rows, other)


def test_columns_are_computed_once_for_a_population():
    population = alone(random_network())
    rows = make_rows(population=population)
    rows.columns[:, -1] = 7.0
    # A head does not change columns, constants do.
    rows.assign(replace(population, weight=population.weight + 1.0))
    assert (rows.columns[:, -1] == 7.0).all()
    rows.assign(replace(population, constants=population.constants.clone()))
    assert not (rows.columns[:, -1] == 7.0).any()


def test_rows_leave_the_inputs_they_were_given_alone():
    inputs = normal(1, 3, 20)
    rows = MemoryRows(inputs, normal(1, 1, 20), torch.ones(1, 20, dtype=torch.float64))
    rows.columns.fill_(0.0)
    assert torch.equal(inputs, normal(1, 3, 20))


# -- columns of candidates -------------------------------------------------------------------------


def test_node_columns_of_no_nodes_are_empty():
    rows, population = crowd()
    assert node_columns(population, fresh_nodes(population, 0), rows.columns).shape == (4, 0, 120)


@N_SAMPLES
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("empty", [0, 3])
def test_node_columns_follow_the_order_of_the_nodes(empty, aligned, n_samples):
    rows, population = crowd(n_samples=n_samples)
    nodes = fresh_nodes(population, 12, aligned=aligned, empty=empty)
    together = node_columns(population, nodes, rows.columns)
    one_by_one = [
        node_columns(population, nodes.take(np.full((4, 1), k)), rows.columns) for k in range(12)
    ]
    present = torch.from_numpy(nodes.operator != EMPTY)
    torch.testing.assert_close(together[present], torch.cat(one_by_one, dim=1)[present], **NEAR)
    assert present.any(dim=1).all()
    assert present.all() == (empty == 0)


@pytest.mark.parametrize("n_threads", [2, 3, 4])
@pytest.mark.parametrize(("n_samples", "shared"), [(2112, True), (6624, True), (6630, False)])
def test_columns_do_not_depend_on_threads(n_samples, shared, n_threads, monkeypatch):
    rows, population = crowd(n_samples=n_samples)
    nodes = fresh_nodes(population, 150)
    before, one = rows.columns.clone(), node_columns(population, nodes, rows.columns)
    in_parts, n_shared = [], module._n_shared
    monkeypatch.setattr(
        module, "_n_shared", lambda *sizes: in_parts.append(n_shared(*sizes)) or in_parts[-1]
    )
    with torch_threads(n_threads):
        several = node_columns(population, nodes, rows.columns)
        compute_columns(population, rows.columns)
    assert torch.equal(several, one)
    assert torch.equal(rows.columns, before)
    assert any(in_parts) == shared


# -- streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [7, 64, 100_000])
def test_streamed_rows_have_the_sums_of_rows_in_memory(block_size):
    _, population = crowd()
    inputs, target, weight = normal(3, 120), normal(2, 120, seed=1), normal(120, seed=2).abs()
    streamed = StreamedRows(inputs, target, weight, population, block_size)
    rows = MemoryRows(
        inputs.expand(4, -1, -1), target.expand(4, -1, -1), weight.expand(4, -1), block_size
    )
    rows.assign(population)
    assert torch.equal(streamed.total_weight, rows.total_weight)
    found, expected = measure_moments(streamed), measure_moments(rows)
    torch.testing.assert_close(found.gram, expected.gram, **NEAR)
    torch.testing.assert_close(found.cross, expected.cross, **NEAR)


def test_streamed_rows_have_the_same_sums_for_any_number_of_threads():
    _, population = crowd()
    rows = normal(3, 120), normal(2, 120, seed=1), normal(120, seed=2).abs()
    one, three = (
        measure_moments(StreamedRows(*rows, population, 64, n_threads)) for n_threads in (1, 3)
    )
    assert torch.equal(one.gram, three.gram)
    assert torch.equal(one.cross, three.cross)


def test_single_precision_rows_hold_single_precision_columns():
    rows, population = crowd()
    half = MemoryRows(rows.columns[:, :3].float(), rows.target.float(), rows.weight.float())
    half.assign(population)
    nodes = fresh_nodes(population, 5)
    rows.grow(population.grow(nodes), nodes)
    half.grow(population.grow(nodes), nodes)
    assert half.columns.dtype == torch.float32
    # Seven digits, some of which a chain of nodes loses.
    torch.testing.assert_close(half.columns.double(), rows.columns, rtol=1e-4, atol=1e-4)


def test_singles_have_the_columns_of_the_crowd():
    rows, population = crowd()
    for member, single in enumerate(singles(rows, population)):
        torch.testing.assert_close(
            single.rows.columns[0], rows.columns[member, single.columns], **NEAR
        )
