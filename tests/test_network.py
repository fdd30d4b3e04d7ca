"""Network: evaluation, growing, pruning, merging and pickling of the frozen record."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import reference
import torch
from builders import OPERATORS, assert_same_network, network_of, normal, random_network, topologies
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_operators import smooth

from skevo.core.network import Network, Nodes, merge
from skevo.core.operators import Operator, get_operators
from skevo.core.population import EMPTY
from skevo.core.topology import CONSTANT, Topology

# Two evaluations whose elementary functions and sums round differently.
ROUNDING = {"rtol": 1e-10, "atol": 1e-10}

wirings = settings(max_examples=60, deadline=None, derandomize=True)


def some_nodes(network, dtype=torch.float64):
    n = network.topology.n_columns
    return Nodes(
        np.array([0, 1]),
        np.array([0, n - 1]),
        np.array([CONSTANT, 0]),
        torch.tensor([0.3, 0.0], dtype=dtype),
        torch.tensor([2.0, 0.7], dtype=dtype),
    )


def integer_network(seed=0, n_outputs=2):
    """Return a network in which every number is a small integer, so that no sum rounds."""
    network = random_network(seed, operators=("add", "mul", "max", "sub"), n_outputs=n_outputs)
    rounded = {
        name: getattr(network, name).mul(3).round() for name in ("constants", "weight", "bias")
    }
    return replace(network, scale=torch.ones_like(network.scale), **rounded)


# -- evaluation ------------------------------------------------------------------------------------


@wirings
@given(topologies(), st.integers(0, 10_000), st.integers(1, 3))
def test_columns_and_output_equal_reference(topology, seed, n_outputs):
    network = network_of(topology, n_outputs=n_outputs, seed=seed)
    x = normal(5, topology.n_inputs, seed=seed + 1)
    expected = reference.columns(network, x)
    # Where columns are huge, the rounding of an operand is amplified without limit by sin.
    assume(np.abs(expected).max() < 1e3)
    np.testing.assert_allclose(network.columns(x.T).T, expected, **ROUNDING)
    np.testing.assert_allclose(network.predict(x), reference.output(network, x), **ROUNDING)


@pytest.mark.parametrize("block_size", [1, 3, 7, 4096])
def test_predict_is_independent_of_block_size(block_size):
    network, x = random_network(n_outputs=2), normal(7, 3)
    # Matrix products of different sizes round differently.
    torch.testing.assert_close(
        network.predict(x, block_size=block_size), network.predict(x), rtol=1e-13, atol=1e-13
    )


def test_predict_without_rows_is_empty():
    assert random_network(n_outputs=2).predict(torch.empty(0, 3)).shape == (0, 2)


def test_linear_network_predicts_zero():
    network = Network.linear(get_operators("mul"), 3, 2, dtype=torch.float64)
    assert network.n_nodes == 0
    assert torch.equal(network.predict(normal(4, 3)), torch.zeros(4, 2, dtype=torch.float64))


def test_n_parameters_counts_constants_that_are_read():
    # Five nodes, of which numbers 1 and 4 read a constant; 2 outputs of 8 columns and a bias.
    assert random_network(n_nodes=5, n_outputs=2).n_parameters == 2 + 2 * 8 + 2


def test_to_converts_every_number():
    network = random_network().to(dtype=torch.float32)
    dtypes = {getattr(network, name).dtype for name in ("constants", "scale", "weight", "bias")}
    assert dtypes == {torch.float32}
    assert network.predict(normal(2, 3)).dtype == torch.float32


def test_network_is_frozen():
    with pytest.raises(FrozenInstanceError):
        random_network().bias = torch.zeros(1)


# -- growing and pruning ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_grow_leaves_output_bit_equal_where_sums_are_exact(n_outputs):
    network = integer_network(n_outputs=n_outputs)
    x = normal(50, 3).mul(3).round()
    assert torch.equal(network.grow(some_nodes(network)).predict(x), network.predict(x))


@pytest.mark.parametrize("seed", range(4))
def test_grow_leaves_columns_bit_equal_and_weights_zero(seed):
    network, inputs = random_network(seed, n_outputs=2), normal(3, 50)
    grown = network.grow(some_nodes(network))
    n = network.topology.n_columns
    assert torch.equal(grown.columns(inputs)[:n], network.columns(inputs))
    assert torch.equal(grown.weight[:, :n], network.weight)
    assert torch.equal(grown.weight[:, n:], torch.zeros(2, 2, dtype=torch.float64))
    assert torch.equal(grown.constants[:-2], network.constants)
    assert torch.equal(grown.bias, network.bias)
    # The head's sum has more terms, all of them zero, and may be rounded in another order.
    torch.testing.assert_close(
        grown.output(grown.columns(inputs)), network.output(network.columns(inputs)),
        rtol=1e-13, atol=1e-13,
    )  # fmt: skip


def test_grow_takes_numbers_of_the_new_nodes():
    network = random_network()
    nodes = some_nodes(network)
    grown = network.grow(nodes)
    assert grown.constants[-2:].tolist() == nodes.constant.tolist()
    assert grown.scale[-2:].tolist() == nodes.scale.tolist()
    assert grown.topology == network.topology.append(nodes.operator, nodes.left, nodes.right)


@wirings
@given(topologies(min_nodes=1), st.integers(0, 10_000), st.data())
def test_prune_keeps_columns_and_weights_of_the_rest(topology, seed, data):
    network = network_of(topology, n_outputs=2, seed=seed)
    node = data.draw(st.integers(0, topology.n_nodes - 1))
    gone = topology.descendants([node])
    pruned = network.prune(gone)
    kept = np.setdiff1d(np.arange(topology.n_columns), topology.n_inputs + gone)
    inputs = normal(topology.n_inputs, 4, seed=seed)
    before, after = network.columns(inputs), pruned.columns(inputs)
    # The same operators on the same operands, whatever the values: bit-equal, NaN included.
    np.testing.assert_array_equal(after, before[kept])
    assert torch.equal(pruned.weight, network.weight[:, kept])


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_prune_of_zero_head_weight_leaves_output_bit_equal(n_outputs):
    network = integer_network(n_outputs=n_outputs)
    leaf = int(np.flatnonzero(network.topology.leaves)[0])
    network.weight[:, 3 + leaf] = 0.0
    x = normal(50, 3).mul(3).round()
    assert torch.equal(network.prune([leaf]).predict(x), network.predict(x))


def test_relocated_network_reads_its_inputs_elsewhere():
    network, x = random_network(n_outputs=2), normal(20, 3)
    places = np.array([4, 0, 2])
    moved = network.relocate(places, 6)
    wide = normal(20, 6, seed=1)
    wide[:, places] = x
    torch.testing.assert_close(moved.predict(wide), network.predict(x))
    assert not moved.weight[:, [1, 3, 5]].any()
    assert_same_network(moved.relocate(np.array([1, -1, 2, -1, 0, -1]), 3), network)


def test_grow_and_prune_leave_the_network_itself_alone():
    network = random_network()
    before = copy.deepcopy(network)
    network.grow(some_nodes(network)).prune([5, 6])
    assert_same_network(network, before)


def members_nodes():
    """Return six nodes of each of two members."""
    operator, left, right = np.arange(36).reshape(3, 2, 6)
    return Nodes(operator, left, right, normal(2, 6), normal(2, 6, seed=1).abs())


@pytest.mark.parametrize("places", [[[1], [5]], [[1, 0, 4], [2, 2, 3]], [[], []]])
def test_nodes_take_follows_each_members_places(places):
    nodes, places = members_nodes(), np.array(places, dtype=np.int64)
    taken = nodes.take(places)
    assert len(taken) == places.shape[1]
    for name, part in vars(taken).items():
        expected = np.take_along_axis(np.asarray(getattr(nodes, name)), places, axis=1)
        assert np.array_equal(part, expected)


def test_nodes_take_leaves_negative_places_empty():
    nodes = members_nodes()
    taken = nodes.take(np.array([[3, -1], [-1, -1]]))
    assert taken.operator.tolist() == [[3, EMPTY], [EMPTY, EMPTY]]
    assert taken.left.tolist() == [[15, 0], [0, 0]]
    assert taken.scale[0, 0] == nodes.scale[0, 3]


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 6), (4, [4, 2]), (6, [6]), (99, [6])])
def test_nodes_split_into_parts_that_make_up_the_whole(size, sizes):
    nodes = members_nodes()
    parts = nodes.split(size)
    assert [len(part) for part in parts] == sizes
    for name, whole in vars(nodes).items():
        joined = np.concatenate([np.asarray(getattr(part, name)) for part in parts], axis=1)
        assert np.array_equal(joined, whole)


def test_no_nodes_split_into_one_part():
    none = members_nodes().take(np.empty((2, 0), dtype=np.int64))
    assert [len(part) for part in none.split(5)] == [0]


# -- pickling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", [lambda n: pickle.loads(pickle.dumps(n)), copy.deepcopy])
def test_copied_network_is_bit_equal(through):
    network, x = random_network(n_outputs=2, operators=OPERATORS), normal(20, 3)
    copied = through(network)
    assert_same_network(copied, network)
    assert torch.equal(copied.predict(x), network.predict(x))


def test_pickled_network_is_no_larger_after_predict():
    network = random_network()
    before = pickle.dumps(network)
    network.predict(normal(5, 3))
    assert pickle.dumps(network) == before


def test_pickled_network_carries_unregistered_operator():
    own = Operator("unregistered", smooth, "{a} {b}")
    network = network_of(Topology(2, [0], [0], [1]), (own,))
    x = normal(5, 2)
    assert torch.equal(pickle.loads(pickle.dumps(network)).predict(x), network.predict(x))


# -- merging ---------------------------------------------------------------------------------------


def outputs(networks, x):
    return torch.cat([network.predict(x) for network in networks], dim=1)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("sizes", [(4,), (0, 0), (0, 5), (6, 2, 9), (12, 12, 12, 12)])
def test_merge_computes_all_outputs(sizes, n_outputs):
    networks = [
        random_network(seed, n_nodes=size, n_outputs=n_outputs) for seed, size in enumerate(sizes)
    ]
    x = normal(30, 3, seed=9)
    # Computed in other groups.
    torch.testing.assert_close(
        merge(networks).predict(x), outputs(networks, x), rtol=1e-12, atol=1e-12
    )


@wirings
@given(topologies(), st.integers(0, 10_000))
def test_merge_of_any_wiring_computes_all_outputs(topology, seed):
    first = network_of(topology, seed=seed)
    networks = [first, network_of(topology, seed=seed + 1)]
    x = normal(4, topology.n_inputs, seed=seed)
    columns = [network.columns(x.T) for network in networks]
    # Beyond, sums of huge terms lose the digits that are compared.
    assume(all(column.abs().max() < 1e3 for column in columns))
    torch.testing.assert_close(
        merge(networks).predict(x), outputs(networks, x), rtol=1e-10, atol=1e-10
    )


def test_merge_of_one_network_many_times_holds_its_nodes_once():
    network, x = random_network(n_nodes=8), normal(30, 3)
    merged = merge([network] * 3)
    # Equal nodes within the network are merged too.
    assert merged.n_nodes <= network.n_nodes
    assert merged.n_nodes == merge([network]).n_nodes
    torch.testing.assert_close(merged.predict(x), outputs([network] * 3, x), rtol=1e-12, atol=1e-12)


def shared_pair(constant=(0.5, 0.5), scale=(1.0, 1.0)):
    """Return two networks whose first node may be the same, followed by different ones."""
    return [
        replace(
            network_of(Topology(2, [0, code], [0, 2], [CONSTANT, 1]), ("tanh", "mul", "max")),
            constants=torch.tensor([constant[k], 0.0], dtype=torch.float64),
            scale=torch.tensor([scale[k], 1.0], dtype=torch.float64),
        )
        for k, code in enumerate((1, 2))
    ]


@pytest.mark.parametrize(
    ("changes", "n_nodes"),
    [
        pytest.param({}, 3, id="equal"),
        pytest.param({"constant": (0.5, 0.6)}, 4, id="constants-differ"),
        pytest.param({"scale": (1.0, 1.5)}, 4, id="scales-differ"),
    ],
)
def test_merge_holds_equal_nodes_once(changes, n_nodes):
    networks, x = shared_pair(**changes), normal(10, 2)
    merged = merge(networks)
    assert merged.n_nodes == n_nodes
    torch.testing.assert_close(merged.predict(x), outputs(networks, x), rtol=1e-12, atol=1e-12)


def test_merge_ignores_constants_that_no_operand_reads():
    pair = shared_pair()
    other = replace(pair[0], constants=torch.tensor([0.5, 7.0], dtype=torch.float64))
    assert merge([pair[0], other]).n_nodes == 2


def test_merge_needs_no_more_groups_than_kinds_of_nodes():
    networks = [random_network(seed, n_nodes=12) for seed in range(4)]
    merged = merge(networks).topology
    sides = merged.left == CONSTANT, merged.right == CONSTANT
    kinds = set(zip(merged.levels, merged.operator, *sides, strict=True))
    assert len(merged.groups) == len(kinds)
    assert merged.depth == max(network.topology.depth for network in networks)


def test_merge_leaves_members_alone():
    networks = [random_network(seed) for seed in range(2)]
    before = copy.deepcopy(networks)
    merge(networks)
    assert_same_network(networks[0], before[0])
    assert_same_network(networks[1], before[1])
