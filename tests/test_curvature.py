"""Curvature: factorisations that are kept up against factorisations made anew."""

import numpy as np
import pytest
import torch
from builders import normal

from skevo.core.curvature import factorise
from skevo.core.population import choose

N_MEMBERS, N_COLUMNS = 3, 9


def matrices(n_columns=N_COLUMNS, seed=0):
    """Return Gram matrices of augmented columns, and penalties."""
    rows = torch.cat(
        [
            torch.ones(N_MEMBERS, 1, 40, dtype=torch.float64),
            normal(N_MEMBERS, n_columns, 40, seed=seed),
        ],
        dim=1,
    )
    ridge = torch.linspace(0.1, 2.0, 1 + n_columns, dtype=torch.float64).expand(N_MEMBERS, -1)
    return rows @ rows.mT, ridge.clone()


def assert_same_model(found, expected):
    """Fail unless a model is another one, and its parts agree."""
    for name in ("matrix", "inverse"):
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.half.mT @ found.half, found.inverse, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.degrees, expected.degrees, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(found.ridge, expected.ridge)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n_new", [1, 4])
def test_bordered_model_is_that_of_all_columns(n_new, dtype):
    gram, ridge = matrices()
    n_old = 1 + N_COLUMNS - n_new
    before = factorise(gram[:, :n_old, :n_old], ridge[:, :n_old], dtype)
    expected = factorise(gram, ridge, dtype)
    found = before.bordered(gram, ridge)
    # The share of the diagonal that rounding adds is the same.
    assert_same_model(found, expected)


def test_bordered_model_of_empty_slots():
    gram, ridge = matrices()
    gram[0, -1], gram[0, :, -1] = 0.0, 0.0
    before = factorise(gram[:, :-2, :-2], ridge[:, :-2], torch.float64)
    assert_same_model(before.bordered(gram, ridge), factorise(gram, ridge, torch.float64))


def test_model_is_not_bordered_by_a_dependent_column():
    gram, ridge = matrices()
    ridge[:, -1] = 0.0
    gram[1, -1] = gram[1, -2]
    gram[1, :, -1] = gram[1, :, -2]
    gram[1, -1, -1] = gram[1, -2, -2]
    ridge[1, -2] = 0.0
    before = factorise(gram[:, :-1, :-1], ridge[:, :-1], torch.float64)
    assert before.bordered(gram, ridge) is None


def test_dependent_columns_do_not_leave_a_factorisation():
    gram, ridge = matrices()
    # Two equal columns without penalty: the inverse is a pseudo-inverse.
    gram[:, 4], gram[:, :, 4] = gram[:, 3].clone(), gram[:, :, 3].clone()
    gram[:, 4, 4] = gram[:, 3, 3]
    ridge[:, 3:5] = 0.0
    gone = torch.zeros(N_MEMBERS, N_COLUMNS, dtype=torch.bool)
    gone[:, 2:4] = True
    assert factorise(gram, ridge, torch.float64).without(gone) is None


@pytest.mark.parametrize("lost", [[(), (), ()], [(2,), (0,), (8,)], [(1, 4, 7), (), (3, 8)]])
def test_model_without_columns_is_that_of_the_others(lost):
    gram, ridge = matrices()
    gone = torch.zeros(N_MEMBERS, N_COLUMNS, dtype=torch.bool)
    for member, columns in enumerate(lost):
        gone[member, list(columns)] = True
    found = factorise(gram, ridge, torch.float64).without(gone)
    for member in range(N_MEMBERS):
        kept = np.append(0, 1 + np.flatnonzero(~gone[member].numpy()))
        own = gram[member][kept][:, kept]
        expected = factorise(own[None], ridge[member, kept][None], torch.float64)
        torch.testing.assert_close(
            found.inverse[member][kept][:, kept], expected.inverse[0], rtol=1e-9, atol=1e-11
        )
        torch.testing.assert_close(found.degrees[member], expected.degrees[0], rtol=1e-9, atol=0.0)
        at = 1 + torch.nonzero(gone[member])[:, 0]
        for part in (
            found.inverse[member, at],
            found.half[member, :, at],
            found.matrix[member, at],
        ):
            assert not part.any()
    torch.testing.assert_close(found.half.mT @ found.half, found.inverse, rtol=1e-9, atol=1e-11)


def test_compact_model_has_the_columns_that_are_kept():
    gram, ridge = matrices()
    gone = torch.zeros(N_MEMBERS, N_COLUMNS, dtype=torch.bool)
    gone[0, [2, 5]] = gone[1, [0, 8]] = gone[2, 4] = True
    model = factorise(gram, ridge, torch.float64).without(gone)
    n_kept = N_COLUMNS - 1
    kept = torch.full((N_MEMBERS, n_kept), -1)
    for member in range(N_MEMBERS):
        own = torch.nonzero(~gone[member])[:, 0]
        kept[member, : len(own)] = own
    found = model.compact(kept)
    for member in range(N_MEMBERS):
        own = np.append(0, 1 + np.flatnonzero(~gone[member].numpy()))
        n = len(own)
        for name in ("matrix", "inverse"):
            part = getattr(found, name)[member]
            assert torch.equal(part[:n, :n], getattr(model, name)[member][own][:, own])
            assert not part[n:].any()
            assert not part[:, n:].any()
    torch.testing.assert_close(found.half.mT @ found.half, found.inverse, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.degrees, model.degrees)


def test_model_that_is_kept_up_for_long_stays_exact():
    gram, ridge = matrices(40, seed=3)
    model = factorise(gram[:, :11, :11], ridge[:, :11], torch.float64)
    gone = torch.zeros(N_MEMBERS, 40, dtype=torch.bool)
    for size in range(14, 42, 3):
        lost = torch.zeros_like(gone)
        lost[:, size % 7 + size // 4] = ~gone[:, size % 7 + size // 4]
        gone |= lost
        model = model.without(lost[:, : model.inverse.shape[2] - 1])
        whole = gram[:, :size, :size].clone()
        present = torch.nn.functional.pad(~gone[:, : size - 1], (1, 0), value=True)
        whole *= present[..., None] & present[:, None]
        model = model.bordered(whole, torch.where(present, ridge[:, :size], 1.0))
    kept = torch.nonzero(torch.nn.functional.pad(~gone[0], (1, 0), value=True))[:, 0]
    expected = factorise(gram[:, kept][:, :, kept], ridge[:, kept], torch.float64)
    torch.testing.assert_close(
        model.inverse[:, kept][:, :, kept], expected.inverse, rtol=1e-7, atol=1e-9
    )


def test_members_of_two_models_keep_their_own_inverse():
    one, other = (factorise(*matrices(seed=seed), torch.float64) for seed in (0, 1))
    members = torch.tensor([True, False, True])
    # Whether or not they were asked for it before.
    for model in (one, other):
        assert model.inverse.isfinite().all()
    found = choose(members, one, other)
    for member, expected in enumerate((one, other, one)):
        torch.testing.assert_close(found.inverse[member], expected.inverse[member])
        torch.testing.assert_close(found.degrees[member], expected.degrees[member])


def test_inverse_is_that_of_any_gradient_and_solves():
    gram, ridge = matrices()
    model, right = factorise(gram, ridge, torch.float64), normal(N_MEMBERS, 1 + N_COLUMNS, 2)
    before = model.with_gradient(right)
    expected = torch.linalg.solve(gram + torch.diag_embed(ridge), right)
    for _ in range(2):
        torch.testing.assert_close(model.solve(right), expected)
        torch.testing.assert_close(model.inverse @ right, expected)
    assert before.inverse is model.inverse
    assert model.with_gradient(2.0 * right).degrees is model.degrees
