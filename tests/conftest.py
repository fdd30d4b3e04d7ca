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


def pytest_configure(config):
    """Have few rows fitted on the GPU as well, if that is asked for."""
    if config.getoption("--gpu"):
        assert torch.cuda.is_available(), "--gpu needs a GPU"
        _parameters._GPU_ROWS = 0


def pytest_collection_modifyitems(config, items):
    """Leave out what asks for the bits of the CPU, where a loaded model or another process is."""
    if config.getoption("--gpu"):
        left_out = pytest.mark.skip(reason="asks for the bits of the CPU")
        for item in items:
            if item.get_closest_marker("cpu"):
                item.add_marker(left_out)


@pytest.fixture(autouse=True)
def seeded():
    """Start torch's own generator anew before each test."""
    torch.manual_seed(0)
