"""Networks as a few arrays, and back."""

import numpy as np
import pytest
import torch
from builders import assert_same_network, random_network
from hypothesis import given
from hypothesis import strategies as st

from skevo._packing import pack_networks, pack_path, take, unpack_networks, unpack_path
from skevo.core.network import Network


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    n_outputs=st.integers(1, 3),
    single=st.integers(0, 31),
)
def test_networks_come_back_bit_by_bit(sizes, n_outputs, single):
    networks = [
        random_network(seed, n_nodes=size, n_outputs=n_outputs).to(
            dtype=torch.float32 if single >> seed & 1 else torch.float64
        )
        for seed, size in enumerate(sizes)
    ]
    operators = networks[0].operators
    for one, other in zip(
        networks, unpack_networks(pack_networks(networks), operators, 3), strict=True
    ):
        assert_same_network(one, other)
        assert one.weight.dtype == other.weight.dtype


def test_networks_without_columns_come_back():
    network = Network.linear((), 0, 2)
    assert_same_network(network, unpack_networks(pack_networks([network]), (), 0)[0])


def test_a_network_that_stays_on_a_path_is_stored_once():
    first, second, third = (random_network(seed) for seed in range(3))
    path = [[first, second], [third, second]]
    packed = pack_path(path)
    assert len(packed["size"]) == 3
    again = unpack_path(packed, first.operators, 3)
    assert again[0][1] is again[1][1]
    for point, other in zip(path, again, strict=True):
        for networks in zip(point, other, strict=True):
            assert_same_network(*networks)


@pytest.mark.parametrize(("kind", "shape"), [("i", (2, None)), ("f", (2,)), ("f", (2, 2))])
def test_arrays_that_are_not_what_they_have_to_be_are_refused(kind, shape):
    arrays = {"bias": np.zeros((2, 3))}
    assert take(arrays, "bias", "f", 2, None) is arrays["bias"]
    with pytest.raises(ValueError, match=r"bias has shape \(2, 3\) and dtype float64"):
        take(arrays, "bias", kind, *shape)
    with pytest.raises(ValueError, match="scale is missing"):
        take(arrays, "scale", kind, *shape)
