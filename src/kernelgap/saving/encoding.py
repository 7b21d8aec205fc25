"""Encode values as JSON with named arrays, and decode them.

Numbers, strings, booleans and None stand for themselves. Everything else is an object whose first
key tells its type: `array`, `key` (random keys), `float` (NaN and infinities), `tuple`, `list`,
`dict`, or `class` with the fields of a class of `_support.registry`.
"""

import math
import re
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap._support import registry
from kernelgap.kernels.functions import GivenKernel, KernelFunction

Arrays = dict[str, np.ndarray]

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# Modules with classes to save, in the order in which they depend on each other.
_MODULES = (
    "datasets",
    "models",
    "kernels",
    "optim",
    "metrics",
    "diversity",
    "predictors",
    "bounds",
    "margins",
    "lazy",
)
# NumPy's format does not know these dtypes: their bits are written.
_FOREIGN = {
    name: np.dtype(getattr(jnp, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
}


def encode(value: Any, arrays: Arrays, where: str = "") -> Any:
    """Return the value as JSON, and add its arrays to `arrays`, named by their places."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _encode_array(value, arrays, where or "value")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}

    def encode_each(items: Any) -> dict:
        return {k: encode(v, arrays, f"{where}.{k}" if where else str(k)) for k, v in items}

    described = registry.describe(value)
    name = type(value).__name__
    if described is None and hasattr(value, "_fields") and _optax_state(name) is type(value):
        described = f"optax.{name}", value._asdict()
    if described is not None:
        return {"class": described[0], "fields": encode_each(described[1].items())}
    if type(value) in (tuple, list):
        return {name: list(encode_each(enumerate(value)).values())}
    if type(value) is dict:
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"`obj` must hold dicts with strings as keys; got {key!r:.40}")
        return {"dict": encode_each(value.items())}
    raise TypeError(
        "`obj` must be made of arrays, numbers, strings, tuples, lists, dicts, models, kernels "
        f"and results of kernelgap; got {name}{f' at {where!r}' if where else ''}. "
        "(The result of a study has a `save` method of its own)"
    )


def _encode_array(value: Any, arrays: Arrays, where: str) -> dict[str, Any]:
    if not array_checks.is_concrete(value):
        raise TypeError("`obj` must not be traced: call kernelgap.save outside of jit, vmap and "
                        "grad")  # fmt: skip
    kind, node = "array", {"as": "number" if isinstance(value, np.generic) else "numpy"}
    if isinstance(value, jax.Array):
        if not value.is_fully_addressable:
            raise ValueError(f"`obj` must lie on devices of this process: gather the array "
                             f"{where!r} first")  # fmt: skip
        node = {"as": "jax"}
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            kind, node = "key", {"impl": str(jax.random.key_impl(value))}
            value = jax.random.key_data(value)
    array = np.asarray(value)
    dtype = _dtype_name(array.dtype)
    if dtype in _FOREIGN:
        array = array.view(f"u{array.itemsize}")
    elif array.dtype.kind not in "biufc":
        raise TypeError(f"`obj` must hold arrays of numbers or booleans; {where!r} has dtype "
                        f"{array.dtype}")  # fmt: skip
    name = base = re.sub(r"[^\w.-]", "_", where)
    count = 1
    while name in arrays:
        count += 1
        name = f"{base}_{count}"
    arrays[name] = array
    return {kind: name, "dtype": dtype, "shape": list(array.shape), **node}


def _dtype_name(dtype: np.dtype) -> str:
    return dtype.name if dtype.name in _FOREIGN else dtype.str


class Decoder:
    """Converter of JSON and arrays to values.

    Attributes:
        arrays: Arrays that are not used yet.
        kernel: The function that takes the place of kernels which are not in the file.
        kernel_used: True once it has taken one.
    """

    def __init__(self, arrays: Arrays, kernel: KernelFunction | None) -> None:
        self.arrays, self.kernel, self.kernel_used = dict(arrays), kernel, False

    def decode(self, node: Any) -> Any:
        """Return the value of a node."""
        match node:
            case None | bool() | int() | float() | str():
                return node
            case {"array": str(name)}:
                return self._array(node, name)
            case {"key": str(name), "impl": str(implementation)}:
                data = jnp.asarray(self._checked(node, name))
                return jax.random.wrap_key_data(data, impl=implementation)
            case {"float": str(name)} if name in _FLOATS:
                return _FLOATS[name]
            case {"tuple": list(items)}:
                return tuple(self.decode(item) for item in items)
            case {"list": list(items)}:
                return [self.decode(item) for item in items]
            case {"dict": dict(items)}:
                return {name: self.decode(item) for name, item in items.items()}
            case {"class": str(name), "fields": dict(fields)}:
                value = _rebuild(name, {field: self.decode(v) for field, v in fields.items()})
                if not isinstance(value, GivenKernel):
                    return value
                self.kernel_used = True
                return value.checked(self.kernel)
        raise ValueError(f"no value has the form {node!r:.80}")

    def _array(self, node: dict[str, Any], name: str) -> Any:
        array = self._checked(node, name)
        match node.get("as"):
            case "numpy":
                return array
            case "number" if array.ndim == 0:
                return array[()]
            case "jax" if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype:
                return jnp.asarray(array)
            case "jax":
                raise ValueError(f"JAX would round the array {name!r} of dtype {array.dtype}: "
                                 "enable jax_enable_x64 first. numpy.load reads single arrays "
                                 "as they are")  # fmt: skip
        raise ValueError(f"the array {name!r} has the unknown kind {node.get('as')!r:.40}")

    def _checked(self, node: dict[str, Any], name: str) -> np.ndarray:
        if name not in self.arrays:
            raise ValueError(f"the array {name!r} is missing, or is used twice")
        array, expected = self.arrays.pop(name), (str(node.get("dtype")), node.get("shape"))
        dtype = _FOREIGN.get(expected[0])
        if dtype is not None and array.dtype == f"u{dtype.itemsize}":
            array = array.view(dtype)
        actual = _dtype_name(array.dtype), list(array.shape)
        if actual != expected:
            raise ValueError(f"the array {name!r} must have dtype {expected[0]} and shape "
                             f"{expected[1]}; got {actual[0]} and {actual[1]}")  # fmt: skip
        return array


def _rebuild(name: str, fields: dict[str, Any]) -> Any:
    """Return the value of a class, made of its fields."""
    if name.startswith("optax.") and (state := _optax_state(name.removeprefix("optax."))):
        return registry.from_fields(state, name, fields, {})
    for module in _MODULES:  # importing a module registers its classes
        if registry.is_registered(name):
            break
        getattr(import_module(f"kernelgap.{module}"), name, None)
    return registry.rebuild(name, fields)


def _optax_state(name: str) -> type | None:
    """Return the class of optimizer states that optax exports under this name."""
    cls = getattr(import_module("optax"), name, None)
    is_namedtuple = isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")
    return cls if is_namedtuple else None
