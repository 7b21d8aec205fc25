"""Arrays as they come, from NumPy, pandas, other libraries, meshes: what JAX is to compute with.

Nothing is lost without a word: what has no value, what overflows in the dtype that JAX computes in,
and what holds no numbers is refused, with the dtype that came and the cure.
"""

from numbers import Integral, Real
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

# The sharding of a type, and axes of explicit type, came with JAX 0.6.
_typeof: Any = getattr(jax, "typeof", None) or getattr(jax.core, "get_aval")  # noqa: B009
_reshard: Any = getattr(jax.sharding, "reshard", None) or jax.device_put


def is_concrete(*arrays: Any) -> bool:
    """Whether all values can be read now, that is, none is being traced."""
    return not any(isinstance(a, jax.core.Tracer) for a in arrays)


def array(value: Any, name: str) -> jax.Array:
    """What JAX makes of an array, a number or a nest of them; refuses everything else.

    Values are those that came, or refused: rounding to the dtypes that JAX computes in is the only
    change. No axis of the result is split over explicit axes of a mesh.
    """
    if not isinstance(value, jax.Array) and hasattr(value, "__jax_array__"):
        value = value.__jax_array__()
    if isinstance(value, jax.Array):
        return _whole(_narrowed(value, name))
    nested = isinstance(value, tuple) and any(hasattr(item, "shape") for item in value)
    if nested or isinstance(value, dict):  # parameters; tuples and lists of numbers are arrays
        kind = type(value).__name__
        raise TypeError(f"`{name}` must be an array of numbers; got a {kind} of {len(value)}")
    traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    if traced or _is_device_memory(value) or isinstance(value, bool | int | float | complex):
        host = value  # what has no value yet, is not on the host, or has no dtype
    else:
        host = _numbers(value, name)
    try:
        if _is_device_memory(host):
            return jnp.array(jnp.from_dlpack(host))
        with np.errstate(over="ignore"):
            converted = jnp.array(host)  # a copy: old versions of JAX share the buffer
    except (TypeError, ValueError, OverflowError) as error:
        what = _sparse(value, name)
        raise TypeError(f"`{name}` must be an array of numbers; got {what}") from error
    if is_concrete(converted):
        _kept(host, converted, name)
    return converted


def _narrowed(value: jax.Array, name: str) -> jax.Array:
    """Double precision, from a time when jax_enable_x64 was set, in what JAX now computes in."""
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):  # random keys
        return value
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype == value.dtype:
        return value
    narrow = value.astype(dtype)
    if is_concrete(value):
        _kept(value, narrow, name)
    return narrow


def _whole(value: jax.Array) -> jax.Array:
    """The array on all devices of its mesh, where the type of an explicit axis says it is split.

    Such types ask for the sharding of every product to be spelled out; arrays that are whole do
    not, and results go with the user's other arrays of that mesh. Axes that JAX shards by itself
    (of type Auto) stay as they are.
    """
    sharding = getattr(_typeof(value), "sharding", None)
    if not isinstance(sharding, NamedSharding) or all(axis is None for axis in sharding.spec):
        return value
    if isinstance(value, jax.core.Tracer):
        return _reshard(value, NamedSharding(sharding.mesh, PartitionSpec()))
    mesh: Any = value.sharding.mesh  # pyright: ignore[reportAttributeAccessIssue]
    return jax.device_put(value, NamedSharding(mesh, PartitionSpec()))


def on_explicit_mesh(*arrays: jax.Array) -> bool:
    """Whether a mesh with explicit axes is a part of the type of an array."""
    shardings = (getattr(_typeof(array), "sharding", None) for array in arrays)
    return any(isinstance(s, NamedSharding) and not s.mesh.empty for s in shardings)


def _is_device_memory(value: Any) -> bool:
    """Whether it is the tensor of another library that NumPy cannot read."""
    if not hasattr(value, "__dlpack__") or isinstance(value, np.ndarray):
        return False
    on_host = value.__dlpack_device__()[0] == 1
    return not (on_host and hasattr(value, "__array__"))


def _numbers(value: Any, name: str) -> np.ndarray:
    """The entries in a dtype that JAX knows, on the host."""
    expected = f"`{name}` must be an array of numbers"
    missing = sum(map(_missing, jax.tree.leaves(value)))
    if missing:
        raise ValueError(f"`{name}` must have no missing entries; {missing} are masked or NA. "
                         "Drop or fill them")  # fmt: skip
    try:
        host = np.asarray(value)
    except Exception as error:  # `__array__` of other libraries may raise anything
        if not isinstance(value, list | tuple):
            raise TypeError(f"{expected}; got {_sparse(value, name)}") from error
        raise TypeError(f"{expected}, its rows equally long; got {value!r:.40}") from error
    if host.dtype == object:
        host = _of_objects(host)
    if host.dtype == object and host.ndim == 0:
        raise TypeError(f"{expected}; got {_sparse(value, name)}")
    if host.dtype.names is not None:
        raise TypeError(f"{expected}; got a structured array of fields {host.dtype.names}. Pass "
                        f"numpy.lib.recfunctions.structured_to_unstructured({name})")  # fmt: skip
    if not jnp.issubdtype(host.dtype, np.number) and host.dtype != bool:
        strange = [entry for entry in host.ravel().tolist() if not isinstance(entry, Real)]
        example = f", with {strange[0]!r:.40}" if strange else ""
        labels = f", labels by numpy.unique({name}, return_inverse=True)[1]"
        raise TypeError(f"{expected}; got dtype {host.dtype}{example}. Convert it to numbers"
                        f"{labels if host.ndim == 1 else ''}")  # fmt: skip
    if host.dtype.kind in "fc" and host.dtype.itemsize > (16 if host.dtype.kind == "c" else 8):
        with np.errstate(over="ignore"):
            return host.astype(complex if host.dtype.kind == "c" else float)
    return host.astype(host.dtype.newbyteorder("="), copy=False)


def _sparse(value: Any, name: str) -> str:
    """What came, and how it is made dense if it is a sparse array."""
    cure = next((m for m in ("toarray", "todense", "to_dense") if hasattr(value, m)), None)
    if cure is None or not hasattr(value, "shape"):
        return f"{value!r:.40}"
    return f"a sparse {type(value).__name__}. Pass {name}.{cure}()"


def _missing(value: Any) -> int:
    """Number of entries of a masked array or of a table of pandas that have no value."""
    if isinstance(value, np.ma.MaskedArray):
        return int(np.ma.getmaskarray(value).sum())
    if not hasattr(value, "isna"):
        return 0
    dtypes = value.dtypes if getattr(value, "ndim", 0) == 2 else [value.dtype]
    if all(isinstance(dtype, np.dtype) for dtype in dtypes):
        return 0  # but for NaN, which those who allow it see
    return int(np.asarray(value.isna()).sum())


def _of_objects(host: np.ndarray) -> np.ndarray:
    """Real numbers that came as objects, in the dtype of the least that holds them all."""
    entries = host.ravel().tolist()
    for kind, dtype in (((bool, np.bool_), bool), (Integral, int), (Real, float)):
        if entries and all(isinstance(entry, kind) for entry in entries):
            try:
                return host.astype(dtype)
            except OverflowError:
                continue
    return host


def _kept(host: Any, converted: jax.Array, name: str) -> None:
    """Refuse entries that the narrower dtype of JAX cannot hold."""
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
