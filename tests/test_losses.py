"""Losses: residuals, curvatures and their bounds, against automatic differentiation."""

import math

import pytest
import torch
from builders import normal
from torch.nn import functional

from skevo.core.losses import CrossEntropy, LogLoss, SquaredError, TorchLoss


def units(n_outputs):
    """Return shift and scale of the target's units."""
    index = torch.arange(n_outputs, dtype=torch.float64)[:, None]
    return index - 2.0, 0.5 + index


def mean_huber(prediction, target):
    return functional.huber_loss(prediction, target)


def huber_per_sample(prediction, target):
    return functional.huber_loss(prediction, target, reduction="none")


def cases():
    return list(_cases())


def _cases():
    classes = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    yield pytest.param(SquaredError(), normal(3, 7), id="squared")
    yield pytest.param(LogLoss(), (normal(1, 7) > 0).double(), id="log")
    yield pytest.param(
        CrossEntropy(), functional.one_hot(classes, 3).T.double(), id="cross-entropy"
    )
    yield pytest.param(TorchLoss(mean_huber, *units(1)), normal(1, 7), id="torch-mean")
    yield pytest.param(TorchLoss(mean_huber, *units(3)), normal(3, 7), id="torch-mean-3")
    yield pytest.param(TorchLoss(huber_per_sample, *units(1)), normal(1, 7), id="torch-each")
    yield pytest.param(TorchLoss(huber_per_sample, *units(3)), normal(3, 7), id="torch-each-3")


@pytest.mark.parametrize(("loss", "target"), cases())
def test_value_has_one_entry_per_sample(loss, target):
    value = loss.value(normal(*target.shape, seed=1), target)
    assert value.shape == (7,)
    # Each sample's is what the loss says of the sample alone.
    alone = torch.cat(
        [loss.value(normal(*target.shape, seed=1)[:, [k]], target[:, [k]]) for k in range(7)]
    )
    torch.testing.assert_close(value, alone, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("loss", "target"), cases())
@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0])
def test_residual_is_negative_gradient(loss, target, spread):
    output = (spread * normal(*target.shape, seed=1)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss.value(output, target).sum(), output)
    with torch.no_grad():
        residual = loss.residual(output, target)
    # Cancellation in log(1 + exp) and its like: a few ulps of one.
    torch.testing.assert_close(residual, -gradient, rtol=1e-10, atol=1e-12)
    assert not residual.requires_grad


def hessians(loss, target, output):
    """Return the Hessian of each sample's loss, of shape (n_samples, n_outputs, n_outputs)."""
    return torch.stack(
        [
            torch.autograd.functional.hessian(
                lambda eta, k=k: loss.value(eta[:, None], target[:, [k]]).sum(), output[:, k]
            )
            for k in range(target.shape[1])
        ]
    )


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_log_loss_curvature_is_second_derivative(spread):
    target, output = (normal(1, 7) > 0).double(), spread * normal(1, 7, seed=1)
    torch.testing.assert_close(
        LogLoss().curvature(output), hessians(LogLoss(), target, output)[:, 0, 0]
    )


def test_squared_error_curvature_is_its_hessian():
    target, output = normal(3, 7), normal(3, 7, seed=1)
    expected = torch.eye(3, dtype=torch.float64).expand(7, 3, 3)
    torch.testing.assert_close(hessians(SquaredError(), target, output), expected)
    assert SquaredError().metric == 1.0
    assert torch.equal(SquaredError().curvature(output), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_cross_entropy_curvature_is_below_its_bound(n_classes, spread):
    target = functional.one_hot(torch.arange(7) % n_classes, n_classes).T.double()
    output = spread * normal(n_classes, 7, seed=1)
    highest = torch.linalg.eigvalsh(hessians(CrossEntropy(), target, output)).max()
    # Rounding of the eigenvalues.
    assert highest <= CrossEntropy().metric + 1e-12
    assert (CrossEntropy().curvature(output) == CrossEntropy().metric).all()


def test_cross_entropy_bound_is_attained_by_two_even_classes():
    target = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    output = torch.zeros(2, 1, dtype=torch.float64)
    highest = torch.linalg.eigvalsh(hessians(CrossEntropy(), target, output)).max()
    assert float(highest) == pytest.approx(CrossEntropy().metric, rel=1e-12)


@pytest.mark.parametrize("output", [-800.0, -40.0, 0.0, 40.0, 800.0])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_log_loss_is_finite_and_right_at_extreme_log_odds(output, target):
    eta = torch.tensor([[output]], dtype=torch.float64)
    truth = torch.tensor([[target]], dtype=torch.float64)
    wrong = output if target == 0.0 else -output
    expected = wrong if wrong > 30 else math.log1p(math.exp(wrong))
    # A difference of terms of order 40.
    assert float(LogLoss().value(eta, truth)) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert torch.isfinite(LogLoss().residual(eta, truth)).all()


def test_log_loss_of_odds_is_cross_entropy_of_two_outputs():
    output, target = normal(1, 7, seed=1), (normal(1, 7) > 0).double()
    both = CrossEntropy().value(
        torch.cat([torch.zeros_like(output), output]), torch.cat([1 - target, target])
    )
    torch.testing.assert_close(LogLoss().value(output, target), both)


@pytest.mark.parametrize(
    ("loss", "n_outputs", "expected"),
    [
        (SquaredError(), 1, 6.0),
        (SquaredError(), 3, 2.0),
        (LogLoss(), 1, 3.0),
        (CrossEntropy(), 3, 3.0),
    ],
)
def test_reported_loss_is_in_users_units(loss, n_outputs, expected):
    assert loss.reported(3.0, n_outputs) == expected


# -- any torch loss --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_torch_loss_speaks_in_users_units(n_outputs):
    shift, scale = units(n_outputs)
    output, target = normal(n_outputs, 7), normal(n_outputs, 7, seed=1)
    seen = []

    def function(prediction, truth):
        seen.append((prediction, truth))
        return (prediction - truth).abs().reshape(7, -1).sum(dim=1)

    TorchLoss(function, shift, scale).value(output, target)
    shape = (7,) if n_outputs == 1 else (7, n_outputs)
    assert torch.equal(seen[0][0], (shift + scale * output).T.reshape(shape))
    assert torch.equal(seen[0][1], (shift + scale * target).T.reshape(shape))


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_torch_loss_of_a_mean_is_mean_of_each_sample(n_outputs):
    output, target = normal(n_outputs, 7), normal(n_outputs, 7, seed=1)
    shift, scale = units(n_outputs)
    scalar = TorchLoss(mean_huber, shift, scale).value(output, target)
    each = TorchLoss(huber_per_sample, shift, scale).value(output, target)
    # Values per sample are averaged over outputs, as a scalar is.
    torch.testing.assert_close(scalar, each)
    expected = mean_huber((shift + scale * output).T, (shift + scale * target).T)
    torch.testing.assert_close(scalar.mean(), expected)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p, t: 1.0, TypeError, "must return a tensor, got float"),
        (lambda p, t: (p - t)[:3], ValueError, "a scalar or one value per sample"),
    ],
)
def test_torch_loss_refuses_bad_result(function, error, message):
    with pytest.raises(error, match=message):
        TorchLoss(function, *units(1)).value(normal(1, 7), normal(1, 7, seed=1))
