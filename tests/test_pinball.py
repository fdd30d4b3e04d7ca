"""Pinball losses: against the kinked loss, automatic differentiation, and known quantiles."""

import pytest
import torch
from builders import alone, normal, rows_for, weights
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional

from skevo.core.heads import fit_head, objective, penalty
from skevo.core.losses import SquaredError
from skevo.core.moments import measure_moments
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.pinball import huber, quantile_loss

LOSSES = [quantile_loss(0.5), quantile_loss(0.9), quantile_loss(0.02), huber()]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=["median", "high", "low", "huber"])


def at_scale(loss, output, target):
    return loss.at_scale(output, target, torch.ones_like(target[..., 0, :]))


@each_loss
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0])
def test_residual_is_negative_gradient(loss, n_outputs, spread):
    target = normal(n_outputs, 50)
    output = (spread * normal(n_outputs, 50, seed=1)).requires_grad_()
    loss = at_scale(loss, output.detach(), target)
    (gradient,) = torch.autograd.grad(loss.value(output, target).sum(), output)
    torch.testing.assert_close(loss.residual(output.detach(), target), -gradient)


@each_loss
def test_highest_curvature_is_attained_and_not_exceeded(loss):
    target = torch.zeros(1, 1, dtype=torch.float64)
    points = torch.linspace(-3.0, 3.0, 601, dtype=torch.float64)
    residuals = loss.residual(points[None], target.expand(1, 601))[0]
    slopes = -residuals.diff() / points.diff()
    # Differences of numbers of order 100.
    assert slopes.max().item() == pytest.approx(loss.highest_curvature, rel=1e-9)
    assert slopes.min() >= -1e-9


@each_loss
def test_curvature_is_one_on_average_for_normal_residuals_or_about(loss):
    levels = torch.linspace(0.0, 1.0, 4002, dtype=torch.float64)[1:-1]
    error = torch.distributions.Normal(0.0, 1.0).icdf(levels)
    target = (error - float(norm.ppf(loss.quantile)))[None]
    loss = at_scale(loss, torch.zeros_like(target), target)
    inside = (target.abs() <= loss.width).double().mean().item()
    # The width is a quantile among 4,000, rounded to the 64th of an octave.
    assert inside * loss.highest_curvature == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("quantile", [0.02, 0.3, 0.5, 0.9])
def test_value_tends_to_pinball_loss(quantile):
    target, output = normal(1, 200), normal(1, 200, seed=1)
    loss = quantile_loss(quantile)
    narrow = loss.at_scale_of(at_scale(loss, output, output + 1e-6 * (target - output)))
    unit = narrow.share / (2.0 * narrow.width.item())
    expected = mean_pinball_loss(target[0], output[0], alpha=quantile)
    # Off by at most a quarter of the width, below 1e-6.
    assert (unit * narrow.value(output, target)).mean().item() == pytest.approx(expected, abs=1e-6)
    judged = loss.judged(output, target).mean().item()
    assert judged == pytest.approx(expected, rel=1e-12)
    assert loss.reported(judged, 1) == judged


def test_huber_is_torchs_with_1345_robust_deviations():
    target, output = normal(1, 999), 0.3 * normal(1, 999, seed=1)
    loss = at_scale(huber(), output, target)
    deviation = (target - output).abs().median().item() / norm.ppf(0.75)
    # The width is rounded to the 64th of an octave.
    assert loss.width.item() == pytest.approx(1.345 * deviation, rel=0.006)
    delta = loss.width.item()
    expected = functional.huber_loss(output, target, reduction="none", delta=delta)[0]
    torch.testing.assert_close(loss.share * loss.value(output, target), expected + 0.5 * delta**2)


@each_loss
def test_values_are_deviances(loss):
    target, output = normal(2, 100), normal(2, 100, seed=1)
    assert (loss.value(output, target) >= 0).all()
    assert (loss.judged(output, target) >= 0).all()
    assert (loss.judged(target, target) == 0).all()


@each_loss
@pytest.mark.parametrize("factor", [1e-20, 2.0**-30, 1e20])
def test_width_goes_with_the_scale_of_residuals(loss, factor):
    target, output = normal(3, 2, 100), normal(3, 2, 100, seed=1)
    width = at_scale(loss, output, target).width
    assert width.shape == (3, 2, 1)
    other = at_scale(loss, factor * output, factor * target).width
    # Both are rounded to the 64th of an octave.
    torch.testing.assert_close(other / factor, width, rtol=0.012, atol=0.0)


@each_loss
def test_width_with_weights_equals_width_with_copies(loss):
    target, output, weight = normal(1, 60), normal(1, 60, seed=1), weights("counts", 60)
    repeated = (part.repeat_interleave(weight.long(), dim=1) for part in (output, target))
    assert torch.equal(loss.at_scale(output, target, weight).width, at_scale(loss, *repeated).width)


@each_loss
def test_residuals_that_are_mostly_zero_give_a_width(loss):
    target = torch.zeros(1, 100, dtype=torch.float64)
    target[0, :5] = 1.0
    assert at_scale(loss, torch.zeros_like(target), target).width > 0
    exact = at_scale(loss, target, target)
    assert torch.isfinite(exact.value(target, target)).all()
    assert (exact.residual(target, target) == 0).all()


@each_loss
def test_loss_beyond_a_base_is_that_of_what_is_left(loss):
    target, base, output = (normal(2, 30, seed=seed) for seed in range(3))
    loss = at_scale(loss, base, target)
    beyond, left = loss.beyond(base, target)
    torch.testing.assert_close(beyond.value(output, left), loss.value(base + output, target))


@each_loss
def test_steps_lower_the_objective_from_any_start(loss):
    inputs = normal(3, 200)
    target = inputs[:1] + normal(1, 200, seed=1) ** 3
    network = Network.linear(get_operators(("mul",)), 3, 1, dtype=torch.float64)
    network.weight[:] = 5.0
    population = alone(network)
    rows = rows_for(population, target, inputs)
    loss = loss.at_scale(population.output(rows.columns), rows.target, rows.weight)
    moments, alpha = measure_moments(rows), torch.ones(1)
    ridge = penalty(moments.gram, alpha)
    values = [objective(rows, population, loss, ridge).item()]
    for _ in range(5):
        population, _ = fit_head(rows, population, loss, alpha, moments, n_steps=3)
        values.append(objective(rows, population, loss, ridge).item())
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.8 * values[0]


def test_huber_of_residuals_within_its_width_is_squared_error():
    output, target = 0.1 * normal(1, 50), torch.zeros(1, 50, dtype=torch.float64)
    loss = huber()
    torch.testing.assert_close(
        loss.share * loss.residual(output, target), SquaredError().residual(output, target)
    )
