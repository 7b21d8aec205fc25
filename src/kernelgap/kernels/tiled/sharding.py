"""Work over the devices of a mesh: the one place that knows how JAX spells it."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVarTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kernelgap._numerics import array_checks
from kernelgap.typing import Device, PyTree

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
    if array_checks.is_concrete(array):
        return min(array.sharding.addressable_devices, key=lambda device: device.id)
    return jax.local_devices()[0]


def sharing_memory(mesh: Mesh | None) -> int:
    """How many devices of the mesh live on one memory: all CPU devices of a process."""
    if mesh is None or mesh.local_devices[0].platform != "cpu":
        return 1
    return len(mesh.local_devices)


def split(function: Callable, mesh: Mesh | None, *, result: bool) -> Callable:
    """Run `function` on every device of the mesh, with all of its arguments.

    Args:
        function: takes its part of the work by `share`; it may sum over devices by `total`.
        mesh: None runs it as it is.
        result: whether results are parts of an array, or the same on all devices.
    """
    if mesh is None:
        return function
    # Arguments that are split would have to come split on meshes of explicit axes, which is what
    # jax.make_mesh makes.
    return _shard_map(
        function,
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(mesh.axis_names) if result else PartitionSpec(),
        **_UNCHECKED,
    )


def share(array: jax.Array | np.ndarray, mesh: Mesh | None) -> jax.Array:
    """This device's part of the first axis, within a `split` function; parts are equally long."""
    array = jnp.asarray(array)
    if mesh is None:
        return array
    length = array.shape[0] // mesh.size
    start = length * jax.lax.axis_index(mesh.axis_names)
    return jax.lax.dynamic_slice_in_dim(array, start, length)


def total(value: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The sum of a value over all devices, within a `split` function."""
    return value if mesh is None else jax.lax.psum(value, mesh.axis_names)


def gathered(value: jax.Array, mesh: Mesh | None) -> jax.Array:
    """The values of all devices along a new first axis, within a `split` function."""
    return value[None] if mesh is None else jax.lax.all_gather(value, mesh.axis_names)


def together(*trees: *_Ts) -> tuple[*_Ts]:
    """The trees with all arrays where the first is that was put on a device or a mesh.

    JAX itself moves only arrays that nobody has put anywhere.
    """
    leaves, structure = jax.tree.flatten(trees)
    placed = [i for i, leaf in enumerate(leaves) if _is_placed(leaf)]
    homes = [_whole_sharding(leaves[i]) for i in placed]
    for i, home in zip(placed, homes, strict=True):
        if home != homes[0]:
            leaves[i] = jax.device_put(leaves[i], homes[0])
    return jax.tree.unflatten(structure, leaves)


def placed(mesh: Mesh | None, *trees: *_Ts) -> tuple[*_Ts]:
    """The trees with all arrays in one place: on every device of the mesh, if there is one."""
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
    """The arrays of a tree on all devices of the mesh, in every process that takes part."""
    if mesh is None:
        return arrays
    everywhere = NamedSharding(mesh, PartitionSpec())

    def one(array: Any) -> Any:
        if not isinstance(array, jax.Array) or not array_checks.is_concrete(array):
            return array
        if array.sharding == everywhere:
            return array
        if not array.is_fully_addressable:
            return jax.device_put(array, everywhere)
        host = np.asarray(array)
        return jax.make_array_from_callback(host.shape, everywhere, lambda index: host[index])

    return jax.tree.map(one, arrays)
