"""Evolution: the three steps, their bookkeeping, and when they stop."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
from builders import TAME, assert_same_network, crowd, normal, random_network
from scipy.stats import chi2

from skevo.core import evolution as module
from skevo.core import training
from skevo.core.constants import constant_step
from skevo.core.course import Course, Stopping
from skevo.core.evolution import evolve, evolve_networks, prune
from skevo.core.grower import Grower
from skevo.core.heads import coefficients, objective
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError, TorchLoss
from skevo.core.measures import mean_loss
from skevo.core.moments import measure_moments
from skevo.core.network import Network, Nodes
from skevo.core.operators import get_operators
from skevo.core.population import Population
from skevo.core.quantiles import quantile_table
from skevo.core.rows import MemoryRows
from skevo.core.settings import Settings
from skevo.core.topology import CONSTANT
from skevo.core.training import train

N = 200
TEXT = {"n_candidates": 1, "pruning": "std", "solver": "adam"}


def sources(target, inputs, n_held=0, n_sketch=None, weight=None, block_size=4096):
    """Return training, sketch and validation rows."""
    n = inputs.shape[1]
    weight = torch.ones(n, dtype=inputs.dtype) if weight is None else weight

    def source(rows):
        parts = (inputs[:, rows], target[:, rows], weight[rows])
        return MemoryRows(*(part[None] for part in parts), block_size=block_size)

    training = source(slice(n_held, None))
    sketch = training if n_sketch is None else source(slice(n_held, n_held + n_sketch))
    return training, sketch, source(slice(n_held)) if n_held else None


def make_grower(
    target=None, *, operators=TAME, loss=None, seed=0, network=None, sources_of=None, **settings
):
    inputs = normal(3, N)
    if target is None:
        target = inputs[:1] * inputs[1:2] + torch.tanh(inputs[2:] + 0.5)
        target = target + 0.1 * normal(1, N, seed=5)
    if network is None:
        network = Network.linear(get_operators(operators), 3, len(target), dtype=torch.float64)
    return Grower(
        Population.of([network]),
        *sources(target, inputs, **(sources_of or {})),
        SquaredError() if loss is None else loss,
        Settings(**settings),
        [torch.Generator().manual_seed(seed)],
    )


def only(grower):
    """Return the network of a grower that has one."""
    return grower.population.network(0)


def evolve_group(grower, stopping, watch=None):
    """Return the evolutions of a grower's networks."""
    share = 0.0 if grower.validation is None else stopping.training_share
    courses = [Course(share, None, 3) for _ in range(len(grower.population))]
    return evolve_networks([grower], courses, stopping, watch)


def evolve_alone(grower, stopping, watch=None):
    """Return the evolution of a grower that has one network."""
    (found,) = evolve_group(grower, stopping, watch)
    return found


def classes(n_classes):
    """Return a target that depends on a product."""
    inputs = normal(3, N)
    score = inputs[0] * inputs[1] + 0.2 * normal(N, seed=5)
    if n_classes == 2:
        return (score > 0).double()[None]
    return torch.nn.functional.one_hot((score > 0) + (score > 1.0).long(), 3).T.double()


def assert_consistent(grower):
    """Fail unless columns and statistics are those of the networks."""
    population = grower.population
    present = torch.from_numpy(
        np.pad(population.wiring.present, ((0, 0), (3, 0)), constant_values=True)
    )
    for source in {grower.rows, grower.sketch, grower.validation} - {None}:
        for member, own in enumerate(present):
            columns = source.columns[member]
            expected = population.network(member).columns(columns[: source.n_inputs])
            # Nodes are computed one way when they are grown and another when all are.
            torch.testing.assert_close(columns[own], expected, rtol=1e-11, atol=1e-11)
            assert (columns[~own] == 0.0).all()
    for kept, measured in zip(
        vars(grower.moments).values(), vars(measure_moments(grower.searched)).values(), strict=True
    ):
        torch.testing.assert_close(kept, measured, rtol=1e-10, atol=1e-9)
    assert grower.curvature.matrix.shape[1] == population.n_columns + 1
    quantiles = quantile_table(grower.sketch.columns, grower.sketch.weight)
    torch.testing.assert_close(
        grower.quantiles[present], quantiles[present], rtol=1e-11, atol=1e-11
    )


# -- train -----------------------------------------------------------------------------------------


def test_train_of_linear_start_is_ridge_regression():
    grower = make_grower(alpha=2.0)
    train(grower)
    x, y = grower.rows.columns[0].T.numpy(), grower.rows.target[0].T.numpy()
    expected = reference.solve_head(x, y, np.ones(N), reference.ridge_of(x, np.ones(N), 2.0))
    # A Gram matrix of moderate condition.
    np.testing.assert_allclose(coefficients(grower.population)[0], expected, rtol=1e-8, atol=1e-10)


def with_constants_to_learn():
    """Return a network with tanh(x2 + 0), where the target has 0.5."""
    network = Network.linear(get_operators(TAME), 3, 1, dtype=torch.float64)
    return network.grow(
        Nodes(
            np.array([TAME.index("tanh")]), np.array([2]), np.array([CONSTANT]),
            torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64),
        )
    )  # fmt: skip


def test_train_refines_constants_at_the_generations_it_should():
    grower = make_grower(network=with_constants_to_learn(), refine_every=3, alpha=0.1)
    constants = [0.0]
    for _ in range(5):
        train(grower)
        constants.append(float(only(grower).constants))
    moved = [before != after for before, after in pairwise(constants)]
    assert moved == [True, False, False, True, False]


def test_train_refines_less_often_where_a_sketch_stands_for_the_rows():
    inputs = normal(3, N)
    target = torch.tanh(inputs[2:] + 0.5)
    grower = make_grower(
        target, network=with_constants_to_learn(), refine_every=2, sources_of={"n_sketch": 60}
    )
    constants = [0.0]
    for _ in range(10):
        train(grower)
        constants.append(float(only(grower).constants))
    moved = [before != after for before, after in pairwise(constants)]
    assert moved == 2 * [True, *3 * [False]] + [True, False]
    # A step looks at all rows: these are the ones that it fits.
    whole = make_grower(target, network=with_constants_to_learn(), refine_every=2)
    train(whole)
    assert constants[1] == pytest.approx(float(only(whole).constants), rel=1e-6)


def test_train_refines_constants_to_the_truth():
    inputs = normal(3, N)
    grower = make_grower(
        torch.tanh(inputs[2:] + 0.5), network=with_constants_to_learn(), refine_every=1, alpha=1e-6
    )
    for _ in range(10):
        train(grower)
    # Noise-free; steps converge linearly with their damping.
    assert float(only(grower).constants) == pytest.approx(0.5, abs=1e-3)
    assert_consistent(grower)


def test_train_never_raises_the_objective_by_refining():
    network = random_network(5, n_nodes=9)
    grower = make_grower(network=network, refine_every=1, alpha=1.0)
    values = []
    for _ in range(6):
        train(grower)
        values.append(
            objective(grower.rows, grower.population, grower.loss, grower.curvature.ridge)
        )
    assert all(after <= before for before, after in pairwise(values))
    assert values[-1] < values[0]


def test_train_chooses_penalty_by_noise():
    quiet, noisy = (
        make_grower(normal(3, N)[:1] + noise * normal(1, N, seed=5), refine_every=1)
        for noise in (0.01, 100.0)
    )
    train(quiet)
    train(noisy)
    assert quiet.alpha < noisy.alpha


@pytest.mark.parametrize(("sources_of", "wait"), [({}, 1), ({"n_sketch": 60}, 2)])
def test_penalty_follows_the_nodes(sources_of, wait):
    inputs = normal(3, N)
    product = inputs[1:2] * inputs[2:]
    grower = make_grower(
        product + 0.01 * normal(1, N, seed=5), refine_every=1000, sources_of=sources_of
    )
    train(grower)
    linear = float(grower.alpha)
    one = torch.ones(1, 1, dtype=torch.float64)
    node = [np.array([[value]]) for value in (TAME.index("mul"), 1, 2)]
    grower.grow(Nodes(*node, torch.zeros_like(one), one))
    penalties = []
    for _ in range(2):
        train(grower)
        penalties.append(float(grower.alpha))
    assert linear == 100.0
    assert penalties == [linear] * (wait - 1) + [0.1] * (3 - wait)
    assert_consistent(grower)


@pytest.mark.parametrize(
    ("loss", "settings", "expected"),
    [
        (SquaredError(), {}, 3.0),
        (LogLoss(), {}, 3.0),
        (SquaredError(), {"alpha": 7.0}, 7.0),
        (LogLoss(), {"alpha": 0.0}, 0.0),
        (SquaredError(), {"solver": "adam"}, 0.0),
    ],
)
def test_penalty_starts_where_settings_say(loss, settings, expected):
    assert float(make_grower(classes(2), loss=loss, **settings).alpha) == expected


@pytest.mark.parametrize(
    ("loss", "target"), [(SquaredError(), None), (LogLoss(), normal(1, N, seed=6) > 0)]
)
def test_given_penalty_is_never_changed(loss, target):
    target = None if target is None else target.double()
    grower = make_grower(
        target, loss=loss, alpha=7.0, refine_every=1, sources_of={"n_held": N // 2}
    )
    evolve_alone(grower, Stopping(3))
    assert grower.alpha == 7.0


@pytest.mark.parametrize("loss", [LogLoss(), CrossEntropy()])
@pytest.mark.parametrize(
    ("score", "n_held", "low", "high"),
    [
        pytest.param(normal(3, N)[0], 100, 0.1, 0.3, id="separable"),
        pytest.param(normal(N, seed=5), 100, 30.0, 100.0, id="noise"),
        pytest.param(normal(N, seed=5), 0, 3.0, 3.0, id="none-held-out"),
    ],
)
def test_penalty_of_classes_follows_held_out_rows(loss, score, n_held, low, high):
    n_outputs = 2 if isinstance(loss, CrossEntropy) else 1
    target = torch.stack([score > 0, score <= 0]).double()[:n_outputs]
    grower = make_grower(
        target, loss=loss, network=random_network(n_nodes=20, n_outputs=n_outputs),
        refine_every=1, sources_of={"n_held": n_held},
    )  # fmt: skip
    train(grower)
    # Not at the linear start.
    assert grower.alpha == 3.0
    for _ in range(3):
        train(grower)
    assert low <= grower.alpha <= high
    assert_consistent(grower)


@pytest.mark.parametrize("loss", [LogLoss(), CrossEntropy()])
def test_penalty_of_classes_is_never_moved_to_where_held_out_rows_lose(loss, monkeypatch):
    grower = make_grower(
        classes(3 if isinstance(loss, CrossEntropy) else 2),
        loss=loss, refine_every=1, sources_of={"n_held": 60},
    )  # fmt: skip
    train(grower)
    evolve(grower)
    train(grower)
    before = grower.alpha, grower.population, grower.curvature
    # Whatever the model says, ...
    monkeypatch.setattr(training, "_loss_at", lambda grower, held, step: -step)
    monkeypatch.setattr(training, "mean_fall_and_error", lambda *_: (0.1, 0.1))
    training._follow_alpha(grower, grower.validation)
    # ... what does not help enough is taken back.
    assert all(now is then for now, then in zip(
        (grower.alpha, grower.population, grower.curvature), before, strict=True
    ))  # fmt: skip
    assert_consistent(grower)


def test_noise_estimates_half_the_variance_of_the_residual():
    noise = normal(1, N, seed=5)
    grower = make_grower(normal(3, N)[:1] + 2.0 * noise, alpha=1e-6)
    train(grower)
    # Unbiased up to the fit: 196 degrees of freedom are left.
    left = 2.0 * grower.loss_value * N / (2.0 * (N - 4))
    assert grower.noise == pytest.approx(left, rel=1e-6)
    assert 1.5 < grower.noise < 2.5


@pytest.mark.parametrize("size", [1.0, 5.0])
def test_apparent_noise_of_classes_is_what_noise_gains(size):
    """With a bound on the curvature, which confident predictions do not come near."""
    n, n_classes = 4000, 4
    output = size * normal(n_classes, n)
    shares = torch.softmax(output, dim=0)
    labels = torch.multinomial(shares.T, 1, generator=torch.Generator().manual_seed(7))[:, 0]
    target = torch.nn.functional.one_hot(labels, n_classes).T.double()
    # Heads that give these outputs, of inputs that are the outputs.
    network = Network.linear(get_operators(TAME), n_classes, n_classes, dtype=torch.float64)
    network = replace(network, weight=torch.eye(n_classes, dtype=torch.float64))
    ones = torch.ones(1, n, dtype=torch.float64)
    rows = MemoryRows(output[None], target[None], ones)
    generators = [torch.Generator()]
    grower = Grower(
        Population.of([network]), rows, rows, None, CrossEntropy(), Settings(), generators
    )
    grower.measure()
    noise = normal(2000, n, seed=3)
    slope = noise @ (target - shares).T
    gain = slope.square().sum(dim=1) / (2.0 * CrossEntropy.metric * noise.square().sum(dim=1))
    assert grower.apparent_noise == pytest.approx(float(gain.mean()), rel=0.1)
    # Where predictions are confident, that is little.
    assert float(grower.noise) == 0.5
    assert (grower.apparent_noise < 0.35) == (size > 2.0)


@pytest.mark.parametrize("loss", [SquaredError(), LogLoss()])
def test_apparent_noise_of_other_losses_is_the_noise(loss):
    grower = make_grower(classes(2), loss=loss)
    train(grower)
    assert torch.equal(grower.apparent_noise, grower.noise)


@pytest.mark.parametrize(("loss", "n_free"), [(SquaredError(), 9), (CrossEntropy(), 8)])
def test_threshold_for_several_outputs_is_as_strict_as_for_one(loss, n_free):
    labels = torch.from_numpy(np.random.default_rng(0).integers(9, size=N))
    grower = make_grower(torch.nn.functional.one_hot(labels, 9).T.double(), loss=loss)
    train(grower)
    threshold = float(module._threshold(grower) / grower.apparent_noise)
    gains = np.random.default_rng(1).normal(size=(n_free, 200_000)) ** 2
    share = (gains.mean(axis=0) > threshold).mean()
    assert share == pytest.approx(chi2.sf(4.0, 1), rel=0.03)


def test_threshold_for_one_output_is_that_of_the_settings():
    grower = make_grower()
    train(grower)
    expected = grower.settings.grow_above * grower.noise
    assert module._threshold(grower) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(
    ("loss", "n_classes", "n_steps"), [(LogLoss(), 2, 1), (CrossEntropy(), 3, 6)]
)
@pytest.mark.parametrize("n_held", [0, 40])
def test_heads_that_are_judged_by_held_out_rows_need_not_be_at_the_optimum(
    monkeypatch, loss, n_classes, n_steps, n_held
):
    taken, fit_head = [], training.fit_head

    def watch(*args, **kwargs):
        taken.append(args[6])
        return fit_head(*args, **kwargs)

    monkeypatch.setattr(training, "fit_head", watch)
    grower = make_grower(classes(n_classes), loss=loss, sources_of={"n_held": n_held})
    train(grower)
    assert set(taken) == {15}
    taken.clear()
    evolve(grower)
    train(grower)
    assert set(taken) == {n_steps if n_held else 15}


def test_members_take_back_the_steps_that_do_not_help(monkeypatch):
    rows, population = crowd()
    # Two do not move, one goes much too far, and one goes a little of the way.
    moves = torch.tensor([0.0, 0.0, 1e3, 0.1], dtype=torch.float64)
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    settings = Settings(alpha=1.0, refine_every=2)
    grower = Grower(population, rows, rows, None, SquaredError(), settings, generators)
    grower.age = 1
    train(grower)
    before = grower.population
    step = constant_step(rows, before, grower.loss, grower.curvature, 1e-3)
    step = step * moves[:, None]
    monkeypatch.setattr(training, "constant_step", lambda *args, **kwargs: step)
    value = grower.objective
    train(grower)
    moved = (grower.population.constants != before.constants).any(dim=1)
    assert step[2:].any(dim=1).all()
    assert moved.tolist() == [False, False, False, True]
    for name in ("weight", "bias"):
        torch.testing.assert_close(
            getattr(grower.population, name)[:3], getattr(before, name)[:3], rtol=1e-9, atol=1e-9
        )
    assert (grower.objective[3:] < value[3:]).all()
    assert_consistent(grower)


# -- prune -----------------------------------------------------------------------------------------


def grown(**settings):
    """Return a grower whose network has useful and useless nodes, trained."""
    grower = make_grower(alpha=1.0, **settings)
    mul, tanh = TAME.index("mul"), TAME.index("tanh")
    one = torch.ones(1, 4, dtype=torch.float64)
    # Useful: x0 * x1, tanh(x2 + 0.5). Useless: sums of inputs' tanh, read by one another.
    grower.grow(
        Nodes(
            np.array([[mul, tanh, tanh, mul]]), np.array([[0, 2, 0, 1]]),
            np.array([[1, CONSTANT, 1, 1]]), 0.5 * one, one,
        )
    )  # fmt: skip
    last = (np.array([[value]]) for value in (tanh, 5, 6))
    grower.grow(Nodes(*last, one[:, :1], one[:, :1]))
    train(grower)
    return grower


def test_prune_by_loss_removes_useless_leaves_and_keeps_useful_ones():
    grower = grown(prune_below=3.0)
    before = only(grower).topology
    prune(grower)
    topology = only(grower).topology
    kept = set(zip(topology.operator.tolist(), topology.left.tolist(), strict=True))
    assert topology.n_nodes < before.n_nodes
    assert {(TAME.index("mul"), 0), (TAME.index("tanh"), 2)} <= kept
    assert_consistent(grower)


def test_prune_by_loss_leaves_head_at_its_new_optimum():
    grower = grown(prune_below=3.0)
    prune(grower)
    pruned = coefficients(grower.population)[0]
    x, y = grower.rows.columns[0].T.numpy(), grower.rows.target[0].T.numpy()
    expected = reference.solve_head(x, y, np.ones(N), reference.ridge_of(x, np.ones(N), 1.0))
    # Rank-one corrections of an inverse.
    np.testing.assert_allclose(pruned, expected, rtol=1e-6, atol=1e-8)


def test_prune_by_loss_rises_by_less_than_allowed_for_each():
    grower = grown(prune_below=3.0)
    before = objective(grower.rows, grower.population, grower.loss, grower.curvature.ridge)
    allowed, n_nodes = 3.0 * grower.noise, only(grower).n_nodes
    prune(grower)
    after = objective(grower.rows, grower.population, grower.loss, grower.curvature.ridge)
    assert after - before <= (n_nodes - only(grower).n_nodes) * allowed


@pytest.mark.parametrize("pruning", ["loss", "std"])
@pytest.mark.parametrize(("max_nodes", "n_left"), [(5, 4), (6, 5), (100, 5)])
def test_prune_makes_room_only_where_the_network_is_full(max_nodes, n_left, pruning):
    grower = grown(pruning=pruning, max_nodes=max_nodes, prune_below=0.0)
    prune(grower)
    assert only(grower).n_nodes == n_left
    assert_consistent(grower)


def test_prune_by_std_removes_leaf_of_lowest_contribution():
    grower = grown(pruning="std", max_nodes=5)
    network, topology = only(grower), only(grower).topology
    columns = grower.rows.columns[0].numpy()[3:]
    contributions = np.abs(network.weight.numpy()[0, 3:]) * columns.std(axis=1)
    leaves = np.flatnonzero(reference.leaves(topology))
    weakest = leaves[np.argmin(contributions[leaves])]
    prune(grower)
    kept = [node for node in range(5) if node != weakest]
    assert only(grower).topology.operator.tolist() == topology.operator[kept].tolist()
    assert torch.equal(only(grower).weight, network.weight[:, [0, 1, 2, *(3 + k for k in kept)]])


# -- evolve ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_candidates", [1, 300])
@pytest.mark.parametrize("solver", ["exact", "adam"])
@pytest.mark.parametrize("sources_of", [{}, {"n_sketch": 60, "n_held": 40}])
def test_evolve_leaves_function_and_other_slots_unchanged(n_candidates, solver, sources_of):
    grower = make_grower(
        n_candidates=n_candidates, solver=solver, sources_of=sources_of, grow_above=0.0
    )
    train(grower)
    evolve(grower)
    train(grower)
    before = copy.deepcopy(only(grower))
    evolve(grower)
    after = only(grower)
    n_columns = before.topology.n_columns
    assert after.n_nodes > before.n_nodes
    assert torch.equal(after.weight[:, :n_columns], before.weight)
    assert (after.weight[:, n_columns:] == 0.0).all()
    assert torch.equal(after.bias, before.bias)
    assert torch.equal(after.constants[: before.n_nodes], before.constants)
    assert torch.equal(after.scale[: before.n_nodes], before.scale)
    inputs = normal(3, 30, seed=9)
    # The head's sum has more terms, all of them zero.
    torch.testing.assert_close(
        after.predict(inputs.T), before.predict(inputs.T), rtol=1e-13, atol=1e-13
    )
    if solver == "exact":
        assert_consistent(grower)


@pytest.mark.parametrize("n_new", [1, 2, 5])
@pytest.mark.parametrize("max_nodes", [0, 1, 4])
def test_evolve_adds_no_more_than_asked_and_than_there_is_room(max_nodes, n_new):
    grower = make_grower(n_new=n_new, max_nodes=max_nodes, grow_above=0.0)
    train(grower)
    evolve(grower)
    assert 0 <= only(grower).n_nodes <= min(2 * n_new, max_nodes)
    assert (only(grower).n_nodes > 0) == (max_nodes > 0)


@pytest.mark.parametrize(("noise", "expected"), [(0.01, 4), (1e3, 2)])
def test_evolve_adds_more_than_asked_only_where_the_gain_is_certain(noise, expected):
    inputs = normal(3, N)
    products = inputs[:1] * inputs[1:2] + inputs[1:2] * inputs[2:] + inputs[:1] * inputs[2:]
    target = products + inputs[:1].square() + noise * normal(1, N, seed=5)
    # In the noise, the bar for the first ones is so low that chance alone passes it.
    grower = make_grower(target, operators=("mul",), n_new=2, grow_above=0.2 if noise > 1 else 4.0)
    train(grower)
    evolve(grower)
    assert only(grower).n_nodes == expected


def test_evolve_adds_nothing_below_the_noise():
    # A target of pure noise, and a bar that no chance gain among 250 candidates reaches.
    grower = make_grower(normal(1, N, seed=5), grow_above=40.0)
    train(grower)
    evolve(grower)
    assert only(grower).n_nodes == 0


def test_evolve_scales_nodes_to_unit_deviation():
    grower = make_grower(sources_of={"n_sketch": 60})
    train(grower)
    evolve(grower)
    deviation = grower.rows.columns[0, 3:].std(dim=1, correction=0)
    # Measured in one pass, on all rows, although candidates were screened on sixty.
    torch.testing.assert_close(deviation, torch.ones_like(deviation), rtol=1e-9, atol=1e-9)


def test_evolve_survives_a_pool_without_candidates():
    grower = make_grower(operators=("mul",), n_candidates=2, prune_below=-1.0, grow_above=-1.0)
    sizes = []
    for _ in range(12):
        train(grower)
        evolve(grower)
        sizes.append(only(grower).n_nodes)
    assert sizes[-1] > 0


def test_evolve_never_scales_a_node_by_rounding():
    # Nodes that are constant on the rows, such as a maximum with 50: their deviation is rounding.
    target = normal(1, N)
    grower = make_grower(target, operators=("max",), n_candidates=1, max_nodes=500)
    grower.rows.columns[:, :3] -= 1e3
    for _ in range(60):
        evolve(grower)
    columns = grower.rows.columns[0, 3:]
    constant = columns.std(dim=1, correction=0) < 1e-6
    assert constant.any()
    assert (only(grower).scale[constant] == 1.0).all()


# -- all of it -------------------------------------------------------------------------------------


def test_one_generation_with_mul_finds_product_term():
    inputs = normal(3, N)
    target = 3.0 * inputs[:1] * inputs[2:] - inputs[1:2] + 0.5
    grower = make_grower(target, operators=("mul",), alpha=1e-8, n_new=1, n_candidates=100)
    found = evolve_alone(grower, Stopping(1))
    topology = found.network.topology
    assert (topology.left.tolist(), topology.right.tolist()) == ([0], [2])
    weight = found.network.weight[0] / torch.cat([torch.ones(3), found.network.scale])
    # The penalty shrinks by 1e-8 of the sum of squares.
    np.testing.assert_allclose(weight, [0.0, -1.0, 0.0, 3.0], atol=1e-8)
    assert float(found.network.bias) == pytest.approx(0.5, abs=1e-8)
    assert found.history[1].loss < 1e-12


def test_no_generations_give_the_linear_model():
    grower = make_grower(alpha=2.0)
    found = evolve_alone(grower, Stopping(0))
    train(other := make_grower(alpha=2.0))
    assert_same_network(found.network, only(other))
    assert len(found.history) == 1


CASES = [
    pytest.param({}, id="exact"),
    pytest.param({"n_candidates": 1, "pruning": "std"}, id="blind"),
    pytest.param({"solver": "adam", "learning_rate": 0.05, "batch_size": 50}, id="adam"),
    pytest.param({**TEXT, "learning_rate": 0.05}, id="source-text"),
    pytest.param({"sources_of": {"n_held": 50}}, id="held-out"),
    pytest.param({"sources_of": {"n_held": 50, "n_sketch": 60}}, id="sketch"),
    pytest.param({"loss": LogLoss(), "target": classes(2)}, id="log"),
    pytest.param({"loss": CrossEntropy(), "target": classes(3)}, id="cross-entropy"),
    pytest.param({"max_nodes": 3}, id="full"),
    pytest.param(
        {
            "loss": TorchLoss(
                torch.nn.functional.l1_loss,
                torch.zeros(1, 1, dtype=torch.float64),
                torch.ones(1, 1, dtype=torch.float64),
            ),
            "solver": "adam",
            "learning_rate": 0.05,
        },
        id="any-loss",
    ),
]


@pytest.mark.parametrize("arguments", CASES)
def test_evolution_returns_network_of_the_best_generation(arguments):
    grower = make_grower(**arguments)
    found = evolve_alone(grower, Stopping(8, None))
    values = [record.validation_loss for record in found.history]
    assert found.best_generation == int(np.argmin(values))
    best = found.history[found.best_generation]
    assert found.network.n_nodes == best.n_nodes
    # The network computes what was recorded for it.
    rows = grower.searched
    best_alone = Population.of([found.network])
    rows.assign(best_alone)
    value = float(mean_loss(rows, best_alone, grower.loss))
    loss = grower.loss.reported(value, len(found.network.bias))
    assert loss == pytest.approx(best.loss, rel=1e-9, abs=1e-12)
    if (validation := grower.validation) is not None:
        validation.assign(best_alone)
        held = float(mean_loss(validation, best_alone, grower.loss))
        assert grower.loss.reported(held, 1) == pytest.approx(best.validation_loss, rel=1e-9)


@pytest.mark.parametrize("arguments", CASES)
def test_evolution_lowers_the_loss_of_the_linear_start(arguments):
    found = evolve_alone(make_grower(**arguments), Stopping(8, None))
    assert min(record.loss for record in found.history) < found.history[0].loss


@pytest.mark.parametrize("arguments", CASES)
def test_evolution_is_the_same_for_the_same_seed_only(arguments):
    # A pool that is small enough for chance to have a say.
    arguments = {"n_candidates": 20, **arguments}
    torch.manual_seed(0)
    first = evolve_alone(make_grower(**arguments), Stopping(4, None))
    torch.manual_seed(1)
    second = evolve_alone(make_grower(**arguments), Stopping(4, None))
    other = evolve_alone(make_grower(**arguments, seed=1), Stopping(4, None))
    assert_same_network(first.network, second.network)
    assert [record[:3] for record in first.history] == [record[:3] for record in second.history]
    assert [record[:3] for record in first.history] != [record[:3] for record in other.history]


@pytest.mark.parametrize("arguments", [{}, {"loss": LogLoss(), "target": classes(2)}])
def test_evolution_is_independent_of_block_size(arguments):
    histories = [
        evolve_alone(
            make_grower(**arguments, sources_of={"n_held": 50, "block_size": block_size}),
            Stopping(5, None),
        ).history
        for block_size in (64, 100_000)
    ]
    losses = [[record.loss for record in history] for history in histories]
    # Sums in another order, through five generations of solves.
    np.testing.assert_allclose(*losses, rtol=1e-7)
    assert [r.n_nodes for r in histories[0]] == [r.n_nodes for r in histories[1]]


def test_evolution_keeps_columns_and_statistics_in_step():
    grower = make_grower(sources_of={"n_held": 40, "n_sketch": 60}, max_nodes=6, prune_below=4.0)
    for _ in range(10):
        train(grower)
        assert_consistent(grower)
        prune(grower)
        assert_consistent(grower)
        evolve(grower)
        assert_consistent(grower)


@pytest.mark.parametrize("pruning", ["loss", "std"])
@pytest.mark.parametrize("max_nodes", [0, 1, 4])
def test_evolution_never_exceeds_max_nodes(max_nodes, pruning):
    grower = make_grower(max_nodes=max_nodes, pruning=pruning, grow_above=0.0)
    history = evolve_alone(grower, Stopping(6, None)).history
    assert max(record.n_nodes for record in history) == max_nodes


def test_evolution_takes_its_three_steps_in_order(monkeypatch):
    calls = []
    for name in ("train", "prune", "evolve"):
        step = getattr(module, name)

        def called(grower, name=name, step=step):
            calls.append(name)
            step(grower)

        monkeypatch.setattr(module, name, called)
    evolve_alone(make_grower(), Stopping(2, None))
    assert calls == ["train", "prune", "evolve", "train", "prune", "evolve", "train"]


def test_every_generation_is_watched():
    lines = []

    def watch(growth):
        lines.append(growth.courses[0].history[-1])
        return ""

    found = evolve_alone(make_grower(), Stopping(3, None), watch)
    assert lines == list(found.history)
    assert [record.seconds for record in found.history] == sorted(
        record.seconds for record in found.history
    )


def test_who_watches_may_stop_and_has_what_has_been_found():
    kept = []

    def watch(growth):
        kept.extend(growth.evolutions("so far"))
        return "enough" if growth.n_generations == 2 else ""

    found = evolve_alone(make_grower(), Stopping(9, None), watch)
    assert found.stop_reason == "enough"
    assert [len(one.history) for one in kept] == [1, 2, 3]
    assert_same_network(kept[-1].network, found.network)


# -- stopping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_generations", [0, 1, 5])
def test_evolution_stops_after_n_generations(n_generations):
    found = evolve_alone(make_grower(), Stopping(n_generations, None))
    assert found.stop_reason == "n_generations"
    assert len(found.history) == n_generations + 1


def scripted(monkeypatch, *members):
    """Have generations report these validation losses of each member."""
    lines = zip(*members, strict=True)

    def assess(grower):
        return [module.Generation(value, value, 0, 0.0) for value in next(lines)]

    monkeypatch.setattr(module, "_assess", assess)


@pytest.mark.parametrize(
    ("values", "patience", "tol", "n_lines", "best"),
    [
        pytest.param([5, 4, 4, 4, 4], 2, 0.0, 4, 1, id="flat"),
        pytest.param([5, 4, 6, 3, 6, 6, 6], 2, 0.0, 6, 3, id="improves-in-time"),
        pytest.param([5, 6, 7, 8], 3, 0.0, 4, 0, id="worse-from-the-start"),
        pytest.param([5, 4.9, 4.8, 4.7], 2, 0.1, 3, 2, id="below-tolerance-but-better"),
        pytest.param([5, 4.9, 4.8, 4.4, 4.4, 4.4, 4.4], 3, 0.1, 7, 3, id="adds-up-to-tolerance"),
        pytest.param([-5, -5.2, -5.4, -9], 2, 0.1, 3, 2, id="negative-loss"),
    ],
)
def test_evolution_stops_without_improvement(monkeypatch, values, patience, tol, n_lines, best):
    scripted(monkeypatch, [*values, *[99] * 20])
    found = evolve_alone(make_grower(), Stopping(20, patience, tol))
    assert found.stop_reason == "n_iter_no_change"
    assert len(found.history) == n_lines
    assert found.best_generation == best


def test_members_stop_together_and_keep_their_own_best_generation(monkeypatch):
    scripted(monkeypatch, [5, 3, 4, 4, 4, 4, 4, 4], [5, 5, 4, 2.5, 2, 9, 9, 9])
    linear = Network.linear(get_operators(TAME), 3, 1, dtype=torch.float64)
    inputs, target = normal(2, 3, 60), normal(2, 1, 60)
    rows = MemoryRows(inputs, target, torch.ones(2, 60, dtype=torch.float64))
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    grower = Grower(
        Population.of([linear] * 2), rows, rows, None, SquaredError(), Settings(), generators
    )
    found = evolve_group(grower, Stopping(20, 2, 0.0))
    assert [one.stop_reason for one in found] == ["n_iter_no_change"] * 2
    assert [len(one.history) for one in found] == [7, 7]
    assert [one.best_generation for one in found] == [1, 4]


def test_members_are_judged_as_part_of_an_average(monkeypatch):
    # Of (validation, training) loss; a share of (1 - 1/4)/2 of their difference is taken off.
    lines = iter([(1.0, 0.9), (0.8, 0.8), (0.82, 0.5), (0.9, 0.4), (1.1, 0.1), (2.0, 0.0)])

    def assess(grower):
        held, loss = next(lines)
        return [module.Generation(loss, held, 0, 0.0)]

    monkeypatch.setattr(module, "_assess", assess)
    grower = make_grower(sources_of={"n_held": 40})
    found = evolve_alone(grower, Stopping(5, None, n_averaged=4))
    judged = [1.0 - 0.0375, 0.8, 0.82 - 0.12, 0.9 - 0.1875, 1.1 - 0.375, 2.0 - 0.75]
    assert found.best_generation == int(np.argmin(judged)) == 2


def test_held_out_predictions_are_clipped_to_the_widened_range_of_the_targets():
    grower = make_grower(sources_of={"n_held": 40})
    network = only(grower)
    far = replace(network, bias=torch.full_like(network.bias, 1e6))
    grower.revalue(Population.of([far]))
    (record,) = module._assess(grower)
    target = grower.rows.target[0, 0]
    high = float(target.max() + 0.1 * (target.max() - target.min()))
    expected = (grower.validation.target[0, 0] - high).square().mean()
    assert record.validation_loss == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("loss", "n_classes"), [(LogLoss(), 2), (CrossEntropy(), 3)])
def test_held_out_rows_far_astray_count_as_ten(loss, n_classes):
    grower = make_grower(classes(n_classes), loss=loss, sources_of={"n_held": 40})
    network = only(grower)
    far = torch.zeros_like(network.bias)
    far[0] = 1e6
    grower.revalue(Population.of([replace(network, bias=far)]))
    (record,) = module._assess(grower)
    wrong = grower.validation.target[0, 0] == 0
    assert record.validation_loss == pytest.approx(10.0 * float(wrong.double().mean()), rel=1e-9)


def test_evolution_stops_after_max_time(monkeypatch):
    # The clock is the test's: a second for each look at it.
    ticks = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    found = evolve_alone(make_grower(), Stopping(50, None, max_time=3.5))
    assert found.stop_reason == "max_time"
    assert [record.seconds for record in found.history] == [1.0, 2.0, 3.0, 4.0]


def test_evolution_without_patience_goes_on(monkeypatch):
    scripted(monkeypatch, [1.0] * 10)
    assert len(evolve_alone(make_grower(), Stopping(9, None)).history) == 10


@pytest.mark.parametrize(("n_least", "n_generations"), [(0, 2), (2, 2), (3, 3), (5, 5)])
def test_lack_of_improvement_stops_nothing_before_the_least(monkeypatch, n_least, n_generations):
    scripted(monkeypatch, [1.0] * 10)
    found = evolve_alone(make_grower(), Stopping(9, 2, n_least=n_least))
    assert found.stop_reason == "n_iter_no_change"
    assert len(found.history) == 1 + n_generations
