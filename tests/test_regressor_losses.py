"""EvolvingRegressor with each of its losses, against scikit-learn's linear models and as used."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.linear_model import GammaRegressor, HuberRegressor, PoissonRegressor, QuantileRegressor
from sklearn.metrics import (
    d2_absolute_error_score,
    d2_pinball_score,
    d2_tweedie_score,
    mean_absolute_error,
    mean_pinball_loss,
    mean_poisson_deviance,
)
from sklearn.preprocessing import StandardScaler

from skevo import EvolvingRegressor

FAST = {"n_members": 2, "n_generations": 8, "random_state": 0}
LINEAR = {"n_generations": 0, "n_members": 1, "validation_fraction": None, "alpha": 0.0}
LOSSES = [
    pytest.param({"loss": "absolute_error"}, id="absolute"),
    pytest.param({"loss": "huber"}, id="huber"),
    pytest.param({"loss": "quantile", "quantile": 0.8}, id="quantile"),
    pytest.param({"loss": "poisson"}, id="poisson"),
    pytest.param({"loss": "gamma"}, id="gamma"),
]
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_linear_loss = pytest.mark.parametrize("loss", LOSSES[:3])
each_log_loss = pytest.mark.parametrize("loss", LOSSES[3:])


def friedman(n_samples=200, noise=1.0):
    """Return a positive target of five columns."""
    X, y = make_friedman1(n_samples, noise=noise, random_state=0)
    return X, np.maximum(y, 0.5)


# -- against scikit-learn --------------------------------------------------------------------------


def both_linear(loss, reference):
    """Return targets, the predictions of the linear model and those of a reference."""
    X, y = load_diabetes(return_X_y=True)
    model = EvolvingRegressor(**loss, **LINEAR).fit(X, y)
    columns = StandardScaler().fit_transform(model._scaling(X))
    return y, model.predict(X), reference.fit(columns, y).predict(columns)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_fit_no_generations_near_quantile_regressor(quantile):
    loss = {"loss": "quantile", "quantile": quantile}
    y, found, expected = both_linear(loss, QuantileRegressor(quantile=quantile, alpha=0.0))
    # The kink is smoothed over the nearest fifth of the rows, or fewer.
    lowest = mean_pinball_loss(y, expected, alpha=quantile)
    assert lowest <= mean_pinball_loss(y, found, alpha=quantile) < 1.005 * lowest
    assert np.mean((found - expected) ** 2) < (0.1 * y.std()) ** 2
    assert np.mean(y <= found) == pytest.approx(quantile, abs=0.02)


def test_absolute_error_is_median():
    X, y = friedman()
    models = [{"loss": "absolute_error"}, {"loss": "quantile", "quantile": 0.5}]
    assert_array_equal(*(EvolvingRegressor(**loss, **FAST).fit(X, y).predict(X) for loss in models))


def test_fit_no_generations_near_huber_regressor():
    huber = HuberRegressor(epsilon=1.345, alpha=0.0, max_iter=1000)
    y, found, expected = both_linear({"loss": "huber"}, huber)
    # There the scale is estimated together with the coefficients.
    assert np.mean((found - expected) ** 2) < (0.03 * y.std()) ** 2


@pytest.mark.parametrize(
    ("loss", "reference"), [("poisson", PoissonRegressor), ("gamma", GammaRegressor)]
)
def test_fit_no_generations_equals_generalised_linear_model(loss, reference):
    reference = reference(alpha=0.0, tol=1e-10, max_iter=10_000)
    _, found, expected = both_linear({"loss": loss}, reference)
    # Newton stops when the expected gain is 1e-6 of the objective.
    assert_allclose(found, expected, rtol=3e-3)


@each_loss
@pytest.mark.parametrize("value", [3.0, 1e-9, 1e12])
def test_fit_constant_target_predicts_it(loss, value):
    X, _ = friedman()
    model = EvolvingRegressor(**loss, **FAST).fit(X, np.full(len(X), value))
    assert_allclose(model.predict(X), value, rtol=1e-12)


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9])
def test_fit_constant_columns_predicts_quantile(quantile):
    y = np.random.default_rng(0).lognormal(size=400)
    model = EvolvingRegressor(loss="quantile", quantile=quantile, **FAST).fit(np.ones((400, 2)), y)
    # Smoothed, and of two members that hold out half of the rows each.
    assert np.mean(y <= model.predict([[1.0, 1.0]])) == pytest.approx(quantile, abs=0.02)


@each_log_loss
def test_fit_constant_columns_predicts_mean(loss):
    y = np.random.default_rng(0).lognormal(size=400)
    model = EvolvingRegressor(**loss, **LINEAR).fit(np.ones((400, 2)), y)
    assert_allclose(model.predict([[1.0, 1.0]]), y.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "score"),
    [
        ({"loss": "absolute_error"}, d2_absolute_error_score),
        ({"loss": "huber"}, d2_absolute_error_score),
        ({"loss": "quantile", "quantile": 0.8}, lambda y, p: d2_pinball_score(y, p, alpha=0.8)),
        ({"loss": "poisson"}, lambda y, p: d2_tweedie_score(y, p, power=1)),
        ({"loss": "gamma"}, lambda y, p: d2_tweedie_score(y, p, power=2)),
    ],
)
def test_history_is_one_minus_d2(loss, score):
    X, y = friedman(500)
    model = EvolvingRegressor(**loss, **LINEAR).fit(X, y)
    # A quantile lies between two rows; predictions are clipped, training losses are not.
    assert model.history_["loss"][-1] == pytest.approx(1 - score(y, model.predict(X)), rel=5e-3)


# -- weights and scale -----------------------------------------------------------------------------


@each_loss
def test_weights_equal_copies(loss):
    X, y = friedman(60)
    copies = np.random.default_rng(0).integers(0, 3, len(y))
    parameters = {**FAST, **loss, "validation_fraction": None, "n_generations": 3}
    weighted = EvolvingRegressor(**parameters).fit(X, y, sample_weight=copies)
    copied = EvolvingRegressor(**parameters).fit(np.repeat(X, copies, 0), np.repeat(y, copies))
    # Only the order of sums differs.
    assert_allclose(weighted.predict(X), copied.predict(X), rtol=1e-5)


@each_loss
@pytest.mark.parametrize("factor", [2.0**-90, 1e-30, 1e30])
def test_predictions_scale_with_target(loss, factor):
    X, y = friedman()
    plain = EvolvingRegressor(**loss, **FAST).fit(X, y).predict(X)
    scaled = EvolvingRegressor(**loss, **FAST).fit(X, factor * y).predict(X)
    # Rounding of the scaled targets.
    assert_allclose(scaled / factor, plain, rtol=1e-8)


@each_loss
@pytest.mark.parametrize("solver", ["exact", "adam"])
def test_fit_several_outputs_of_different_scale(loss, solver):
    X, y = friedman(400)
    targets = np.column_stack([y, 1e6 * y, np.exp(2.0 * X[:, 0])])
    parameters = {**FAST, "n_generations": 15, "learning_rate": 0.05, "solver": solver}
    model = EvolvingRegressor(**loss, **parameters).fit(X, targets)
    assert model.predict(X).shape == targets.shape
    losses = model.history_["loss"][model.history_["member"] == 0]
    assert losses[-1] < min(0.7, losses[0])


# -- as used ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_heavy_tailed_noise_is_borne(loss):
    X, y = make_friedman1(900, noise=0.0, random_state=0)
    noisy = y + 2.0 * np.random.default_rng(0).standard_t(1.3, len(y))
    parameters = {"n_members": 4, "n_generations": 20, "random_state": 0}
    robust, squared = (
        EvolvingRegressor(loss=name, **parameters).fit(X[:500], noisy[:500])
        for name in (loss, "squared_error")
    )
    error = mean_absolute_error(y[500:], robust.predict(X[500:]))
    assert error < 0.7 * mean_absolute_error(y[500:], squared.predict(X[500:]))


@pytest.mark.parametrize("quantile", [0.1, 0.9])
def test_quantile_covers_its_share_of_new_rows(quantile):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(3000, 2))
    center, deviation = np.sin(2 * X[:, 0]), 0.2 + np.abs(X[:, 1])
    y = center + deviation * rng.normal(size=3000)
    model = EvolvingRegressor(
        loss="quantile", quantile=quantile, n_members=4, n_generations=20, random_state=0
    ).fit(X[:1500], y[:1500])
    prediction = model.predict(X[1500:])
    assert np.mean(y[1500:] <= prediction) == pytest.approx(quantile, abs=0.03)
    true = (center + deviation * norm.ppf(quantile))[1500:]
    lowest = mean_pinball_loss(y[1500:], true, alpha=quantile)
    assert mean_pinball_loss(y[1500:], prediction, alpha=quantile) < 1.06 * lowest


def counts(n_samples=1500):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, 4))
    return X, rng.poisson(np.exp(0.8 * X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) - 0.5)).astype(float)


def test_poisson_beats_squared_error_and_linear_model_on_counts():
    X, y = counts()
    train, test = slice(700), slice(700, None)
    parameters = {"n_members": 4, "n_generations": 20, "random_state": 0}
    poisson, squared = (
        EvolvingRegressor(loss=loss, **parameters).fit(X[train], y[train]).predict(X[test])
        for loss in ("poisson", "squared_error")
    )
    deviance = mean_poisson_deviance(y[test], poisson)
    assert deviance < mean_poisson_deviance(y[test], squared.clip(min=0.05))
    linear = PoissonRegressor().fit(X[train], y[train]).predict(X[test])
    assert deviance < 0.8 * mean_poisson_deviance(y[test], linear)


@each_log_loss
def test_predictions_with_log_link_are_positive_and_bounded(loss):
    X, y = counts(400)
    y = y if loss["loss"] == "poisson" else y + 0.1
    model = EvolvingRegressor(**loss, **FAST).fit(X, y)
    for factor in (1.0, 1e3, 1e9):
        prediction = model.predict(factor * X)
        assert prediction.min() > 0
        # Rounding of the exponential.
        assert prediction.max() <= (1 + 1e-12) * (y.max() + 0.1 * np.ptp(y))


@each_loss
def test_fit_far_rows_stays_finite(loss):
    X, y = friedman()
    X[::20] *= 1e6
    y[::40] *= 1e9
    model = EvolvingRegressor(**loss, **FAST).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.history_["validation_loss"]).all()


@each_log_loss
def test_formula_is_of_the_logarithm(loss):
    X, y = friedman()
    y = y**2
    model = EvolvingRegressor(
        operators=("mul",), n_members=1, n_generations=4, max_nodes=3, random_state=0, **loss
    ).fit(X, y)
    assert model.n_nodes_ > 0
    left, right = model.formula_.split(" = ")
    assert left == "log(y)"
    columns = {f"x{k}": X[:, k] for k in range(X.shape[1])}
    # The formula's numbers are rounded to four digits.
    assert_allclose(model._output(X)[:, 0], eval(right, columns), atol=0.01)
    assert_allclose(np.median(np.log(model.predict(X)) - model._output(X)[:, 0]), 0.0, atol=1e-12)


@each_loss
def test_warm_start_equals_one_longer_fit(loss):
    X, y = friedman()
    longer = EvolvingRegressor(**loss, **FAST).fit(X, y)
    model = EvolvingRegressor(**loss, **{**FAST, "n_generations": 3}, warm_start=True).fit(X, y)
    model.set_params(n_generations=8).fit(X, y)
    # Columns that are computed anew may differ from grown ones in the last bit.
    assert_allclose(model.predict(X), longer.predict(X), rtol=1e-5)


def test_warm_start_of_another_quantile_goes_to_it():
    X, y = friedman(400)
    model = EvolvingRegressor(loss="huber", warm_start=True, **FAST).fit(X, y)
    model.set_params(loss="quantile", quantile=0.9, n_generations=14, n_iter_no_change=None)
    assert np.mean(y <= model.fit(X, y).predict(X)) > 0.75


@each_loss
def test_large_table_is_fitted_to_all_rows(loss, monkeypatch):
    monkeypatch.setattr("skevo.core.members.MOST_ROWS", 100)
    X, y = friedman(800)
    model = EvolvingRegressor(**loss, **FAST).fit(X, y)
    assert model.score(X, y) > 0.4
    assert np.isfinite(model.predict(X)).all()


@each_linear_loss
@pytest.mark.parametrize("n_inputs", [320])
def test_wide_and_large_table(loss, n_inputs, monkeypatch):
    monkeypatch.setattr("skevo.core.members.MOST_ROWS", 300)
    X, y = friedman(500)
    X = np.column_stack([X, np.random.default_rng(0).normal(size=(500, n_inputs - 10))])
    model = EvolvingRegressor(**loss, **{**FAST, "n_generations": 1}).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(
    ("parameters", "y", "message"),
    [
        ({"loss": "quantile"}, [1.0, 2.0, 3.0], "quantile must be set when loss='quantile'"),
        ({"loss": "quantile", "quantile": 1.0}, [1.0, 2.0, 3.0], "quantile"),
        ({"loss": "poisson"}, [1.0, -2.0, 3.0], "requires non-negative y and sum"),
        ({"loss": "poisson"}, [0.0, 0.0, 0.0], "requires non-negative y and sum"),
        ({"loss": "gamma"}, [0.0, 2.0, 3.0], "requires strictly positive y"),
        ({"loss": "hinge"}, [1.0, 2.0, 3.0], "loss"),
    ],
)
def test_bad_targets_and_parameters_raise(parameters, y, message):
    with pytest.raises(ValueError, match=message):
        EvolvingRegressor(**parameters).fit(np.eye(3), y)
