"""Held-out rows: which they are, and what the members say of them."""

import numpy as np
import pytest
import torch
from builders import normal, random_network, weights
from scipy.stats import trim_mean
from sklearn.metrics import r2_score

from skevo.core import held_out as module
from skevo.core.ensemble import Ensemble
from skevo.core.folds import plan_members
from skevo.core.held_out import evaluate_held_out
from skevo.core.table import Table

N_ROWS = 90


def problem(n_members, fraction=0.2, n_outputs=1):
    """Return a table, tasks and networks that need not have done them."""
    table = Table(normal(3, N_ROWS), normal(n_outputs, N_ROWS, seed=1), weights("random", N_ROWS))
    tasks = plan_members(len(table), table.total_weight, n_members, fraction, seed=0)
    networks = [random_network(seed, n_outputs=n_outputs) for seed in range(n_members)]
    return table, tasks, networks


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_members", [1, 2, 8])
def test_each_row_comes_with_the_member_that_held_it_out(n_members, n_outputs):
    table, tasks, networks = problem(n_members, n_outputs=n_outputs)
    found = evaluate_held_out(table, tasks, Ensemble.of(networks))
    rows = torch.cat([task.validation for task in tasks])
    assert len(rows) == (18 if n_members == 1 else N_ROWS)
    for task in tasks:
        assert torch.equal(rows[found.holder == task.number], task.validation)
    assert torch.equal(found.inputs, table.inputs[:, rows])
    assert torch.equal(found.target, table.target[:, rows])
    assert torch.equal(found.weight, table.weight[rows])
    for outputs, network in zip(found.outputs, networks, strict=True):
        torch.testing.assert_close(outputs, network.predict(table.inputs[:, rows].T).T)


def test_nothing_held_out_all_rows_without_a_member():
    table, tasks, networks = problem(3, fraction=None)
    found = evaluate_held_out(table, tasks, Ensemble.of(networks))
    assert found.holder is None
    assert torch.equal(found.target, table.target)
    assert found.outputs.shape == (3, 1, N_ROWS)


@pytest.mark.parametrize(("fraction", "n_rows"), [(0.2, 32), (None, 30)])
def test_of_many_rows_some_are_taken_of_each_member(monkeypatch, fraction, n_rows):
    monkeypatch.setattr(module, "_MOST_ROWS", 30)
    table, tasks, networks = problem(4, fraction)
    found = evaluate_held_out(table, tasks, Ensemble.of(networks))
    assert found.outputs.shape == (4, 1, n_rows)
    if fraction:
        assert found.holder.bincount().tolist() == [8, 8, 8, 8]


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_members", [1, 8])
def test_unexplained_is_what_r2_of_held_out_rows_leaves_and_one_row_astray(n_members, n_outputs):
    table, tasks, networks = problem(n_members, n_outputs=n_outputs)
    found = evaluate_held_out(table, tasks, Ensemble.of(networks))
    rows = range(len(found.holder))
    own = found.outputs[found.holder, :, rows]
    r2 = r2_score(found.target.T, own, sample_weight=found.weight, multioutput="raw_values")
    target, total = found.target.numpy(), float(found.weight.sum())
    # And one row more, which may be as far astray as targets can be from each other.
    variance = np.cov(target, aweights=found.weight, ddof=0).reshape(n_outputs, n_outputs)
    one = 1.0 if n_members == 8 else np.ptp(target, axis=1) ** 2 / variance.diagonal()
    np.testing.assert_allclose(found.unexplained(), ((1.0 - r2) * total + one) / (total + 1.0))


def test_unexplained_where_no_row_is_held_out_is_of_inflated_errors():
    table, tasks, networks = problem(4, fraction=None)
    found = evaluate_held_out(table, tasks, Ensemble.of(networks))
    inflation = torch.tensor([1.0, 1.5, 2.0, 3.0])
    target = found.target.numpy()
    error = trim_mean(inflation[:, None, None].numpy() * (target - found.outputs.numpy()), 0.25)
    r2 = r2_score(target[0], target[0] - error[0], sample_weight=found.weight)
    total = float(found.weight.sum())
    expected = ((1.0 - r2) * total + 1.0) / (total + 1.0)
    np.testing.assert_allclose(found.unexplained(inflation), expected)
