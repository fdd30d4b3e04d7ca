"""Linear algebra whose bits do not depend on threads."""

import pytest
import torch
from builders import normal

from skevo.core import linalg
from skevo.core.threads import torch_threads


def positive(n_members, n):
    """Return symmetric positive definite matrices."""
    factor = normal(n_members, n, n, seed=3).tril() / n + torch.eye(n, dtype=torch.float64)
    return factor @ factor.mT


@pytest.mark.parametrize("n_threads", [2, 3])
@pytest.mark.parametrize("n", [9, 31, 150])
@pytest.mark.parametrize("n_members", [2, 8])
def test_threads_change_no_bit(n_members, n, n_threads):
    matrix, several = positive(n_members, n), normal(n_members, n, n, seed=4)
    found = []
    for k in (1, n_threads):
        with torch_threads(k):
            factor, failed = linalg.cholesky_ex(matrix)
            assert not failed.any()
            solved = linalg.cholesky_solve(several, factor)
            half = linalg.solve_triangular(factor, several, upper=False)
            found.append([factor, solved, half, *linalg.eigh(matrix)])
            assert torch.get_num_threads() == k
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(matrix @ solved, several, rtol=0, atol=1e-9)
    torch.testing.assert_close(factor @ half, several, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 300), (3, 40, 500), (2, 0, 5)])
def test_gram_is_the_product_of_columns_among_each_other(shape, dtype):
    columns = normal(*shape, seed=5).to(dtype)
    some = columns[..., 1:-1]
    found = linalg.gram(some)
    assert found.dtype == dtype
    assert torch.equal(found, found.mT)
    exact = torch.einsum("...ik,...jk->...ij", some.double(), some.double())
    # In units of the columns' lengths, of which rounding is a share.
    length = some.double().norm(dim=-1)[..., None]
    share = (found.double() - exact) / (length * length.mT)
    assert (share.abs() < 100 * torch.finfo(dtype).eps).all()
