"""Work over the devices of a mesh: the one place that knows how JAX spells it."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kernelgap import _checks
from kernelgap.typing import Device

_shard_map: Any = getattr(jax, "shard_map", None)
if _shard_map is None:  # JAX before 0.6
    _shard_map = importlib.import_module("jax.experimental.shard_map").shard_map

_UNCHECKED = {
    name: False
    for name in ("check_vma", "check_rep")
    if name in inspect.signature(_shard_map).parameters
}


def checked_mesh(mesh: Any) -> Mesh | None:
    """A mesh with at least one device of this process, or None."""
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(f"`mesh` must be a jax.sharding.Mesh, such as jax.make_mesh((8,), "
                        f"('rows',)); got {type(mesh).__name__}")  # fmt: skip
    if mesh.empty:
        raise ValueError("`mesh` must hold at least one device; got an empty mesh")
    if not mesh.local_devices:
        raise ValueError("`mesh` must hold a device of each process that uses it; it holds none "
                         f"of process {jax.process_index()}")  # fmt: skip
    return mesh


def devices(mesh: Mesh | None) -> int:
    """Number of devices that share the work."""
    return 1 if mesh is None else mesh.size


def first_device(mesh: Mesh | None, array: jax.Array) -> Device:
    """A device of this process that will do the work, to ask for its memory."""
    if mesh is not None:
        return mesh.local_devices[0]
    if _checks.is_concrete(array):
        return min(array.sharding.addressable_devices, key=lambda device: device.id)
    return jax.local_devices()[0]


def sharing_memory(mesh: Mesh | None) -> int:
    """How many devices of the mesh live on one memory: all CPU devices of a process."""
    if mesh is None or mesh.local_devices[0].platform != "cpu":
        return 1
    return len(mesh.local_devices)


def split(
    function: Callable, mesh: Mesh | None, arguments: Sequence[bool], *, result: bool
) -> Callable:
    """Run `function` on every device of the mesh, with its part of the arguments.

    Args:
        function: gets the parts; it may sum over devices with `total`.
        mesh: None runs it as it is.
        arguments: for each argument, whether its first axis is split; else all devices have it all.
        result: whether results are parts of an array, or the same on all devices.
    """
    if mesh is None:
        return function
    part, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
    return _shard_map(
        function,
        mesh=mesh,
        in_specs=tuple(part if is_split else whole for is_split in arguments),
        out_specs=part if result else whole,
        **_UNCHECKED,
    )


def total(value: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The sum of a value over all devices, within a `split` function."""
    return value if mesh is None else jax.lax.psum(value, mesh.axis_names)


def gathered(value: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The values of all devices along a new first axis, within a `split` function."""
    return value[None] if mesh is None else jax.lax.all_gather(value, mesh.axis_names)


def replicate(array: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The array on all devices of the mesh, in every process that takes part."""
    if mesh is None or not _checks.is_concrete(array):
        return array
    sharding = NamedSharding(mesh, PartitionSpec())
    if array.sharding == sharding:
        return array
    if not array.is_fully_addressable:
        return jax.device_put(array, sharding)
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
