"""What all tests share: the same random numbers, in whatever order they run."""

import pytest
import torch

# For what is drawn as the tests are collected.
torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """Start torch's own generator anew before each test."""
    torch.manual_seed(0)
