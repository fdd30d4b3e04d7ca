"""Constants: Jacobian and step against finite differences, and recovery of a known constant."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from builders import TAME, alone, crowd, network_of, normal, random_network, rows_for, singles

from skevo.core import constants
from skevo.core.constants import constant_step
from skevo.core.heads import fit_head, objective, quadratic_model
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Nodes
from skevo.core.population import EMPTY
from skevo.core.topology import CONSTANT, Topology

N = 80


def with_constants(population, constants):
    return replace(population, constants=torch.as_tensor(constants, dtype=torch.float64))


def fit(rows, population, loss, alpha):
    alpha = alpha * torch.ones_like(rows.total_weight)
    return fit_head(rows, population, loss, alpha, measure_moments(rows))


def problem(loss, n_outputs=1, alpha=1.0, block_size=4096):
    """Return rows, population of one with fitted head, and curvature; all nodes need constants."""
    # tanh(x0 + c0); that times x1; gauss(that - c2), which depends on c0 and c2.
    topology = Topology(
        2,
        [TAME.index("tanh"), TAME.index("mul"), TAME.index("gauss")],
        [0, 2, 3],
        [CONSTANT, 1, CONSTANT],
    )
    population = alone(network_of(topology, TAME, n_outputs, seed=1))
    inputs = normal(2, N)
    target = random_network(4, n_inputs=2, n_outputs=n_outputs).predict(inputs.T).T
    if isinstance(loss, LogLoss):
        target = (target > target.median()).double()
    elif isinstance(loss, CrossEntropy):
        target = torch.nn.functional.one_hot(target.argmax(dim=0), n_outputs).T.double()
    rows = rows_for(population, target, inputs, normal(N, seed=8).abs() + 0.1, block_size)
    population, _ = fit(rows, population, loss, alpha)
    alpha = torch.tensor([alpha], dtype=torch.float64)
    return rows, population, quadratic_model(rows, population, loss, alpha)


def jacobian(rows, population, node, width=1e-6):
    """Return the derivative of the output by one constant, by central differences.

    Shape (n_outputs, n_samples).
    """
    inputs, values = rows.columns[0, : rows.n_inputs], []
    for sign in (1.0, -1.0):
        constants = population.constants.clone()
        constants[0, node] += sign * width
        moved = with_constants(population, constants).network(0)
        values.append(moved.output(moved.columns(inputs)))
    return ((values[0] - values[1]) / (2.0 * width)).numpy()


LOSSES = pytest.mark.parametrize(
    ("loss", "n_outputs"),
    [(SquaredError(), 1), (SquaredError(), 2), (LogLoss(), 1), (CrossEntropy(), 3)],
)


@LOSSES
@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize(("block_size", "piece"), [(16, 2048), (100_000, 2048), (100_000, 7)])
def test_step_equals_projected_gauss_newton_of_finite_differences(
    monkeypatch, loss, n_outputs, damping, block_size, piece
):
    monkeypatch.setattr(constants, "_ROWS_AT_A_TIME", piece)
    rows, population, curvature = problem(loss, n_outputs, block_size=block_size)
    found = constant_step(rows, population, loss, curvature, damping)[0]

    jacobians = np.stack([jacobian(rows, population, node) for node in (0, 2)])
    output = population.output(rows.columns)
    weight = rows.weight[0].numpy()
    residual = loss.residual(output, rows.target)[0].numpy()
    slopes = np.einsum("kti,ti,i->k", jacobians, residual, weight)
    metric = weight * loss.curvature(output)[0].numpy()
    augmented = np.vstack([np.ones(N), rows.columns[0]])
    squares = np.einsum("kti,lti,i->kl", jacobians, jacobians, metric)
    crosses = np.einsum("kti,ji,i->tkj", jacobians, augmented, metric)
    plain = (augmented * metric) @ augmented.T
    ridge = reference.ridge_of(rows.columns[0].T.numpy(), weight, 1.0)
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
    rows, population, curvature = problem(loss, n_outputs, alpha=0.0)
    step = constant_step(rows, population, loss, curvature, damping)
    jacobians = np.stack([jacobian(rows, population, node) for node in (0, 2)])
    diagonal = np.einsum("kti,kti,i->k", jacobians, jacobians, rows.weight[0].numpy())
    gradient = step[0, [0, 2]].numpy() * damping * diagonal

    def lowest(constants):
        moved = with_constants(population, constants)
        rows.assign(moved)
        moved, after = fit(rows, moved, loss, 0.0)
        return objective(rows, moved, loss, after.ridge).item()

    expected = []
    for node in (0, 2):
        shift = torch.zeros(1, 3, dtype=torch.float64)
        shift[0, node] = 1e-4
        fall = lowest(population.constants - shift) - lowest(population.constants + shift)
        expected.append(fall / 2e-4)
    assert min(map(abs, expected)) > 1e-2
    # Central differences of width 1e-4.
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


@LOSSES
def test_small_step_lowers_the_objective(loss, n_outputs):
    rows, population, curvature = problem(loss, n_outputs)
    before = objective(rows, population, loss, curvature.ridge)
    step = constant_step(rows, population, loss, curvature, damping=1e-3)
    moved = with_constants(population, population.constants + 0.1 * step)
    rows.assign(moved)
    moved, after = fit(rows, moved, loss, 1.0)
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
    population = alone(network_of(Topology(2, [0], [0], [CONSTANT]), (operator,)))
    inputs = normal(2, 400)
    true = with_constants(population, [[truth]])
    rows = rows_for(true, true.network(0).predict(inputs.T).T, inputs)
    current = with_constants(population, [[start]])
    values = []
    for _ in range(15):
        rows.assign(current)
        current, curvature = fit(rows, current, SquaredError(), 1e-9)
        values.append(objective(rows, current, SquaredError(), curvature.ridge).item())
        step = constant_step(rows, current, SquaredError(), curvature, damping=1e-3)
        current = with_constants(current, current.constants + step)
    assert values[1] < 0.5 * values[0]
    # Steps converge linearly with the damping; 15 of them leave less than this.
    assert float(current.constants) == pytest.approx(truth, abs=1e-3)


def test_constant_that_changes_nothing_gets_no_step():
    # The maximum with a constant below all rows is the column itself.
    topology = Topology(2, [0, 1], [0, 1], [CONSTANT, CONSTANT])
    population = alone(network_of(topology, ("max", "tanh")))
    population = with_constants(population, [[-50.0, 0.1]])
    inputs = normal(2, N)
    rows = rows_for(population, torch.tanh(inputs[1:] + 0.5), inputs)
    population, curvature = fit(rows, population, SquaredError(), 1.0)
    step = constant_step(rows, population, SquaredError(), curvature, damping=1e-3)[0]
    assert step[0] == 0.0
    assert step[1] > 0.01


def test_step_is_zero_where_it_is_not_finite():
    rows, population, curvature = problem(SquaredError())
    rows.target[0, 0, 0] = float("inf")
    step = constant_step(rows, population, SquaredError(), curvature, damping=1e-3)
    assert step.tolist() == [[0.0, 0.0, 0.0]]


# -- members side by side --------------------------------------------------------------------------


@LOSSES
@pytest.mark.parametrize("block_size", [16, 100_000])
def test_step_of_each_member_is_its_own(loss, n_outputs, block_size):
    rows, population = crowd(loss, n_outputs, block_size=block_size)
    alpha = torch.tensor([0.3, 3.0, 0.01, 30.0], dtype=torch.float64)
    population, _ = fit(rows, population, loss, alpha)
    curvature = quadratic_model(rows, population, loss, alpha)
    found = constant_step(rows, population, loss, curvature, 1e-3)
    # Members have different numbers of constants, and one has none.
    assert sorted(population.wiring.constant_nodes.sum(axis=1).tolist()) == [0, 1, 2, 2]
    for member, (own_rows, own, columns, _) in enumerate(singles(rows, population)):
        model = quadratic_model(own_rows, own, loss, alpha[member, None])
        whole = torch.zeros_like(found[member])
        whole[columns[3:] - 3] = constant_step(own_rows, own, loss, model, 1e-3)[0]
        # Some digits are lost to the projection.
        torch.testing.assert_close(found[member], whole, rtol=1e-8, atol=1e-9)
        assert (found[member] != 0.0).tolist() == population.wiring.constant_nodes[member].tolist()


def test_places_that_stay_empty_as_members_grow_have_no_step():
    rows, population = crowd()
    wiring = population.wiring
    # Empty in all members but the third; where it is not, and where it is, of a constant's node.
    left = wiring.n_inputs + wiring.constant_nodes.argmax(axis=1)[:, None]
    operator = np.where(np.arange(4) == 2, 0, EMPTY)[:, None]
    one = torch.ones(4, 1, dtype=torch.float64)
    nodes = Nodes(operator, left, np.zeros_like(left), one, one)
    grown = population.grow(nodes)
    assert (grown.wiring.level[:, -1] > 0).tolist() == [False, False, True, False]
    rows.grow(grown, nodes)
    grown, curvature = fit(rows, grown, SquaredError(), 1.0)
    found = constant_step(rows, grown, SquaredError(), curvature, 1e-3)
    assert found.shape == (4, len(wiring.operator[0]) + 1)
    assert (found != 0).tolist() == grown.wiring.constant_nodes.tolist()


def test_step_of_members_without_constants_is_zero():
    population = alone(random_network(n_nodes=0)).take([0] * 4)
    rows, _ = crowd()
    rows.assign(population)
    population, curvature = fit(rows, population, SquaredError(), 1.0)
    step = constant_step(rows, population, SquaredError(), curvature, 1e-3)
    assert step.shape == (4, 0)


def test_member_whose_step_is_not_finite_leaves_the_others_alone():
    rows, population = crowd()
    population, curvature = fit(rows, population, SquaredError(), 1.0)
    before = constant_step(rows, population, SquaredError(), curvature, 1e-3)
    rows.target[0, 0, 0] = float("inf")
    after = constant_step(rows, population, SquaredError(), curvature, 1e-3)
    assert before[0].any()
    assert not after[0].any()
    assert torch.equal(after[1:], before[1:])
