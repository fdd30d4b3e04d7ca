"""Heads: against scikit-learn's linear models and dense least squares."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from builders import normal, random_network, rows_for, target_for, weights
from sklearn.linear_model import LogisticRegression, Ridge

from skevo.core.heads import (
    coefficients,
    fit_head,
    mean_loss,
    objective,
    penalty,
    quadratic_model,
    with_coefficients,
)
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.moments import measure_moments, variances
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.ridge import ALPHAS, choose_alpha
from skevo.core.rows import MemoryRows

N = 150


def problem(loss=None, n_outputs=1, kind="ones", n_nodes=5, block_size=4096):
    """Return rows, network and dense columns of a regression or classification problem."""
    network = random_network(n_nodes=n_nodes, n_outputs=n_outputs)
    inputs = normal(3, N)
    signal = random_network(3, n_outputs=n_outputs).predict(inputs.T).T
    target = target_for(loss, signal)
    rows = rows_for(network, target, inputs, weights(kind, N), block_size)
    return rows, network, rows.columns.T.numpy()


def standardise(columns, weight):
    mean = np.average(columns, axis=0, weights=weight)
    return (columns - mean) / np.sqrt(reference.variances(columns, weight))


def fit(rows, network, loss, alpha, **kwargs):
    return fit_head(rows, network, loss, alpha, measure_moments(rows), **kwargs)


def test_coefficients_and_back_is_bit_equal():
    network = random_network(n_outputs=2)
    beta = coefficients(network)
    assert torch.equal(beta[0], network.bias)
    assert torch.equal(beta[1:], network.weight.T)
    again = with_coefficients(network, beta)
    assert torch.equal(again.weight, network.weight)
    assert torch.equal(again.bias, network.bias)


# -- squared error ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 1e-3, 1.0, 100.0])
def test_squared_error_head_equals_sklearn_ridge_on_standardised_columns(alpha, n_outputs, kind):
    rows, network, columns = problem(n_outputs=n_outputs, kind=kind)
    fitted, _ = fit(rows, network, SquaredError(), alpha)
    z = standardise(columns, rows.weight.numpy())
    ridge = Ridge(alpha=alpha, solver="svd")
    ridge.fit(z, rows.target.T.numpy(), sample_weight=rows.weight.numpy())
    expected = ridge.predict(z).reshape(N, -1)
    # The Gram matrix squares the condition number, here below 1e3.
    np.testing.assert_allclose(fitted.output(rows.columns).T, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("kind", ["ones", "random"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 30.0])
def test_squared_error_head_equals_dense_least_squares(alpha, kind):
    rows, network, columns = problem(n_outputs=2, kind=kind)
    fitted, curvature = fit(rows, network, SquaredError(), alpha)
    weight, target = rows.weight.numpy(), rows.target.T.numpy()
    ridge = reference.ridge_of(columns, weight, alpha)
    expected = reference.solve_head(columns, target, weight, ridge)
    # As above.
    np.testing.assert_allclose(coefficients(fitted), expected, rtol=1e-7, atol=1e-9)
    assert objective(rows, fitted, SquaredError(), curvature.ridge) == pytest.approx(
        reference.best_objective(columns, target, weight, ridge), rel=1e-10
    )


@pytest.mark.parametrize("loss", [SquaredError(), LogLoss(), CrossEntropy()])
def test_head_with_weights_equals_head_with_copies(loss):
    n_outputs = 3 if isinstance(loss, CrossEntropy) else 1
    rows, network, _ = problem(loss, n_outputs, "counts")
    copies = rows.weight.long()
    repeated = MemoryRows(
        rows.columns.repeat_interleave(copies, dim=1),
        rows.target.repeat_interleave(copies, dim=1),
        torch.ones(int(copies.sum()), dtype=torch.float64),
    )
    # Only the order of sums differs.
    torch.testing.assert_close(
        coefficients(fit(rows, network, loss, 1.0)[0]),
        coefficients(fit(repeated, network, loss, 1.0)[0]),
        rtol=1e-8,
        atol=1e-9,
    )


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_head_is_equivariant_to_scale_of_columns(factor):
    rows, network, _ = problem()
    fitted, _ = fit(rows, network, SquaredError(), 3.0)
    scaled = rows.columns.clone()
    scaled[2] *= factor
    other, _ = fit(MemoryRows(scaled, rows.target, rows.weight), network, SquaredError(), 3.0)
    # The one step starts from an output of the scaled column, 1e6 times too large: six digits.
    torch.testing.assert_close(
        other.output(scaled), fitted.output(rows.columns), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_column_gets_no_weight(value, alpha):
    rows, network, _ = problem()
    columns = rows.columns.clone()
    columns[1] = value
    fitted, _ = fit(MemoryRows(columns, rows.target, rows.weight), network, SquaredError(), alpha)
    without, _ = fit(
        MemoryRows(columns[[0, 2, 3, 4, 5, 6, 7]], rows.target, rows.weight),
        replace(network, weight=network.weight[:, 1:]), SquaredError(), alpha,
    )  # fmt: skip
    # Zero up to the rounding of the elimination.
    assert abs(float(fitted.weight[0, 1])) < 1e-9
    torch.testing.assert_close(
        fitted.weight[0, [0, 2, 3, 4, 5, 6, 7]], without.weight[0], rtol=1e-7, atol=1e-9
    )


def test_copies_of_a_column_share_its_weight_without_penalty():
    rows, network, columns = problem()
    copied = rows.columns.clone()
    copied[1] = 2.0 * copied[0]
    fitted, _ = fit(MemoryRows(copied, rows.target, rows.weight), network, SquaredError(), 0.0)
    expected = reference.best_objective(
        np.delete(columns, 1, axis=1), rows.target.T.numpy(), np.ones(N), np.zeros(8)
    )
    residual = rows.target - fitted.output(copied)
    # The pseudo-inverse cuts eigenvalues at 1e-10.
    assert 0.5 * float(residual.square().sum()) == pytest.approx(expected, rel=1e-7)
    assert torch.isfinite(fitted.weight).all()


def test_more_columns_than_rows_are_solved_by_the_penalty():
    inputs, target = normal(30, 12), normal(1, 12, seed=4)
    network = Network.linear(get_operators("mul"), 30, 1, dtype=torch.float64)
    rows = rows_for(network, target, inputs)
    fitted, _ = fit(rows, network, SquaredError(), 0.5)
    z = standardise(inputs.T.numpy(), np.ones(12))
    ridge = Ridge(alpha=0.5, solver="svd").fit(z, target[0].numpy())
    np.testing.assert_allclose(fitted.output(inputs)[0], ridge.predict(z), rtol=1e-7, atol=1e-8)


def test_single_precision_head_is_near_double_precision_head():
    rows, network, _ = problem()
    fitted, _ = fit(rows, network, SquaredError(), 1.0)
    single = MemoryRows(rows.columns.float(), rows.target.float(), rows.weight.float())
    other, _ = fit(single, network.to(dtype=torch.float32), SquaredError(), 1.0)
    assert other.weight.dtype == torch.float32
    # Columns of seven digits, of moderate condition.
    torch.testing.assert_close(other.weight.double(), fitted.weight, rtol=1e-3, atol=1e-3)


# -- likelihoods -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [0.3, 3.0, 100.0])
def test_log_loss_head_equals_sklearn_logistic_regression(alpha, kind):
    rows, network, columns = problem(LogLoss(), 1, kind)
    fitted, curvature = fit(rows, network, LogLoss(), alpha)
    weight = rows.weight.numpy()
    z = standardise(columns, weight)
    model = LogisticRegression(C=1.0 / alpha, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    model.fit(z, rows.target[0].numpy(), sample_weight=weight)
    # Newton stops when the expected gain is 1e-6 of the objective, which leaves log-odds that are
    # off by at most about its root.
    np.testing.assert_allclose(
        fitted.output(rows.columns)[0], model.decision_function(z), rtol=5e-3, atol=5e-3
    )
    penalised = weight @ -model.predict_log_proba(z)[np.arange(N), rows.target[0].long()]
    penalised += 0.5 * alpha * float((model.coef_**2).sum())
    assert objective(rows, fitted, LogLoss(), curvature.ridge) == pytest.approx(penalised, rel=2e-6)


def multinomial(rows, columns, alpha):
    """Return scikit-learn's model of the same problem, its columns and its objective."""
    weight, classes = rows.weight.numpy(), rows.target.argmax(dim=0).numpy()
    z = standardise(columns, weight)
    model = LogisticRegression(C=1.0 / alpha, tol=1e-10, max_iter=10_000)
    model.fit(z, classes, sample_weight=weight)
    value = weight @ -model.predict_log_proba(z)[np.arange(N), classes]
    return model, z, value + 0.5 * alpha * float((model.coef_**2).sum())


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [0.3, 3.0, 100.0])
def test_cross_entropy_head_is_near_optimum_of_sklearn_multinomial_regression(alpha, kind):
    rows, network, columns = problem(CrossEntropy(), 3, kind)
    fitted, curvature = fit(rows, network, CrossEntropy(), alpha, n_steps=500)
    found = objective(rows, fitted, CrossEntropy(), curvature.ridge)
    _, _, lowest = multinomial(rows, columns, alpha)
    # Steps stop when the bound's expected gain is negligible; the curvature itself may be hundreds
    # of times smaller than the bound, and the gain that is left as many times larger.
    assert found == pytest.approx(lowest, rel=2e-3)


@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [3.0, 100.0])
def test_cross_entropy_head_goes_to_sklearn_multinomial_regression(alpha, kind):
    rows, network, columns = problem(CrossEntropy(), 3, kind)
    moments = measure_moments(rows)
    # Started again and again, so that the stopping rule has no say.
    for _ in range(400):
        network, _ = fit_head(rows, network, CrossEntropy(), alpha, moments, n_steps=2)
    model, z, _ = multinomial(rows, columns, alpha)
    # The slowest direction converges by a factor of about 0.98 per step.
    np.testing.assert_allclose(
        torch.softmax(network.output(rows.columns), dim=0).T, model.predict_proba(z), atol=1e-4
    )


@pytest.mark.parametrize("loss", [LogLoss(), CrossEntropy()])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_head_lowers_objective_from_any_start(loss, spread):
    n_outputs = 3 if isinstance(loss, CrossEntropy) else 1
    rows, network, _ = problem(loss, n_outputs)
    start = replace(network, weight=spread * network.weight)
    ridge = penalty(measure_moments(rows).gram, 1.0)
    fitted, _ = fit(rows, start, loss, 1.0)
    assert objective(rows, fitted, loss, ridge) < objective(rows, start, loss, ridge)


def test_separable_classes_stay_finite_with_penalty():
    inputs = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)[None]
    network = Network.linear(get_operators("mul"), 1, 1, dtype=torch.float64)
    rows = rows_for(network, (inputs > 0.03).double(), inputs)
    fitted, _ = fit(rows, network, LogLoss(), 0.01)
    assert 1.0 < float(fitted.weight) < 1e3
    assert mean_loss(rows, fitted, LogLoss()) < 0.05


# -- the quadratic model ---------------------------------------------------------------------------


def losses():
    return pytest.mark.parametrize(
        ("loss", "n_outputs"), [(SquaredError(), 2), (LogLoss(), 1), (CrossEntropy(), 3)]
    )


@losses()
@pytest.mark.parametrize("kind", ["ones", "random"])
def test_quadratic_model_equals_dense_matrices(loss, n_outputs, kind):
    rows, network, columns = problem(loss, n_outputs, kind)
    model = quadratic_model(rows, network, loss, 2.0)
    weight = rows.weight.numpy()
    output = network.output(rows.columns)
    h = loss.curvature(output).numpy()
    ridge = reference.ridge_of(columns, weight, 2.0)
    plain = reference.gram(columns, weight * h)
    np.testing.assert_allclose(model.ridge, ridge, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.matrix, plain + np.diag(ridge), rtol=1e-9, atol=1e-10)
    # Inverses lose as many digits as the condition number has.
    np.testing.assert_allclose(model.inverse @ model.matrix, np.eye(len(plain)), atol=1e-8)
    np.testing.assert_allclose(model.half.T @ model.half, model.inverse, atol=1e-12)
    hat = np.trace(np.linalg.solve(plain + np.diag(ridge), plain))
    assert model.degrees == pytest.approx(hat, rel=1e-8)


@losses()
def test_gradient_of_quadratic_model_is_that_of_the_objective(loss, n_outputs):
    rows, network, _ = problem(loss, n_outputs, "random")
    model = quadratic_model(rows, network, loss, 2.0)
    beta = coefficients(network).requires_grad_()
    output = beta.T @ torch.cat([torch.ones(1, N, dtype=torch.float64), rows.columns])
    value = (loss.value(output, rows.target) * rows.weight).sum()
    value = value + 0.5 * (model.ridge[:, None] * beta.square()).sum()
    (gradient,) = torch.autograd.grad(value, beta)
    torch.testing.assert_close(model.gradient, -gradient, rtol=1e-9, atol=1e-9)
    assert objective(rows, network, loss, model.ridge) == pytest.approx(value.item(), rel=1e-12)


@losses()
@pytest.mark.parametrize("alpha", [0.3, 10.0])
def test_curvature_of_fitted_head_has_gradient_near_zero(loss, n_outputs, alpha):
    rows, network, _ = problem(loss, n_outputs)
    fitted, curvature = fit(rows, network, loss, alpha, n_steps=500)
    model = quadratic_model(rows, fitted, loss, alpha)
    gain = 0.5 * float((model.gradient * (model.inverse @ model.gradient)).sum())
    # Iterations stop at a gain of 1e-6 of the objective, and one more step is taken.
    assert gain <= 1.001e-6 * objective(rows, fitted, loss, model.ridge)
    torch.testing.assert_close(curvature.matrix, model.matrix, rtol=1e-2, atol=1e-2)


def test_mean_loss_is_weighted_mean():
    rows, network, columns = problem(kind="random")
    target = rows.target[0].numpy()
    output = columns @ network.weight[0].numpy() + float(network.bias)
    expected = np.average(0.5 * (target - output) ** 2, weights=rows.weight.numpy())
    assert mean_loss(rows, network, SquaredError()) == pytest.approx(expected, rel=1e-12)


# -- the penalty path ------------------------------------------------------------------------------


def criterion(z, target, weight, alpha):
    """Return the cross-validation criterion, from dense solutions on the rows."""
    ridge = np.append(0.0, np.full(z.shape[1], alpha))
    beta = reference.solve_head(z, target, weight, ridge)
    augmented = np.column_stack([np.ones(len(z)), z])
    squares = float(weight @ ((target - augmented @ beta) ** 2).sum(axis=1))
    plain = reference.gram(z, weight)
    degrees = 2.0 * np.trace(np.linalg.solve(plain + np.diag(ridge), plain))
    if degrees >= 0.9 * weight.sum():
        return np.inf
    return squares / (1.0 - degrees / weight.sum()) ** 2


@pytest.mark.parametrize("noise", [0.01, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("present", [1e-3, 3.0, 1000.0])
@pytest.mark.parametrize(("n_outputs", "kind"), [(1, "ones"), (2, "random")])
def test_chosen_alpha_equals_dense_search_of_the_path(n_outputs, kind, noise, present):
    network = Network.linear(get_operators("mul"), 12, n_outputs, dtype=torch.float64)
    inputs, weight = normal(12, 40), weights(kind, 40)
    target = normal(n_outputs, 12, seed=7) @ inputs + noise * normal(n_outputs, 40, seed=8)
    rows = rows_for(network, target, inputs, weight)
    moments = measure_moments(rows)
    # Whatever penalty the present head was solved with, the choice is the same.
    fitted, model = fit_head(rows, network, SquaredError(), present, moments)
    found = choose_alpha(
        model,
        fitted,
        variances(moments.gram).sqrt(),
        mean_loss(rows, fitted, SquaredError()) * rows.total_weight,
        rows.total_weight,
    )
    z = standardise(inputs.T.numpy(), weight.numpy())
    values = [criterion(z, target.T.numpy(), weight.numpy(), alpha) for alpha in ALPHAS]
    assert found == ALPHAS[int(np.argmin(values))]


def test_alpha_is_largest_where_no_degree_of_freedom_is_left():
    network = Network.linear(get_operators("mul"), 30, 1, dtype=torch.float64)
    rows = rows_for(network, normal(1, 5, seed=1), normal(30, 5))
    moments = measure_moments(rows)
    fitted, model = fit_head(rows, network, SquaredError(), 3.0, moments)
    found = choose_alpha(model, fitted, variances(moments.gram).sqrt(), 1.0, 2.0)
    assert found == ALPHAS[-1]
