"""Screening: gains against dense solutions with and without the candidate, alone and in a crowd."""

import numpy as np
import pytest
import reference
import torch
from builders import TAME, alone, crowd, normal, random_network, rows_for, singles, target_for

from skevo.core import screening
from skevo.core.columns import node_columns
from skevo.core.heads import fit_head, objective, quadratic_model
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Nodes
from skevo.core.population import EMPTY
from skevo.core.screening import pick, screen
from skevo.core.topology import CONSTANT

N = 120
CODES = {name: code for code, name in enumerate(TAME)}


def candidates(population, n=12):
    """Return candidates that read each member's columns, every third a constant."""
    draw, wiring = np.random.default_rng(12), population.wiring
    n_members = len(population)
    operator = np.sort(draw.integers(1, len(TAME), size=(n_members, n)), axis=1)
    columns = [
        np.append(np.arange(wiring.n_inputs), wiring.n_inputs + np.flatnonzero(present))
        for present in wiring.present
    ]
    left, right = (np.stack([draw.choice(own, n) for own in columns]) for _ in range(2))
    right[:, ::3] = CONSTANT
    constant, scale = normal(n_members, n, seed=4), 0.5 + normal(n_members, n, seed=5).abs()
    return Nodes(operator, left, right, constant, scale)


def problem(loss, n_outputs=1, weighted=False, block_size=4096):
    """Return rows and population of one."""
    population = alone(random_network(n_outputs=n_outputs))
    inputs = normal(3, N)
    target = target_for(loss, random_network(3, n_outputs=n_outputs).predict(inputs.T).T)
    weight = normal(N, seed=6).abs() + 0.1 if weighted else None
    return rows_for(population, target, inputs, weight, block_size), population


def model_of(rows, population, loss, alpha):
    """Return penalties and the quadratic model of rows at the heads."""
    alpha = alpha * torch.ones_like(rows.total_weight)
    return alpha, quadratic_model(rows, population, loss, alpha)


def dense(rows, population, loss, alpha):
    """Return columns, response, weight and ridge of the loss's quadratic model, as arrays."""
    output = population.output(rows.columns)
    curvature = loss.curvature(output)[0].numpy()
    residual = loss.residual(output, rows.target)[0].T.numpy()
    response = reference.working_response(output[0].T.numpy(), residual, curvature)
    weight = rows.weight[0].numpy()
    columns = rows.columns[0].T.numpy()
    return columns, response, weight * curvature, reference.ridge_of(columns, weight, alpha)


def unit_columns(rows, population, nodes):
    """Return the candidates' columns, scaled to unit weighted deviation."""
    z = node_columns(population, nodes, rows.columns)[0].T.numpy()
    return z / np.sqrt(reference.variances(z, rows.weight[0].numpy()))


LOSSES = pytest.mark.parametrize(
    ("loss", "n_outputs"),
    [(SquaredError(), 1), (SquaredError(), 3), (LogLoss(), 1), (CrossEntropy(), 3)],
)


# -- one candidate ---------------------------------------------------------------------------------


@LOSSES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [0.01, 3.0])
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_gain_equals_fall_of_the_model_when_the_head_is_solved_again(
    loss, n_outputs, weighted, alpha, block_size
):
    # The head is not optimal here: present columns are solved again on both sides.
    rows, population = problem(loss, n_outputs, weighted, block_size)
    nodes = candidates(population)
    gains = screen(rows, population, loss, *model_of(rows, population, loss, alpha), nodes).gain[0]
    z = unit_columns(rows, population, nodes)
    expected = [
        reference.gain(*dense(rows, population, loss, alpha), z[:, [k]], alpha) for k in range(12)
    ]
    # A difference of two sums of squares of some hundreds, against the gain itself.
    np.testing.assert_allclose(gains, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_gain_at_fitted_head_equals_fall_of_the_objective(alpha, n_outputs):
    loss = SquaredError()
    rows, population = problem(loss, n_outputs)
    penalties = torch.tensor([alpha], dtype=torch.float64)
    fitted, curvature = fit_head(rows, population, loss, penalties, measure_moments(rows))
    nodes = candidates(population)
    gains = screen(rows, fitted, loss, penalties, curvature, nodes).gain[0]
    z = unit_columns(rows, population, nodes)
    columns, target = rows.columns[0].T.numpy(), rows.target[0].T.numpy()
    ridge = reference.ridge_of(columns, np.ones(N), alpha)
    usable = gains > 0
    expected = np.array(
        [reference.gain(columns, target, np.ones(N), ridge, z[:, [k]], alpha) for k in range(12)]
    )
    assert usable.sum() >= 10
    np.testing.assert_allclose(gains[usable], expected[usable.numpy()], rtol=1e-6, atol=1e-8)
    # What is refused would gain nothing.
    assert (expected[~usable.numpy()] < 1e-6).all()


def test_gain_of_log_loss_is_near_its_actual_fall():
    loss, alpha = LogLoss(), torch.tensor([3.0], dtype=torch.float64)
    rows, population = problem(loss)
    fitted, curvature = fit_head(rows, population, loss, alpha, measure_moments(rows))
    screened = screen(rows, fitted, loss, alpha, curvature, candidates(population))
    before = objective(rows, fitted, loss, curvature.ridge)
    chosen = screened.best(1)
    grown = fitted.grow(chosen)
    rows.grow(grown, chosen)
    refitted, after = fit_head(rows, grown, loss, alpha, measure_moments(rows))
    fall = float(before - objective(rows, refitted, loss, after.ridge))
    # The model is quadratic, the loss is not.
    assert float(screened.gain.max()) == pytest.approx(fall, rel=0.3)


def test_screened_nodes_have_unit_deviation():
    rows, population = problem(SquaredError(), weighted=True)
    nodes = candidates(population)
    model = model_of(rows, population, SquaredError(), 3.0)
    screened = screen(rows, population, SquaredError(), *model, nodes)
    z = node_columns(population, nodes, rows.columns) / screened.nodes.scale[..., None]
    # One pass loses digits where the mean exceeds the spread.
    np.testing.assert_allclose(
        reference.variances(z[0].T.numpy(), rows.weight[0].numpy()), np.ones(12), rtol=1e-9
    )
    assert torch.equal(screened.nodes.constant, nodes.constant)


def pool_of(*nodes):
    """Return a pool of one member: of tuples (operator, left, right, constant)."""
    operator, left, right, constant = zip(*nodes, strict=True)
    return Nodes(
        np.array([[CODES[name] for name in operator]]),
        np.array([left]),
        np.array([right]),
        torch.tensor([constant], dtype=torch.float64),
        torch.ones(1, len(nodes), dtype=torch.float64),
    )


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize(
    ("node", "refused"),
    [
        pytest.param(("add", 0, 1, 0.0), True, id="in-the-span"),
        pytest.param(("mul", 0, CONSTANT, 3.0), True, id="multiple-of-a-column"),
        pytest.param(("mul", 0, CONSTANT, 0.0), True, id="zero"),
        pytest.param(("max", 0, CONSTANT, 50.0), True, id="constant"),
        pytest.param(("mul", 0, CONSTANT, float("inf")), True, id="infinite"),
        pytest.param(("mul", 0, CONSTANT, float("nan")), True, id="nan"),
        pytest.param(("mul", 0, CONSTANT, 1e200), True, id="overflow-of-its-square"),
        pytest.param(("mul", 0, 1, 0.0), False, id="product"),
        pytest.param(("gauss", 0, CONSTANT, 7.0), False, id="tiny-bump"),
    ],
)
def test_screen_refuses_candidates_that_bring_nothing(node, refused, pairs):
    rows, population = problem(SquaredError())
    model = model_of(rows, population, SquaredError(), 0.0)
    screened = screen(rows, population, SquaredError(), *model, pool_of(node), pairs=pairs)
    assert (screened.gain.item() == -torch.inf) == refused
    assert torch.isfinite(screened.cross).all()
    assert torch.isfinite(screened.inner).all()
    assert len(screened.best(3)) == (not refused)


def test_screen_of_bad_candidates_leaves_the_others_alone():
    rows, population = problem(SquaredError())
    alpha, model = model_of(rows, population, SquaredError(), 3.0)
    bad, good = ("mul", 0, CONSTANT, float("nan")), ("mul", 0, 1, 0.0)
    both, one = (
        screen(rows, population, SquaredError(), alpha, model, pool_of(*pool), pairs=True)
        for pool in ([bad, good], [good])
    )
    # Matrix products of another size.
    assert float(both.gain[0, 1]) == pytest.approx(float(one.gain), rel=1e-10)
    assert pick(both, model, 2, torch.zeros(1))[0].tolist() == [[1]]


def test_screen_of_no_candidates_is_empty():
    rows, population = problem(SquaredError())
    model = model_of(rows, population, SquaredError(), 3.0)
    none = candidates(population, 0)
    assert screen(rows, population, SquaredError(), *model, none).gain.shape == (1, 0)


@pytest.mark.parametrize("pairs", [False, True])
def test_screen_refuses_empty_places(pairs):
    rows, population = problem(SquaredError())
    model, nodes = model_of(rows, population, SquaredError(), 3.0), candidates(population)
    full = screen(rows, population, SquaredError(), *model, nodes, pairs=pairs)
    nodes.operator[0, [1, 4, 11]] = EMPTY
    found = screen(rows, population, SquaredError(), *model, nodes, pairs=pairs)
    assert (found.gain[0, [1, 4, 11]] == -torch.inf).all()
    others = np.setdiff1d(np.arange(12), [1, 4, 11])
    torch.testing.assert_close(found.gain[:, others], full.gain[:, others], rtol=1e-12, atol=0.0)


# -- several candidates ----------------------------------------------------------------------------


def greedy(rows, population, loss, alpha, nodes, n_picks):
    """Return picks and gains by solving densely with every candidate, again after each pick."""
    columns, response, weight, ridge = dense(rows, population, loss, alpha)
    z = unit_columns(rows, population, nodes)
    picked, gains = [], []
    for _ in range(n_picks):
        falls = [
            -np.inf if k in picked
            else reference.gain(columns, response, weight, ridge, z[:, [k]], alpha)
            for k in range(len(nodes))
        ]  # fmt: skip
        picked.append(int(np.argmax(falls)))
        gains.append(max(falls))
        columns = np.column_stack([columns, z[:, picked[-1]]])
        ridge = np.append(ridge, alpha)
    return picked, gains


@LOSSES
@pytest.mark.parametrize("alpha", [0.01, 3.0])
@pytest.mark.parametrize("fitted_first", [False, True])
def test_picks_equal_solving_again_after_each(loss, n_outputs, alpha, fitted_first):
    rows, population = problem(loss, n_outputs, weighted=True)
    if fitted_first:
        penalties = torch.tensor([alpha], dtype=torch.float64)
        population, _ = fit_head(rows, population, loss, penalties, measure_moments(rows))
    nodes = candidates(population)
    penalties, model = model_of(rows, population, loss, alpha)
    screened = screen(rows, population, loss, penalties, model, nodes, pairs=True)
    picked, gains = pick(screened, model, 5, torch.zeros(1))
    expected, falls = greedy(rows, population, loss, alpha, nodes, 5)
    assert picked.tolist() == [expected]
    # As for single candidates.
    np.testing.assert_allclose(gains[0], falls, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [4, 12])
def test_gain_with_pairs_equals_gain_without(n):
    rows, population = problem(SquaredError(), weighted=True)
    # Fewer and more candidates than columns, of which there are eight.
    nodes = candidates(population, n)
    model = model_of(rows, population, SquaredError(), 3.0)
    gains = [
        screen(rows, population, SquaredError(), *model, nodes, pairs=pairs).gain
        for pairs in (False, True)
    ]
    # Sums of 120 terms in another order.
    torch.testing.assert_close(*gains, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("loss", [SquaredError(), CrossEntropy()])
@pytest.mark.parametrize("n_samples", [120, 5000])
def test_products_of_picks_extend_the_moments_as_their_columns_do(loss, n_samples):
    rows, population = crowd(loss, n_outputs=2, n_samples=n_samples, block_size=3000)
    nodes, (alpha, model) = candidates(population), model_of(rows, population, loss, 3.0)
    screened = screen(rows, population, loss, alpha, model, nodes, pairs=True)
    picked, _ = pick(screened, model, 4, torch.zeros(4))
    picked[0, 1] = -1
    assert (picked >= 0).sum() > 8
    old = measure_moments(rows)
    known = old.extended(screened.products(picked, loss.metric))
    nodes = screened.nodes.take(picked)
    rows.grow(population.grow(nodes), nodes)
    expected = measure_moments(rows)
    for name in ("gram", "cross", "square"):
        # Sums of up to 5000 terms, of columns whose scale has been rounded.
        torch.testing.assert_close(
            getattr(known, name), getattr(expected, name), rtol=1e-9, atol=1e-7
        )


def test_screen_of_a_large_pool_equals_that_of_its_parts():
    # Of many rows a pool is computed in chunks of 16.
    rows, population = crowd(n_samples=5000, block_size=5000)
    nodes = candidates(population, 40)
    model = model_of(rows, population, SquaredError(), 3.0)
    found = screen(rows, population, SquaredError(), *model, nodes)
    parts = [screen(rows, population, SquaredError(), *model, part) for part in nodes.split(9)]
    for name in ("gain", "cross", "inner", "slope"):
        together = torch.cat([getattr(part, name) for part in parts], dim=1)
        # Sums of 5000 terms, divided by the spread of candidates that may hardly vary.
        torch.testing.assert_close(getattr(found, name), together, rtol=1e-6, atol=1e-8)


@LOSSES
def test_screen_of_some_members_at_a_time_equals_that_of_all(loss, n_outputs, monkeypatch):
    rows, population = crowd(loss, n_outputs, n_samples=2500)
    nodes = candidates(population)
    nodes.operator[1, 2:] = EMPTY
    model = ALPHA, quadratic_model(rows, population, loss, ALPHA)
    found = []
    for chunk in (2**20, 1):
        monkeypatch.setattr(screening, "_CHUNK", chunk)
        found.append(screen(rows, population, loss, *model, nodes, pairs=True))
    for name in ("gain", "cross", "inner", "slope", "target"):
        assert torch.equal(*(getattr(each, name) for each in found))


@pytest.mark.parametrize("threshold", [0.5, 5.0, 1e9])
@pytest.mark.parametrize("n_picks", [1, 3, 50])
def test_pick_stops_at_threshold_and_number(n_picks, threshold):
    rows, population = problem(SquaredError())
    alpha = torch.tensor([3.0], dtype=torch.float64)
    population, model = fit_head(rows, population, SquaredError(), alpha, measure_moments(rows))
    nodes = candidates(population)
    screened = screen(rows, population, SquaredError(), alpha, model, nodes, pairs=True)
    every, falls = pick(screened, model, 12, torch.tensor([-1.0]))
    falls = falls[0].tolist()
    n_expected = min(n_picks, next((k for k, g in enumerate(falls) if g <= threshold), len(falls)))
    picked, gains = pick(screened, model, n_picks, torch.tensor([threshold]))
    assert picked.tolist() == every[:, :n_expected].tolist()
    assert (gains > threshold).all()


def test_pick_never_takes_a_copy_of_a_pick():
    rows, population = problem(SquaredError())
    alpha, model = model_of(rows, population, SquaredError(), 0.0)
    pool = pool_of(("mul", 0, 1, 0.0), ("mul", 1, 0, 0.0), ("mul", 0, 1, 5.0))
    screened = screen(rows, population, SquaredError(), alpha, model, pool, pairs=True)
    # Of equal ones the first.
    assert pick(screened, model, 3, torch.zeros(1))[0].tolist() == [[0]]


# -- members side by side --------------------------------------------------------------------------

ALPHA = torch.tensor([0.3, 3.0, 0.01, 30.0], dtype=torch.float64)


def pools(rows, population, nodes):
    """Yield each member on its own, with its candidates."""
    for member, single in enumerate(singles(rows, population)):
        # Where each column stands; the last is the constant's, which is read through index -1.
        moves = np.full(population.n_columns + 1, CONSTANT)
        moves[single.columns] = np.arange(len(single.columns))
        own = [part[member, None] for part in vars(nodes).values()]
        own[1:3] = (moves[side] for side in own[1:3])
        yield single, Nodes(*own)


def assert_same_nodes(found, member, expected, columns):
    """Fail unless a member of the nodes is the other, but for empty places behind."""
    present = found.operator[member] != EMPTY
    assert present[: len(expected)].all()
    assert not present[len(expected) :].any()
    columns = np.append(columns, CONSTANT)
    for name in ("operator", "left", "right"):
        own, other = getattr(found, name)[member, present], getattr(expected, name)[0]
        assert own.tolist() == (other if name == "operator" else columns[other]).tolist()
    for name in ("constant", "scale"):
        torch.testing.assert_close(
            getattr(found, name)[member, present], getattr(expected, name)[0], rtol=1e-9, atol=0.0
        )


@LOSSES
@pytest.mark.parametrize(("n", "pairs"), [(8, False), (24, False), (24, True)])
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_scores_and_picks_of_each_member_are_its_own(loss, n_outputs, n, pairs, block_size):
    rows, population = crowd(loss, n_outputs, block_size=block_size)
    nodes = candidates(population, n)
    # Members have other candidates that bring nothing, and one has hardly any that do.
    nodes.operator[np.arange(4), np.arange(4)] = EMPTY
    nodes.operator[1, 2:] = EMPTY
    nodes.constant[0, 3] = torch.nan
    threshold = torch.tensor([0.0, 0.0, 1.0, 3.0], dtype=torch.float64)
    model = quadratic_model(rows, population, loss, ALPHA)
    found = screen(rows, population, loss, ALPHA, model, nodes, pairs=pairs)
    best = found.best(5)
    picked, falls = pick(found, model, 4, threshold) if pairs else (None, None)
    for member, (single, own) in enumerate(pools(rows, population, nodes)):
        alpha, at = ALPHA[member, None], single.augmented
        own_model = quadratic_model(single.rows, single.population, loss, alpha)
        expected = screen(single.rows, single.population, loss, alpha, own_model, own, pairs=pairs)
        # Projections of sums of 120 terms.
        near = {"rtol": 1e-7, "atol": 1e-8}
        torch.testing.assert_close(found.gain[member], expected.gain[0], **near)
        torch.testing.assert_close(found.cross[member][:, at], expected.cross[0], **near)
        torch.testing.assert_close(found.inner[member], expected.inner[0], **near)
        torch.testing.assert_close(found.slope[member], expected.slope[0], **near)
        assert found.cross[member].count_nonzero() == expected.cross[0].count_nonzero()
        assert_same_nodes(best, member, expected.best(5), single.columns.numpy())
        if pairs:
            some, gains = pick(expected, own_model, 4, threshold[member, None])
            n_own = some.shape[1]
            assert picked[member, :n_own].tolist() == some[0].tolist()
            assert (picked[member, n_own:] < 0).all()
            torch.testing.assert_close(falls[member, :n_own], gains[0], **near)


def test_candidates_that_are_not_finite_leave_other_members_alone():
    rows, population = crowd()
    nodes = candidates(population)
    alpha, model = model_of(rows, population, SquaredError(), 3.0)
    before = screen(rows, population, SquaredError(), alpha, model, nodes, pairs=True)
    nodes.constant[2] = torch.inf
    nodes.right[2] = CONSTANT
    after = screen(rows, population, SquaredError(), alpha, model, nodes, pairs=True)
    others = [0, 1, 3]
    for name in ("gain", "cross", "inner", "slope"):
        # The members are computed in other calls of the operators.
        torch.testing.assert_close(
            getattr(after, name)[others], getattr(before, name)[others], rtol=1e-9, atol=1e-9
        )
    picks = [pick(screened, model, 3, torch.zeros(4))[0][others] for screened in (before, after)]
    assert picks[0].tolist() == picks[1].tolist()


def test_best_candidates_stand_in_their_order_and_first_of_equal_ones():
    rows, population = problem(SquaredError())
    model = model_of(rows, population, SquaredError(), 3.0)
    pool = pool_of(
        ("gauss", 0, CONSTANT, 40.0), ("mul", 0, 1, 0.0), ("mul", 0, 2, 0.0), ("mul", 1, 0, 0.0)
    )  # fmt: skip
    screened = screen(rows, population, SquaredError(), *model, pool)
    assert screened.gain[0, 1] > screened.gain[0, 2] > 0
    assert screened.best(1).right.tolist() == [[1]]
    assert screened.best(2).left.tolist() == [[0, 1]]
    assert screened.best(9).right.tolist() == [[1, 2, 0]]
