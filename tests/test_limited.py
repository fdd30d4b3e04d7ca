"""Limited targets: squared error of clipped outputs, against closed forms and a slow minimiser."""

import numpy as np
import pytest
import torch
from builders import normal, take_rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from sklearn.datasets import make_friedman1
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import mean_squared_error

from skevo import EvolvingRegressor
from skevo.core.limited import LimitedSquaredError
from skevo.core.losses import SquaredError

INFINITE = float("inf")
LIMITS = [(-1.0, 1.0), (-INFINITE, 0.5), (0.0, INFINITE), (-INFINITE, INFINITE)]


def parts(low, high, seed=0):
    """Return the loss, outputs, and targets of two outputs, half of which are at a limit."""
    target = normal(2, 200, seed=seed).mul(1.5).clamp(low, high)
    return LimitedSquaredError((low, low), (high, high)), normal(2, 200, seed=seed + 1), target


@pytest.mark.parametrize(("low", "high"), LIMITS)
def test_value_is_the_squared_error_of_the_clipped_output(low, high):
    loss, output, target = parts(low, high)
    # An output inside and a target at a limit are as far apart as ever.
    beyond = torch.where(
        target <= low, output.clamp(min=low),
        torch.where(target >= high, output.clamp(max=high), output),
    )  # fmt: skip
    expected = 0.5 * (beyond - target).square().sum(dim=0)
    torch.testing.assert_close(loss.value(output, target), expected)
    output.requires_grad_()
    (slope,) = torch.autograd.grad(loss.value(output, target).sum(), output)
    torch.testing.assert_close(loss.residual(output, target), -slope)


@given(st.sampled_from(LIMITS), st.integers(0, 10_000))
def test_squared_error_of_working_targets_is_an_upper_bound(limits, seed):
    loss, output, target = parts(*limits, seed=seed)
    other = normal(2, 200, seed=seed + 2)
    working = loss.working(output, target)
    bound = SquaredError().value(other, working)
    assert (bound >= loss.value(other, target) - 1e-12).all()
    torch.testing.assert_close(SquaredError().value(output, working), loss.value(output, target))
    # Targets may have moved before.
    assert torch.equal(loss.working(other, working), loss.working(other, target))
    base, remaining = loss.beyond(output, target)
    assert type(base) is SquaredError
    assert torch.equal(remaining, working - output)


def capped(n=400, seed=0):
    """Return a linear target of which some 40 % are at a floor or a ceiling."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, np.clip(X @ [2.0, -1.0, 0.5] + 0.3 * rng.normal(size=n), -2.0, 2.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_linear_model_is_that_of_a_slow_minimiser(weighted):
    X, y = capped()
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y)) if weighted else np.ones(len(y))
    model = EvolvingRegressor(
        n_generations=0, alpha=1.0, n_members=1, validation_fraction=None
    ).fit(X, y, sample_weight=weight)
    Z = model._scaling(X)
    spread = np.sqrt(np.cov(Z.T, aweights=weight, ddof=0).diagonal())
    scale = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)

    def objective(beta, clip=True):
        output = beta[0] + Z @ beta[1:]
        error = y - (np.clip(output, y.min(), y.max()) if clip else output)
        # A row inside misses what it misses, wherever the output is.
        inside = (y > y.min()) & (y < y.max())
        error = np.where(inside, y - output, error)
        penalty = np.square(spread * beta[1:]).sum()
        return 0.5 * (weight @ error**2 + penalty) / scale

    start = np.zeros(4)
    lowest = minimize(objective, start, tol=1e-12).fun
    plain = objective(minimize(objective, start, args=(False,), tol=1e-12).x)
    network = model._ensemble.network
    factor, offset = float(model._units.factor[0]), float(model._units.offset[0])
    found = objective(
        np.append(
            factor * network.bias.numpy(force=True) + offset,
            factor * network.weight[0].numpy(force=True),
        )
    )
    assert lowest <= found * (1 + 1e-9)
    assert found < lowest + 0.01 * (plain - lowest)


def test_a_ceiling_need_not_be_learnt():
    X, y = make_friedman1(1500, noise=0.3, random_state=0)
    y = np.clip(y, 12.0, 17.0)
    some, rest = slice(500), slice(500, None)
    quick = {"n_members": 4, "random_state": 0}
    found = EvolvingRegressor(**quick).fit(X[some], y[some]).predict(X[rest])
    # The same targets but for a hair, so that none of them is a limit.
    shaken = y + 1e-6 * np.random.default_rng(0).normal(size=len(y))
    other = EvolvingRegressor(**quick).fit(X[some], shaken[some]).predict(X[rest])
    trees = HistGradientBoostingRegressor(random_state=0).fit(X[some], y[some]).predict(X[rest])
    error, of_other, of_trees = (
        mean_squared_error(y[rest], each) for each in (found, np.clip(other, 12, 17), trees)
    )
    assert error < 0.9 * of_other
    assert error < 0.5 * of_trees


def test_several_outputs_have_limits_of_their_own():
    X, y = capped()
    both = np.column_stack([y, 3 * X[:, 0], np.maximum(X[:, 1], 0)])
    model = EvolvingRegressor(n_members=2, n_generations=8, random_state=0).fit(X, both)
    assert model.score(X, both) > 0.97
    assert model.predict(X)[:, 0].max() == pytest.approx(2.0)
    assert model.predict(X)[:, 1].max() > both[:, 1].max() - 0.5


@pytest.mark.parametrize("solver", ["exact", "adam"])
def test_either_solver_learns_them(solver):
    X, y = capped()
    new, whole = capped(seed=5)
    model = EvolvingRegressor(
        n_members=1, n_generations=40, solver=solver, n_iter_no_change=None, random_state=0
    ).fit(X, y)
    # Rows at a limit are hardly missed, the others by the noise.
    assert mean_squared_error(whole, model.predict(new)) < 0.8 * 0.3**2


@pytest.mark.cpu
@pytest.mark.parametrize("n_rows", [300, 1300, 5000])
def test_warm_start_equals_one_longer_fit(n_rows):
    X, y = make_friedman1(n_rows, noise=0.1, random_state=0)
    y = np.clip(y, 10.0, 18.0)
    quick = {"n_members": 2, "n_generations": 6, "random_state": 0}
    longer = EvolvingRegressor(**{**quick, "n_generations": 11}).fit(X, y)
    model = EvolvingRegressor(**quick, warm_start=True).fit(X, y)
    model.set_params(n_generations=11).fit(X, y)
    assert_array_equal(model.predict(X), longer.predict(X))


def test_heads_of_a_large_table_know_of_limits(monkeypatch):
    X, y = capped(3000)
    take_rows(monkeypatch, 500)
    model = EvolvingRegressor(n_members=2, n_generations=3, random_state=0).fit(X, y)
    new, whole = capped(3000, seed=5)
    assert mean_squared_error(whole, model.predict(new)) < 1.1 * 0.3**2


def test_a_constant_target_has_no_limits():
    X, _ = capped()
    model = EvolvingRegressor(n_members=1, n_generations=2).fit(X, np.full(len(X), 3.0))
    assert_allclose(model.predict(2 * X), 3.0)
