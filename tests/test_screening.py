"""Screening: gains against dense solutions with and without the candidate."""

import numpy as np
import pytest
import reference
import torch
from builders import TAME, normal, random_network, rows_for, target_for

from skevo.core.heads import fit_head, quadratic_model
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Nodes
from skevo.core.rows import node_columns
from skevo.core.screening import pick, screen
from skevo.core.topology import CONSTANT

N = 120
CODES = {name: code for code, name in enumerate(TAME)}


def candidates(network, n=12):
    """Return candidates that read inputs and nodes, every third a constant."""
    draw = np.random.default_rng(12)
    operator = np.sort(draw.integers(1, len(TAME), size=n))
    left, right = draw.integers(network.topology.n_columns, size=(2, n))
    right[::3] = CONSTANT
    return Nodes(operator, left, right, normal(n, seed=4), 0.5 + normal(n, seed=5).abs())


def problem(loss, n_outputs=1, weighted=False, block_size=4096):
    network = random_network(n_outputs=n_outputs)
    inputs = normal(3, N)
    target = target_for(loss, random_network(3, n_outputs=n_outputs).predict(inputs.T).T)
    weight = normal(N, seed=6).abs() + 0.1 if weighted else None
    return rows_for(network, target, inputs, weight, block_size), network


def dense(rows, network, loss, alpha):
    """Return columns, response, weight and ridge of the loss's quadratic model, as arrays."""
    output = network.output(rows.columns)
    curvature = loss.curvature(output).numpy()
    residual = loss.residual(output, rows.target).T.numpy()
    response = reference.working_response(output.T.numpy(), residual, curvature)
    weight = rows.weight.numpy()
    columns = rows.columns.T.numpy()
    return columns, response, weight * curvature, reference.ridge_of(columns, weight, alpha)


def unit_columns(rows, network, nodes):
    """Return the candidates' columns, scaled to unit weighted deviation."""
    z = node_columns(network, nodes, rows.columns).T.numpy()
    return z / np.sqrt(reference.variances(z, rows.weight.numpy()))


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
    rows, network = problem(loss, n_outputs, weighted, block_size)
    nodes = candidates(network)
    model = quadratic_model(rows, network, loss, alpha)
    gains = screen(rows, network, loss, alpha, model, nodes).gain
    z = unit_columns(rows, network, nodes)
    expected = [
        reference.gain(*dense(rows, network, loss, alpha), z[:, [k]], alpha) for k in range(12)
    ]
    # A difference of two sums of squares of some hundreds, against the gain itself.
    np.testing.assert_allclose(gains, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_gain_at_fitted_head_equals_fall_of_the_objective(alpha, n_outputs):
    loss = SquaredError()
    rows, network = problem(loss, n_outputs)
    fitted, curvature = fit_head(rows, network, loss, alpha, measure_moments(rows))
    nodes = candidates(network)
    gains = screen(rows, fitted, loss, alpha, curvature, nodes).gain
    z = unit_columns(rows, network, nodes)
    columns, target = rows.columns.T.numpy(), rows.target.T.numpy()
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
    loss = LogLoss()
    rows, network = problem(loss)
    fitted, curvature = fit_head(rows, network, loss, 3.0, measure_moments(rows))
    nodes = candidates(network)
    screened = screen(rows, fitted, loss, 3.0, curvature, nodes)
    best = int(screened.gain.argmax())
    chosen = screened.nodes.take([best])
    grown = fitted.grow(chosen)
    rows.grow(grown, chosen)
    refitted, after = fit_head(rows, grown, loss, 3.0, measure_moments(rows))

    def objective(network, columns, ridge):
        beta = torch.cat([network.bias[:, None], network.weight], dim=1).T
        value = loss.value(network.output(columns), rows.target).sum()
        return float(value + 0.5 * (ridge[:, None] * beta.square()).sum())

    fall = objective(fitted, rows.columns[:-1], curvature.ridge)
    fall -= objective(refitted, rows.columns, after.ridge)
    # The model is quadratic, the loss is not.
    assert float(screened.gain[best]) == pytest.approx(fall, rel=0.3)


def test_screened_nodes_have_unit_deviation():
    rows, network = problem(SquaredError(), weighted=True)
    nodes = candidates(network)
    model = quadratic_model(rows, network, SquaredError(), 3.0)
    screened = screen(rows, network, SquaredError(), 3.0, model, nodes)
    z = node_columns(network, screened.nodes, rows.columns).T.numpy()
    # One pass loses digits where the mean exceeds the spread.
    np.testing.assert_allclose(reference.variances(z, rows.weight.numpy()), np.ones(12), rtol=1e-9)
    assert torch.equal(screened.nodes.constant, nodes.constant)


def single(operator, left, right, constant=0.0, scale=1.0):
    def number(value):
        return torch.tensor([value], dtype=torch.float64)

    return Nodes(
        np.array([CODES[operator]]), np.array([left]), np.array([right]),
        number(constant), number(scale),
    )  # fmt: skip


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize(
    ("node", "refused"),
    [
        pytest.param(single("add", 0, 1), True, id="in-the-span"),
        pytest.param(single("mul", 0, CONSTANT, 3.0), True, id="multiple-of-a-column"),
        pytest.param(single("mul", 0, CONSTANT, 0.0), True, id="zero"),
        pytest.param(single("max", 0, CONSTANT, 50.0), True, id="constant"),
        pytest.param(single("mul", 0, CONSTANT, float("inf")), True, id="infinite"),
        pytest.param(single("mul", 0, CONSTANT, float("nan")), True, id="nan"),
        pytest.param(single("mul", 0, 1, scale=1e-200), True, id="overflow-of-its-square"),
        pytest.param(single("mul", 0, 1), False, id="product"),
        pytest.param(single("mul", 0, 1, scale=1e12), False, id="tiny-product"),
    ],
)
def test_screen_refuses_candidates_that_bring_nothing(node, refused, pairs):
    rows, network = problem(SquaredError())
    model = quadratic_model(rows, network, SquaredError(), 0.0)
    screened = screen(rows, network, SquaredError(), 0.0, model, node, pairs=pairs)
    assert (screened.gain.item() == -torch.inf) == refused
    assert torch.isfinite(screened.cross).all()
    assert torch.isfinite(screened.inner).all()


def test_screen_of_bad_candidates_leaves_the_others_alone():
    rows, network = problem(SquaredError())
    model = quadratic_model(rows, network, SquaredError(), 3.0)
    bad, good = single("mul", 0, CONSTANT, float("nan")), single("mul", 0, 1)
    pool = Nodes(
        np.append(bad.operator, good.operator), np.append(bad.left, good.left),
        np.append(bad.right, good.right), torch.cat([bad.constant, good.constant]),
        torch.cat([bad.scale, good.scale]),
    )  # fmt: skip
    both = screen(rows, network, SquaredError(), 3.0, model, pool, pairs=True)
    alone = screen(rows, network, SquaredError(), 3.0, model, good, pairs=True)
    # Matrix products of another size.
    assert float(both.gain[1]) == pytest.approx(float(alone.gain[0]), rel=1e-10)
    assert pick(both, model, 2, 0.0)[0] == [1]


def test_screen_of_no_candidates_is_empty():
    rows, network = problem(SquaredError())
    model = quadratic_model(rows, network, SquaredError(), 3.0)
    screened = screen(rows, network, SquaredError(), 3.0, model, candidates(network).take([]))
    assert screened.gain.shape == (0,)


# -- several candidates ----------------------------------------------------------------------------


def greedy(rows, network, loss, alpha, nodes, n_picks):
    """Return picks and gains by solving densely with every candidate, again after each pick."""
    columns, response, weight, ridge = dense(rows, network, loss, alpha)
    z = unit_columns(rows, network, nodes)
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
    rows, network = problem(loss, n_outputs, weighted=True)
    if fitted_first:
        network, _ = fit_head(rows, network, loss, alpha, measure_moments(rows))
    nodes = candidates(network)
    model = quadratic_model(rows, network, loss, alpha)
    screened = screen(rows, network, loss, alpha, model, nodes, pairs=True)
    picked, gains = pick(screened, model, 5, 0.0)
    expected, falls = greedy(rows, network, loss, alpha, nodes, 5)
    assert picked == expected
    # As for single candidates.
    np.testing.assert_allclose(gains, falls, rtol=1e-6, atol=1e-8)


def test_gain_with_pairs_equals_gain_without():
    rows, network = problem(SquaredError(), weighted=True)
    nodes = candidates(network)
    model = quadratic_model(rows, network, SquaredError(), 3.0)
    gains = [
        screen(rows, network, SquaredError(), 3.0, model, nodes, pairs=pairs).gain
        for pairs in (False, True)
    ]
    # Sums of 120 terms in another order.
    torch.testing.assert_close(*gains, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("threshold", [0.5, 5.0, 1e9])
@pytest.mark.parametrize("n_picks", [1, 3, 50])
def test_pick_stops_at_threshold_and_number(n_picks, threshold):
    rows, network = problem(SquaredError())
    network, model = fit_head(rows, network, SquaredError(), 3.0, measure_moments(rows))
    screened = screen(rows, network, SquaredError(), 3.0, model, candidates(network), pairs=True)
    every, falls = pick(screened, model, 12, -1.0)
    n_expected = min(n_picks, next((k for k, g in enumerate(falls) if g <= threshold), len(falls)))
    picked, gains = pick(screened, model, n_picks, threshold)
    assert picked == every[:n_expected]
    assert all(gain > threshold for gain in gains)


def test_pick_never_takes_a_copy_of_a_pick():
    rows, network = problem(SquaredError())
    model = quadratic_model(rows, network, SquaredError(), 0.0)
    node = single("mul", 0, 1)
    pool = Nodes(
        node.operator.repeat(3), node.left.repeat(3), node.right.repeat(3),
        node.constant.repeat(3), torch.tensor([1.0, 2.0, -5.0], dtype=torch.float64),
    )  # fmt: skip
    screened = screen(rows, network, SquaredError(), 0.0, model, pool, pairs=True)
    assert len(pick(screened, model, 3, 0.0)[0]) == 1
