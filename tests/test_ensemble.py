"""Ensembles: averages against scipy, corrections against other solvers of the same problem."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import normal, random_network, target_for, weights
from scipy.optimize import minimize
from scipy.stats import trim_mean
from sklearn.linear_model import Ridge

from skevo.core.course import Evolution
from skevo.core.ensemble import Ensemble
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.table import Table

N_SAMPLES = 300


def members_of(networks, expected_loss=0.25):
    """Return evolutions that say nothing but how good they are."""
    return [Evolution(network, (), 0, "n_generations", 1.0, expected_loss) for network in networks]


def problem(loss, n_outputs, n_members=5):
    """Return networks, inputs, target and weight of rows that the networks explain in part."""
    networks = [random_network(seed, n_nodes=4, n_outputs=n_outputs) for seed in range(n_members)]
    inputs = normal(3, N_SAMPLES, seed=9)
    signal = Ensemble.of(networks).combine(Ensemble.of(networks).network.predict(inputs.T).T)
    target = target_for(loss, signal / signal.std() + 0.5 * torch.sin(3.0 * inputs[:1]))
    return networks, inputs, target, weights("random", N_SAMPLES)


def output(ensemble, inputs):
    return ensemble.combine(ensemble.network.predict(inputs.T).T)


def standardised(columns, weight):
    """Return columns in units of their weighted deviation, and those deviations."""
    share = weight / weight.sum()
    mean = columns @ share
    deviation = ((columns - mean[:, None]).square() @ share).sqrt()
    return columns / deviation[:, None], deviation


def penalty_of(loss, average, weight, expected_loss):
    """Return the penalty of a correction: noise to signal for each row, and the least of it."""
    share = weight / weight.sum()
    signal = ((average - (average @ share)[:, None]).square() @ share).mean()
    noise = expected_loss if isinstance(loss, SquaredError) else 1.0
    n_rows = float(weight.sum())
    return n_rows * float(noise / signal) ** 1.5 + 15_000.0 / n_rows**0.5


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("n_members", [1, 2, 5, 8])
def test_average_is_the_mean_without_the_outer_quarters(n_members, n_outputs):
    networks = [random_network(seed, n_outputs=n_outputs) for seed in range(n_members)]
    inputs = normal(3, 20)
    outputs = np.stack([network.predict(inputs.T).T.numpy() for network in networks])
    found = output(Ensemble.of(networks), inputs)
    np.testing.assert_allclose(found, trim_mean(outputs, 0.25, axis=0), rtol=1e-10)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_correction_is_ridge_regression_of_what_the_average_leaves(n_outputs):
    networks, inputs, target, weight = problem(SquaredError(), n_outputs)
    plain = Ensemble.of(networks)
    average = output(plain, inputs)
    columns, _ = standardised(plain.network.columns(inputs), weight)
    alpha = penalty_of(SquaredError(), average, weight, 0.25)
    reference = Ridge(alpha=alpha, tol=1e-12).fit(
        columns.T, (target - average).T, sample_weight=weight
    )
    remainder = torch.as_tensor(reference.predict(columns.T).reshape(N_SAMPLES, -1).T)
    share = weight / weight.sum()
    mean = (remainder @ share)[:, None]
    far = 4.0 * ((remainder - mean).square() @ share).sqrt()[:, None]

    found = plain.corrected(Table(inputs, target, weight), SquaredError(), members_of(networks))
    torch.testing.assert_close(
        output(found, inputs) - average,
        remainder.clamp(mean - far, mean + far),
        rtol=1e-7,
        atol=1e-9,
    )
    low, high = found.limits
    torch.testing.assert_close((low, high), (mean - far, mean + far), rtol=1e-7, atol=1e-9)
    # The members are what they were.
    assert torch.equal(found.network.weight[: 5 * n_outputs], plain.network.weight)


@pytest.mark.parametrize(("loss", "n_outputs"), [(LogLoss(), 1), (CrossEntropy(), 3)])
def test_correction_minimises_the_penalised_likelihood(loss, n_outputs):
    networks, inputs, target, weight = problem(loss, n_outputs)
    plain = Ensemble.of(networks)
    average = output(plain, inputs)
    columns, _ = standardised(plain.network.columns(inputs), weight)
    alpha = penalty_of(loss, average, weight, 0.25)

    def objective(flat):
        beta = torch.tensor(flat.reshape(n_outputs, -1), requires_grad=True)
        values = loss.value(average + beta[:, 1:] @ columns + beta[:, :1], target)
        value = (values * weight).sum() + 0.5 * alpha * beta[:, 1:].square().sum()
        (gradient,) = torch.autograd.grad(value, beta)
        return value.item(), gradient.numpy().ravel()

    start = np.zeros(n_outputs * (1 + len(columns)))
    best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-9})
    found = plain.corrected(Table(inputs, target, weight), loss, members_of(networks))
    head = found.network.weight[-n_outputs:], found.network.bias[-n_outputs:]
    deviation = standardised(plain.network.columns(inputs), weight)[1]
    flat = torch.cat([head[1][:, None], head[0] * deviation], dim=1).numpy().ravel()
    # The steps are few, so that a softmax may be short of its optimum.
    at_start = objective(start)[0]
    assert at_start - objective(flat)[0] > 0.95 * (at_start - best.fun) > 0.0


def test_correction_far_from_the_training_rows_is_bounded():
    networks, inputs, target, weight = problem(SquaredError(), 1)
    plain = Ensemble.of(networks)
    found = plain.corrected(Table(inputs, target, weight), SquaredError(), members_of(networks))
    far = 1e3 * inputs
    difference = output(found, far) - output(plain, far)
    size = output(plain, far).abs().max().item()
    assert (difference >= found.limits[0] - 1e-9 * size).all()
    assert (difference <= found.limits[1] + 1e-9 * size).all()


def test_average_without_signal_is_not_corrected():
    networks = [random_network(seed) for seed in range(3)]
    silent = [
        replace(network, weight=0.0 * network.weight, bias=0.0 * network.bias)
        for network in networks
    ]
    rows = normal(3, 50), normal(1, 50, seed=1), torch.ones(50, dtype=torch.float64)
    for ensemble, expected_loss in (
        (Ensemble.of(silent), 0.25),
        (Ensemble.of(networks), float("inf")),
    ):
        members = members_of(networks, expected_loss)
        assert ensemble.corrected(Table(*rows), SquaredError(), members) is ensemble


def test_correction_of_a_wide_table_holds_the_inputs_that_members_see(monkeypatch):
    networks, inputs, target, weight = problem(SquaredError(), 1)
    for network in networks[1:]:
        network.weight[:, 1] = 0.0
    monkeypatch.setattr("skevo.core.ensemble.MOST_INPUTS", 2)
    ensemble = Ensemble.of(networks)
    found = ensemble.corrected(Table(inputs, target, weight), SquaredError(), members_of(networks))
    assert (found.network.weight[-1] == 0).nonzero().tolist() == [[1]]

    columns = standardised(ensemble.network.columns(inputs), weight)[0][
        [0, *range(2, 3 + ensemble.network.n_nodes)]
    ]
    average = output(ensemble, inputs)
    reference = Ridge(alpha=penalty_of(SquaredError(), average, weight, 0.25), tol=1e-12)
    remainder = reference.fit(columns.T, (target - average)[0], sample_weight=weight).predict(
        columns.T
    )
    torch.testing.assert_close(
        (output(found, inputs) - average)[0],
        torch.as_tensor(remainder).clamp(*(limit.item() for limit in found.limits)),
        rtol=1e-7,
        atol=1e-9,
    )


def test_correction_of_many_members_holds_the_nodes_that_weigh_most(monkeypatch):
    networks, inputs, target, weight = problem(SquaredError(), 1)
    monkeypatch.setattr("skevo.core.ensemble.MOST_NODES", 3)
    ensemble = Ensemble.of(networks)
    found = ensemble.corrected(Table(inputs, target, weight), SquaredError(), members_of(networks))
    heads = ensemble.network.weight[:, 3:].abs().sum(dim=0)
    assert len(heads) > 3
    used = (found.network.weight[-1, 3:] != 0).nonzero()[:, 0]
    assert sorted(used.tolist()) == sorted(heads.topk(3).indices.tolist())
    assert (found.network.weight[-1, :3] != 0).all()


def test_correction_has_no_more_nodes_than_rows():
    networks, inputs, target, weight = problem(SquaredError(), 1)
    few = Table(inputs[:, :7], target[:, :7], weight[:7])
    ensemble = Ensemble.of(networks)
    found = ensemble.corrected(few, SquaredError(), members_of(networks))
    heads = ensemble.network.weight[:, 3:].abs().sum(dim=0)
    assert len(heads) > 7
    used = (found.network.weight[-1, 3:] != 0).nonzero()[:, 0]
    assert sorted(used.tolist()) == sorted(heads.topk(7).indices.tolist())


def test_correction_goes_along_to_another_device():
    networks, inputs, target, weight = problem(SquaredError(), 1)
    found = Ensemble.of(networks).corrected(
        Table(inputs, target, weight), SquaredError(), members_of(networks)
    )
    moved = found.to("meta")
    assert moved.network.weight.is_meta
    assert all(limit.is_meta for limit in moved.limits)
