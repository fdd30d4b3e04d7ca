"""Proposals: what random nodes are drawn, and from what they depend."""

import itertools

import numpy as np
import pytest
import torch
from builders import OPERATORS, alone, network_of, normal, random_network, random_population

from skevo.core.network import Network, Nodes
from skevo.core.operators import get_operators
from skevo.core.population import EMPTY, Population
from skevo.core.proposals import propose, propose_blindly
from skevo.core.quantiles import N_QUANTILES, quantile_table
from skevo.core.topology import CONSTANT, Topology

N_DRAWS = 4000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def table_of(columns):
    """Return the quantiles of columns whose rows weigh the same."""
    return quantile_table(columns, torch.ones_like(columns[..., 0, :]))


def of_member(nodes, member=0):
    """Return the nodes of one member, without empty places."""
    present = nodes.operator[member] != EMPTY
    return Nodes(*(part[member, present] for part in vars(nodes).values()))


def pool_of(network, n=N_DRAWS, seed=0, generation=0):
    """Return the candidates for one network, and the quantiles of its columns."""
    table = table_of(network.columns(normal(network.topology.n_inputs, 100)))
    pool = propose(alone(network), n, table[None], [generator(seed)], generation)
    return of_member(pool), table


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
    assert {len(pool_of(network, 1, seed)[0]) for seed in range(30)} == {0, 1}


def test_pool_favours_columns_that_are_used():
    # Column 1 is read eight times, the others never.
    topology = Topology(8, [0] * 4, [1] * 4, [1] * 4)
    pool, _ = pool_of(network_of(topology, ("tanh", "sub", "gate", "step")), n=600)
    use = np.bincount(pool.left[pool.left >= 0], minlength=12)[:8]
    assert use[1] > 2 * np.delete(use, 1).max()
    assert np.delete(use, 1).min() > 0


@pytest.mark.parametrize("n", [1, 2, 50])
def test_pool_has_as_many_places_as_asked_of_which_repeated_ones_are_empty(n):
    # One product can be drawn.
    network = linear(1, ("mul",))
    pool = propose(alone(network), n, table_of(normal(1, 1, 50)), [generator()], 0)
    assert pool.operator.tolist() == [[0] + [EMPTY] * (n - 1)]


def assert_equal(one, other):
    for part, of_other in zip(vars(one).values(), vars(other).values(), strict=True):
        assert np.array_equal(part, of_other)


def test_pool_depends_on_generator_wiring_and_generation_alone():
    network = random_network(operators=OPERATORS)
    torch.manual_seed(0)
    first, table = pool_of(network)
    torch.manual_seed(1)
    other = network_of(network.topology, OPERATORS, n_outputs=2, seed=99)
    second = propose(alone(other), N_DRAWS, table[None], [generator()], 0)
    assert_equal(first, of_member(second))
    assert first.left.tolist() != pool_of(network, seed=1)[0].left.tolist()
    assert first.left.tolist() != pool_of(network, generation=1)[0].left.tolist()


@pytest.mark.parametrize("n", [1, 5, 7, 100])
def test_operators_and_constants_have_equal_shares_over_generations(n):
    # So many columns that hardly a candidate is drawn twice.
    network = linear(40, ("max", "tanh", "step"))
    n_generations = 200
    pools = [pool_of(network, n, 1000 + g, g)[0] for g in range(n_generations)]
    operator, right, left = (
        np.concatenate([getattr(pool, name) for pool in pools])
        for name in ("operator", "right", "left")
    )
    share = n * n_generations / 3
    constant = (left == CONSTANT) | (right == CONSTANT)
    for code in range(3):
        mine = operator == code
        # Shares are exact but for one place per generation, which is dealt in turn, and for what
        # was drawn twice: some per mille, of pools of a hundred a few per cent.
        assert mine.sum() == pytest.approx(share, rel=0.05, abs=3)
        assert constant[mine].sum() == pytest.approx(share / 3, rel=0.1, abs=3)


def test_pools_of_equal_networks_follow_their_generators():
    network = random_network(operators=OPERATORS)
    pair, table = alone(network).take([0, 0]), table_of(network.columns(normal(3, 100)))
    seeds = [generator(3), generator(4)]
    pool = propose(pair, 50, table.expand(2, -1, -1), seeds, 7)
    for member, seed in enumerate((3, 4)):
        assert_equal(of_member(pool, member), pool_of(network, 50, seed, 7)[0])
    assert pool.left[0].tolist() != pool.left[1].tolist()


# -- members side by side --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 300])
def test_pool_of_each_member_is_its_own(n):
    population = random_population(operators=OPERATORS)
    table = table_of(normal(4, population.n_columns, 100))
    generators = [generator(10 + member) for member in range(4)]
    others = [generator(10 + member) for member in range(4)]
    for generation in (0, 1, 8):
        # One after another, with the same generators.
        pool = propose(population, n, table, generators, generation)
        for member, present in enumerate(population.wiring.present):
            columns = np.append([0, 1, 2], 3 + np.flatnonzero(present))
            own = alone(population.network(member))
            expected = of_member(
                propose(own, n, table[member, None, columns], [others[member]], generation)
            )
            # Where each column stands; the last is the constant's, read through index -1.
            at = np.append(columns, CONSTANT)
            found = of_member(pool, member)
            assert found.operator.tolist() == expected.operator.tolist()
            assert found.left.tolist() == at[expected.left].tolist()
            assert found.right.tolist() == at[expected.right].tolist()
            assert torch.equal(found.constant, expected.constant)


@pytest.mark.parametrize("generation", [0, 1, 2, 50])
def test_every_fourth_candidate_reads_a_pair_of_those_that_act_together(generation):
    population = Population.of([linear(40)] * 2)
    table = table_of(normal(2, 40, 100))
    pairs = np.zeros((2, 40, 40))
    pairs[1, [3, 8, 20], [8, 3, 20]] = 1.0
    plain, guided = (
        propose(population, N_DRAWS, table, [generator(1), generator(2)], generation, shares)
        for shares in (None, pairs)
    )
    moved = (plain.left != guided.left) | (plain.right != guided.right)
    # A member without such pairs draws as it did.
    assert not moved[0].any()
    assert moved[1].mean() == pytest.approx(0.25, abs=0.02)
    sides = zip(guided.left[1, moved[1]].tolist(), guided.right[1, moved[1]].tolist(), strict=True)
    read = {frozenset(side) - {CONSTANT} for side in sides}
    assert read == {frozenset(own) for own in ([3, 8], [20], [3], [8])}
    assert torch.equal(plain.constant[0], guided.constant[0])


@pytest.mark.parametrize("generation", [0, 1, 2, 50])
def test_pools_of_members_are_alike_but_for_the_operands(generation):
    population = random_population(operators=OPERATORS)
    table = table_of(normal(4, population.n_columns, 100))
    pool = propose(population, 200, table, [generator(k) for k in range(4)], generation)
    constant = (pool.left == CONSTANT).astype(int) + 2 * (pool.right == CONSTANT)
    for place in range(200):
        present = pool.operator[:, place] != EMPTY
        assert len(set(pool.operator[present, place].tolist())) <= 1
        assert len(set(constant[present, place].tolist())) <= 1
    assert (pool.operator == EMPTY).any()
    # What is computed in one call stands together.
    runs = [
        (code, side)
        for code, side in zip(pool.operator.max(axis=0), constant.max(axis=0), strict=True)
        if code != EMPTY
    ]
    assert sum(a != b for a, b in itertools.pairwise(runs)) == len(set(runs)) - 1


def test_columns_that_are_zero_in_many_rows_divide_nothing():
    """A quotient by the column of a level would be read as what it is not."""
    columns = normal(3, 1000)
    columns[1] = columns[1] > 0
    network = linear(3, ("div", "mul"))
    pool = propose(alone(network), N_DRAWS, table_of(columns)[None], [generator()], 0)
    pool = of_member(pool)
    divides = pool.operator == 0
    assert set(pool.right[divides]) == {0, 2}
    # It may still be divided, and be a factor.
    assert 1 in pool.left[divides]
    assert 1 in pool.right[~divides]


def test_nothing_is_divided_where_all_columns_are_zero_in_many_rows():
    columns = normal(2, 1000).clamp(min=0.0)
    network = linear(2, ("div", "mul"))
    pool = propose(alone(network), 200, table_of(columns)[None], [generator()], 0)
    assert set(of_member(pool).operator) == {1}


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
    # Beside other members.
    both = quantile_table(
        torch.stack([columns.flip(1), columns]), torch.stack([torch.ones_like(weight), weight])
    )
    np.testing.assert_array_equal(both[1], expected)


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
