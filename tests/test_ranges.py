"""Ranges: how far predictions go, against laws whose largest values are not among the rows."""

import numpy as np
import pytest
import torch

from skevo import EvolvingRegressor
from skevo.core.ranges import margin, positive_range, target_range, widened_range


@pytest.mark.parametrize(("copies", "beyond"), [(1, 1.0), (4, 1.0), (5, 0.0), (60, 0.0)])
def test_range_ends_where_five_rows_have_the_lowest_or_highest_target(copies, beyond):
    rising = torch.cat([torch.linspace(0, 9, 30), torch.full((copies,), 10.0)]).double()[None]
    one = torch.ones(rising.shape[1], dtype=torch.float64)
    assert [float(end) for end in target_range(rising, one)] == [-1.0, 10.0 + beyond]
    assert [float(end) for end in target_range(-rising, one)] == [-10.0 - beyond, 1.0]
    weight = torch.cat([torch.ones(30), torch.tensor([float(copies)])]).double()
    found = target_range(rising[:, :31], weight)
    assert [float(end) for end in found] == [-1.0, 10.0 + beyond]


def test_positive_range_is_the_widened_range_but_positive():
    target = torch.tensor([[2.0, 3.0, 12.0], [0.0, 0.5, 5.0], [0.0, 0.0, 0.0]]).double()
    low, high = positive_range(target, torch.tensor([1.0, 1.0, 2.0]).double())
    # A thousandth of the smallest positive target; of any number where there is none.
    np.testing.assert_allclose(low[:, 0], [1.0, 0.5e-3, 1e-3])
    np.testing.assert_allclose(high[:, 0], [13.0, 5.5, 1e-3])


def test_positive_range_of_rare_events_goes_by_their_rate():
    target = torch.zeros(1, 10_000, dtype=torch.float64)
    target[0, 0] = 1.0
    low, high = positive_range(target, torch.ones(10_000, dtype=torch.float64))
    assert float(low) == pytest.approx(1e-7)
    assert float(high) == pytest.approx(1.1)


def test_margin_is_a_tenth_down_from_nine_tenths_explained_and_all_from_ninety_nine_hundredths():
    unexplained = torch.tensor([0.0, 1e-6, 0.01, 0.02, 0.1, 0.5, 2.0, torch.inf, torch.nan])
    expected = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    torch.testing.assert_close(margin(unexplained), expected)


def test_widened_range_adds_a_share_of_it_of_each_column():
    columns = torch.tensor([[1.0, 3.0, 2.0], [-4.0, 0.0, -1.0]])
    low, high = widened_range(columns, torch.tensor([[0.5], [1.0]]))
    np.testing.assert_allclose(low[:, 0], [0.0, -8.0])
    np.testing.assert_allclose(high[:, 0], [4.0, 4.0])


def product(n_rows, seed, noise=0.0):
    """Return rows of a product of five factors, whose largest values are rare."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(1.0, 5.0, size=(n_rows, 5))
    y = X.prod(axis=1)
    return X, y + noise * y.std() * rng.normal(size=n_rows)


@pytest.fixture(scope="module")
def of_a_law():
    return EvolvingRegressor(random_state=0).fit(*product(600, 0))


def test_a_law_is_followed_beyond_the_targets(of_a_law):
    y = product(600, 0)[1]
    X, truth = product(20_000, 1)
    rare = truth > y.max() + 0.1 * np.ptp(y)
    assert rare.sum() >= 5
    predicted = of_a_law.predict(X[rare])
    assert (predicted > y.max() + 0.1 * np.ptp(y)).all()
    np.testing.assert_allclose(predicted, truth[rare], rtol=0.05)
    interval = of_a_law.predict_interval(X[rare], coverage=0.9)
    assert (interval[:, 0] <= predicted).all()
    assert (predicted <= interval[:, 1]).all()


def test_a_law_is_followed_by_no_more_than_the_range_of_the_targets(of_a_law):
    y = product(600, 0)[1]
    far = np.full((1, 5), 40.0)
    np.testing.assert_allclose(of_a_law.predict(far), y.max() + np.ptp(y))


def test_a_single_member_is_not_trusted_by_a_few_rows():
    X, y = product(600, 0)
    model = EvolvingRegressor(n_members=1, random_state=0).fit(X, y)
    assert model.score(*product(600, 1)) > 0.95
    np.testing.assert_allclose(model.predict(np.full((1, 5), 40.0)), y.max() + 0.1 * np.ptp(y))


@pytest.mark.parametrize("n_members", [1, 4])
def test_noise_is_followed_by_a_tenth_of_the_range(n_members):
    X, y = product(600, 0, noise=0.6)
    model = EvolvingRegressor(n_members=n_members, n_generations=6, random_state=0).fit(X, y)
    np.testing.assert_allclose(model.predict(np.full((1, 5), 40.0)), y.max() + 0.1 * np.ptp(y))


def test_outputs_are_trusted_each_by_its_own_errors():
    X, law = product(600, 0)
    y = np.column_stack([law, product(600, 0, noise=0.6)[1]])
    model = EvolvingRegressor(n_generations=20, random_state=0).fit(X, y)
    high = y.max(axis=0) + [1.0, 0.1] * np.ptp(y, axis=0)
    np.testing.assert_allclose(model.predict(np.full((1, 5), 40.0))[0], high)


def test_a_floor_stays_one_however_small_the_errors():
    X, y = product(600, 0)
    y = np.maximum(y - 100.0, 0.0)
    model = EvolvingRegressor(n_generations=20, random_state=0).fit(X, y)
    assert (model.predict(product(2000, 1)[0]) >= 0.0).all()
    assert model.predict(np.full((1, 5), 40.0)) > y.max() + 0.1 * np.ptp(y)


def test_few_rows_none_of_which_is_held_out_are_trusted_by_the_criterion():
    X, y = product(30, 0, noise=0.6)
    model = EvolvingRegressor(n_generations=6, random_state=0).fit(X, y)
    assert model.predict(np.full((1, 5), 40.0)) <= y.max() + 0.1 * np.ptp(y) * (1 + 1e-9)
