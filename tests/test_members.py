"""Members: folds, seeds, and groups."""

import numpy as np
import pytest
import torch
from builders import TAME, assert_same_network, normal, take_rows, target_for, weights

from skevo.core import members as module
from skevo.core.course import Course, Stopping
from skevo.core.evolution import evolve_networks
from skevo.core.folds import Task, hold_out, plan_members
from skevo.core.group import Group
from skevo.core.grower import Grower
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.members import fit_members, group_size
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.population import Population
from skevo.core.rows import MemoryRows
from skevo.core.selection import most_telling
from skevo.core.settings import Settings
from skevo.core.table import Table


def ones(n):
    return torch.ones(n, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- folds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [40, 41, 103])
@pytest.mark.parametrize("n_members", [2, 3, 8, 20])
def test_folds_are_disjoint_and_cover_all_rows(n_members, n_rows):
    splits = hold_out(n_rows, float(n_rows), n_members, 0.2, generator())
    assert len(splits) == n_members
    held = torch.cat([validation for _, validation in splits])
    assert sorted(held.tolist()) == list(range(n_rows))
    sizes = [len(validation) for _, validation in splits]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("n_members", [1, 2, 8])
def test_member_trains_on_all_rows_it_does_not_hold_out(n_members):
    for train, validation in hold_out(50, float(50), n_members, 0.2, generator()):
        assert sorted([*train.tolist(), *validation.tolist()]) == list(range(50))


@pytest.mark.parametrize(
    ("fraction", "n_rows", "n_held"),
    [(0.2, 100, 20), (0.25, 42, 10), (0.001, 100, 1), (0.999, 50, 49)],
)
def test_single_member_holds_out_its_fraction(fraction, n_rows, n_held):
    ((train, validation),) = hold_out(n_rows, float(n_rows), 1, fraction, generator())
    assert (len(train), len(validation)) == (n_rows - n_held, n_held)


@pytest.mark.parametrize(
    ("weight", "n_members", "fraction"),
    [
        pytest.param(ones(39), 1, 0.2, id="few-rows"),
        pytest.param(0.5 * ones(79), 4, 0.2, id="little-weight"),
        pytest.param(20.0 * ones(7), 4, 0.2, id="fewer-than-two-per-member"),
        pytest.param(ones(500), 4, None, id="no-fraction"),
    ],
)
def test_small_tables_hold_nothing_out(weight, n_members, fraction):
    assert (
        hold_out(len(weight), float(weight.sum()), n_members, fraction, generator())
        == [(None, None)] * n_members
    )


@pytest.mark.parametrize("weight", [ones(40), 5.0 * ones(8), 0.5 * ones(80)])
def test_tables_of_total_weight_forty_hold_rows_out(weight):
    assert all(
        train is not None
        for train, _ in hold_out(len(weight), float(weight.sum()), 4, 0.2, generator())
    )


def test_folds_are_shuffled_by_the_generator():
    first, same, other = (
        hold_out(60, float(60), 3, 0.2, generator(seed))[0][1].tolist() for seed in (0, 0, 1)
    )
    assert first == same
    assert first != other
    assert first != sorted(first)


def test_tasks_have_numbers_folds_and_seeds_of_their_own():
    tasks = plan_members(60, float(60), 4, 0.2, 7)
    assert [task.number for task in tasks] == [0, 1, 2, 3]
    assert len({task.seed for task in tasks}) == 4
    again = plan_members(60, float(60), 4, 0.2, 7)
    assert [task.seed for task in tasks] == [task.seed for task in again]
    assert all(
        torch.equal(one.validation, other.validation)
        for one, other in zip(tasks, again, strict=True)
    )
    assert [task.seed for task in plan_members(60, float(60), 4, 0.2, 8)] != [
        task.seed for task in tasks
    ]


def test_small_tables_have_tasks_that_differ_by_seed_alone():
    tasks = plan_members(20, float(20), 3, 0.2, 7)
    assert all(task.train is None and task.validation is None for task in tasks)
    assert len({task.seed for task in tasks}) == 3


def test_members_of_few_rows_weigh_them_differently():
    tasks = plan_members(160, float(160), 8, 0.2, 7)
    factors = torch.stack([task.factor for task in tasks])
    assert factors.shape == (8, 140)
    assert factors.mean(dim=1).tolist() == pytest.approx([1.0] * 8)
    spread = 6.0 / 140**0.5
    assert factors.std() == pytest.approx(spread / 3**0.5, rel=0.1)
    assert (factors - 1.0).abs().max() < 1.1 * spread
    assert abs(torch.corrcoef(factors).fill_diagonal_(0.0)).max() < 0.3


def test_no_weight_is_negative():
    (_, task) = plan_members(10, 1e3, 2, 0.2, 0)
    assert (task.factor >= 0.0).all()


@pytest.mark.parametrize(
    ("n_rows", "n_members", "fraction"),
    [(60, 1, 0.2), (20, 3, 0.2), (60, 3, None), (2000, 4, 0.2)],
)
def test_rows_count_the_same(n_rows, n_members, fraction):
    # For one member, where none is held out, and where there are many.
    tasks = plan_members(n_rows, float(n_rows), n_members, fraction, 0)
    assert all(task.factor is None for task in tasks)


# -- fitting ---------------------------------------------------------------------------------------


def table(n=120, weight=None):
    inputs = normal(3, n)
    target = inputs[:1] * inputs[1:2] + 0.1 * normal(1, n, seed=1)
    return Table(inputs, target, ones(n) if weight is None else weight)


def fit_all(data, tasks, settings=None, n_generations=4, loss=None, patience=None, **kwargs):
    return fit_members(
        data, tasks, get_operators(TAME), loss or SquaredError(), settings or Settings(),
        Stopping(n_generations, patience), **kwargs,
    )  # fmt: skip


def fit(data, task, *args, **kwargs):
    (found,) = fit_all(data, [task], *args, **kwargs)
    return found


def test_member_is_an_evolution_on_its_rows():
    data = table()
    task = plan_members(len(data), data.total_weight, 3, 0.2, 0)[1]
    found = fit(data, task)

    def source(rows, factor=1.0):
        # Rows come in whole multiples of 32.
        more = rows[:1].expand(-len(rows) % 32)
        weight = torch.cat([factor * data.weight[rows], 0.0 * data.weight[more]])
        rows = torch.cat([rows, more])
        return MemoryRows(data.inputs[None, :, rows], data.target[None, :, rows], weight[None])

    rows, validation = source(task.train, task.factor), source(task.validation)
    sketch = rows.part(slice(None), torch.float32)
    population = Population.of([Network.linear(get_operators(TAME), 3, 1, dtype=torch.float64)])
    grower = Grower(
        population, rows, sketch, validation, SquaredError(), Settings(), [generator(task.seed)]
    )
    stopping = Stopping(4, None)
    courses = [Course(stopping.training_share, None, 3)]
    (expected,) = evolve_networks([grower], courses, stopping)
    assert_same_network(found.network, expected.network)
    assert [line[:3] for line in found.history] == [line[:3] for line in expected.history]


@pytest.mark.parametrize("loss", [SquaredError(), LogLoss(), CrossEntropy()])
def test_members_side_by_side_are_those_that_grow_alone(monkeypatch, loss):
    # Which inputs matter is decided by all members together.
    monkeypatch.setattr("skevo.core.evolution._ROWS_PER_INPUT", 0)
    # 121 rows: the folds of four members differ in size.
    inputs = normal(3, 121)
    signal = torch.cat([inputs[:1] * inputs[1:2], inputs[2:].tanh()])
    signal = signal[: 2 if isinstance(loss, CrossEntropy) else 1]
    data = Table(inputs, target_for(loss, signal), weights("random", 121))
    tasks = plan_members(len(data), data.total_weight, 4, 0.2, 2)
    # A penalty that follows held-out rows is the same for all members of a group.
    settings = Settings(alpha=3.0) if loss.known_scale else Settings()
    together = fit_all(data, tasks, n_generations=12, loss=loss, settings=settings)
    alone = [fit(data, task, n_generations=12, loss=loss, settings=settings) for task in tasks]
    for found, expected in zip(together, alone, strict=True):
        assert found.network.topology == expected.network.topology
        # Products of matrices of other sizes round differently.
        torch.testing.assert_close(
            found.network.predict(data.inputs.T), expected.network.predict(data.inputs.T),
            rtol=1e-6, atol=1e-6,
        )  # fmt: skip
        assert [line.n_nodes for line in found.history] == [
            line.n_nodes for line in expected.history
        ]


@pytest.mark.parametrize(
    ("n_members", "n_rows", "solver", "device", "expected"),
    [
        pytest.param(8, 500, "exact", "cpu", 8, id="few-rows"),
        pytest.param(24, 100, "exact", "cpu", 24, id="few-rows-and-many-members"),
        pytest.param(25, 100, "exact", "cpu", 13, id="two-groups-of-about-one-size"),
        pytest.param(9, 7_500, "exact", "cpu", 5, id="two-groups-for-the-rows"),
        pytest.param(8, 7_500, "exact", "cpu", 8, id="as-many-rows-as-fit"),
        pytest.param(8, 7_501, "exact", "cpu", 4, id="too-many-rows"),
        pytest.param(8, 20_000, "exact", "cpu", 4, id="many-rows"),
        pytest.param(8, 20_000, "exact", "cuda", 8, id="many-rows-on-a-gpu"),
        pytest.param(1, 20_000, "exact", "cpu", 1, id="alone"),
        pytest.param(8, 500, "adam", "cpu", 1, id="an-optimizer-each"),
    ],
)
def test_groups_of_members(n_members, n_rows, solver, device, expected):
    settings = Settings(solver=solver)
    assert group_size(n_members, n_rows, settings, torch.device(device)) == expected


@pytest.mark.parametrize("trained", ["all", "some"])
@pytest.mark.parametrize("held_out", ["none", "of the table", "apart"])
def test_a_packed_group_has_the_same_rows(trained, held_out):
    table, apart = torch.arange(100), held_out == "apart"
    given = 1000 + torch.arange(50) if apart else table
    draw = generator()
    tasks = [
        Task(
            number,
            None if trained == "all" else torch.randperm(100, generator=draw)[:30],
            None if held_out == "none" else torch.randperm(len(given), generator=draw)[:9],
            0,
        )
        for number in range(3)
    ]
    packed, rows, given_rows = Group(tasks, [None] * 3, [None] * 3).packed(apart)
    taken = {"train": table[rows], "validation": given[given_rows]}
    source = {"train": table, "validation": given}
    for before, after in zip(tasks, packed.tasks, strict=True):
        assert before.number == after.number
        for name, some in taken.items():
            wanted, there = getattr(before, name), getattr(after, name)
            if wanted is None:
                assert there is None
                assert name == "validation" or torch.equal(some, table)
            else:
                assert torch.equal(source[name][wanted], some[there])
    # No more than are taken, each once.
    wanted = {name: [getattr(task, name) for task in tasks] for name in taken}
    if trained == "some":
        both = wanted["train"] + (wanted["validation"] if held_out == "of the table" else [])
        assert taken["train"].tolist() == torch.cat(both).unique().tolist()
    if apart:
        assert (
            taken["validation"].tolist() == given[torch.cat(wanted["validation"]).unique()].tolist()
        )


@pytest.mark.parametrize("n_members", [4, 5])
@pytest.mark.parametrize("solver", ["exact", "adam"])
def test_threads_that_share_members_change_nothing(monkeypatch, solver, n_members):
    monkeypatch.setattr(module, "_GROUP", 2)
    data = table(300)
    tasks = plan_members(len(data), data.total_weight, n_members, 0.2, 1)
    one, three = (
        fit_all(data, tasks, Settings(solver=solver), n_generations=6, n_jobs=n_jobs)
        for n_jobs in (1, 3)
    )
    for found, expected in zip(three, one, strict=True):
        assert_same_network(found.network, expected.network)
        assert [line[:3] for line in found.history] == [line[:3] for line in expected.history]


def test_held_out_rows_change_nothing_but_the_choice_of_generation():
    data = table()
    task = plan_members(len(data), data.total_weight, 3, 0.2, 0)[0]
    other = Table(data.inputs.clone(), data.target.clone(), data.weight)
    other.target[:, task.validation] = 100.0
    first, second = fit(data, task), fit(other, task)
    assert [line.loss for line in first.history] == [line.loss for line in second.history]
    assert first.history[0].validation_loss != second.history[0].validation_loss


@pytest.mark.parametrize("n_rows", [300, 1024, 1040, 1300])
def test_candidates_are_screened_on_a_sketch(monkeypatch, n_rows):
    seen = []

    def record(growers, courses, *_):
        seen.extend(growers)
        return evolve_networks(growers, courses, Stopping(n_generations=0))

    monkeypatch.setattr(module, "evolve_networks", record)
    fit_all(table(n_rows), [Task(0, None, None, 0)])
    split = torch.arange(n_rows - 10), torch.arange(n_rows - 10, n_rows)
    fit_all(table(n_rows), [Task(0, *split, 0)])
    whole, trained = seen

    def count(rows):
        assert rows.n_rows % 32 == 0
        return int((rows.weight > 0).sum())

    assert [count(grower.rows) for grower in seen] == [n_rows, n_rows - 10]
    assert [count(grower.sketch) for grower in seen] == [min(1024, n_rows), min(1024, n_rows - 10)]
    # Where nothing is held out, small tables are searched as exactly as they are trained on.
    assert (whole.sketch is whole.rows) == (n_rows <= 1024)
    assert trained.sketch.columns.dtype == torch.float32
    # The sketch is of training rows, each once.
    columns = {tuple(row) for row in trained.sketch.columns[0].T.tolist()}
    assert len(columns) == count(trained.sketch)
    assert columns <= {tuple(row) for row in trained.rows.columns[0].float().T.tolist()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_member_has_the_dtype_of_its_table(dtype):
    data = table()
    data = Table(data.inputs.to(dtype), data.target.to(dtype), data.weight.to(dtype))
    network = fit(data, Task(0, None, None, 0)).network
    assert {network.weight.dtype, network.bias.dtype, network.constants.dtype} == {dtype}
    assert network.n_nodes > 0


def test_member_with_weights_equals_member_with_copies():
    copies = torch.from_numpy(np.random.default_rng(0).integers(1, 4, 30))
    data = table(30, copies.double())
    repeated = Table(
        data.inputs.repeat_interleave(copies, dim=1),
        data.target.repeat_interleave(copies, dim=1),
        ones(int(copies.sum())),
    )
    first, second = (fit(rows, Task(0, None, None, 3)) for rows in (data, repeated))
    # Sums in another order, through four generations of solves.
    torch.testing.assert_close(
        first.network.predict(data.inputs.T), second.network.predict(data.inputs.T),
        rtol=1e-6, atol=1e-7,
    )  # fmt: skip
    assert first.network.topology == second.network.topology


def test_member_leaves_no_gradients_and_is_watched():
    seen = []

    def watch(growth):
        seen.append((growth.n_generations, growth.courses[0].history[-1]))
        return "enough" if growth.n_generations == 3 else ""

    found = fit(table(), Task(5, None, None, 0), watch=watch)
    assert not found.network.weight.requires_grad
    assert found.stop_reason == "enough"
    assert seen == list(enumerate(found.history))
    assert len(seen) == 4


# -- large tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("fraction", [0.2, None])
def test_members_of_a_large_table_take_some_of_its_rows(monkeypatch, n_members, fraction):
    take_rows(monkeypatch, 60)
    splits = hold_out(1000, float(1000), n_members, fraction, generator(0))
    taken = set()
    for train, held in splits:
        assert len(train.unique()) == len(train) == 60
        taken |= set(train.tolist())
        if fraction is not None:
            assert len(held.unique()) == len(held) == 15
            assert not set(train.tolist()) & set(held.tolist())
    # Members take different rows.
    assert len(taken) > 0.8 * 60 * n_members


def test_heads_of_a_large_table_are_fitted_to_all_rows(monkeypatch):
    take_rows(monkeypatch, 60)
    data = table(400)
    tasks = plan_members(len(data), data.total_weight, 4, 0.2, 0)
    members = fit_all(data, tasks, n_generations=20, patience=2)
    for found in members:
        network = found.network
        columns = network.columns(data.inputs)
        residual = data.target - network.output(columns)
        # Where a ridge head is optimal, each slope is the penalty's, by one and the same factor.
        slope = (columns @ residual.T)[:, 0]
        alpha = slope / (network.weight[0] * columns.var(dim=1, correction=0))
        np.testing.assert_allclose(alpha, found.alpha, rtol=1e-5)
        assert abs(float(residual.sum())) < 1e-8
    assert len({found.alpha for found in members}) > 1


# -- wide tables -----------------------------------------------------------------------------------


def wide_table(n=300):
    inputs = normal(9, n)
    target = inputs[[2]] * inputs[[5]] + inputs[[5]] + inputs[[2]] - inputs[[7]].square()
    return Table(inputs, target + 0.1 * normal(1, n, seed=1), ones(n))


@pytest.mark.parametrize("n_most_rows", [20_000, 60])
def test_members_of_a_wide_table_see_the_columns_that_tell_most(monkeypatch, n_most_rows):
    monkeypatch.setattr(module, "MOST_INPUTS", 4)
    # Members would decide together which of them matter.
    monkeypatch.setattr("skevo.core.evolution._ROWS_PER_INPUT", 0)
    take_rows(monkeypatch, n_most_rows)
    data = wide_table()
    tasks = plan_members(len(data), data.total_weight, 3, 0.2, 0)
    for found, task in zip(fit_all(data, tasks, n_generations=6), tasks, strict=True):
        expected = most_telling(
            data.inputs[:, task.train], data.target[:, task.train], data.weight[task.train], 4
        )
        np.testing.assert_array_equal(found.inputs, expected)
        network = found.network
        assert network.topology.n_inputs == 9
        read = np.concatenate([network.topology.left, network.topology.right])
        assert set(read[(read >= 0) & (read < 9)].tolist()) <= set(expected.tolist())
        unseen = np.setdiff1d(np.arange(9), expected)
        assert not network.weight[:, unseen].any()
        # It is the member of a table that has no other columns.
        narrow = fit(data.of(expected), task, n_generations=6)
        assert narrow.inputs is None
        same = narrow.network.relocate(expected, 9)
        assert network.topology == same.topology
        torch.testing.assert_close(
            network.predict(data.inputs.T), same.predict(data.inputs.T), rtol=1e-6, atol=1e-6
        )


def test_members_of_a_wide_table_go_on_with_their_columns(monkeypatch):
    monkeypatch.setattr(module, "MOST_INPUTS", 4)
    data = wide_table()
    tasks = plan_members(len(data), data.total_weight, 2, 0.2, 0)
    first = fit_all(data, tasks, n_generations=4)
    further = fit_all(data, tasks, n_generations=9, earlier=first)
    for found, expected in zip(further, fit_all(data, tasks, n_generations=9), strict=True):
        assert_same_network(found.network, expected.network)
        np.testing.assert_array_equal(found.inputs, expected.inputs)


def test_other_solver_sees_all_columns(monkeypatch):
    monkeypatch.setattr(module, "MOST_INPUTS", 4)
    data = wide_table(60)
    (task,) = plan_members(len(data), data.total_weight, 1, 0.2, 0)
    found = fit(data, task, Settings(solver="adam", batch_size=32), n_generations=1)
    assert found.inputs is None
    assert (found.network.weight != 0).sum() >= 9
