"""The adam solver: the optimizer's state survives growth, and any torch loss is learned."""

import copy

import numpy as np
import pytest
import torch
from builders import alone, assert_same_network, normal, random_network, rows_for
from torch.nn import functional

from skevo import EvolvingLayer
from skevo.core.gradient import GradientTrainer, resize_state
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError, TorchLoss
from skevo.core.measures import mean_loss
from skevo.core.network import Network, Nodes
from skevo.core.operators import get_operators
from skevo.core.topology import CONSTANT

N = 200
OPTIMIZERS = [
    pytest.param(lambda p: torch.optim.Adam(p, lr=0.01), id="adam"),
    pytest.param(lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True), id="adamw-amsgrad"),
    pytest.param(lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9), id="sgd-momentum"),
    pytest.param(lambda p: torch.optim.RMSprop(p, lr=0.01), id="rmsprop"),
]


def in_users_units(function):
    one = torch.ones(1, 1, dtype=torch.float64)
    return TorchLoss(function, 0.0 * one, one)


def trained(optimizer, n_steps=3):
    """Return a layer with nodes that has been trained for some steps, and its optimizer."""
    layer = EvolvingLayer.from_network(random_network(n_outputs=2))
    optimizer = optimizer(layer.parameters())
    for seed in range(n_steps):
        optimizer.zero_grad()
        layer(normal(20, 3, seed=seed)).square().mean().backward()
        optimizer.step()
    return layer, optimizer


def moments(optimizer, parameter):
    """Return the state tensors of the parameter's shape."""
    return {
        name: value.clone()
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, torch.Tensor) and value.ndim
    }


# -- the optimizer's state -------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_state_of_grown_layer_keeps_slots_and_has_zeros_for_new_ones(optimizer):
    layer, optimizer = trained(optimizer)
    before = {name: moments(optimizer, getattr(layer, name)) for name in ("weight", "constants")}
    layer.grow([0, 1], [0, 8], [1, CONSTANT])
    resize_state(optimizer, layer.weight, torch.arange(8))
    resize_state(optimizer, layer.constants, torch.arange(5))
    for name, n_old in (("weight", 8), ("constants", 5)):
        after = moments(optimizer, getattr(layer, name))
        assert set(after) == set(before[name])
        assert after
        for key, value in after.items():
            assert value.shape == getattr(layer, name).shape
            assert torch.equal(value[..., :n_old], before[name][key])
            assert (value[..., n_old:] == 0.0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_state_of_pruned_layer_keeps_slots_of_the_rest(optimizer):
    layer, optimizer = trained(optimizer)
    before = moments(optimizer, layer.weight)
    leaf = layer.leaf_nodes()[0]
    layer.prune([leaf])
    kept = torch.tensor([column for column in range(8) if column != 3 + leaf])
    resize_state(optimizer, layer.weight, kept)
    after = moments(optimizer, layer.weight)
    assert after
    for key, value in after.items():
        assert torch.equal(value, before[key][..., kept])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_growth_leaves_next_step_of_other_slots_as_it_was(optimizer):
    layer, optimizer = trained(optimizer)
    twin, twins_optimizer = copy.deepcopy((layer, optimizer))
    layer.grow([0, 1], [0, 8], [1, CONSTANT])
    resize_state(optimizer, layer.weight, torch.arange(8))
    resize_state(optimizer, layer.constants, torch.arange(5))
    for model, stepper in ((layer, optimizer), (twin, twins_optimizer)):
        stepper.zero_grad()
        model(normal(20, 3, seed=9)).square().mean().backward()
        stepper.step()
    # Gradients are sums in matrix products of another size.
    torch.testing.assert_close(layer.weight[:, :8], twin.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.constants[:5], twin.constants, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.bias, twin.bias, rtol=1e-12, atol=1e-12)
    assert (layer.weight[:, 8:] != 0.0).any()


def test_resize_leaves_step_count_alone():
    layer, optimizer = trained(lambda p: torch.optim.Adam(p), n_steps=4)
    layer.grow(0, 0, 1)
    resize_state(optimizer, layer.weight, torch.arange(8))
    assert optimizer.state[layer.weight]["step"] == 4


def test_resize_before_any_step_does_nothing():
    layer, optimizer = trained(lambda p: torch.optim.Adam(p), n_steps=0)
    layer.grow(0, 0, 1)
    resize_state(optimizer, layer.weight, torch.arange(8))
    assert not optimizer.state


# -- training --------------------------------------------------------------------------------------


def regression(weight=None, n_nodes=0):
    """Return rows of a linear target and a network to start from."""
    network = random_network(n_nodes=n_nodes)
    inputs = normal(3, N)
    target = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64) @ inputs + 0.7
    return rows_for(network, target, inputs, weight), network


def learn(rows, network, loss, n_epochs=30, batch_size=32, seed=0, alpha=0.0, rate=0.05):
    trainer = GradientTrainer(network, rate, batch_size)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n_epochs):
        network = trainer.epoch(rows, loss, alpha, generator)
    return network


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(SquaredError(), id="squared"),
        pytest.param(in_users_units(functional.l1_loss), id="mean-absolute"),
        pytest.param(in_users_units(torch.nn.HuberLoss()), id="mean-huber-module"),
        pytest.param(
            in_users_units(lambda p, t: functional.mse_loss(p, t, reduction="none")), id="each"
        ),
        pytest.param(in_users_units(lambda p, t: torch.cosh(p - t).log().mean()), id="log-cosh"),
    ],
)
def test_adam_learns_linear_target_with_any_loss(loss):
    rows, network = regression()
    found = learn(rows, network, loss)
    # The absolute loss never settles: steps of 0.05 leave coefficients off by about as much.
    torch.testing.assert_close(
        found.weight, torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), rtol=0.0, atol=0.1
    )
    assert float(found.bias) == pytest.approx(0.7, abs=0.1)
    assert mean_loss(rows, alone(found), loss) < 0.1 * mean_loss(rows, alone(network), loss)


@pytest.mark.parametrize(("loss", "n_outputs"), [(LogLoss(), 1), (CrossEntropy(), 3)])
def test_adam_lowers_likelihood_losses(loss, n_outputs):
    network = random_network(n_nodes=4, n_outputs=n_outputs)
    inputs = normal(3, N)
    target = (inputs[:1] > 0.0).double()
    if n_outputs == 3:
        target = functional.one_hot(inputs.argmax(dim=0), 3).T.double()
    rows = rows_for(network, target, inputs)
    found = learn(rows, network, loss)
    population = alone(found)
    rows.assign(population)
    assert mean_loss(rows, population, loss) < 0.25


@pytest.mark.parametrize("mean", [False, True])
def test_weights_count_as_copies_also_with_scalar_losses(mean):
    def function(prediction, target):
        return functional.huber_loss(prediction, target, reduction="mean" if mean else "none")

    loss = in_users_units(function)
    copies = torch.from_numpy(np.random.default_rng(0).integers(0, 4, N))
    rows, network = regression(copies.double(), n_nodes=4)
    repeated = rows_for(
        network,
        rows.target[0].repeat_interleave(copies, dim=1),
        rows.columns[0, :3].repeat_interleave(copies, dim=1),
    )
    # One batch of all rows, so that their order does not matter.
    by_weight = learn(rows, network, loss, 20, batch_size=10_000)
    by_copies = learn(repeated, network, loss, 20, batch_size=10_000)
    # Twenty Adam steps amplify the rounding of sums in another order.
    torch.testing.assert_close(by_weight.weight, by_copies.weight, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(by_weight.constants, by_copies.constants, rtol=1e-8, atol=1e-8)


def test_rows_of_weight_zero_teach_nothing():
    weight = torch.ones(N, dtype=torch.float64)
    weight[::2] = 0.0
    rows, network = regression(weight)
    rows.target[..., ::2] = 1e3
    # Some batches of four have no weight at all.
    found = learn(rows, network, in_users_units(functional.mse_loss), batch_size=4)
    torch.testing.assert_close(
        found.weight, torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64), rtol=0.0, atol=0.1
    )


def test_epoch_trains_constants_that_are_read():
    rows, network = regression(n_nodes=5)
    found = learn(rows, network, SquaredError(), 2)
    read = (network.topology.left == CONSTANT) | (network.topology.right == CONSTANT)
    assert ((found.constants != network.constants).numpy() == read).all()


def test_penalty_shrinks_the_head():
    rows, network = regression()
    norms = [
        float(learn(rows, network, SquaredError(), alpha=alpha).weight.norm())
        for alpha in (0.0, 100.0, 10_000.0)
    ]
    assert norms[0] > norms[1] > norms[2]


def test_epoch_follows_its_generator_alone():
    rows, network = regression(n_nodes=4)
    torch.manual_seed(0)
    first = learn(rows, network, SquaredError(), 2)
    torch.manual_seed(1)
    assert_same_network(learn(rows, network, SquaredError(), 2), first)
    assert not torch.equal(learn(rows, network, SquaredError(), 2, seed=1).weight, first.weight)


# -- following a network that changes --------------------------------------------------------------


def one_node(scale=1.0):
    return Nodes(
        np.array([1]), np.array([0]), np.array([1]),
        torch.zeros(1, dtype=torch.float64), torch.tensor([scale], dtype=torch.float64),
    )  # fmt: skip


def test_trainer_grows_and_prunes_with_the_network():
    rows, network = regression()
    trainer = GradientTrainer(network, 0.05, 32)
    generator = torch.Generator().manual_seed(0)
    network = trainer.epoch(rows, SquaredError(), 0.0, generator)
    state = moments(trainer.optimizer, trainer.layer.weight)["exp_avg"]

    grown = network.grow(one_node()).grow(one_node(2.0))
    trainer.grow(grown)
    assert_same_network(trainer.layer.network, grown)
    found = moments(trainer.optimizer, trainer.layer.weight)["exp_avg"]
    assert torch.equal(found, functional.pad(state, (0, 2)))

    grown = trainer.epoch(rows, SquaredError(), 0.0, generator)
    state = moments(trainer.optimizer, trainer.layer.weight)["exp_avg"]
    pruned = grown.prune([0])
    trainer.prune(pruned, torch.tensor([1]))
    assert_same_network(trainer.layer.network, pruned)
    found = moments(trainer.optimizer, trainer.layer.weight)["exp_avg"]
    assert torch.equal(found, state[:, [0, 1, 2, 4]])


@pytest.mark.parametrize("change", ["none", "grow", "prune"])
def test_training_on_leaves_networks_of_earlier_epochs_alone(change):
    # The networks are frozen; the best of them is returned in the end.
    rows, network = regression()
    start = network.grow(one_node())
    trainer = GradientTrainer(start, 0.05, 32)
    generator = torch.Generator().manual_seed(0)
    earlier = trainer.epoch(rows, SquaredError(), 0.0, generator)
    taken = [start, earlier]
    if change == "grow":
        taken.append(earlier.grow(one_node()))
        trainer.grow(taken[-1])
    elif change == "prune":
        taken.append(earlier.prune([0]))
        trainer.prune(taken[-1], torch.arange(0))
    before = copy.deepcopy(taken)
    trainer.epoch(rows, SquaredError(), 0.0, generator)
    for one, other in zip(taken, before, strict=True):
        assert_same_network(one, other)


def test_trainer_of_linear_network_has_head_of_that_network():
    network = Network.linear(get_operators("mul"), 3, 2, dtype=torch.float64)
    assert_same_network(GradientTrainer(network, 0.1, 8).layer.network, network)
