"""Constants: Jacobian and step against finite differences, and recovery of a known constant."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from builders import TAME, network_of, normal, random_network, rows_for

from skevo.core.constants import constant_nodes, constant_step
from skevo.core.heads import fit_head, objective, quadratic_model
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.moments import measure_moments
from skevo.core.topology import CONSTANT, Topology

N = 80


def with_constants(network, constants):
    return replace(network, constants=constants)


def problem(loss, n_outputs=1, alpha=1.0, block_size=4096):
    """Return rows, network with fitted head and curvature; three nodes depend on constants."""
    # tanh(x0 + c0); that times x1; gauss(that - c2), which depends on c0 and c2.
    topology = Topology(
        2,
        [TAME.index("tanh"), TAME.index("mul"), TAME.index("gauss")],
        [0, 2, 3],
        [CONSTANT, 1, CONSTANT],
    )
    network = network_of(topology, TAME, n_outputs, seed=1)
    inputs = normal(2, N)
    target = random_network(4, n_inputs=2, n_outputs=n_outputs).predict(inputs.T).T
    if isinstance(loss, LogLoss):
        target = (target > target.median()).double()
    elif isinstance(loss, CrossEntropy):
        target = torch.nn.functional.one_hot(target.argmax(dim=0), n_outputs).T.double()
    rows = rows_for(network, target, inputs, normal(N, seed=8).abs() + 0.1, block_size)
    network, _ = fit_head(rows, network, loss, alpha, measure_moments(rows))
    return rows, network, quadratic_model(rows, network, loss, alpha)


def jacobian(rows, network, node, width=1e-6):
    """Return the derivative of the output by one constant, by central differences.

    Shape (n_outputs, n_samples).
    """
    inputs = rows.columns[: network.topology.n_inputs]
    values = []
    for sign in (1.0, -1.0):
        constants = network.constants.clone()
        constants[node] += sign * width
        moved = with_constants(network, constants)
        values.append(moved.output(moved.columns(inputs)))
    return ((values[0] - values[1]) / (2.0 * width)).numpy()


LOSSES = pytest.mark.parametrize(
    ("loss", "n_outputs"),
    [(SquaredError(), 1), (SquaredError(), 2), (LogLoss(), 1), (CrossEntropy(), 3)],
)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([0, 0, 1], [1, 1, 1], []),
        ([0, CONSTANT, 1], [CONSTANT, 0, 0], [0, 1]),
        ([0, 2, 1], [0, CONSTANT, 3], [1]),
    ],
)
def test_constant_nodes_are_those_that_read_one(left, right, expected):
    network = network_of(Topology(2, [0, 0, 0], left, right), ("tanh",))
    assert constant_nodes(network).tolist() == expected


@LOSSES
@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("block_size", [16, 100_000])
def test_step_equals_projected_gauss_newton_of_finite_differences(
    loss, n_outputs, damping, block_size
):
    rows, network, curvature = problem(loss, n_outputs, block_size=block_size)
    found = constant_step(rows, network, loss, curvature, damping)

    jacobians = np.stack([jacobian(rows, network, node) for node in (0, 2)])
    output = network.output(rows.columns)
    weight = rows.weight.numpy()
    slopes = np.einsum("kti,ti,i->k", jacobians, loss.residual(output, rows.target), weight)
    metric = weight * loss.curvature(output).numpy()
    augmented = np.vstack([np.ones(N), rows.columns])
    squares = np.einsum("kti,lti,i->kl", jacobians, jacobians, metric)
    crosses = np.einsum("kti,ji,i->tkj", jacobians, augmented, metric)
    plain = (augmented * metric) @ augmented.T
    ridge = reference.ridge_of(rows.columns.T.numpy(), weight, 1.0)
    inverse = np.linalg.inv(plain + np.diag(ridge))
    matrix = squares - sum(cross @ inverse @ cross.T for cross in crosses)
    matrix += damping * np.diag(np.diag(squares))
    # Central differences are good to about 1e-9; the projection cancels some digits.
    np.testing.assert_allclose(found[[0, 2]], np.linalg.solve(matrix, slopes), rtol=1e-4)
    assert found[1] == 0.0


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_strongly_damped_step_is_the_gradient_with_the_head_solved_again(n_outputs):
    # Without penalty, which depends on the constants through the columns' variances.
    loss, damping = SquaredError(), 1e9
    rows, network, curvature = problem(loss, n_outputs, alpha=0.0)
    step = constant_step(rows, network, loss, curvature, damping)
    jacobians = np.stack([jacobian(rows, network, node) for node in (0, 2)])
    diagonal = np.einsum("kti,kti,i->k", jacobians, jacobians, rows.weight.numpy())
    gradient = step[[0, 2]].numpy() * damping * diagonal

    def lowest(constants):
        moved = with_constants(network, constants)
        rows.assign(moved)
        moved, after = fit_head(rows, moved, loss, 0.0, measure_moments(rows))
        return objective(rows, moved, loss, after.ridge)

    expected = []
    for node in (0, 2):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[node] = 1e-4
        fall = lowest(network.constants - shift) - lowest(network.constants + shift)
        expected.append(fall / 2e-4)
    assert min(map(abs, expected)) > 1e-2
    # Central differences of width 1e-4.
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


@LOSSES
def test_small_step_lowers_the_objective(loss, n_outputs):
    rows, network, curvature = problem(loss, n_outputs)
    before = objective(rows, network, loss, curvature.ridge)
    step = constant_step(rows, network, loss, curvature, damping=1e-3)
    moved = with_constants(network, network.constants + 0.1 * step)
    rows.assign(moved)
    moved, after = fit_head(rows, moved, loss, 1.0, measure_moments(rows))
    assert objective(rows, moved, loss, after.ridge) < before


@pytest.mark.parametrize(
    ("operator", "truth", "start"),
    [
        pytest.param("max", 0.4, 0.1, id="max"),
        pytest.param("tanh", 0.7, 0.2, id="tanh"),
        pytest.param("sin", -0.5, 0.1, id="sin"),
        pytest.param("gauss", 0.3, 0.8, id="gauss"),
        pytest.param("step", -0.4, 0.0, id="step"),
        pytest.param("relu", 0.5, 0.1, id="relu"),
    ],
)
def test_steps_lower_the_loss_and_recover_the_constant(operator, truth, start):
    network = network_of(Topology(2, [0], [0], [CONSTANT]), (operator,))
    inputs = normal(2, 400)
    true = with_constants(network, torch.tensor([truth], dtype=torch.float64))
    rows = rows_for(true, true.output(true.columns(inputs)), inputs)
    current = with_constants(network, torch.tensor([start], dtype=torch.float64))
    values = []
    for _ in range(15):
        rows.assign(current)
        current, curvature = fit_head(rows, current, SquaredError(), 1e-9, measure_moments(rows))
        values.append(objective(rows, current, SquaredError(), curvature.ridge))
        step = constant_step(rows, current, SquaredError(), curvature, damping=1e-3)
        current = with_constants(current, current.constants + step)
    assert values[1] < 0.5 * values[0]
    # Steps converge linearly with the damping; 15 of them leave less than this.
    assert float(current.constants) == pytest.approx(truth, abs=1e-3)


def test_constant_that_changes_nothing_gets_no_step():
    # The maximum with a constant below all rows is the column itself.
    network = network_of(Topology(2, [0, 1], [0, 1], [CONSTANT, CONSTANT]), ("max", "tanh"))
    network = with_constants(network, torch.tensor([-50.0, 0.1], dtype=torch.float64))
    inputs = normal(2, N)
    rows = rows_for(network, torch.tanh(inputs[1:] + 0.5), inputs)
    network, curvature = fit_head(rows, network, SquaredError(), 1.0, measure_moments(rows))
    step = constant_step(rows, network, SquaredError(), curvature, damping=1e-3)
    assert step[0] == 0.0
    assert step[1] > 0.01


def test_step_is_zero_where_it_is_not_finite():
    rows, network, curvature = problem(SquaredError())
    rows.target[0, 0] = float("inf")
    step = constant_step(rows, network, SquaredError(), curvature, damping=1e-3)
    assert step.tolist() == [0.0, 0.0, 0.0]
