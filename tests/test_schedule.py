"""Schedule: operands before nodes, and memory that nobody else still needs."""

import numpy as np
from builders import topologies
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import ancestors

from skevo.core.schedule import schedule
from skevo.core.topology import CONSTANT, Topology


@settings(max_examples=100, deadline=None, derandomize=True)
@given(topologies(max_nodes=12), st.data())
def test_schedule_keeps_columns_until_they_are_read(topology, data):
    n_inputs, n_nodes = topology.n_inputs, topology.n_nodes
    roots = data.draw(st.permutations(range(n_nodes)))[: data.draw(st.integers(0, n_nodes))]
    wanted = np.array([node in roots and data.draw(st.booleans()) for node in range(n_nodes)], bool)
    plan = schedule(topology, roots, wanted)
    assert sorted(plan.order) == sorted(set().union(*(ancestors(topology, k) for k in roots)))
    # What is in each row of memory.
    memory = dict(enumerate(range(n_inputs)))
    for node in plan.order:
        operands = {int(topology.left[node]), int(topology.right[node])} - {CONSTANT}
        assert all(memory[plan.row[column]] == column for column in operands)
        row = plan.row[n_inputs + node]
        assert row not in {plan.row[column] for column in operands}
        assert row < plan.n_rows
        memory[row] = n_inputs + node
    kept = [*range(n_inputs), *(n_inputs + np.flatnonzero(wanted))]
    assert [memory[place] for place in range(len(kept))] == kept


def test_chain_takes_two_rows_in_turn():
    n_nodes = 50
    chain = Topology(1, [0] * n_nodes, range(n_nodes), [CONSTANT] * n_nodes)
    assert schedule(chain, [n_nodes - 1], np.zeros(n_nodes, bool)).n_rows == 1 + 2
