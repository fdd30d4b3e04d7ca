"""Packing: networks as a few arrays, however many they are, and arrays checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .core.ensemble import Ensemble
from .core.network import Network
from .core.operators import Operator, get_operators
from .core.topology import Topology

__all__ = [
    "pack_ensemble",
    "pack_path",
    "pack_state",
    "take",
    "unpack_ensemble",
    "unpack_path",
    "unpack_state",
]

Arrays = Mapping[str, NDArray[Any]]


def take(arrays: Arrays, name: str, kind: str, *shape: int | None) -> NDArray[Any]:
    """Return an array that is what it has to be.

    Parameters
    ----------
    arrays : dict of str to ndarray
    name : str
    kind : {"b", "i", "f"}
        Of its dtype.
    *shape : int or None
        None stands for any number.

    Raises
    ------
    ValueError
        If there is no such array.
    """
    if name not in arrays:
        raise ValueError(f"{name} is missing")
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind != kind or not fits:
        raise ValueError(f"{name} has shape {array.shape} and dtype {array.dtype}")
    return array


def pack_networks(networks: Sequence[Network]) -> dict[str, NDArray[Any]]:
    """Return networks with the same operators, inputs and outputs, one behind the other.

    Parameters
    ----------
    networks : sequence of Network
        On any device; at least one.

    Returns
    -------
    dict of str to ndarray
        ``size``, of shape (n_networks,), is the number of nodes of each; ``double`` whether its
        numbers are in double precision. ``operator``, ``left``, ``right``, ``constants`` and
        ``scale`` have an entry per node, ``weight`` the rows of each network's weight, and
        ``bias`` has the shape (n_networks, n_outputs).
    """
    topologies = [network.topology for network in networks]
    wiring = {
        name: np.concatenate([getattr(topology, name) for topology in topologies], dtype=np.int32)
        for name in ("operator", "left", "right")
    }
    numbers = {
        name: np.concatenate(
            [getattr(network, name).numpy(force=True).ravel() for network in networks]
        )
        for name in ("constants", "scale", "weight")
    }
    return {
        "size": np.array([topology.n_nodes for topology in topologies], dtype=np.int32),
        "double": np.array([network.weight.dtype == torch.float64 for network in networks]),
        **wiring,
        **numbers,
        "bias": np.stack([network.bias.numpy(force=True) for network in networks]),
    }


def unpack_networks(
    arrays: Arrays, operators: tuple[Operator, ...], n_inputs: int
) -> list[Network]:
    """Return networks that were packed, on the CPU.

    Parameters
    ----------
    arrays : dict of str to ndarray
    operators : tuple of Operator
    n_inputs : int

    Raises
    ------
    ValueError
        If the arrays are not those of networks.
    """
    size = take(arrays, "size", "i", None).astype(np.int64)
    bias = take(arrays, "bias", "f", len(size), None)
    double = take(arrays, "double", "b", len(size))
    if (size < 0).any():
        raise ValueError("size has negative numbers")
    ends, n_columns = np.cumsum(size), bias.shape[1] * (n_inputs + size)
    n_nodes = int(size.sum())
    operator, left, right = (
        np.split(take(arrays, name, "i", n_nodes), ends[:-1])
        for name in ("operator", "left", "right")
    )
    constants, scale = (
        np.split(take(arrays, name, "f", n_nodes), ends[:-1]) for name in ("constants", "scale")
    )
    weight = np.split(take(arrays, "weight", "f", int(n_columns.sum())), np.cumsum(n_columns)[:-1])
    if n_nodes and arrays["operator"].max() >= len(operators):
        raise ValueError("operator has codes of no operator")

    def tensor(array: NDArray[Any], network: int) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float64 if double[network] else torch.float32)

    return [
        Network(
            operators,
            Topology(n_inputs, operator[k], left[k], right[k]),
            tensor(constants[k], k),
            tensor(scale[k], k),
            tensor(weight[k].reshape(bias.shape[1], n_inputs + size[k]), k),
            tensor(bias[k], k),
        )
        for k in range(len(size))
    ]


def pack_ensemble(ensemble: Ensemble) -> dict[str, NDArray[Any]]:
    """Return the arrays of an ensemble: of its network, and the limits of a correction."""
    packed = pack_networks([ensemble.network])
    if ensemble.limits is not None:
        packed["limits"] = torch.stack(ensemble.limits).numpy(force=True)
    return packed


def unpack_ensemble(
    arrays: Arrays, operators: tuple[Operator, ...], n_inputs: int, n_members: int, n_outputs: int
) -> Ensemble:
    """Return the ensemble, on the CPU."""
    (network,) = unpack_networks(arrays, operators, n_inputs)
    limits = None
    if "limits" in arrays:
        low, high = torch.tensor(take(arrays, "limits", "f", 2, n_outputs, 1)).to(network.bias)
        limits = low, high
    n_heads = n_outputs * (n_members + (limits is not None))
    if len(network.bias) != n_heads:
        raise ValueError(f"the ensemble must have {n_heads} heads, got {len(network.bias)}")
    return Ensemble(network, n_members, n_outputs, limits)


def pack_path(path: Sequence[Sequence[Network]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the networks at each point of a path, each network once."""
    distinct = {id(network): network for point in path for network in point}
    places = {key: place for place, key in enumerate(distinct)}
    at = np.array([[places[id(network)] for network in point] for point in path], dtype=np.int32)
    return {**pack_networks([*distinct.values()]), "at": at}


def unpack_path(
    arrays: Arrays, operators: tuple[Operator, ...], n_inputs: int
) -> list[list[Network]]:
    """Return the networks at each point of a path, on the CPU."""
    networks = unpack_networks(arrays, operators, n_inputs)
    at = take(arrays, "at", "i", None, None)
    if at.size and not 0 <= at.min() <= at.max() < len(networks):
        raise ValueError("the path names networks that are not there")
    return [[networks[place] for place in point] for point in at]


def pack_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what replaces networks and devices in the state of a fitted estimator.

    Parameters
    ----------
    state : dict
        Of attributes.

    Returns
    -------
    dict
        Of as many of these attributes as have to be replaced.
    """
    ensemble = state["_ensemble"]
    packed = {
        "_ensemble": {
            # Built-in ones by name, so that no function is in the state.
            "operators": [
                operator.name if operator.is_built_in else operator
                for operator in ensemble.network.operators
            ],
            "n_inputs": ensemble.network.topology.n_inputs,
            "n_members": ensemble.n_members,
            "n_outputs": ensemble.n_outputs,
            "arrays": pack_ensemble(ensemble),
        },
        "device_": str(state["device_"]),
    }
    if "_path" in state:
        packed["_path"] = pack_path(state["_path"])
    return packed


def unpack_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that `pack_state` replaced, with all networks on the CPU."""
    ensemble = state["_ensemble"]
    operators, n_inputs = get_operators(ensemble["operators"]), ensemble["n_inputs"]
    unpacked = {
        "_ensemble": unpack_ensemble(
            ensemble["arrays"], operators, n_inputs, ensemble["n_members"], ensemble["n_outputs"]
        ),
        "device_": torch.device(state["device_"]),
    }
    if "_path" in state:
        unpacked["_path"] = unpack_path(state["_path"], operators, n_inputs)
    return unpacked
