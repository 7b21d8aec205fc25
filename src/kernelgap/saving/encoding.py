"""Values as JSON with named arrays, and back.

Numbers, strings, booleans and None are themselves. All else is an object with one key that tells
what it is: `array`, `key` (random keys), `float` (NaN and infinities), `tuple`, `list`, `dict`, or
`class` with the fields of one of `classes.py`.
"""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks
from kernelgap.kernels.functions import KernelFunction
from kernelgap.saving import classes
from kernelgap.saving.archive import FOREIGN

Arrays = dict[str, np.ndarray]

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(value: Any, arrays: Arrays, where: str = "") -> Any:
    """The value as JSON; its arrays are added to `arrays`, named by where they are."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _encode_array(value, arrays, where or "value")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    described = classes.describe(value)
    if described is not None:
        name, fields = described
        inside = {k: encode(v, arrays, _at(where, k)) for k, v in fields.items()}
        return {"class": name, "fields": inside}
    if type(value) in (tuple, list):
        inside = [encode(v, arrays, _at(where, k)) for k, v in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": inside}
    if type(value) is dict:
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"dictionaries that are saved must have strings as keys; got "
                            f"{wrong[0]!r:.40}")  # fmt: skip
        return {"dict": {k: encode(v, arrays, _at(where, k)) for k, v in value.items()}}
    raise TypeError(
        "`obj` must be made of arrays, numbers, strings, tuples, lists, dicts, models, kernels "
        f"and results of kernelgap; got {type(value).__name__}{f' at {where!r}' if where else ''}. "
        "(The result of a study has a `save` of its own)"
    )


def _at(where: str, part: Any) -> str:
    return f"{where}.{part}" if where else str(part)


def _encode_array(value: Any, arrays: Arrays, where: str) -> dict[str, Any]:
    if not array_checks.is_concrete(value):
        raise TypeError("kernelgap.save writes values and cannot be traced: call it outside of "
                        "jit, vmap and grad")  # fmt: skip
    node: dict[str, Any] = {"as": "jax" if isinstance(value, jax.Array) else "numpy"}
    kind = "array"
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            kind, node = "key", {"impl": str(jax.random.key_impl(value))}
            value = jax.random.key_data(value)
        if not value.is_fully_addressable:
            raise ValueError(f"the array {where!r} lies on devices of other processes; gather it "
                             "before it is saved")  # fmt: skip
    elif isinstance(value, np.generic):
        node = {"as": "number"}
    array = np.asarray(value)
    if array.dtype.kind not in "biufc" and array.dtype not in FOREIGN:
        raise TypeError(f"arrays that are saved must hold numbers or booleans; {where!r} has dtype "
                        f"{array.dtype}")  # fmt: skip
    name = base = re.sub(r"[^\w.-]", "_", where)
    count = 1
    while name in arrays:
        count += 1
        name = f"{base}_{count}"
    arrays[name] = array
    return {kind: name, "dtype": _dtype_name(array.dtype), "shape": list(array.shape), **node}


def _dtype_name(dtype: np.dtype) -> str:
    return dtype.name if dtype in FOREIGN else dtype.str


class Decoder:
    """Makes values of JSON and arrays, each of which must be used.

    Attributes:
        arrays: those that are not used yet.
        kernel: what stands for a kernel that could not be written; None once it is used.
    """

    def __init__(self, arrays: Arrays, kernel: KernelFunction | None) -> None:
        self.arrays = dict(arrays)
        self.kernel = kernel

    def decode(self, node: Any) -> Any:
        """The value of a node."""
        if node is None or isinstance(node, bool | int | float | str):
            return node
        match node:
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
                found = {field: self.decode(value) for field, value in fields.items()}
                if name == classes.GIVEN:
                    given, self.kernel = self.kernel, None
                    return classes.given_kernel(found, given)
                return classes.build(name, found)
        raise ValueError(f"no value has the form {node!r:.80}")

    def _array(self, node: dict[str, Any], name: str) -> Any:
        array = self._checked(node, name)
        form = node.get("as")
        if form == "numpy":
            return array
        if form == "number" and array.ndim == 0:
            return array[()]
        if form != "jax":
            raise ValueError(f"the array {name!r} is to be of a kind {form!r}")
        if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise ValueError(
                f"the array {name!r} is of dtype {array.dtype}, which JAX would round: switch on "
                "jax_enable_x64 first. numpy.load reads the single arrays as they are"
            )
        return jnp.asarray(array)

    def _checked(self, node: dict[str, Any], name: str) -> np.ndarray:
        if name not in self.arrays:
            raise ValueError(f"the array {name!r} is missing, or is used twice")
        array = self.arrays.pop(name)
        for dtype, bits in FOREIGN.items():
            if node.get("dtype") == dtype.name and array.dtype == bits:
                array = array.view(dtype)
        found = _dtype_name(array.dtype), list(array.shape)
        expected = node.get("dtype"), node.get("shape")
        if found != expected:
            raise ValueError(f"the array {name!r} must have dtype {expected[0]} and shape "
                             f"{expected[1]}; got {found[0]} and {found[1]}")  # fmt: skip
        return array
