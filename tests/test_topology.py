"""Topology: leaves, levels, groups, appending and pruning."""

import copy
import pickle

import numpy as np
import pytest
import reference
from builders import topologies
from hypothesis import given, settings
from hypothesis import strategies as st

from skevo.core.topology import CONSTANT, Topology

# A chain 0 -> 1 -> 2 on three inputs, and node 3 beside it.
CHAIN = Topology(3, [0, 1, 0, 1], [0, 3, 4, CONSTANT], [1, CONSTANT, 2, 2])

wirings = settings(max_examples=60, deadline=None, derandomize=True)


@wirings
@given(topologies())
def test_leaves_equal_reference(topology):
    assert topology.leaves.tolist() == reference.leaves(topology)


@wirings
@given(topologies())
def test_levels_equal_recursion(topology):
    expected = [
        reference.level(topology, topology.n_inputs + node) for node in range(topology.n_nodes)
    ]
    assert topology.levels.tolist() == expected
    assert topology.depth == max(expected, default=0)


@wirings
@given(topologies())
def test_sizes_equal_recursion(topology):
    assert topology.sizes == tuple(
        reference.size(topology, topology.n_inputs + node) for node in range(topology.n_nodes)
    )


def test_sizes_of_deep_nodes_are_counted():
    nodes = np.arange(80)
    squares = Topology(1, np.zeros(80, dtype=int), nodes, nodes)
    assert squares.sizes[-1] == 2**80 - 1


@wirings
@given(topologies())
def test_use_counts_every_operand(topology):
    operands = [*topology.left.tolist(), *topology.right.tolist()]
    assert topology.use.tolist() == [operands.count(k) for k in range(topology.n_columns)]


@wirings
@given(topologies(min_nodes=1), st.data())
def test_descendants_equal_recursion(topology, data):
    node = data.draw(st.integers(0, topology.n_nodes - 1))
    assert topology.descendants([node]).tolist() == [
        other for other in range(topology.n_nodes) if node in reference.ancestors(topology, other)
    ]


@wirings
@given(topologies())
def test_groups_hold_each_node_once_after_its_operands(topology):
    computed = set(range(topology.n_inputs))
    for group in topology.groups:
        assert set(topology.operator[group.nodes]) == {group.operator}
        for side, operand in (("left", group.left), ("right", group.right)):
            of_nodes = getattr(topology, side)[group.nodes]
            if operand is None:
                assert (of_nodes == CONSTANT).all()
            else:
                assert operand.tolist() == of_nodes.tolist()
                assert set(of_nodes.tolist()) <= computed
        own = {topology.n_inputs + int(node) for node in group.nodes}
        assert not own & computed
        computed |= own
    assert computed == set(range(topology.n_columns))


@wirings
@given(topologies())
def test_groups_are_as_few_as_levels_operators_and_sides(topology):
    kinds = {
        (level, code, left == CONSTANT, right == CONSTANT)
        for level, code, left, right in zip(
            topology.levels.tolist(),
            topology.operator.tolist(),
            topology.left.tolist(),
            topology.right.tolist(),
            strict=True,
        )
    }
    assert len(topology.groups) == len(kinds)


@wirings
@given(topologies(min_nodes=1), st.data())
def test_prune_renumbers_operands_of_kept_nodes(topology, data):
    node = data.draw(st.integers(0, topology.n_nodes - 1))
    # Whoever depends on the node has to go with it.
    pruned, kept = topology.prune(topology.descendants([node]))
    # Follow each operand by the node it meant, not by its number.
    names = [*range(topology.n_inputs), *(f"node {k}" for k in range(topology.n_nodes))]
    new_names = [*range(topology.n_inputs), *(f"node {k}" for k in kept)]
    for new, old in enumerate(kept):
        assert pruned.operator[new] == topology.operator[old]
        for side in ("left", "right"):
            before, after = getattr(topology, side)[old], getattr(pruned, side)[new]
            assert (before == CONSTANT) == (after == CONSTANT)
            assert before == CONSTANT or names[before] == new_names[after]


@wirings
@given(topologies())
def test_append_then_prune_gives_topology_back(topology):
    grown = topology.append([0, 1], [0, topology.n_columns], [CONSTANT, 0])
    assert grown.n_nodes == topology.n_nodes + 2
    pruned, kept = grown.prune([topology.n_nodes, topology.n_nodes + 1])
    assert pruned == topology
    assert kept.tolist() == list(range(topology.n_nodes))


def test_append_accepts_scalars():
    assert Topology.empty(2).append(1, 0, CONSTANT) == Topology(2, [1], [0], [CONSTANT])


@pytest.mark.parametrize(
    ("operator", "left", "right", "message"),
    [
        pytest.param([0], [2], [0], "left operand of node 0", id="reads-itself"),
        pytest.param([0, 0], [0, 0], [0, 3], "right operand of node 1", id="second-reads-itself"),
        pytest.param([0, 0], [3, 0], [0, 0], "left operand of node 0", id="reads-later"),
        pytest.param([0], [0], [-2], "right operand of node 0", id="negative"),
        pytest.param([0], [-1], [-1], "Both operands of node 0", id="two-constants"),
        pytest.param([-1], [0], [0], "codes", id="negative-code"),
        pytest.param([0, 0], [0], [0], "one length", id="lengths"),
        pytest.param([[0]], [[0]], [[0]], "one-dimensional", id="matrix"),
    ],
)
def test_topology_refuses_invalid_wiring(operator, left, right, message):
    with pytest.raises(ValueError, match=message):
        Topology(2, operator, left, right)


def test_topology_refuses_negative_inputs():
    with pytest.raises(ValueError, match="n_inputs must be >= 0, got -1"):
        Topology(-1, [], [], [])


@pytest.mark.parametrize(
    ("nodes", "message"),
    [([0], "Node 1 reads"), ([1, 3], "Node 2 reads"), ([4], "0..3"), ([-1], "0..3")],
)
def test_prune_refuses_nodes_that_are_read_or_missing(nodes, message):
    with pytest.raises(ValueError, match=message):
        CHAIN.prune(nodes)


@pytest.mark.parametrize("nodes", [[2], [3], [1, 2], [2, 1, 0], [], [0, 1, 2, 3]])
def test_prune_accepts_leaves_and_whole_branches(nodes):
    pruned, kept = CHAIN.prune(nodes)
    assert pruned.n_nodes == 4 - len(nodes)
    assert kept.tolist() == sorted(set(range(4)) - set(nodes))


@pytest.mark.parametrize("through", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy])
def test_copied_topology_is_equal(through):
    topology = Topology(3, CHAIN.operator, CHAIN.left, CHAIN.right)
    assert topology.groups  # cached properties must survive too
    copied = through(topology)
    assert copied == CHAIN
    assert hash(copied) == hash(CHAIN)
    assert copied.levels.tolist() == CHAIN.levels.tolist()


@pytest.mark.parametrize(
    "other",
    [
        Topology(4, CHAIN.operator, CHAIN.left, CHAIN.right),
        Topology(3, [0, 1, 0, 0], CHAIN.left, CHAIN.right),
        Topology(3, CHAIN.operator, [1, 3, 4, CONSTANT], CHAIN.right),
        Topology(3, CHAIN.operator, CHAIN.left, [0, CONSTANT, 2, 2]),
        "a string",
    ],
)
def test_different_topology_is_unequal(other):
    assert other != CHAIN


def test_topology_copies_and_freezes_its_arrays():
    operator = np.array([0])
    topology = Topology(1, operator, [0], [0])
    operator[0] = 5
    assert topology.operator.tolist() == [0]
    with pytest.raises(ValueError, match="read-only"):
        topology.left[0] = CONSTANT
