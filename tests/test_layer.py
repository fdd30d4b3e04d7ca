"""EvolvingLayer: what it computes, how it changes, and that saving carries all of it."""

import copy
import io
import pickle

import numpy as np
import pytest
import reference
import torch
from builders import OPERATORS, assert_same_network, network_of, normal, random_network, topologies
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_operators import smooth

from skevo import EvolvingLayer, Operator
from skevo.core.topology import CONSTANT, Topology

wirings = settings(max_examples=60, deadline=None, derandomize=True)


def random_layer(seed=0, **kwargs):
    return EvolvingLayer.from_network(random_network(seed, **kwargs))


# -- what is computed ------------------------------------------------------------------------------


@wirings
@given(topologies(), st.integers(0, 10_000), st.integers(1, 3))
def test_layer_columns_and_output_equal_node_by_node_reference(topology, seed, n_outputs):
    network = network_of(topology, n_outputs=n_outputs, seed=seed)
    layer = EvolvingLayer.from_network(network)
    x = normal(4, topology.n_inputs, seed=seed + 1)
    expected = reference.columns(network, x)
    # Where columns are huge, the rounding of an operand is amplified without limit by sin.
    assume(np.abs(expected).max() < 1e3)
    # Elementary functions of torch and of math differ in the last bits, and errors propagate.
    np.testing.assert_allclose(layer.columns(x).detach(), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        layer(x).detach(), reference.output(network, x), rtol=1e-10, atol=1e-10
    )


@wirings
@given(topologies(n_operators=4), st.integers(0, 10_000))
def test_layer_gradients_pass_gradcheck(topology, seed):
    smooth_ones = ("add", "mul", "tanh", "gauss")
    layer = EvolvingLayer.from_network(network_of(topology, smooth_ones, 2, seed))
    x = normal(3, topology.n_inputs, seed=seed).mul(0.5).requires_grad_()
    # Finite differences of steep products are no reference.
    assume(layer.columns(x).abs().max() < 30)
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    # The default atol of 1e-5 is for values of order one; the columns here reach 30.
    assert torch.autograd.gradcheck(function, (x, *layer.parameters()), atol=1e-4)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("side", ["left", "right", "none"])
def test_layer_gradients_pass_gradcheck_for_each_operator(name, side):
    layer = EvolvingLayer(2, 1, operators=(name,), dtype=torch.float64)
    left, right = (CONSTANT if side == other else k for k, other in enumerate(("left", "right")))
    layer.grow(0, left, right, constant=0.37, scale=1.7)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.3, -0.4, 1.2]]))
    # Away from kinks and small denominators.
    x = torch.tensor([[0.9, -1.4], [-0.7, 0.6], [1.6, 1.1]], dtype=torch.float64).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(function, (x, *layer.parameters()))


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 5), (2, 0, 4), (2, 3, 4)])
def test_layer_keeps_leading_dimensions(shape):
    layer = random_layer(n_outputs=2)
    x = normal(*shape, 3)
    assert layer(x).shape == (*shape, 2)
    assert layer.columns(x).shape == (*shape, 8)
    # One matrix product over all rows, whatever their shape, up to its rounding.
    torch.testing.assert_close(
        layer(x).reshape(-1, 2), layer(x.reshape(-1, 3)), rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("shape", [(5, 2), (4,), (3, 5)])
def test_layer_refuses_wrong_number_of_columns(shape):
    with pytest.raises(ValueError, match="x must have 3 columns in its last dimension"):
        random_layer()(normal(*shape))


@pytest.mark.parametrize(("n_in", "n_out"), [(0, 1), (1, 0)])
def test_layer_refuses_no_features(n_in, n_out):
    with pytest.raises(ValueError, match="must be >= 1"):
        EvolvingLayer(n_in, n_out)


def test_layer_without_nodes_is_linear():
    torch.manual_seed(3)
    layer = EvolvingLayer(4, 2)
    torch.manual_seed(3)
    linear = torch.nn.Linear(4, 2)
    x = torch.randn(5, 4)
    assert layer.weight.abs().max() <= 0.5  # torch.nn.Linear's bound, 1 / sqrt(4)
    layer.load_state_dict({**layer.state_dict(), **linear.state_dict()})
    # The same matrix product on another memory layout.
    torch.testing.assert_close(layer(x), linear(x), rtol=0.0, atol=1e-6)


def test_constant_that_is_not_read_gets_no_gradient():
    layer = EvolvingLayer(2, 1, operators=("mul",))
    layer.grow([0, 0], [0, 1], [1, 1])
    layer(torch.ones(3, 2)).sum().backward()
    assert layer.constants.grad is None
    assert layer.weight.grad is not None


class Counting:
    """An operator function that counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, a, b):
        self.calls.append(tuple(a.shape))
        return a * b


def test_nodes_of_a_level_and_operator_are_computed_in_one_call():
    function = Counting()
    layer = EvolvingLayer(3, 1, operators=(Operator("counting", function, "{a} {b}"), "add"))
    # Twenty nodes on inputs, and ten that read two of those each.
    layer.grow([0] * 20, [k % 3 for k in range(20)], [k % 2 for k in range(20)])
    layer.grow([0] * 10, [3 + k for k in range(10)], [13 + k for k in range(10)])
    function.calls.clear()
    layer(torch.randn(6, 3))
    assert function.calls == [(20, 6), (10, 6)]


def test_operators_are_called_apart_only_by_level_operator_and_constant_side():
    function = Counting()
    layer = EvolvingLayer(3, 1, operators=(Operator("counting", function, "{a} {b}"), "add"))
    layer.grow([0, 1, 0, 0, 1, 0], [0, 1, CONSTANT, 2, 0, 3], [1, 1, 0, CONSTANT, 2, 0])
    layer(torch.randn(6, 3))
    assert sorted(function.calls) == [(1, 6)] * 4


# -- growing and pruning ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_growing_leaves_output_of_nodes_bit_equal(n_outputs):
    layer, x = random_layer(n_outputs=n_outputs), normal(40, 3)
    before = layer(x)
    layer.grow([1, 0], [0, 8], [7, CONSTANT], constant=[0.0, 0.3], scale=[2.0, 0.7])
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_inputs", [1, 6, 7, 8, 17])
@pytest.mark.parametrize("n_rows", [1, 7, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_growing_and_pruning_again_leave_output_bit_equal(n_inputs, n_outputs, n_rows, dtype):
    layer = EvolvingLayer(n_inputs, n_outputs, dtype=dtype)
    x = normal(n_rows, n_inputs, dtype=dtype)
    before = layer(x)
    layer.grow([1, 0], [0, n_inputs], [0, CONSTANT], constant=0.3)
    assert torch.equal(layer(x), before)
    layer.prune([0, 1])
    assert torch.equal(layer(x), before)


def test_growing_leaves_every_other_slot_bit_equal():
    layer, x = random_layer(n_outputs=2), normal(20, 3)
    before, columns = layer.network, layer.columns(x)
    layer.grow(1, 0, 7)
    assert torch.equal(layer.columns(x)[:, :8], columns)
    assert torch.equal(layer.weight[:, :8], before.weight)
    assert torch.equal(layer.weight[:, 8:], torch.zeros(2, 1, dtype=torch.float64))
    assert torch.equal(layer.constants[:5], before.constants)
    assert torch.equal(layer.scale[:5], before.scale)
    assert torch.equal(layer.bias, before.bias)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_pruning_node_of_zero_head_weight_leaves_output_bit_equal(n_outputs):
    layer, x = random_layer(n_outputs=n_outputs), normal(40, 3)
    leaf = layer.leaf_nodes()[0]
    with torch.no_grad():
        layer.weight[:, 3 + leaf] = 0.0
    before = layer(x)
    layer.prune([leaf])
    assert layer.n_nodes == 4
    assert torch.equal(layer(x), before)


def test_grow_and_prune_keep_parameter_identity_and_drop_stale_gradients():
    layer = random_layer()
    parameters = dict(layer.named_parameters())
    layer(normal(5, 3)).sum().backward()
    bias_gradient = layer.bias.grad.clone()
    layer.grow(0, 0, 1)
    layer.prune(layer.leaf_nodes()[:1])
    layer.grow(0, 0, 1)
    assert {name: id(item) for name, item in layer.named_parameters()} == {
        name: id(item) for name, item in parameters.items()
    }
    assert layer.weight.grad is None
    assert layer.constants.grad is None
    assert torch.equal(layer.bias.grad, bias_gradient)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operator": 2, "left": 0, "right": 0}, "operator must be < 2"),
        ({"operator": -1, "left": 0, "right": 0}, "codes must be >= 0"),
        ({"operator": 0, "left": 3, "right": 0}, "left operand of node 0"),
        ({"operator": 0, "left": -1, "right": -1}, "Both operands"),
        ({"operator": 0, "left": 0, "right": 0, "scale": 0.0}, "scale must be positive"),
        ({"operator": 0, "left": 0, "right": 0, "scale": float("nan")}, "scale must be positive"),
    ],
)
def test_grow_refuses_invalid_node_and_changes_nothing(arguments, message):
    layer = EvolvingLayer(3, 1)
    with pytest.raises(ValueError, match=message):
        layer.grow(**arguments)
    assert layer.n_nodes == 0


def test_prune_refuses_node_that_is_read():
    layer = EvolvingLayer(2, 1)
    layer.grow([0, 1], [0, 2], [1, 1])
    with pytest.raises(ValueError, match="only leaves can go"):
        layer.prune([0])
    assert layer.n_nodes == 2


def test_evolve_adds_a_node_each_time_and_prunes_from_two_nodes_on():
    layer, x = EvolvingLayer(3, 2, dtype=torch.float64), normal(50, 3)
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for _ in range(5):
        layer.evolve(x, generator=generator)
        sizes.append(layer.n_nodes)
    assert sizes == [1, 2, 2, 2, 2]


def test_evolve_without_benchmark_set_only_grows():
    layer = EvolvingLayer(3, 2)
    for _ in range(4):
        layer.evolve(generator=torch.Generator().manual_seed(1))
    assert layer.n_nodes == 4
    assert layer.scale.tolist() == [1.0] * 4


def test_evolve_prunes_leaf_of_lowest_weighted_deviation():
    layer, x = EvolvingLayer(2, 1, operators=("mul",), dtype=torch.float64), normal(200, 2)
    layer.grow([0, 0, 0], [0, 1, 0], [0, 1, 1])
    with torch.no_grad():
        layer.weight[0, 2:] = torch.tensor([1.0, 0.01, -1.0])
    layer.evolve(x, generator=torch.Generator().manual_seed(0))
    # Node 1, x1 * x1, is gone; the others moved up, and the new one is last.
    assert layer.left.tolist()[:2] == [0, 0]
    assert layer.right.tolist()[:2] == [0, 1]
    assert layer.weight[0, 2:].tolist() == [1.0, -1.0, 0.0]


def test_evolve_scales_new_node_to_unit_deviation():
    layer, x = EvolvingLayer(2, 1, operators=("mul",), dtype=torch.float64), normal(200, 2)
    layer.evolve(x, generator=torch.Generator().manual_seed(2))
    # The deviation is computed again from a column divided by it.
    assert layer.columns(x)[:, -1].std(correction=0).item() == pytest.approx(1.0, abs=1e-12)


def test_evolve_leaves_scale_at_one_for_a_constant_node():
    layer, x = EvolvingLayer(2, 1), torch.zeros(10, 2)
    layer.evolve(x, generator=torch.Generator().manual_seed(2))
    assert layer.scale.tolist() == [1.0]


def test_evolve_follows_its_generator_alone():
    first, second, other = (EvolvingLayer(4, 1) for _ in range(3))
    for layer, seed in ((first, 0), (second, 0), (other, 1)):
        torch.manual_seed(id(layer) % 1000)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(6):
            layer.evolve(generator=generator)
    assert first.topology == second.topology
    assert torch.equal(first.constants, second.constants)
    assert first.topology != other.topology


def test_layers_share_no_nodes():
    first, second = EvolvingLayer(2, 1), EvolvingLayer(2, 1)
    first.grow(0, 0, 1)
    assert second.n_nodes == 0


# -- frozen record and layer -----------------------------------------------------------------------


def test_from_network_and_back_is_bit_equal():
    network = random_network(n_outputs=2)
    assert_same_network(EvolvingLayer.from_network(network).network, network)


def test_training_a_layer_leaves_its_network_alone():
    network = random_network()
    before = copy.deepcopy(network)
    layer = EvolvingLayer.from_network(network)
    taken = layer.network
    with torch.no_grad():
        layer.scale.fill_(9.0)
        for parameter in layer.parameters():
            parameter.fill_(9.0)
    assert_same_network(network, before)
    assert_same_network(taken, before)


def test_reset_parameters_keeps_topology():
    layer = random_layer()
    before = layer.network
    layer.reset_parameters()
    assert layer.topology == before.topology
    assert not torch.equal(layer.weight, before.weight)
    assert not torch.equal(layer.constants, before.constants)
    assert layer.weight.abs().max() <= 8**-0.5


def test_repr_names_size_and_operators():
    layer = EvolvingLayer(3, 2)
    layer.grow(0, 0, 1)
    assert repr(layer) == "EvolvingLayer(3, 2, n_nodes=1, operators=(add, mul))"


# -- saving and loading ----------------------------------------------------------------------------


def through_memory(layer, **kwargs):
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    return torch.load(file, **kwargs)


def state_dict_as_is(layer):
    return layer.state_dict()


def state_dict_weights_only(layer):
    return through_memory(layer, weights_only=True)


@pytest.mark.parametrize("state", [state_dict_as_is, state_dict_weights_only])
@pytest.mark.parametrize("fresh_nodes", [0, 2, 9])
def test_state_dict_restores_topology_in_another_layer(state, fresh_nodes):
    layer, x = random_layer(n_outputs=2, operators=OPERATORS), normal(20, 3)
    fresh = random_layer(seed=5, n_nodes=fresh_nodes, n_outputs=2)
    assert fresh.load_state_dict(state(layer)).missing_keys == []
    assert_same_network(fresh.network, layer.network)
    assert torch.equal(fresh(x), layer(x))


@pytest.mark.parametrize("state", [state_dict_as_is, state_dict_weights_only])
def test_state_dict_restores_topology_inside_sequential(state):
    def build():
        return torch.nn.Sequential(
            EvolvingLayer(3, 4), torch.nn.ReLU(), EvolvingLayer(4, 1, operators=("mul", "max"))
        )

    model, fresh, x = build(), build(), torch.randn(9, 3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        model[0].evolve(generator=generator)
        model[2].evolve(generator=generator)
    fresh.load_state_dict(state(model))
    assert fresh[0].topology == model[0].topology
    assert fresh[2].n_nodes == 4
    assert torch.equal(fresh(x), model(x))


def test_state_dict_restores_meaning_of_codes():
    layer = random_layer(operators=("tanh", "mul", "max"))
    fresh = EvolvingLayer(3, 1, operators=("add",), dtype=torch.float64)
    fresh.load_state_dict(layer.state_dict())
    assert [operator.name for operator in fresh.operators] == ["tanh", "mul", "max"]


def test_state_dict_finds_unregistered_operator_in_fresh_layer():
    own = Operator("unregistered", smooth, "{a} {b}")
    layer, fresh = (EvolvingLayer(2, 1, operators=(own, "add")) for _ in range(2))
    layer.grow(0, 0, 1)
    fresh.load_state_dict(layer.state_dict())
    assert fresh.operators[0] is own
    with pytest.raises(ValueError, match="Unknown operator 'unregistered'"):
        EvolvingLayer(2, 1).load_state_dict(layer.state_dict())


@pytest.mark.parametrize(("n_in", "n_out"), [(4, 1), (3, 2)])
def test_load_state_dict_refuses_other_features(n_in, n_out):
    fresh = EvolvingLayer(n_in, n_out, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="size mismatch"):
        fresh.load_state_dict(random_layer().state_dict())


def test_loaded_layer_can_be_trained_and_grown():
    layer, x = random_layer(), normal(20, 3)
    fresh = EvolvingLayer(3, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(fresh.parameters(), lr=0.1)
    fresh.load_state_dict(layer.state_dict())
    fresh.grow(0, 0, 7)
    fresh(x).square().mean().backward()
    before = fresh.weight.detach().clone()
    optimizer.step()
    assert fresh.n_nodes == 6
    assert (fresh.weight != before).all()


@pytest.mark.parametrize("through", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
def test_copied_layer_is_bit_equal_and_independent(through):
    layer, x = random_layer(operators=OPERATORS), normal(20, 3)
    copied = through(layer)
    assert_same_network(copied.network, layer.network)
    assert torch.equal(copied(x), layer(x))
    copied.grow(0, 0, 1)
    with torch.no_grad():
        copied.bias.add_(1.0)
    assert layer.n_nodes == 5
    assert not torch.equal(copied.bias, layer.bias)


def test_to_converts_numbers_and_keeps_topology():
    layer = random_layer()
    before = layer.network
    layer.to(torch.float32)
    assert layer.topology == before.topology
    assert {layer.operator.dtype, layer.left.dtype, layer.right.dtype} == {torch.int64}
    assert {p.dtype for p in layer.parameters()} | {layer.scale.dtype} == {torch.float32}
    x = normal(20, 3)
    # Five single-precision operations in a row.
    torch.testing.assert_close(layer(x.float()).double(), before.predict(x), rtol=1e-4, atol=1e-4)


def test_to_meta_moves_everything_that_defines_the_function():
    layer = random_layer().to("meta")
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    assert set(tensors) == {"operator", "left", "right", "scale", "constants", "weight", "bias"}
    assert {tensor.device.type for tensor in tensors.values()} == {"meta"}


def test_layer_reads_wiring_from_its_buffers():
    # The wiring is read from the buffers, not remembered beside them.
    layer = EvolvingLayer(2, 1, operators=("mul", "add"))
    layer.grow(0, 0, 1)
    state = layer.state_dict()
    state["operator"] = torch.tensor([1])
    layer.load_state_dict(state)
    assert layer.topology == Topology(2, [1], [0], [1])
    assert layer.columns(torch.tensor([[2.0, 5.0]]))[0, 2] == 7.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(25))
def test_growing_and_pruning_silent_nodes_leaves_any_output_bit_equal(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    layer = EvolvingLayer(1 + seed % 9, 1 + seed % 3, operators=("mul", "tanh", "div"), dtype=dtype)
    x = torch.randn(1 + 2 * seed, layer.in_features, generator=generator, dtype=dtype)
    for _ in range(seed % 12):
        layer.evolve(generator=generator)
        with torch.no_grad():
            layer.weight[:, -1] = torch.randn(layer.out_features, generator=generator, dtype=dtype)
    before = layer(x)
    layer.evolve(generator=generator)
    assert torch.equal(layer(x), before)
    # A leaf in the middle, not the last one alone.
    leaf = layer.leaf_nodes()[0]
    with torch.no_grad():
        layer.weight[:, layer.in_features + leaf] = 0.0
    before = layer(x)
    layer.prune([leaf])
    assert torch.equal(layer(x), before)


def test_pickled_topology_stays_frozen():
    topology = pickle.loads(pickle.dumps(random_layer().topology))
    assert not topology.operator.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        topology.left[0] = 0
