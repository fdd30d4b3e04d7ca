"""Calibration: the factor against scipy's minimum of the same loss."""

from dataclasses import replace

import pytest
import torch
from builders import normal, random_network, target_for, weights
from scipy.optimize import minimize_scalar

from skevo.core.calibration import fit_scale
from skevo.core.course import Evolution
from skevo.core.ensemble import Ensemble
from skevo.core.held_out import HeldOut
from skevo.core.losses import CrossEntropy, LogLoss, SquaredError
from skevo.core.table import Table

LOSSES = [(LogLoss(), 1), (CrossEntropy(), 3)]


def held_out_of(loss, n_outputs, n_members, size):
    """Return members whose outputs have a size and, for each, an error of its own."""
    signal = normal(n_outputs, 400)
    outputs = size * (signal + 0.7 * normal(n_members, n_outputs, 400, seed=1))
    holder = torch.arange(400) % n_members
    table = Table(normal(1, 400), target_for(loss, signal), weights("random", 400))
    return HeldOut(table, outputs, holder)


@pytest.mark.parametrize(("loss", "n_outputs"), LOSSES)
@pytest.mark.parametrize("n_members", [2, 3, 8])
def test_scale_minimises_the_loss_that_is_expected_of_the_average(loss, n_outputs, n_members):
    held_out = held_out_of(loss, n_outputs, n_members, 4.0)
    share = 0.5 * (1.0 - 1.0 / n_members)
    following = (held_out.holder + 1) % n_members
    seen = torch.stack([held_out.outputs[m, :, row] for row, m in enumerate(following)])
    low, high = seen.amin(dim=0)[:, None], seen.amax(dim=0)[:, None]

    def objective(scale):
        value = 0.0
        for row, holder in enumerate(held_out.holder.tolist()):
            for member, part in ((holder, 1 - share), ((holder + 1) % n_members, share)):
                output = held_out.outputs[member, :, row, None]
                if member == holder:
                    output = output.clamp(low, high)
                of_row = loss.value(scale * output, held_out.target[:, row, None])
                value += part * float(held_out.weight[row] * of_row)
        return value

    best = minimize_scalar(objective, bounds=(0.1, 1.0), method="bounded", options={"xatol": 1e-6})
    assert 0.1 < best.x < 0.9
    # Sixteen halvings of log 10.
    assert fit_scale(held_out, loss) == pytest.approx(best.x, rel=1e-4)


@pytest.mark.parametrize(("loss", "n_outputs"), LOSSES)
def test_a_row_on_which_one_member_is_far_astray_decides_nothing(loss, n_outputs):
    held_out = held_out_of(loss, n_outputs, 4, 2.0)
    expected = fit_scale(held_out, loss)
    astray = held_out.outputs.clone()
    wrong = held_out.target[:, 0].argmin()
    side = 1.0 if loss.metric is not None or not held_out.target[0, 0] else -1.0
    astray[held_out.holder[0], wrong, 0] = 1e6 * side
    assert fit_scale(replace(held_out, outputs=astray), loss) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("loss", "n_outputs"), LOSSES)
def test_scale_of_outputs_that_are_too_small_is_one(loss, n_outputs):
    assert fit_scale(held_out_of(loss, n_outputs, 4, 0.1), loss) == 1.0


@pytest.mark.parametrize(("loss", "n_outputs"), LOSSES)
def test_one_member_or_nothing_held_out_is_left_as_it_is(loss, n_outputs):
    assert fit_scale(held_out_of(loss, n_outputs, 1, 4.0), loss) == 1.0
    several = held_out_of(loss, n_outputs, 3, 4.0)
    assert fit_scale(replace(several, holder=None), loss) == 1.0


def test_scaled_ensemble_gives_a_multiple():
    inputs, target, weight = normal(3, 200), normal(2, 200, seed=1), weights("random", 200)
    networks = [random_network(seed, n_outputs=2) for seed in range(5)]
    members = [Evolution(network, (), 0, "n_generations", 1.0, 0.25) for network in networks]
    plain = Ensemble.of(networks)
    corrected = plain.corrected(Table(inputs, target, weight), SquaredError(), members)
    for ensemble in (plain, corrected):
        output, scaled = (
            one.output(lambda rows: inputs[:, rows], 200)
            for one in (ensemble, ensemble.scaled(0.3))
        )
        torch.testing.assert_close(scaled, 0.3 * output)
