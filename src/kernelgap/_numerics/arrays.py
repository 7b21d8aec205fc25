"""Convert arrays from NumPy, pandas, other libraries and device meshes into JAX arrays.

Nothing is lost silently: missing values, entries that overflow in the dtype in which JAX computes,
and arrays that do not hold numbers are refused, with the dtype received and the cure.
"""

from numbers import Integral, Real
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from kernelgap.typing import DTypeLike

# Types with shardings, and explicitly sharded axes, are new in JAX 0.6.
_typeof: Any = getattr(jax, "typeof", None) or getattr(jax.core, "get_aval")  # noqa: B009
_reshard: Any = getattr(jax.sharding, "reshard", None) or jax.device_put


def is_concrete(*arrays: Any) -> bool:
    """Return True if none of `arrays` is a JAX tracer."""
    return not any(isinstance(a, jax.core.Tracer) for a in arrays)


def array(value: Any, name: str) -> jax.Array:
    """Convert an array, a number or a nested sequence of numbers; raise for anything else.

    Values change only by rounding to the dtypes in which JAX computes. No axis of the result is
    sharded over an explicit mesh axis.
    """
    if not isinstance(value, jax.Array) and hasattr(value, "__jax_array__"):
        value = value.__jax_array__()
    if isinstance(value, jax.Array):
        return _replicate(_canonicalize(value, name))
    nested = isinstance(value, tuple) and any(hasattr(item, "shape") for item in value)
    if nested or isinstance(value, dict):  # a tree of parameters
        kind = type(value).__name__
        raise TypeError(f"`{name}` must be an array of numbers; got a {kind} of {len(value)}")
    traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    if traced or _is_device_memory(value) or isinstance(value, bool | int | float | complex):
        host = value  # NumPy cannot convert these, or should not choose their dtype
    else:
        host = _to_numpy(value, name)
    try:
        if _is_device_memory(host):
            return jnp.array(jnp.from_dlpack(host))
        with np.errstate(over="ignore"):
            converted = jnp.array(host)  # a copy: old versions of JAX share the buffer
    except (TypeError, ValueError, OverflowError) as error:
        received = _describe(value, name)
        raise TypeError(f"`{name}` must be an array of numbers; got {received}") from error
    if is_concrete(converted):
        _check_range(host, converted, name)
    return converted


def cast(value: Any, dtype: DTypeLike) -> jax.Array:
    """Return a checked number or array in another dtype, without a program where it is concrete."""
    if is_concrete(value):
        return jax.device_put(np.asarray(value, jnp.dtype(dtype)))
    return jnp.asarray(value, dtype)


def _canonicalize(value: jax.Array, name: str) -> jax.Array:
    """Cast a float64 array, made while jax_enable_x64 was set, to JAX's current precision."""
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):  # random keys
        return value
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype == value.dtype:
        return value
    narrow = value.astype(dtype)
    if is_concrete(value):
        _check_range(value, narrow, name)
    return narrow


def _replicate(value: jax.Array) -> jax.Array:
    """Replicate an array that is sharded over explicit mesh axes.

    Explicit sharding requires an output sharding for every product; replicated arrays do not, and
    their results are compatible with the user's other arrays on that mesh. Automatic axes are left
    as they are.
    """
    sharding = getattr(_typeof(value), "sharding", None)
    if not isinstance(sharding, NamedSharding) or all(axis is None for axis in sharding.spec):
        return value
    if isinstance(value, jax.core.Tracer):
        return _reshard(value, NamedSharding(sharding.mesh, PartitionSpec()))
    mesh: Any = value.sharding.mesh  # pyright: ignore[reportAttributeAccessIssue]
    return jax.device_put(value, NamedSharding(mesh, PartitionSpec()))


def on_explicit_mesh(*arrays: jax.Array) -> bool:
    """Return True if the type of an array includes a mesh with explicit axes."""
    shardings = (getattr(_typeof(array), "sharding", None) for array in arrays)
    return any(isinstance(s, NamedSharding) and not s.mesh.empty for s in shardings)


def _is_device_memory(value: Any) -> bool:
    """Return True for a tensor of another library that NumPy cannot read."""
    if not hasattr(value, "__dlpack__") or isinstance(value, np.ndarray):
        return False
    on_host = value.__dlpack_device__()[0] == 1
    return not (on_host and hasattr(value, "__array__"))


def _to_numpy(value: Any, name: str) -> np.ndarray:
    """Convert to a NumPy array of a dtype that JAX supports."""
    expected = f"`{name}` must be an array of numbers"
    missing = sum(map(_count_missing, jax.tree.leaves(value)))
    if missing:
        raise ValueError(
            f"`{name}` must have no missing entries; {missing} are masked or NA. Drop or fill them"
        )
    try:
        host = np.asarray(value)
    except Exception as error:  # `__array__` of other libraries may raise anything
        if not isinstance(value, list | tuple):
            raise TypeError(f"{expected}; got {_describe(value, name)}") from error
        raise TypeError(f"{expected} with rows of equal length; got {value!r:.40}") from error
    if host.dtype == object:
        host = _convert_objects(host)
    if host.dtype == object and host.ndim == 0:
        raise TypeError(f"{expected}; got {_describe(value, name)}")
    if host.dtype.names is not None:
        raise TypeError(
            f"{expected}; got a structured array of fields {host.dtype.names}. Pass "
            f"numpy.lib.recfunctions.structured_to_unstructured({name})"
        )
    if not jnp.issubdtype(host.dtype, np.number) and host.dtype != bool:
        invalid = [entry for entry in host.ravel().tolist() if not isinstance(entry, Real)]
        example = f", with {invalid[0]!r:.40}" if invalid else ""
        labels = f", labels by numpy.unique({name}, return_inverse=True)[1]"
        raise TypeError(
            f"{expected}; got dtype {host.dtype}{example}. Convert it to numbers"
            f"{labels if host.ndim == 1 else ''}"
        )
    if host.dtype.kind in "fc" and host.dtype.itemsize > (16 if host.dtype.kind == "c" else 8):
        with np.errstate(over="ignore"):
            return host.astype(complex if host.dtype.kind == "c" else float)
    return host.astype(host.dtype.newbyteorder("="), copy=False)


def _describe(value: Any, name: str) -> str:
    """Describe `value` in an error message; for a sparse array, name the method that densifies."""
    cure = next((m for m in ("toarray", "todense", "to_dense") if hasattr(value, m)), None)
    if cure is None or not hasattr(value, "shape"):
        return f"{value!r:.40}"
    return f"a sparse {type(value).__name__}. Pass {name}.{cure}()"


def _count_missing(value: Any) -> int:
    """Count the missing entries of a masked array or a pandas object."""
    if isinstance(value, np.ma.MaskedArray):
        return int(np.ma.getmaskarray(value).sum())
    if not hasattr(value, "isna"):
        return 0
    dtypes = value.dtypes if getattr(value, "ndim", 0) == 2 else [value.dtype]
    if all(isinstance(dtype, np.dtype) for dtype in dtypes):
        return 0  # NaN may be allowed, and is checked elsewhere
    return int(np.asarray(value.isna()).sum())


def _convert_objects(host: np.ndarray) -> np.ndarray:
    """Convert an object array of real numbers to bool, int or float, the first that fits."""
    entries = host.ravel().tolist()
    for kind, dtype in (((bool, np.bool_), bool), (Integral, int), (Real, float)):
        if entries and all(isinstance(entry, kind) for entry in entries):
            try:
                return host.astype(dtype)
            except OverflowError:
                continue
    return host


def _check_range(host: Any, converted: jax.Array, name: str) -> None:
    """Raise if an entry does not fit into the narrower dtype of `converted`."""
    given = np.asarray(host)
    if given.dtype == converted.dtype or np.can_cast(given.dtype, converted.dtype):
        return
    values = np.asarray(converted)
    lost = (
        np.isfinite(given) & ~np.isfinite(values) if given.dtype.kind in "fc" else given != values
    )
    if lost.any():
        where = tuple(np.argwhere(lost)[0].tolist())
        raise ValueError(
            f"`{name}` must fit into {converted.dtype}, in which JAX computes unless its option "
            f"jax_enable_x64 is set; got {given[where]} of dtype {given.dtype} at index {where}"
        )
