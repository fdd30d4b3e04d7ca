"""Devices: which one is used, and what moves between them."""

import pickle

import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import make_friedman1

from skevo import EvolvingRegressor
from skevo._devices import CPU, moved
from skevo.core.losses import TorchLoss
from skevo.core.operators import Operator

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
FAST = {"n_generations": 4, "n_members": 2, "max_nodes": 10, "random_state": 0}


def pull(value, found):
    """Collect the tensors in what has attributes, keys or items."""
    if isinstance(value, torch.Tensor):
        found.append(value)
    elif isinstance(value, dict):
        for part in value.values():
            pull(part, found)
    elif isinstance(value, (list, tuple)):
        for part in value:
            pull(part, found)
    elif hasattr(value, "__dict__"):
        pull(vars(value), found)
    return found


@pytest.mark.parametrize("solver", ["exact", "adam"])
def test_moved_takes_every_tensor(solver):
    X, y = make_friedman1(200, random_state=0)
    model = EvolvingRegressor(**FAST, solver=solver, device="cpu", warm_start=True).fit(X, y)
    members = model._members
    there = moved(members, CPU, torch.device("meta"))
    before, after = pull(members, []), pull(there, [])
    assert len(before) == len(after) > 20
    assert {tensor.device.type for tensor in before} == {"cpu"}
    assert {tensor.device.type for tensor in after} == {"meta"}
    assert [tensor.shape for tensor in before] == [tensor.shape for tensor in after]
    # Members that were grown together share their state, and go on together.
    assert [member.state is members[0].state for member in members] == [
        member.state is there[0].state for member in there
    ]


def test_moved_leaves_functions():
    operator = Operator("half", lambda a, b: 0.5 * (a + b), "({a} + {b}) / 2")
    loss = TorchLoss(lambda output, target: (output - target) ** 2, torch.zeros(1), torch.ones(1))
    there, same = moved([loss, operator], CPU, torch.device("meta"))
    assert same is operator
    assert there.function is loss.function
    assert {tensor.device.type for tensor in pull(there, [])} == {"meta"}


def test_moved_nowhere_is_the_same():
    value = [torch.zeros(2)]
    assert moved(value, CPU, CPU) is value


@pytest.mark.cpu
@pytest.mark.parametrize(
    ("n_rows", "parameters", "expected"),
    [
        pytest.param(300, {}, "cpu", id="few-rows"),
        pytest.param(10_000, {}, "cuda", id="many-rows"),
        pytest.param(10_000, {"n_members": 1}, "cpu", id="of-one-member"),
        pytest.param(10**6, {"n_members": 1}, "cpu", id="of-which-it-sees-a-part"),
        pytest.param(10**6, {"n_members": 2}, "cuda", id="two-members"),
        pytest.param(10**6, {"solver": "adam"}, "cpu", id="small-batches"),
        pytest.param(10**6, {"solver": "adam", "batch_size": 65_536}, "cuda", id="large-batches"),
        pytest.param(10**6, {"device": "cpu"}, "cpu", id="named"),
    ],
)
def test_auto_is_a_gpu_where_it_is_faster(monkeypatch, n_rows, parameters, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert EvolvingRegressor(**parameters)._device(n_rows).type == expected


@needs_gpu
@pytest.mark.parametrize("solver", ["exact", "adam"])
def test_warm_start_goes_on_on_another_device(solver):
    X, y = make_friedman1(300, random_state=0)
    longer = EvolvingRegressor(**{**FAST, "n_generations": 8}, solver=solver, device="cpu")
    expected = longer.fit(X, y).predict(X)
    for first, second in (("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "cuda")):
        model = EvolvingRegressor(**FAST, solver=solver, device=first, warm_start=True).fit(X, y)
        model = pickle.loads(pickle.dumps(model))
        model.set_params(device=second, n_generations=8).fit(X, y)
        assert model.device_.type == second
        assert_allclose(model.predict(X), expected, rtol=1e-6)


@needs_gpu
def test_what_a_warm_start_needs_is_on_the_cpu():
    X, y = make_friedman1(300, random_state=0)
    model = EvolvingRegressor(**FAST, device="cuda", warm_start=True).fit(X, y)
    assert {tensor.device.type for tensor in pull(model._members, [])} == {"cpu"}
