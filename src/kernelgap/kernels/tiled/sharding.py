"""Work distributed over the devices of a mesh, by JAX's `shard_map` and shardings."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVarTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kernelgap._numerics import array_checks
from kernelgap.typing import PyTree

_Ts = TypeVarTuple("_Ts")

_shard_map: Any = getattr(jax, "shard_map", None)
if _shard_map is None:  # JAX before 0.6
    _shard_map = importlib.import_module("jax.experimental.shard_map").shard_map

_UNCHECKED = {
    name: False
    for name in ("check_vma", "check_rep")
    if name in inspect.signature(_shard_map).parameters
}


def checked_mesh(mesh: Any) -> Mesh | None:
    """Return a mesh with at least one device of this process, or None."""
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
    """Return the number of devices that share the work."""
    return 1 if mesh is None else mesh.size


def first_device(mesh: Mesh | None, array: jax.Array) -> Any:
    """Return a device of this process that will do the work, to query its memory."""
    if mesh is not None:
        return mesh.local_devices[0]
    if array_checks.is_concrete(array):
        return min(array.sharding.addressable_devices, key=lambda device: device.id)
    return jax.local_devices()[0]


def sharing_memory(mesh: Mesh | None) -> int:
    """Return the number of devices that share one memory: all CPU devices of a process do."""
    if mesh is None or mesh.local_devices[0].platform != "cpu":
        return 1
    return len(mesh.local_devices)


def split(function: Callable, mesh: Mesh | None, *, result: bool) -> Callable:
    """Run `function` on every device of the mesh, with all of its arguments.

    Args:
        function: A function that takes its part of the work by `share` and may sum over devices by
            `total`.
        mesh: The devices, or None to return `function` itself.
        result: True if results are parts of an array, False if they are equal on all devices.
    """
    if mesh is None:
        return function
    # On meshes with explicit axes, such as those of jax.make_mesh, split arguments would have to
    # arrive split.
    return _shard_map(
        function,
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(mesh.axis_names) if result else PartitionSpec(),
        **_UNCHECKED,
    )


def share(array: jax.Array | np.ndarray, mesh: Mesh | None) -> jax.Array:
    """Return this device's equal part of the first axis, within a `split` function."""
    array = jnp.asarray(array)
    if mesh is None:
        return array
    length = array.shape[0] // mesh.size
    start = length * jax.lax.axis_index(mesh.axis_names)
    return jax.lax.dynamic_slice_in_dim(array, start, length)


def total(value: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Return the sum of a value over all devices, within a `split` function."""
    return value if mesh is None else jax.lax.psum(value, mesh.axis_names)


def gathered(value: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Return the values of all devices along a new first axis, within a `split` function."""
    return value[None] if mesh is None else jax.lax.all_gather(value, mesh.axis_names)


def together(*trees: *_Ts) -> tuple[*_Ts]:
    """Move all arrays of the trees to where the first committed array is.

    JAX itself moves only uncommitted arrays.
    """
    leaves, structure = jax.tree.flatten(trees)
    placed = [i for i, leaf in enumerate(leaves) if _is_placed(leaf)]
    homes = [_whole_sharding(leaves[i]) for i in placed]
    for i, home in zip(placed, homes, strict=True):
        if home != homes[0]:
            leaves[i] = jax.device_put(leaves[i], homes[0])
    return jax.tree.unflatten(structure, leaves)


def placed(mesh: Mesh | None, *trees: *_Ts) -> tuple[*_Ts]:
    """Return the trees with all arrays in one place: on every device of a mesh, if given."""
    return replicate(together(*trees), checked_mesh(mesh))


def _is_placed(value: Any) -> bool:
    concrete = isinstance(value, jax.Array) and array_checks.is_concrete(value)
    return concrete and getattr(value, "committed", True)


def _whole_sharding(array: jax.Array) -> Any:
    sharding = array.sharding
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding


def replicate(arrays: PyTree, mesh: Mesh | None) -> PyTree:
    """Return the arrays of a tree on all devices of the mesh, in every participating process."""
    if mesh is None:
        return arrays
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(array: Any) -> Any:
        if not isinstance(array, jax.Array) or not array_checks.is_concrete(array):
            return array
        if array.sharding == everywhere:
            return array
        if not array.is_fully_addressable:
            return jax.device_put(array, everywhere)
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, everywhere, lambda index: host[index])

    return jax.tree.map(place, arrays)
