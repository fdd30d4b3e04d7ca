"""Deviances: against scikit-learn's, automatic differentiation, and generalised linear models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import alone, normal, rows_for, weights
from sklearn.linear_model import GammaRegressor, PoissonRegressor
from sklearn.metrics import mean_gamma_deviance, mean_poisson_deviance

from skevo.core.deviances import GammaDeviance, PoissonDeviance
from skevo.core.heads import fit_head
from skevo.core.measures import dispersion
from skevo.core.moments import measure_moments
from skevo.core.network import Network
from skevo.core.operators import get_operators

CASES = [
    pytest.param(PoissonDeviance(), mean_poisson_deviance, PoissonRegressor, id="poisson"),
    pytest.param(GammaDeviance(), mean_gamma_deviance, GammaRegressor, id="gamma"),
]
each_case = pytest.mark.parametrize(("loss", "deviance", "model"), CASES)


def counts(*shape):
    """Return positive targets; some are zero for the Poisson deviance, see `targets`."""
    return torch.poisson(2.0 * normal(*shape, seed=3).exp(), torch.Generator().manual_seed(0))


def targets(loss, *shape):
    return counts(*shape) + (0.5 if isinstance(loss, GammaDeviance) else 0.0)


def limited(loss, target, weight):
    """Return the loss as it is fitted to targets whose mean is 1."""
    low, high = loss.limits(target, weight)
    loss = replace(loss, lowest=float(low.min()), highest=float(high.max()))
    null = loss.value(torch.zeros_like(target), target)
    return replace(loss, constant=float((null * weight).sum() / weight.sum()))


def linear(n_inputs, n_outputs=1):
    return alone(Network.linear(get_operators(("mul",)), n_inputs, n_outputs, dtype=torch.float64))


@each_case
@pytest.mark.parametrize("spread", [0.0, 1.0, 5.0])
def test_value_is_half_sklearns_deviance(loss, deviance, model, spread):
    target, output = targets(loss, 1, 60), spread * normal(1, 60)
    value = loss.value(output, target)
    expected = [
        0.5 * deviance([t], [np.exp(o)])
        for t, o in zip(target[0].tolist(), output[0].tolist(), strict=True)
    ]
    # Differences of terms of order exp(spread).
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-10)


@each_case
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0])
def test_residual_is_negative_gradient(loss, deviance, model, n_outputs, spread):
    target = targets(loss, n_outputs, 40)
    # Some outputs are beyond the range, where the tangent is.
    loss = limited(loss, target, torch.ones(40, dtype=torch.float64))
    output = (spread * normal(n_outputs, 40, seed=1)).requires_grad_()
    value = loss.value(output, target)
    assert value.shape == (40,)
    (gradient,) = torch.autograd.grad(value.sum(), output)
    torch.testing.assert_close(loss.residual(output.detach(), target), -gradient)


def test_poisson_curvature_is_second_derivative():
    target, output = counts(1, 30), normal(1, 30)
    hessian = torch.autograd.functional.hessian(
        lambda eta: PoissonDeviance().value(eta[None], target).sum(), output[0]
    )
    torch.testing.assert_close(PoissonDeviance().curvature(output), hessian.diagonal())


def test_gamma_curvature_is_second_derivative_that_is_expected():
    output = normal(1, 5)
    mean = output.exp()

    def curvature(target):
        return torch.autograd.functional.hessian(
            lambda eta: GammaDeviance().value(eta[None], target).sum(), output[0]
        ).diagonal()

    # It is linear in the target, whose expectation is the mean.
    torch.testing.assert_close(
        GammaDeviance().curvature(output), 0.5 * (curvature(0.3 * mean) + curvature(1.7 * mean))
    )


@pytest.mark.parametrize("loss", [PoissonDeviance(), GammaDeviance()])
def test_curvature_of_several_outputs_bounds_each(loss):
    output = normal(3, 30)
    each = torch.stack([loss.curvature(row[None]) for row in output])
    assert torch.equal(loss.curvature(output), each.amax(dim=0))


@each_case
def test_reported_deviance_is_relative_to_that_of_the_mean(loss, deviance, model):
    target, weight = targets(loss, 1, 50), weights("random", 50)
    target = target / ((target @ weight) / weight.sum())
    output = 0.3 * normal(1, 50)
    loss = limited(loss, target, weight)
    value = float((loss.judged(output, target) @ weight) / weight.sum())
    found = deviance(target[0], output[0].exp(), sample_weight=weight)
    null = deviance(target[0], np.ones(50), sample_weight=weight)
    assert loss.reported(value, 1) == pytest.approx(found / null, rel=1e-9)


@each_case
@pytest.mark.parametrize("output", [-1e3, -80.0, 80.0, 1e3])
def test_values_far_away_are_finite(loss, deviance, model, output):
    target = targets(loss, 1, 50).float()
    loss = limited(loss, target, torch.ones(50))
    far = torch.full_like(target, output)
    assert torch.isfinite(loss.value(far, target)).all()
    assert torch.isfinite(loss.residual(far, target)).all()
    assert torch.isfinite(loss.curvature(far)).all()


@each_case
@pytest.mark.parametrize("kind", ["ones", "random", "counts"])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_head_equals_sklearn(loss, deviance, model, kind, alpha):
    inputs, weight = normal(3, 150), weights(kind, 150)
    target = targets(loss, 1, 150) * (0.5 * inputs[:1]).exp()
    if isinstance(loss, PoissonDeviance):
        target = target.round()
    population = linear(3)
    rows = rows_for(population, target, inputs, weight)
    share = weight / weight.sum()
    z = inputs - (inputs @ share)[:, None]
    z = z / (z.square() @ share).sqrt()[:, None]
    fitted, _ = fit_head(rows, population, loss, torch.tensor([alpha]), measure_moments(rows))
    # There the loss is a mean over the weight.
    reference = model(alpha=alpha / float(weight.sum()), tol=1e-10, max_iter=10_000)
    reference.fit(z.T, target[0], sample_weight=weight)
    # Newton stops when the expected gain is 1e-6 of the objective.
    np.testing.assert_allclose(
        fitted.output(rows.columns)[0, 0].exp(), reference.predict(z.T), rtol=0.01
    )


def test_head_of_several_outputs_is_that_of_each():
    inputs = normal(2, 200)
    target = torch.cat([counts(1, 200), 3.0 * counts(1, 200).roll(7, dims=1)]) / 3.0
    together, apart = linear(2, 2), linear(2)
    rows = rows_for(together, target, inputs)
    moments, alpha = measure_moments(rows), torch.zeros(1)
    for _ in range(5):
        together, _ = fit_head(rows, together, PoissonDeviance(), alpha, moments)
    for output, own_target in enumerate(target):
        own_rows = rows_for(apart, own_target[None], inputs)
        own = fit_head(own_rows, apart, PoissonDeviance(), alpha, measure_moments(own_rows))[0]
        # Steps in a metric that bounds the curvature of each approach the optimum.
        torch.testing.assert_close(
            together.weight[0, output], own.weight[0, 0], rtol=0.02, atol=0.005
        )


def test_dispersion_of_counts_is_one_and_of_scaled_counts_their_scale():
    generator = torch.Generator().manual_seed(0)
    inputs = normal(1, 20_000)
    mean = (1.0 + 0.5 * inputs).exp()
    target = torch.poisson(mean, generator)
    population = linear(1)
    population.weight[:], population.bias[:] = 0.5, 1.0
    rows = rows_for(population, target, inputs)
    # The standard error is about one percent.
    assert dispersion(rows, population, PoissonDeviance()).item() == pytest.approx(1.0, rel=0.04)
    population.bias[:] = 1.0 - np.log(10.0)
    rows = rows_for(population, target / 10.0, inputs)
    assert dispersion(rows, population, PoissonDeviance()).item() == pytest.approx(0.1, rel=0.04)
