"""Threads: how many torch uses."""

import contextlib
import threading

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from skevo.core import threads as module
from skevo.core.threads import in_order, torch_threads, within


@pytest.fixture
def three_threads():
    """Have torch use three threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_number_of_threads_is_put_back_when_the_fit_raises():
    with contextlib.suppress(RuntimeError), torch_threads(2):
        assert torch.get_num_threads() == 2
        raise RuntimeError
    assert torch.get_num_threads() == 3
    assert module._inside == 0


@pytest.mark.usefixtures("three_threads")
def test_number_of_threads_is_put_back_after_fits_that_overlap():
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def other():
        with torch_threads(1):
            inside.set()
            leave.wait(30)
            seen.append(torch.get_num_threads())

    worker = threading.Thread(target=other)
    worker.start()
    assert inside.wait(30)
    with torch_threads(1):
        seen.append(torch.get_num_threads())
    leave.set()
    worker.join()
    assert seen == [1, 1]
    assert torch.get_num_threads() == 3
    with torch_threads(1):
        seen.append(torch.get_num_threads())
    assert seen == [1, 1, 1]
    assert torch.get_num_threads() == 3


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_numpy_computes_with_one_thread_in_a_fit_and_with_as_many_as_before_after_it():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with torch_threads(2):
            assert blas_threads() == [1] * len(before)
            with torch_threads(1):
                assert blas_threads() == [1] * len(before)
            assert blas_threads() == [1] * len(before)
        assert blas_threads() == before
        assert 2 in before


@pytest.mark.usefixtures("three_threads")
def test_other_threads_within_a_fit():
    with torch_threads(1):
        with contextlib.suppress(RuntimeError), within(2):
            assert torch.get_num_threads() == 2
            raise RuntimeError
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_items_are_worked_on_in_order_in_one_torch_thread_each(n_threads):
    meet = threading.Barrier(n_threads)

    def work(item):
        meet.wait(30)
        return item, torch.get_num_threads(), torch.is_grad_enabled()

    with torch_threads(1):
        found = list(in_order(work, range(4), n_threads))
    assert found == [(item, 1, False) for item in range(4)]
    assert torch.get_num_threads() == 3
    assert torch.is_grad_enabled()
