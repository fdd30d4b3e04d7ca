"""Heads: against scikit-learn's linear models and dense least squares, alone and in a crowd."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import reference
import torch
from builders import (
    alone,
    crowd,
    normal,
    random_network,
    random_population,
    rows_for,
    singles,
    target_for,
    weights,
)
from sklearn.linear_model import LogisticRegression, Ridge

from skevo.core.heads import (
    coefficients,
    fit_head,
    objective,
    penalty,
    quadratic_model,
    with_coefficients,
)
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.measures import dispersion, mean_fall_and_error, mean_loss
from skevo.core.moments import measure_moments, variances
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.ridge import ALPHAS, choose_alpha, heads_at, neighbour
from skevo.core.rows import MemoryRows

N = 150
LOSSES = pytest.mark.parametrize(
    ("loss", "n_outputs"), [(SquaredError(), 2), (LogLoss(), 1), (CrossEntropy(), 3)]
)


def problem(loss=None, n_outputs=1, kind="ones", n_nodes=5, block_size=4096):
    """Return rows, population of one and dense columns of a problem."""
    population = alone(random_network(n_nodes=n_nodes, n_outputs=n_outputs))
    inputs = normal(3, N)
    signal = random_network(3, n_outputs=n_outputs).predict(inputs.T).T
    target = target_for(loss, signal)
    rows = rows_for(population, target, inputs, weights(kind, N), block_size)
    return rows, population, rows.columns[0].T.numpy()


def linear(n_inputs, n_outputs=1):
    return alone(Network.linear(get_operators("mul"), n_inputs, n_outputs, dtype=torch.float64))


def rows_of(columns, rows):
    """Return rows whose inputs are any columns, with the targets and weights of others."""
    return MemoryRows(columns, rows.target, rows.weight)


def standardise(columns, weight):
    mean = np.average(columns, axis=0, weights=weight)
    return (columns - mean) / np.sqrt(reference.variances(columns, weight))


def fit(rows, population, loss, alpha, **kwargs):
    alpha = alpha * torch.ones_like(rows.total_weight)
    return fit_head(rows, population, loss, alpha, measure_moments(rows), **kwargs)


def test_coefficients_and_back_is_bit_equal():
    population = random_population(n_outputs=2)
    beta = coefficients(population)
    assert torch.equal(beta[:, 0], population.bias)
    assert torch.equal(beta[:, 1:], population.weight.mT)
    again = with_coefficients(population, beta)
    assert torch.equal(again.weight, population.weight)
    assert torch.equal(again.bias, population.bias)


# -- squared error ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0, 100.0])
def test_squared_error_head_equals_sklearn_ridge_on_standardised_columns(alpha, n_outputs, kind):
    rows, population, columns = problem(n_outputs=n_outputs, kind=kind)
    fitted, _ = fit(rows, population, SquaredError(), alpha)
    weight = rows.weight[0].numpy()
    z = standardise(columns, weight)
    ridge = Ridge(alpha=alpha, solver="svd")
    ridge.fit(z, rows.target[0].T.numpy(), sample_weight=weight)
    expected = ridge.predict(z).reshape(N, -1)
    # The Gram matrix squares the condition number, here below 1e3.
    np.testing.assert_allclose(fitted.output(rows.columns)[0].T, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["ones", "random"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 30.0])
def test_squared_error_head_equals_dense_least_squares(alpha, kind):
    rows, population, columns = problem(n_outputs=2, kind=kind)
    fitted, curvature = fit(rows, population, SquaredError(), alpha)
    weight, target = rows.weight[0].numpy(), rows.target[0].T.numpy()
    ridge = reference.ridge_of(columns, weight, alpha)
    expected = reference.solve_head(columns, target, weight, ridge)
    # As above.
    np.testing.assert_allclose(coefficients(fitted)[0], expected, rtol=1e-7, atol=1e-9)
    assert objective(rows, fitted, SquaredError(), curvature.ridge).item() == pytest.approx(
        reference.best_objective(columns, target, weight, ridge), rel=1e-10
    )


@pytest.mark.parametrize("loss", [SquaredError(), LogLoss(), CrossEntropy()])
def test_head_with_weights_equals_head_with_copies(loss):
    n_outputs = 3 if isinstance(loss, CrossEntropy) else 1
    rows, population, _ = problem(loss, n_outputs, "counts")
    copies = rows.weight[0].long()
    repeated = MemoryRows(
        rows.columns.repeat_interleave(copies, dim=2),
        rows.target.repeat_interleave(copies, dim=2),
        torch.ones(1, int(copies.sum()), dtype=torch.float64),
    )
    # Only the order of sums differs.
    torch.testing.assert_close(
        coefficients(fit(rows, population, loss, 1.0)[0]),
        coefficients(fit(repeated, population, loss, 1.0)[0]),
        rtol=1e-8,
        atol=1e-9,
    )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_head_is_equivariant_to_scale_of_columns(factor):
    rows, population, _ = problem()
    fitted, _ = fit(rows, population, SquaredError(), 3.0)
    scaled = rows.columns.clone()
    scaled[:, 2] *= factor
    other, _ = fit(rows_of(scaled, rows), population, SquaredError(), 3.0)
    # The one step starts from an output of the scaled column, 1e6 times too large: six digits.
    torch.testing.assert_close(
        other.output(scaled), fitted.output(rows.columns), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_column_gets_no_weight(value, alpha):
    rows, population, _ = problem()
    columns = rows.columns.clone()
    columns[:, 1] = value
    others = [0, 2, 3, 4, 5, 6, 7]
    fitted, _ = fit(rows_of(columns, rows), population, SquaredError(), alpha)
    fewer = replace(population, weight=population.weight[:, :, others])
    without, _ = fit(rows_of(columns[:, others], rows), fewer, SquaredError(), alpha)
    # Zero up to the rounding of the elimination.
    assert abs(float(fitted.weight[0, 0, 1])) < 1e-9
    torch.testing.assert_close(fitted.weight[:, :, others], without.weight, rtol=1e-7, atol=1e-9)


def test_copies_of_a_column_share_its_weight_without_penalty():
    rows, population, columns = problem()
    copied = rows.columns.clone()
    copied[:, 1] = 2.0 * copied[:, 0]
    fitted, _ = fit(rows_of(copied, rows), population, SquaredError(), 0.0)
    expected = reference.best_objective(
        np.delete(columns, 1, axis=1), rows.target[0].T.numpy(), np.ones(N), np.zeros(8)
    )
    residual = rows.target - fitted.output(copied)
    # The pseudo-inverse cuts eigenvalues at 1e-10.
    assert 0.5 * float(residual.square().sum()) == pytest.approx(expected, rel=1e-7)
    assert torch.isfinite(fitted.weight).all()


def test_more_columns_than_rows_are_solved_by_the_penalty():
    inputs, target = normal(30, 12), normal(1, 12, seed=4)
    population = linear(30)
    rows = rows_for(population, target, inputs)
    fitted, _ = fit(rows, population, SquaredError(), 0.5)
    z = standardise(inputs.T.numpy(), np.ones(12))
    ridge = Ridge(alpha=0.5, solver="svd").fit(z, target[0].numpy())
    np.testing.assert_allclose(
        fitted.output(rows.columns)[0, 0], ridge.predict(z), rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("difference", [1e-2, 1e-3, 1e-4, 1e-5])
def test_single_precision_loss_of_nearly_dependent_columns_is_what_moments_say(difference):
    n = 6000
    first = 5.0 + normal(1, n)
    others = first + difference * normal(6, n, seed=4)
    inputs = torch.cat([first, others]).float()
    target = (first - 5.0 + 0.3 * normal(1, n, seed=5)).float()
    population = alone(Network.linear(get_operators(("add",)), 7, 1))
    rows = rows_for(population, target, inputs)
    moments = measure_moments(rows)
    fitted, _ = fit_head(rows, population, SquaredError(), torch.tensor([0.1]).double(), moments)
    squares = float(moments.squared_residual(coefficients(fitted))) / n
    truth = 2.0 * float(mean_loss(rows, fitted, SquaredError()))
    assert squares == pytest.approx(truth, rel=0.02)
    assert truth == pytest.approx(0.09, rel=0.1)


@pytest.mark.parametrize("difference", [1e-3, 1e-5])
@pytest.mark.parametrize("n_steps", [1, 6, 15])
def test_single_precision_steps_on_nearly_dependent_columns_lower_the_objective(
    difference, n_steps
):
    n = 6000
    first = 20.0 + normal(1, n)
    inputs = torch.cat([first, first + difference * normal(6, n, seed=4)]).float()
    labels = (first[0] > 20.0).long() + (first[0] > 21.0)
    target = torch.nn.functional.one_hot(labels, 3).T.float()
    population = alone(Network.linear(get_operators(("add",)), 7, 3))
    rows, alpha = rows_for(population, target, inputs), torch.tensor([0.3]).double()
    moments = measure_moments(rows)
    before = float(mean_loss(rows, population, CrossEntropy()))
    for _ in range(3):
        population, _ = fit_head(rows, population, CrossEntropy(), alpha, moments, None, n_steps)
        after = float(mean_loss(rows, population, CrossEntropy()))
        assert after < before * (1.0 + 1e-6)
        before = after


@pytest.mark.parametrize("wrong", [3.0, 30.0, 300.0])
def test_steps_in_a_wrong_metric_do_not_raise_the_objective(wrong):
    """As that of nearly dependent columns can be, whose products are rounded."""
    loss = CrossEntropy()
    rows, population, _ = problem(loss, 3)
    moments = measure_moments(rows)
    _, right = fit(rows, population, loss, 1.0)
    # Too long a step in one direction.
    half = right.half.clone()
    half[:, 2] *= wrong**0.5
    factor = replace(right, half=half)
    ridge = penalty(moments.gram, torch.ones(1))
    before = first = objective(rows, population, loss, ridge)
    for _ in range(6):
        alpha = torch.ones(1, dtype=torch.float64)
        population, _ = fit_head(rows, population, loss, alpha, moments, factor, 6)
        after = objective(rows, population, loss, ridge)
        assert after <= before
        before = after
    assert before < first


def test_single_precision_head_is_near_double_precision_head():
    rows, population, _ = problem()
    fitted, _ = fit(rows, population, SquaredError(), 1.0)
    single = MemoryRows(rows.columns.float(), rows.target.float(), rows.weight.float())
    other, _ = fit(single, population.to(dtype=torch.float32), SquaredError(), 1.0)
    assert other.weight.dtype == torch.float32
    # Columns of seven digits, of moderate condition.
    torch.testing.assert_close(other.weight.double(), fitted.weight, rtol=1e-3, atol=1e-3)


# -- likelihoods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [0.3, 3.0, 100.0])
def test_log_loss_head_equals_sklearn_logistic_regression(alpha, kind):
    rows, population, columns = problem(LogLoss(), 1, kind)
    fitted, curvature = fit(rows, population, LogLoss(), alpha)
    weight, classes = rows.weight[0].numpy(), rows.target[0, 0].long().numpy()
    z = standardise(columns, weight)
    model = LogisticRegression(C=1.0 / alpha, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    model.fit(z, classes, sample_weight=weight)
    # Newton stops when the expected gain is 1e-6 of the objective, which leaves log-odds that are
    # off by at most about its root.
    np.testing.assert_allclose(
        fitted.output(rows.columns)[0, 0], model.decision_function(z), rtol=5e-3, atol=5e-3
    )
    penalised = weight @ -model.predict_log_proba(z)[np.arange(N), classes]
    penalised += 0.5 * alpha * float((model.coef_**2).sum())
    found = objective(rows, fitted, LogLoss(), curvature.ridge).item()
    assert found == pytest.approx(penalised, rel=2e-6)


def multinomial(rows, columns, alpha):
    """Return scikit-learn's model of the same problem, its columns and its objective."""
    weight, classes = rows.weight[0].numpy(), rows.target[0].argmax(dim=0).numpy()
    z = standardise(columns, weight)
    model = LogisticRegression(C=1.0 / alpha, tol=1e-10, max_iter=10_000)
    model.fit(z, classes, sample_weight=weight)
    value = weight @ -model.predict_log_proba(z)[np.arange(N), classes]
    return model, z, value + 0.5 * alpha * float((model.coef_**2).sum())


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [0.3, 3.0, 100.0])
def test_cross_entropy_head_is_near_optimum_of_sklearn_multinomial_regression(alpha, kind):
    rows, population, columns = problem(CrossEntropy(), 3, kind)
    fitted, curvature = fit(rows, population, CrossEntropy(), alpha, n_steps=500)
    found = objective(rows, fitted, CrossEntropy(), curvature.ridge).item()
    _, _, lowest = multinomial(rows, columns, alpha)
    # Steps stop when the bound's expected gain is negligible; the curvature itself may be hundreds
    # of times smaller than the bound, and the gain that is left as many times larger.
    assert found == pytest.approx(lowest, rel=2e-3)


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [3.0, 100.0])
def test_cross_entropy_head_goes_to_sklearn_multinomial_regression(alpha, kind):
    rows, population, columns = problem(CrossEntropy(), 3, kind)
    moments, penalties = measure_moments(rows), torch.tensor([alpha])
    # Started again and again, so that the stopping rule has no say.
    for _ in range(400):
        population, _ = fit_head(rows, population, CrossEntropy(), penalties, moments, n_steps=2)
    model, z, _ = multinomial(rows, columns, alpha)
    # The slowest direction converges by a factor of about 0.98 per step.
    np.testing.assert_allclose(
        population.output(rows.columns)[0].softmax(dim=0).T, model.predict_proba(z), atol=1e-4
    )


@pytest.mark.parametrize("loss", [LogLoss(), CrossEntropy()])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_head_lowers_objective_from_any_start(loss, spread):
    n_outputs = 3 if isinstance(loss, CrossEntropy) else 1
    rows, population, _ = problem(loss, n_outputs)
    start = replace(population, weight=spread * population.weight)
    ridge = penalty(measure_moments(rows).gram, torch.ones(1))
    fitted, _ = fit(rows, start, loss, 1.0)
    assert objective(rows, fitted, loss, ridge) < objective(rows, start, loss, ridge)


def test_separable_classes_stay_finite_with_penalty():
    inputs = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)[None]
    population = linear(1)
    rows = rows_for(population, (inputs > 0.03).double(), inputs)
    fitted, _ = fit(rows, population, LogLoss(), 0.01)
    assert 1.0 < float(fitted.weight) < 1e3
    assert mean_loss(rows, fitted, LogLoss()) < 0.05


# -- the quadratic model ---------------------------------------------------------------------------


@LOSSES
@pytest.mark.parametrize("kind", ["ones", "random"])
def test_quadratic_model_equals_dense_matrices(loss, n_outputs, kind):
    rows, population, columns = problem(loss, n_outputs, kind)
    model = quadratic_model(rows, population, loss, torch.tensor([2.0]))
    weight = rows.weight[0].numpy()
    h = loss.curvature(population.output(rows.columns))[0].numpy()
    ridge = reference.ridge_of(columns, weight, 2.0)
    plain = reference.gram(columns, weight * h)
    np.testing.assert_allclose(model.ridge[0], ridge, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.matrix[0], plain + np.diag(ridge), rtol=1e-9, atol=1e-10)
    # Inverses lose as many digits as the condition number has.
    np.testing.assert_allclose((model.inverse @ model.matrix)[0], np.eye(len(plain)), atol=1e-8)
    np.testing.assert_allclose(model.half.mT @ model.half, model.inverse, atol=1e-12)
    hat = np.trace(np.linalg.solve(plain + np.diag(ridge), plain))
    assert model.degrees.item() == pytest.approx(hat, rel=1e-8)


@LOSSES
def test_gradient_of_quadratic_model_is_that_of_the_objective(loss, n_outputs):
    rows, population, _ = problem(loss, n_outputs, "random")
    model = quadratic_model(rows, population, loss, torch.tensor([2.0]))
    beta = coefficients(population).requires_grad_()
    output = beta.mT @ torch.cat([torch.ones(1, 1, N, dtype=torch.float64), rows.columns], dim=1)
    value = (loss.value(output, rows.target) * rows.weight).sum()
    value = value + 0.5 * (model.ridge[..., None] * beta.square()).sum()
    (gradient,) = torch.autograd.grad(value, beta)
    torch.testing.assert_close(model.gradient, -gradient, rtol=1e-9, atol=1e-9)
    found = objective(rows, population, loss, model.ridge).item()
    assert found == pytest.approx(value.item(), rel=1e-12)


@LOSSES
@pytest.mark.parametrize("alpha", [0.3, 10.0])
def test_curvature_of_fitted_head_has_gradient_near_zero(loss, n_outputs, alpha):
    rows, population, _ = problem(loss, n_outputs)
    fitted, curvature = fit(rows, population, loss, alpha, n_steps=500)
    model = quadratic_model(rows, fitted, loss, torch.tensor([alpha]))
    gain = 0.5 * float((model.gradient * (model.inverse @ model.gradient)).sum())
    # Iterations stop at a gain of 1e-6 of the objective, and one more step is taken.
    assert gain <= 1.001e-6 * objective(rows, fitted, loss, model.ridge)
    torch.testing.assert_close(curvature.matrix, model.matrix, rtol=1e-2, atol=1e-2)


def test_mean_loss_is_weighted_mean():
    rows, population, columns = problem(kind="random")
    target, weight = rows.target[0, 0].numpy(), rows.weight[0].numpy()
    squares = (target - columns @ population.weight[0, 0].numpy() - float(population.bias)) ** 2
    found = mean_loss(rows, population, SquaredError()).item()
    assert found == pytest.approx(np.average(0.5 * squares, weights=weight), rel=1e-12)
    found = dispersion(rows, population, SquaredError()).item()
    assert found == pytest.approx(np.average(squares, weights=weight), rel=1e-12)


def test_mean_loss_of_clipped_outputs():
    rows, population, columns = problem(kind="random")
    target, weight = rows.target[0, 0].numpy(), rows.weight[0].numpy()
    output = columns @ population.weight[0, 0].numpy() + float(population.bias)
    low, high = np.quantile(output, [0.3, 0.8])
    limits = (torch.tensor([[[bound]]], dtype=torch.float64) for bound in (low, high))
    limits = tuple(limits)
    found = mean_loss(rows, population, SquaredError(), limits).item()
    squares = (target - output.clip(low, high)) ** 2
    assert found == pytest.approx(np.average(0.5 * squares, weights=weight), rel=1e-12)


# -- members side by side --------------------------------------------------------------------------

ALPHA = torch.tensor([0.3, 3.0, 0.01, 30.0], dtype=torch.float64)


def assert_own(found, expected, at, rtol=1e-9):
    """Fail unless a member's values are its own where its columns are, and zero elsewhere."""
    own = torch.zeros_like(found)
    own[at] = expected
    # Sums of some hundreds, of other lengths and in another order.
    torch.testing.assert_close(found, own, rtol=rtol, atol=rtol)


def assert_same_fit(rows, population, loss, alpha=ALPHA, rtol=1e-9, **kwargs):
    """Fail unless each member's head and curvature are those that it gets on its own."""
    fitted, curvature = fit(rows, population, loss, alpha, **kwargs)
    for member, single in enumerate(singles(rows, population)):
        own, model = fit(single.rows, single.population, loss, alpha[member], **kwargs)
        at = single.augmented
        assert_own(coefficients(fitted)[member], coefficients(own)[0], at, rtol)
        inverse = curvature.inverse[member][at[:, None], at]
        torch.testing.assert_close(inverse, model.inverse[0], rtol=rtol, atol=rtol)
        assert_own(curvature.gradient[member], model.gradient[0], at, 10 * rtol)


@LOSSES
@pytest.mark.parametrize("block_size", [64, 100_000])
def test_head_of_each_member_is_its_own(loss, n_outputs, block_size):
    assert_same_fit(*crowd(loss, n_outputs, block_size=block_size), loss)


@LOSSES
def test_quadratic_model_and_values_of_each_member_are_its_own(loss, n_outputs):
    rows, population = crowd(loss, n_outputs, block_size=64)
    model = quadratic_model(rows, population, loss, ALPHA)
    values = [
        mean_loss(rows, population, loss),
        dispersion(rows, population, loss),
        objective(rows, population, loss, model.ridge),
        model.degrees,
    ]
    for member, (own_rows, own, _, at) in enumerate(singles(rows, population)):
        expected = quadratic_model(own_rows, own, loss, ALPHA[member, None])
        for name in ("matrix", "inverse"):
            found = getattr(model, name)[member][at[:, None], at]
            torch.testing.assert_close(found, getattr(expected, name)[0], rtol=1e-9, atol=1e-9)
        assert_own(model.gradient[member], expected.gradient[0], at)
        torch.testing.assert_close(model.ridge[member, at], expected.ridge[0], rtol=1e-9, atol=0.0)
        own_values = [
            mean_loss(own_rows, own, loss),
            dispersion(own_rows, own, loss),
            objective(own_rows, own, loss, expected.ridge),
            expected.degrees,
        ]
        torch.testing.assert_close(
            torch.stack(values)[:, member], torch.cat(own_values), rtol=1e-9, atol=0.0
        )


@LOSSES
def test_member_with_copied_columns_leaves_the_others_alone(loss, n_outputs):
    rows, population = crowd(loss, n_outputs)
    copied = rows.columns.clone()
    # Its third node is a copy of an input; all of its columns are read without a penalty.
    copied[2, 3 + np.flatnonzero(population.wiring.present[2])[2]] = 2.0 * copied[2, 0]
    alpha = ALPHA * torch.tensor([1.0, 1.0, 0.0, 1.0])
    regular, model = (
        quadratic_model(some, population, loss, alpha) for some in (rows, rows_of(copied, rows))
    )
    others = [0, 1, 3]
    for name in ("matrix", "inverse", "half", "gradient", "ridge", "degrees"):
        assert torch.equal(getattr(model, name)[others], getattr(regular, name)[others])
    # A pseudo-inverse, of which the copy costs a degree of freedom.
    matrix, inverse = model.matrix[2], model.inverse[2]
    torch.testing.assert_close(matrix @ inverse @ matrix, matrix, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(inverse @ matrix @ inverse, inverse, rtol=1e-6, atol=1e-6)
    n_own = 4 + int(population.wiring.n_nodes[2])
    assert regular.degrees[2].item() == pytest.approx(n_own, abs=1e-6)
    assert model.degrees[2].item() == pytest.approx(n_own - 1, abs=1e-6)


def test_head_of_member_with_copied_columns_is_its_own():
    rows, population = crowd(n_outputs=2)
    inputs = rows.columns[:, :3].clone()
    inputs[2, 1] = 2.0 * inputs[2, 0]
    rows = rows_of(inputs, rows)
    rows.assign(population)
    alpha = ALPHA * torch.tensor([1.0, 1.0, 0.0, 1.0])
    # The pseudo-inverse cuts eigenvalues at 1e-10.
    assert_same_fit(rows, population, SquaredError(), alpha, rtol=1e-6)


def settled(rows, population, loss, alpha, member):
    """Return the coefficients that a member has in the end."""
    single = singles(rows, population)[member]
    own, _ = fit(single.rows, single.population, loss, alpha[member], n_steps=500)
    beta = torch.zeros_like(coefficients(population)[member])
    beta[single.augmented] = coefficients(own)[0]
    return beta


def test_member_whose_newton_step_is_damped_leaves_the_others_alone():
    loss = LogLoss()
    rows, population = crowd(loss)
    # One member starts where a whole step overshoots, one at its optimum, the others at zero.
    beta = coefficients(population) * torch.tensor([0.0, 0.0, 20.0, 0.0])[:, None, None]
    beta[3] = settled(rows, population, loss, ALPHA, 3)
    population = with_coefficients(population, beta)
    model = quadratic_model(rows, population, loss, ALPHA)
    whole = with_coefficients(population, beta + model.inverse @ model.gradient)
    before, after = (objective(rows, some, loss, model.ridge) for some in (population, whole))
    assert (after > before)[:3].tolist() == [False, False, True]
    assert_same_fit(rows, population, loss)


@dataclass(frozen=True)
class Watched(CrossEntropy):
    """Cross-entropy that notes the sums it was evaluated at."""

    seen: list = field(default_factory=list)

    def value(self, output, target):
        value = super().value(output, target)
        self.seen.append(value.sum(dim=-1))
        return value


def test_member_whose_acceleration_restarts_leaves_the_others_alone():
    rows, population = crowd(CrossEntropy(), 3)
    # Noise has an optimum that is near enough for the momentum to overshoot. Without penalty what
    # is noted is the objective, of a member with weights of one.
    rows.target[0] = target_for(CrossEntropy(), 0.0 * normal(3, 120))
    alpha = ALPHA * torch.tensor([0.0, 1.0, 1.0, 1.0])
    # One member has settled when it starts.
    beta = coefficients(population)
    beta[3] = settled(rows, population, CrossEntropy(), alpha, 3)
    population = with_coefficients(population, beta)
    loss = Watched()
    fit(rows, population, loss, alpha)
    assert (torch.stack(loss.seen)[:, 0].diff() > 0.0).any()
    assert_same_fit(rows, population, CrossEntropy(), alpha)


@LOSSES
def test_member_whose_loss_is_not_finite_leaves_the_others_alone(loss, n_outputs):
    rows, population = crowd(loss, n_outputs)
    before = coefficients(fit(rows, population, loss, ALPHA)[0])
    rows.target[2, 0, 0] = torch.inf
    after = coefficients(fit(rows, population, loss, ALPHA)[0])
    others = [0, 1, 3]
    assert torch.equal(after[others], before[others])
    # Newton steps that do not help are not taken.
    if isinstance(loss, LogLoss):
        assert torch.equal(after[2], coefficients(population)[2])


# -- the penalty path ------------------------------------------------------------------------------


def criterion(z, target, weight, alpha, count):
    """Return the cross-validation criterion, from dense solutions on the rows."""
    ridge = np.append(0.0, np.full(z.shape[1], alpha))
    beta = reference.solve_head(z, target, weight, ridge)
    augmented = np.column_stack([np.ones(len(z)), z])
    squares = float(weight @ ((target - augmented @ beta) ** 2).sum(axis=1))
    plain = reference.gram(z, weight)
    degrees = count * np.trace(np.linalg.solve(plain + np.diag(ridge), plain))
    if degrees >= 0.9 * weight.sum():
        return np.inf
    return squares / (1.0 - degrees / weight.sum()) ** 2


def count_of(z, target, weight, n_averaged):
    """Return how many times a degree of freedom counts: up to twice, in noise."""
    twice = min(criterion(z, target, weight, alpha, 2.0) for alpha in ALPHAS)
    squares = weight @ ((target - np.average(target, axis=0, weights=weight)) ** 2).sum(axis=1)
    left = twice / (squares / (1.0 - 2.0 / weight.sum()) ** 2)
    return 2.0 - (1.0 - 1.0 / n_averaged) * (1.0 - min(1.0, 5.0 * left))


def chosen(rows, population, present, n_averaged=8):
    """Return the alpha that is chosen at the head that was fitted with the present one."""
    moments = measure_moments(rows)
    fitted, model = fit(rows, population, SquaredError(), present)
    deviation = variances(moments.gram).sqrt()
    summed = mean_loss(rows, fitted, SquaredError()) * rows.total_weight
    return choose_alpha(model, fitted, deviation, summed, rows.total_weight, n_averaged)


@pytest.mark.parametrize("noise", [0.01, 0.3, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("present", [1e-3, 3.0, 1000.0])
@pytest.mark.parametrize("n_averaged", [1, 2, 24])
@pytest.mark.parametrize(("n_outputs", "kind"), [(1, "ones"), (2, "random")])
def test_chosen_alpha_equals_dense_search_of_the_path(n_outputs, kind, n_averaged, noise, present):
    inputs, weight = normal(12, 40), weights(kind, 40)
    target = normal(n_outputs, 12, seed=7) @ inputs + noise * normal(n_outputs, 40, seed=8)
    population = linear(12, n_outputs)
    # Whatever penalty the present head was solved with, the choice is the same.
    found = chosen(rows_for(population, target, inputs, weight), population, present, n_averaged)
    z = standardise(inputs.T.numpy(), weight.numpy())
    seen = z, target.T.numpy(), weight.numpy()
    count = count_of(*seen, n_averaged)
    values = [criterion(*seen, alpha, count) for alpha in ALPHAS]
    assert found.item() == ALPHAS[int(np.argmin(values))]


def test_chosen_alpha_of_each_member_is_its_own():
    rows, population = crowd(n_outputs=2)
    noise = torch.tensor([0.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    target = rows.target + noise[:, None, None] * normal(4, 2, 120, seed=9)
    # One member has hardly a row.
    weight = rows.weight.clone()
    weight[3] = (torch.arange(120) < 5).double()
    rows = MemoryRows(rows.columns[:, :3], target, weight)
    rows.assign(population)
    found = chosen(rows, population, ALPHA)
    expected = [
        chosen(single.rows, single.population, ALPHA[member]).item()
        for member, single in enumerate(singles(rows, population))
    ]
    assert found.tolist() == expected
    assert len(set(expected)) == 3
    assert expected[3] == ALPHAS[-1]


def test_alpha_is_largest_where_no_degree_of_freedom_is_left():
    population = linear(30)
    rows = rows_for(population, normal(1, 5, seed=1), normal(30, 5))
    rows.total_weight = torch.tensor([2.0], dtype=torch.float64)
    assert chosen(rows, population, 3.0).item() == ALPHAS[-1]


def test_neighbours_of_penalties_are_on_the_path_and_end_with_it():
    alpha = torch.tensor([0.1, 3.0, 100.0], dtype=torch.float64)
    assert neighbour(alpha, -1).tolist() == [0.1, 1.0, 30.0]
    assert neighbour(alpha, 0).tolist() == alpha.tolist()
    assert neighbour(alpha, 1).tolist() == [0.3, 10.0, 100.0]


@LOSSES
def test_heads_at_another_penalty_are_those_of_the_quadratic_model(loss, n_outputs):
    rows, population, _ = problem(loss, n_outputs)
    moments = measure_moments(rows)
    fitted, model = fit(rows, population, loss, 3.0)
    ridge = penalty(moments.gram, torch.tensor([30.0], dtype=torch.float64))
    found = heads_at(ridge, model, fitted, None)
    expected, _ = fit(rows, population, loss, 30.0)
    if isinstance(loss, SquaredError):
        # Whose model is exact.
        torch.testing.assert_close(coefficients(found), coefficients(expected))
    # A step from one optimum towards the other.
    before, now, least = (
        objective(rows, heads, loss, ridge) for heads in (fitted, found, expected)
    )
    assert before > now >= least - 1e-9 * least.abs()
    # With the present one, on to what is left to its own optimum.
    onward = coefficients(fitted) + model.solve(model.gradient)
    same = coefficients(heads_at(model.ridge, model, fitted, None))
    torch.testing.assert_close(same, onward)


def test_heads_at_another_penalty_keep_still_what_should_be():
    rows, population, _ = problem(SquaredError())
    moments = measure_moments(rows)
    fitted, model = fit(rows, population, SquaredError(), 3.0)
    still = torch.zeros(1, population.n_columns, dtype=torch.bool)
    still[0, 2] = True
    ridge = penalty(moments.gram, torch.tensor([30.0], dtype=torch.float64))
    found = heads_at(ridge, model, fitted, still).weight[0, 0]
    assert (found == fitted.weight[0, 0]).tolist() == still[0].tolist()


@pytest.mark.parametrize(("loss", "n_outputs"), [(LogLoss(), 1), (CrossEntropy(), 3)])
def test_fall_of_the_loss_is_that_of_rows_in_pairs(loss, n_outputs):
    rows, one, dense = problem(loss, n_outputs, block_size=40)
    other, _ = fit(rows, one, loss, 3.0)
    values = [
        loss.judged(population.output(rows.columns), rows.target)[0].numpy()
        for population in (one, other)
    ]
    fall = values[0] - values[1]
    mean, error = mean_fall_and_error(rows, one, other, loss)
    np.testing.assert_allclose(mean, fall.mean())
    np.testing.assert_allclose(error, fall.std() / np.sqrt(len(dense)))
    assert mean_fall_and_error(rows, other, one, loss) == pytest.approx((-mean, error))
    assert mean_fall_and_error(rows, one, one, loss) == (0.0, 0.0)
