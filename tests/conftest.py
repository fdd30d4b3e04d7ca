"""What all tests share: the same random numbers in whatever order they run, and the device."""

import pytest
import torch

from skevo import _parameters

# For what is drawn as the tests are collected.
torch.manual_seed(0)


def pytest_addoption(parser):
    """Add an option to have the tests fit on a GPU."""
    parser.addoption(
        "--gpu", action="store_true", help='have device="auto" be a GPU for any number of rows'
    )


@pytest.fixture(autouse=True)
def seeded():
    """Start torch's own generator anew before each test."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def on_gpu(request, monkeypatch):
    """Fit to few rows on the GPU as well, if that is asked for."""
    if request.config.getoption("--gpu"):
        assert torch.cuda.is_available(), "--gpu needs a GPU"
        monkeypatch.setattr(_parameters, "_GPU_ROWS", 0)
