"""The type that all kernels share."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap._support.registry import register
from kernelgap.kernels import algebra
from kernelgap.kernels.tiled import sharding
from kernelgap.typing import ArrayLike, PyTree

_T = TypeVar("_T")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["evaluate", "evaluate_diag", "spec", "default", "kinds", "ndim"],
)
@dataclass(frozen=True, eq=False)
class Kernel:
    """A positive semi-definite function of two inputs.

    `kernel(x1, x2=None, get=None)` returns the Gram matrix of shape (n1, n2), or (n1, n1),
    symmetric with an exact diagonal, when `x2` is None. Inputs of half precision are evaluated in
    float32 and rounded at the end; values that the dtype cannot hold are refused (under `jit` they
    are inf). `get` is neural_tangents' third argument:
    `"ntk"`, `"nngp"` or a tuple of them; by default the kernel that the object was made for.
    Kernels of equal description are equal and hash alike, so that jitted code is not traced anew;
    those that depend on arrays are equal only if they hold the same array objects.

    The empirical kernel of k outputs has shape (n1, n2, k, k), and its diagonal (n, k, k).

    `k1 + k2`, `k1 * k2` (of values, not of matrices) and `2.0 * k` are kernels again. A factor is
    positive: a number is a part of the description, a JAX array is a parameter, which may be
    traced. `get` is passed to both parts; parts of different kinds, such as an NTK and an NNGP
    kernel, are evaluated as their own kind.

    Attributes:
        evaluate: `evaluate(spec, params, x1, x2, get) -> (n1, n2, ...)`.
        evaluate_diag: `evaluate_diag(spec, params, x, get) -> (n, ...)`.
        spec: Static, hashable description. If it has a method `zonal_eigenvalues(d, degree,
            radius)`, `zonal_spectrum` takes the eigenvalues on the sphere from there.
        default: The kind that a call returns when `get` is None.
        params: Arrays the kernel depends on, or None.
        kinds: The names that `get` may ask for.
        ndim: Number of axes of a set of inputs, 2 for (n, d); None if examples have any shape.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((512,), parameterization="ntk")
        >>> x, ntk = jnp.eye(2), kg.kernels.ntk(model)
        >>> combined = 0.5 * ntk + kg.kernels.nngp(model) * kg.diversity.diversity_kernel()
        >>> print(combined.diag(x))
        [0.375 0.375]
        >>> combined == 0.5 * ntk + kg.kernels.nngp(model) * kg.diversity.diversity_kernel()
        True
    """

    evaluate: Callable[..., jax.Array]
    evaluate_diag: Callable[..., jax.Array]
    spec: Any
    default: str
    params: PyTree = None
    kinds: tuple[str, ...] = ("ntk", "nngp")
    ndim: Literal[2] | None = 2

    __array_ufunc__ = None  # NumPy leaves `np.float64(2) * kernel` to `__rmul__`

    def __call__(
        self, x1: ArrayLike, x2: ArrayLike | None = None, get: str | Sequence[str] | None = None
    ) -> Any:
        """Return the Gram matrix of x1 (n1, d), x2 (n2, d); a tuple of them for a tuple `get`."""
        x1 = self._inputs(x1, "x1")
        if x2 is not None:
            x2 = self._inputs(x2, "x2", x1.shape[1:])
        x1, x2, params = sharding.together(x1, x2, self.params)
        return self._each(get, lambda g: self._values(g, params, x1, x2))

    def diag(self, x: ArrayLike, get: str | Sequence[str] | None = None) -> Any:
        """Return k(x_i, x_i) for each row of x: shape (n,), without the Gram matrix."""
        x, params = sharding.together(self._inputs(x, "x"), self.params)

        def checked(get: str) -> jax.Array:
            values = self._diagonal(get, params, x)
            self._check_range(get, values, x=x)
            return values

        return self._each(get, checked)

    def _values(self, get: str, params: PyTree, x1: jax.Array, x2: jax.Array | None) -> jax.Array:
        if self.ndim is None:  # a function chooses its own precision
            values = self.evaluate(self.spec, params, x1, x2, get)
            if array_checks.is_concrete(values) and not bool(_all_finite(values)):
                raise ValueError("`x1` gives values of the kernel that are NaN or beyond the range "
                                 f"of {values.dtype}. Scale the inputs, or look at the net's "
                                 "gradients")  # fmt: skip
            return values
        params, *wide = widened((params, x1, x2))
        values = self.evaluate(self.spec, params, *wide, get).astype(x1.dtype)
        self._check_range(get, values, x1=x1, **({} if x2 is None else {"x2": x2}))
        return values

    def _diagonal(self, get: str, params: PyTree, x: jax.Array) -> jax.Array:
        if self.ndim is None:
            return self.evaluate_diag(self.spec, params, x, get)
        params, wide = widened((params, x))
        return self.evaluate_diag(self.spec, params, wide, get).astype(x.dtype)

    def _check_range(self, get: str, values: jax.Array, **inputs: jax.Array) -> None:
        """Refuse values beyond the largest number, and values that all round to zero."""
        given = list(inputs.values())
        if self.ndim is None or not array_checks.is_concrete(*given, values):
            return
        if not any(map(is_extreme, given)):
            return
        limits, bound = jnp.finfo(values.dtype), 1.0
        for x in (given * 2)[:2]:  # |k(x, z)|^2 <= k(x, x) k(z, z)
            diagonal = np.asarray(self._diagonal(get, *widened((self.params, x))), np.float64)
            bound *= float(np.sqrt(np.max(diagonal)))
        least = float(limits.tiny if limits.bits >= 32 else limits.smallest_subnormal)
        if not bound < 0.99 * float(limits.max) and not bool(jnp.all(jnp.isfinite(values))):
            trouble = f"large: values of the kernel exceed {float(limits.max):.2g}"
        elif bound < least and not jax.tree.leaves(self.params) and not bool(jnp.any(values != 0)):
            trouble = f"small: values of the kernel are below {least:.2g}"
        else:
            return
        wider = {2: ", or convert them to float32", 4: ", or convert them to float64"}
        raise ValueError(f"`{next(iter(inputs))}` is too {trouble}, where {values.dtype} ends. "
                         "Divide the inputs by their largest entry"
                         f"{wider.get(values.dtype.itemsize, '')}")  # fmt: skip

    def _inputs(self, x: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> jax.Array:
        if self.ndim is None:
            return array_checks.examples(x, name, shape=shape)
        return array_checks.inputs(x, name, d=None if shape is None else shape[0])

    def _each(
        self, get: str | Sequence[str] | None, evaluate: Callable[[str], jax.Array]
    ) -> jax.Array | tuple[jax.Array, ...]:
        if get is not None and not (isinstance(get, str | Sequence) and get):
            raise TypeError(f"`get` must be a name, a sequence of names, or None; got {get!r:.40}")
        names = (get,) if isinstance(get, str) else tuple(get or (self.default,))
        for name in names:
            checks.choice(name, "get", self.kinds)
        values = tuple(evaluate(name) for name in names)
        return values[0] if get is None or isinstance(get, str) else values

    def __add__(self, other: "Kernel") -> "Kernel":
        return self._combine("sum", other)

    def __radd__(self, other: int) -> "Kernel":
        if isinstance(other, int) and other == 0:  # the start of Python's `sum`
            return self
        return NotImplemented

    def __mul__(self, other: Any) -> "Kernel":
        if isinstance(other, Kernel):
            return self._combine("product", other)
        if callable(other) or isinstance(other, str | list | tuple | dict | None):
            return NotImplemented
        factor, arrays = algebra.checked_factor(other)
        spec, params = algebra.Combined("multiple", factor), (self, *arrays)
        return dataclasses.replace(self, evaluate=algebra.gram, evaluate_diag=algebra.diagonal,
                                   spec=spec, params=params)  # fmt: skip

    __rmul__ = __mul__

    def _combine(self, operation: str, other: Any) -> "Kernel":
        if not isinstance(other, Kernel):
            return NotImplemented
        default, kinds = algebra.common_kinds(self, other)
        spec, ndim = algebra.Combined(operation), 2 if 2 in (self.ndim, other.ndim) else None
        parts = self, other
        return Kernel(algebra.gram, algebra.diagonal, spec, default, parts, kinds, ndim)

    def _identity(self) -> tuple:
        # Arrays have no hash and no single truth value, so that their identity decides.
        leaves, tree = jax.tree.flatten(self)
        return (tree, *map(id, leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple:
        # Pickle compiled functions by name; pickle would look for the functions that they wrap.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        names = {name: _name(fields.pop(name)) for name in ("evaluate", "evaluate_diag")}
        return _restored, (names, fields)

    def __repr__(self) -> str:
        if isinstance(self.spec, algebra.Combined):
            return self.spec.formula(self.params)
        return f"Kernel({self.default}, {self.spec})"


@partial(quick_jit, level=1)
def _all_finite(values: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(values))


def widened(arrays: _T) -> _T:
    """Return arrays of one dtype of half precision in float32, so that sums are rounded once.

    Other arrays stay as they are, as do those of several dtypes. Scalars, such as the factor of a
    multiple, do not count.
    """
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(arrays) if leaf.ndim}
    if len(dtypes) != 1 or min(dtype.itemsize for dtype in dtypes) >= 4:
        return arrays
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), arrays)


def is_extreme(x: jax.Array) -> bool:
    """Return True if kernel values may leave the range of the dtype."""
    largest = np.max(np.abs(np.asarray(x)))
    return not 1 / 8 < largest < 8 and largest > 0


def _name(function: Callable) -> tuple[str, str] | Callable:
    """Return module and name of a function if they lead back to it, else the function itself."""
    module, name = function.__module__, function.__qualname__
    importable = getattr(import_module(module), name, None) is function
    return (module, name) if importable else function


def _restored(names: dict[str, Any], fields: dict[str, Any]) -> Kernel:
    """Return the kernel that `Kernel.__reduce__` took apart."""
    functions = {
        key: getattr(import_module(name[0]), name[1]) if isinstance(name, tuple) else name
        for key, name in names.items()
    }
    return Kernel(**functions, **fields)


def _combined_fields(kernel: Kernel) -> dict[str, Any] | None:
    if not isinstance(kernel.spec, algebra.Combined):
        return None
    return {**kernel.spec._asdict(), "parts": kernel.params}


def _from_combined_fields(operation: str, factor: float | None, parts: tuple) -> Kernel:
    checks.choice(operation, "operation", ("sum", "product", "multiple"))
    first, second = parts if factor is None else (*parts, factor)
    return first + second if operation == "sum" else first * second


register(Kernel, _combined_fields, _from_combined_fields, kind="combined")
