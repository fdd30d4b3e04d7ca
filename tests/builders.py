"""Random topologies, networks, populations and rows for the tests."""

from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from skevo.core.losses import CrossEntropy, LogLoss
from skevo.core.network import Network
from skevo.core.operators import get_operators
from skevo.core.population import Population
from skevo.core.rows import MemoryRows
from skevo.core.topology import CONSTANT, Topology

OPERATORS = (
    "add", "sub", "mul", "div", "max", "min", "tanh", "sin", "gauss", "step", "steep", "relu",
    "gate",
)  # fmt: skip
# Operators that keep columns of order one at any depth.
TAME = ("add", "mul", "max", "tanh", "sin", "gauss", "step")


def take_rows(monkeypatch, n_rows):
    """Have members see so many rows at most: what has more is a large table."""
    for name in ("folds", "members"):
        monkeypatch.setattr(f"skevo.core.{name}.MOST_ROWS", n_rows)


@st.composite
def topologies(draw, n_operators=13, min_inputs=1, max_inputs=3, max_nodes=6, min_nodes=0):
    """Draw a valid topology; columns are drawn as often as constants are not."""
    n_inputs = draw(st.integers(min_inputs, max_inputs))
    n_nodes = draw(st.integers(min_nodes, max_nodes))
    operator, left, right = [], [], []
    for node in range(n_nodes):
        column = st.integers(0, n_inputs + node - 1)
        operator.append(draw(st.integers(0, n_operators - 1)))
        a, b = draw(column), draw(column)
        side = draw(st.sampled_from(["none", "none", "left", "right"]))
        left.append(CONSTANT if side == "left" else a)
        right.append(CONSTANT if side == "right" else b)
    return Topology(n_inputs, operator, left, right)


def network_of(topology, operators=OPERATORS, n_outputs=1, seed=0, dtype=torch.float64):
    """Return a network of that topology with random numbers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    n_nodes = topology.n_nodes
    return Network(
        get_operators(operators),
        topology,
        normal(n_nodes),
        0.5 + torch.rand(n_nodes, generator=generator, dtype=dtype),
        normal(n_outputs, topology.n_columns),
        normal(n_outputs),
    )


def random_network(seed=0, n_inputs=3, n_nodes=5, n_outputs=1, operators=TAME, dtype=torch.float64):
    """Return a network whose nodes read random earlier columns, some of them a constant."""
    draw = np.random.default_rng(seed)
    left = [int(draw.integers(n_inputs + node)) for node in range(n_nodes)]
    right = [
        CONSTANT if node % 3 == 1 else int(draw.integers(n_inputs + node))
        for node in range(n_nodes)
    ]
    operator = draw.integers(len(operators), size=n_nodes)
    topology = Topology(n_inputs, operator, left, right)
    return network_of(topology, operators, n_outputs, seed, dtype)


def normal(*shape, seed=0, dtype=torch.float64):
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alone(network):
    """Return the population of one network."""
    return Population.of([network])


def rows_for(network, target, inputs, weight=None, block_size=4096):
    """Return rows of one member that hold its columns.

    Parameters
    ----------
    network : Network or Population
        A population of one.
    target : Tensor of shape (n_outputs, n_samples)
    inputs : Tensor of shape (n_inputs, n_samples)
    weight : Tensor of shape (n_samples,), default=None
        Ones if None.
    block_size : int, default=4096
    """
    weight = torch.ones_like(inputs[0]) if weight is None else weight
    rows = MemoryRows(inputs[None], target[None], weight[None], block_size=block_size)
    rows.assign(network if isinstance(network, Population) else alone(network))
    return rows


def random_population(n_outputs=1, operators=TAME):
    """Return four networks with 8, no, 5 and 3 nodes in nine slots, some empty in the middle."""
    # Seeds whose columns are far from dependent, and whose first leaf is not their last node.
    population = Population.of(
        [
            random_network(seed, n_nodes=size, n_outputs=n_outputs, operators=operators)
            for seed, size in ((212, 9), (0, 0), (41, 6), (10, 4))
        ]
    )
    leaves = population.wiring.leaves
    return population.without(leaves & (np.cumsum(leaves, axis=1) == 1))


def crowd(loss=None, n_outputs=1, n_samples=120, block_size=4096):
    """Return rows and population of four members that differ in all but the operators."""
    population, n = random_population(n_outputs), n_samples
    inputs = normal(4, 3, n)
    targets = [
        target_for(loss, random_network(3, n_outputs=n_outputs).predict(own.T).T) for own in inputs
    ]
    weight = [weights(kind, n) for kind in ("ones", "counts", "random", "random")]
    weight[3] = 10.0 * weight[3].flip(0)
    rows = MemoryRows(inputs, torch.stack(targets), torch.stack(weight), block_size)
    rows.assign(population)
    return rows, population


class Single(NamedTuple):
    """A member of a crowd on its own, without empty slots.

    ``columns`` and ``augmented`` say where in the crowd its columns are, and its ``[1, c]``.
    """

    rows: MemoryRows
    population: Population
    columns: torch.Tensor
    augmented: torch.Tensor


def singles(rows, population):
    """Return every member of a crowd on its own."""
    result = []
    for member, present in enumerate(population.wiring.present):
        own, n_inputs = alone(population.network(member)), rows.n_inputs
        columns = np.append(np.arange(n_inputs), n_inputs + np.flatnonzero(present))
        parts = (rows.target, rows.columns[:, :n_inputs], rows.weight)
        result.append(
            Single(
                rows_for(own, *(part[member] for part in parts), rows.block_size),
                own,
                torch.as_tensor(columns),
                torch.as_tensor(np.append(0, 1 + columns)),
            )
        )
    return result


def assert_same_network(one, other):
    """Fail unless two networks are equal, bit by bit."""
    assert one.topology == other.topology
    assert [item.name for item in one.operators] == [item.name for item in other.operators]
    for name in ("constants", "scale", "weight", "bias"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def target_for(loss, signal):
    """Return the signal with noise, or its classes, as a loss wants it."""
    target = signal + 0.3 * normal(*signal.shape, seed=2)
    if isinstance(loss, LogLoss):
        return (target > target.median()).double()
    if isinstance(loss, CrossEntropy):
        return torch.nn.functional.one_hot(target.argmax(dim=0), len(target)).T.double()
    return target


def weights(kind, n):
    """Return weights of n rows: all one, random, or counts with zeros among them."""
    draw = np.random.default_rng(5)
    weight = {
        "ones": np.ones(n),
        "random": draw.uniform(0.1, 3.0, n),
        "counts": draw.integers(0, 4, n).astype(float),
    }[kind]
    return torch.from_numpy(weight)
