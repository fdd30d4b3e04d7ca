"""Populations: every member is, and becomes, what its network on its own is and becomes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import (
    assert_same_network,
    network_of,
    normal,
    random_network,
    random_population,
    topologies,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from skevo.core.network import Nodes
from skevo.core.population import EMPTY, Population, choose
from skevo.core.topology import CONSTANT, kinds

wirings = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def populations(draw):
    """Draw networks, and the population of what is left of them when some leaves go."""
    some = st.lists(topologies(min_inputs=2, max_inputs=2), min_size=1, max_size=4)
    networks = [network_of(item, n_outputs=2, seed=k) for k, item in enumerate(draw(some))]
    population = Population.of(networks)
    gone = np.zeros_like(population.wiring.leaves)
    for place in np.argwhere(population.wiring.leaves).tolist():
        gone[tuple(place)] = draw(st.booleans())
    networks = [
        network.prune(np.flatnonzero(own)) for network, own in zip(networks, gone, strict=True)
    ]
    return networks, population.without(gone)


def assert_members(population, networks):
    """Fail unless the members are these networks, bit by bit, in slots whose rest is blank."""
    assert len(population) == len(networks)
    for member, network in enumerate(networks):
        assert_same_network(population.network(member), network)
    present, n_inputs = population.wiring.present, population.wiring.n_inputs
    empty = torch.from_numpy(~present)
    assert (population.constants[empty] == 0.0).all()
    assert (population.scale[empty] == 1.0).all()
    assert (population.weight[:, :, n_inputs:].mT[empty] == 0.0).all()


def test_builder_leaves_slots_empty_in_the_middle_and_at_the_end():
    present = random_population().wiring.present
    assert present.sum(axis=1).tolist() == [8, 0, 5, 3]
    assert all((np.diff(own.astype(int)) == 1).any() for own in present[[0, 2, 3]])
    assert not present[1:, 6:].any()


@wirings
@given(populations())
def test_members_are_the_networks(pair):
    networks, population = pair
    assert_members(population, networks)


@wirings
@given(populations())
def test_wiring_says_of_each_member_what_its_topology_says(pair):
    networks, population = pair
    wiring = population.wiring
    assert wiring.n_columns == population.n_columns
    for member, network in enumerate(networks):
        topology, present = network.topology, wiring.present[member]
        columns = np.append([True, True], present)
        assert wiring.n_nodes[member] == topology.n_nodes
        assert wiring.level[member, present].tolist() == topology.levels.tolist()
        assert wiring.leaves[member, present].tolist() == topology.leaves.tolist()
        assert wiring.use[member, columns].tolist() == topology.use.tolist()
        reads = (topology.left == CONSTANT) | (topology.right == CONSTANT)
        assert wiring.constant_nodes[member, present].tolist() == reads.tolist()
        assert not wiring.leaves[member, ~present].any()
        assert not wiring.constant_nodes[member, ~present].any()
        assert not wiring.use[member, ~columns].any()


@wirings
@given(populations(), st.data())
def test_taken_members_are_the_networks(pair, data):
    networks, population = pair
    some = data.draw(st.lists(st.integers(0, len(networks) - 1), min_size=1, max_size=3))
    assert_members(population.take(some), [networks[member] for member in some])


@wirings
@given(populations(), st.data())
def test_chosen_members_are_of_one_population_and_the_rest_of_another(pair, data):
    networks, population = pair
    n_members = len(networks)
    some = data.draw(st.lists(st.booleans(), min_size=n_members, max_size=n_members))
    changed = [
        replace(network, constants=network.constants + 1.0, weight=2.0 * network.weight)
        for network in networks
    ]
    other = replace(
        population,
        constants=(population.constants + 1.0).masked_fill(
            torch.from_numpy(~population.wiring.present), 0.0
        ),
        weight=2.0 * population.weight,
    )
    expected = [
        one if own else another for own, one, another in zip(some, networks, changed, strict=True)
    ]
    assert_members(choose(torch.tensor(some), population, other), expected)


@wirings
@given(populations())
def test_compact_keeps_the_networks_and_no_slot_to_spare(pair):
    networks, population = pair
    compact, kept = population.compact()
    assert_members(compact, networks)
    n_slots = max(network.n_nodes for network in networks)
    assert compact.n_columns == 2 + n_slots
    for member, present in enumerate(population.wiring.present):
        slots = np.flatnonzero(present)
        expected = np.append(slots, np.full(n_slots - len(slots), EMPTY))
        assert kept[member].tolist() == expected.tolist()


@wirings
@given(populations(), st.data())
def test_grown_members_are_the_grown_networks(pair, data):
    networks, population = pair
    n_new, present = data.draw(st.integers(0, 3)), population.wiring.present
    shape = (len(networks), n_new)
    operator, left, right = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    # Empty places as `Nodes.take` makes them: with the numbers of another place.
    nodes = Nodes(operator, left, right, normal(*shape), 0.5 + normal(*shape).abs())
    grown = []
    for member, network in enumerate(networks):
        columns = np.append([0, 1], 2 + np.flatnonzero(present[member]))
        of_network = []
        for place in range(n_new):
            a, b = (data.draw(st.integers(0, len(columns) - 1)) for _ in range(2))
            operator[member, place] = data.draw(st.integers(EMPTY, 12))
            left[member, place], right[member, place] = columns[a], columns[b]
            if data.draw(st.booleans()):
                b = right[member, place] = CONSTANT
            if operator[member, place] != EMPTY:
                of_network.append((place, operator[member, place], a, b))
        places, *wiring = np.array(of_network, dtype=np.int64).reshape(-1, 4).T
        numbers = nodes.constant[member, places], nodes.scale[member, places]
        grown.append(network.grow(Nodes(*wiring, *numbers)))
    found = population.grow(nodes)
    assert_members(found, grown)
    for member, network in enumerate(grown):
        level = found.wiring.level[member, found.wiring.present[member]]
        assert level.tolist() == network.topology.levels.tolist()


def test_members_are_left_alone_by_what_is_made_of_them():
    population = random_population(n_outputs=2)
    before = [population.network(member) for member in range(4)]
    one = np.zeros((4, 1), dtype=np.int64)
    number = torch.ones(4, 1, dtype=torch.float64)
    grown = population.grow(Nodes(one, one, one, number, number))
    grown.without(grown.wiring.leaves).compact()
    assert_members(population, before)


def test_output_is_that_of_each_network():
    population = random_population(n_outputs=2)
    present = np.pad(population.wiring.present, ((0, 0), (3, 0)), constant_values=True)
    columns = normal(4, population.n_columns, 20)
    found = population.output(columns)
    for member in range(4):
        expected = population.network(member).output(columns[member, present[member]])
        # Sums of other lengths, the rest of whose terms is zero.
        torch.testing.assert_close(found[member], expected, rtol=1e-12, atol=1e-12)


def test_to_converts_every_number_and_keeps_the_wiring():
    population = random_population()
    converted = population.to(dtype=torch.float32)
    numbers = (converted.constants, converted.scale, converted.weight, converted.bias)
    assert {part.dtype for part in numbers} == {torch.float32}
    assert converted.wiring is population.wiring


# -- plans -----------------------------------------------------------------------------------------


def entries(plan):
    """Return a row (member, slot, left, right, operator, left and right constant) per node."""
    runs = [(code, *sides) for code, sides in zip(plan.operators, plan.constant, strict=True)]
    of_nodes = np.repeat(np.array(runs, dtype=int).reshape(-1, 3), plan.sizes, axis=0)
    wiring = np.stack([plan.member, plan.slot, plan.left, plan.right], axis=1)
    return np.concatenate([wiring, of_nodes], axis=1).tolist()


@wirings
@given(populations())
def test_plan_computes_every_node_once_and_after_its_operands(pair):
    wiring = pair[1].wiring
    known = {(m, c) for m in range(len(pair[0])) for c in (CONSTANT, 0, 1)}
    found = entries(wiring.plan)
    start = 0
    for size in wiring.plan.sizes:
        run = found[start : start + size]
        start += size
        # What is computed in one call does not read itself.
        assert all((m, a) in known and (m, b) in known for m, _, a, b, *_ in run)
        known |= {(m, 2 + slot) for m, slot, *_ in run}
        assert len({tuple(entry[4:]) for entry in run}) == 1
    assert len({(m, slot) for m, slot, *_ in found}) == len(found) == wiring.n_nodes.sum()
    for member, slot, left, right, code, *constant in found:
        assert left == wiring.left[member, slot]
        assert right == wiring.right[member, slot]
        assert code == wiring.operator[member, slot]
        assert constant == [left == CONSTANT, right == CONSTANT]


@wirings
@given(populations())
def test_plan_needs_one_call_for_each_kind_of_a_level(pair):
    wiring = pair[1].wiring
    kind = kinds(wiring.operator, wiring.left, wiring.right)
    distinct = set(zip(wiring.level[wiring.present], kind[wiring.present], strict=True))
    assert len(wiring.plan.sizes) == len(distinct)
    assert 0 not in wiring.plan.sizes


@wirings
@given(populations(), st.data())
def test_taken_plan_holds_those_nodes_in_their_order(pair, data):
    plan = pair[1].wiring.plan
    n = len(plan.slot)
    some = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    taken = plan.take(some)
    assert entries(taken) == [entry for entry, own in zip(entries(plan), some, strict=True) if own]
    assert 0 not in taken.sizes


@pytest.mark.parametrize("members", [1, 3])
def test_population_without_nodes_has_an_empty_plan(members):
    network = random_network(n_nodes=0)
    wiring = Population.of([replace(network) for _ in range(members)]).wiring
    assert wiring.plan.sizes == []
    assert wiring.leaves.shape == (members, 0)
