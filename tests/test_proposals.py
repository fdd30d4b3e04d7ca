"""Proposals: what random nodes are drawn, and from what they depend."""

import numpy as np
import pytest
import torch
from builders import OPERATORS, network_of, normal, random_network

from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.proposals import N_QUANTILES, propose, propose_blindly, quantile_table
from skevo.core.topology import CONSTANT, Topology

N_DRAWS = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pool_of(network, n=N_DRAWS, seed=0):
    columns = network.columns(normal(network.topology.n_inputs, 100))
    table = quantile_table(columns, torch.ones(100, dtype=torch.float64))
    return propose(network, n, table, generator(seed)), table


def linear(n_inputs, operators=OPERATORS):
    return Network.linear(get_operators(operators), n_inputs, 1, dtype=torch.float64)


# -- blind mutation --------------------------------------------------------------------------------


def blind(n_columns=3, n_operators=2):
    draw = generator()
    return [propose_blindly(n_columns, n_operators, draw) for _ in range(N_DRAWS)]


@pytest.mark.parametrize(
    ("what", "share"),
    [
        (lambda operator, left, right: left == CONSTANT, 1 / 3),
        (lambda operator, left, right: right == CONSTANT, 2 / 9),
        (lambda operator, left, right: left != CONSTANT and right != CONSTANT, 4 / 9),
        (lambda operator, left, right: operator == 1, 1 / 2),
        (lambda operator, left, right: left == 0, 2 / 9),
        (lambda operator, left, right: right == 2, 7 / 27),
    ],
)
def test_blind_proposal_has_shares_of_the_source_text(what, share):
    found = np.mean([what(*draw[:3]) for draw in blind()])
    # Four standard errors of a share of 4000 draws.
    assert found == pytest.approx(share, abs=4 * (share * (1 - share) / N_DRAWS) ** 0.5)


def test_blind_proposal_is_never_constant_with_constant():
    assert not any(left == right == CONSTANT for _, left, right, _ in blind())


def test_blind_proposal_draws_every_operator_and_column():
    operators, left, right, constants = zip(*blind(4, 3), strict=True)
    assert set(operators) == {0, 1, 2}
    assert set(left) == set(right) == {CONSTANT, 0, 1, 2, 3}
    # Standard normal: four standard errors.
    assert np.mean(constants) == pytest.approx(0.0, abs=4 / N_DRAWS**0.5)
    assert np.std(constants) == pytest.approx(1.0, abs=4 / (2 * N_DRAWS) ** 0.5)


def test_blind_proposal_follows_generator_alone():
    torch.manual_seed(0)
    first = propose_blindly(5, 3, generator(7))
    torch.manual_seed(1)
    assert propose_blindly(5, 3, generator(7)) == first


# -- pools -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_nodes", [0, 6])
def test_pool_can_join_the_network(n_nodes):
    network = random_network(n_nodes=n_nodes, operators=OPERATORS)
    pool, _ = pool_of(network)
    # Refused if an operand does not exist, or both are constants.
    grown = network.grow(pool)
    assert grown.n_nodes == n_nodes + len(pool)
    assert 100 < len(pool) <= N_DRAWS
    assert torch.equal(pool.scale, torch.ones(len(pool), dtype=torch.float64))


def test_pool_reads_network_columns_only():
    network = random_network()
    pool, _ = pool_of(network)
    assert max(pool.left.max(), pool.right.max()) < network.topology.n_columns


def test_pool_is_sorted_by_operator():
    pool, _ = pool_of(random_network(operators=OPERATORS))
    assert (np.diff(pool.operator) >= 0).all()
    assert set(pool.operator) == set(range(len(OPERATORS)))


def test_pool_has_no_candidate_twice():
    pool, _ = pool_of(linear(2))
    keys = list(zip(pool.operator, pool.left, pool.right, pool.constant.tolist(), strict=True))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("code", range(len(OPERATORS)))
def test_pool_has_commutative_operands_in_order_and_others_both_ways(code):
    network = linear(4)
    pool, _ = pool_of(network)
    mine = (pool.operator == code) & (pool.left != CONSTANT) & (pool.right != CONSTANT)
    pairs = set(zip(pool.left[mine].tolist(), pool.right[mine].tolist(), strict=True))
    expected = {
        (a, b)
        for a in range(4)
        for b in range(4)
        if a <= b or not network.operators[code].commutative
    }
    assert pairs == expected


@pytest.mark.parametrize("code", range(len(OPERATORS)))
def test_pool_has_constants_where_the_operator_wants_them(code):
    network = linear(4)
    pool, table = pool_of(network)
    operator = network.operators[code]
    mine = pool.operator == code
    sides = {
        side for side, operand in (("left", pool.left), ("right", pool.right))
        if (operand[mine] == CONSTANT).any()
    }  # fmt: skip
    assert sides == ({operator.constant} - {"none"})
    for node in np.flatnonzero(mine & ((pool.left == CONSTANT) | (pool.right == CONSTANT))):
        value = float(pool.constant[node])
        if operator.constant == "left":
            assert value == 1.0
        else:
            assert value in (operator.location * table[pool.left[node]]).tolist()
    plain = mine & (pool.left != CONSTANT) & (pool.right != CONSTANT)
    assert (pool.constant[torch.from_numpy(plain)] == 0.0).all()


def test_pool_leaves_out_nodes_that_exist():
    network = network_of(Topology(2, [0, 1, 0], [0, 0, 1], [1, 1, CONSTANT]), ("mul", "tanh"))
    pool, _ = pool_of(network)
    keys = set(zip(pool.operator.tolist(), pool.left.tolist(), pool.right.tolist(), strict=True))
    assert not keys & {(0, 0, 1), (1, 0, 1)}
    assert {(0, 0, 0), (1, 0, 0), (0, 1, 1)} <= keys


def test_pool_is_empty_where_everything_exists():
    network = network_of(Topology(1, [0], [0], [0]), ("mul",))
    columns = normal(2, 50)
    table = quantile_table(columns, torch.ones(50, dtype=torch.float64))
    pools = [propose(network, 1, table, generator(seed)) for seed in range(30)]
    assert {len(pool) for pool in pools} == {0, 1}


def test_pool_favours_columns_that_are_used():
    # Column 1 is read eight times, the others never.
    topology = Topology(8, [0] * 4, [1] * 4, [1] * 4)
    pool, _ = pool_of(network_of(topology, ("tanh", "sub", "gate", "step")), n=600)
    use = np.bincount(pool.left[pool.left >= 0], minlength=12)[:8]
    assert use[1] > 2 * np.delete(use, 1).max()
    assert np.delete(use, 1).min() > 0


@pytest.mark.parametrize("n", [1, 2, 50])
def test_pool_is_never_larger_than_asked(n):
    assert len(pool_of(random_network(), n)[0]) <= n


def test_pool_depends_on_generator_and_topology_alone():
    network = random_network(operators=OPERATORS)
    torch.manual_seed(0)
    first, table = pool_of(network)
    torch.manual_seed(1)
    other = network_of(network.topology, OPERATORS, n_outputs=1, seed=99)
    second = propose(other, N_DRAWS, table, generator())
    third = propose(network, N_DRAWS, table, generator(1))
    assert first.left.tolist() == second.left.tolist()
    assert first.right.tolist() == second.right.tolist()
    assert torch.equal(first.constant, second.constant)
    assert first.left.tolist() != third.left.tolist()


# -- quantiles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 32, 1000])
def test_quantile_table_equals_inverse_of_the_distribution(n):
    columns, weight = normal(3, n), normal(n, seed=1).abs() + 0.01
    levels = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    expected = [
        np.quantile(column, levels, weights=weight.numpy(), method="inverted_cdf")
        for column in columns.numpy()
    ]
    np.testing.assert_array_equal(quantile_table(columns, weight), expected)


def test_quantile_table_of_weights_equals_that_of_copies():
    columns = normal(3, 40)
    copies = torch.from_numpy(np.random.default_rng(0).integers(0, 5, 40))
    repeated = columns.repeat_interleave(copies, dim=1)
    assert torch.equal(
        quantile_table(columns, copies.double()),
        quantile_table(repeated, torch.ones(repeated.shape[1], dtype=torch.float64)),
    )


def test_quantile_table_ignores_order_of_rows():
    columns, weight = normal(3, 100), normal(100, seed=1).abs()
    order = torch.randperm(100, generator=generator())
    assert torch.equal(
        quantile_table(columns, weight), quantile_table(columns[:, order], weight[order])
    )
