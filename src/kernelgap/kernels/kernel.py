"""The type that all kernels share."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Literal

import jax

from kernelgap import _checks
from kernelgap.kernels.tiled import sharding
from kernelgap.typing import ArrayLike, PyTree


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["evaluate", "evaluate_diag", "spec", "default", "kinds", "ndim"],
)
@dataclass(frozen=True, eq=False)
class Kernel:
    """A positive semi-definite function of two inputs.

    Call it as `kernel(x1, x2=None, get=None)`: the Gram matrix of shape (n1, n2), or (n1, n1),
    symmetric with exact diagonal, when `x2` is None. `get` is neural_tangents' third argument:
    `"ntk"`, `"nngp"` or a tuple of them; by default the kernel that the object was made for.
    Kernels of equal description are equal and hash alike, so that jitted code is not traced anew;
    those that depend on arrays are equal only if they hold the same array objects.

    The empirical kernel of k outputs has shape (n1, n2, k, k), and its diagonal (n, k, k).

    Attributes:
        evaluate: `evaluate(spec, params, x1, x2, get) -> (n1, n2, ...)`.
        evaluate_diag: `evaluate_diag(spec, params, x, get) -> (n, ...)`.
        spec: static, hashable description.
        default: what a call returns when `get` is None.
        params: arrays the kernel depends on, or None.
        kinds: the names that `get` may ask for.
        ndim: number of axes of a set of inputs, 2 for (n, d); None if examples have any shape.
    """

    evaluate: Callable[..., jax.Array]
    evaluate_diag: Callable[..., jax.Array]
    spec: Any
    default: str
    params: PyTree = None
    kinds: tuple[str, ...] = ("ntk", "nngp")
    ndim: Literal[2] | None = 2

    def __call__(
        self, x1: ArrayLike, x2: ArrayLike | None = None, get: str | Sequence[str] | None = None
    ) -> Any:
        """The Gram matrix of x1 (n1, d) and x2 (n2, d); a tuple of them when `get` is a tuple."""
        x1 = self._inputs(x1, "x1")
        if x2 is not None:
            x2 = self._inputs(x2, "x2", x1.shape[1:])
        x1, x2, params = sharding.together(x1, x2, self.params)
        return self._each(get, lambda g: self.evaluate(self.spec, params, x1, x2, g))

    def diag(self, x: ArrayLike, get: str | Sequence[str] | None = None) -> Any:
        """k(x_i, x_i) for each row of x: shape (n,), without the Gram matrix."""
        x, params = sharding.together(self._inputs(x, "x"), self.params)
        return self._each(get, lambda g: self.evaluate_diag(self.spec, params, x, g))

    def _inputs(self, x: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> jax.Array:
        if self.ndim is None:
            return _checks.examples(x, name, shape=shape)
        return _checks.inputs(x, name, d=None if shape is None else shape[0])

    def _each(
        self, get: str | Sequence[str] | None, evaluate: Callable[[str], jax.Array]
    ) -> jax.Array | tuple[jax.Array, ...]:
        if get is not None and not (isinstance(get, str | Sequence) and get):
            raise TypeError(f"`get` must be a name, a sequence of names, or None; got {get!r:.40}")
        names = (get,) if isinstance(get, str) else tuple(get or (self.default,))
        for name in names:
            _checks.choice(name, "get", self.kinds)
        values = tuple(evaluate(name) for name in names)
        return values[0] if get is None or isinstance(get, str) else values

    def _identity(self) -> tuple:
        # Arrays have no hash and no single truth value: which ones they are decides.
        leaves, tree = jax.tree.flatten(self)
        return (tree, *map(id, leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple:
        # Compiled functions are pickled by name; pickle itself would look for what they wrap.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        names = {name: _name(fields.pop(name)) for name in ("evaluate", "evaluate_diag")}
        return _restored, (names, fields)

    def __repr__(self) -> str:
        return f"Kernel({self.default}, {self.spec})"


def _name(function: Callable) -> tuple[str, str] | Callable:
    """Module and name of a function where they lead back to it, else the function itself."""
    module, name = function.__module__, function.__qualname__
    found = getattr(import_module(module), name, None) is function
    return (module, name) if found else function


def _restored(names: dict[str, Any], fields: dict[str, Any]) -> Kernel:
    """What `Kernel.__reduce__` took apart."""
    functions = {
        key: getattr(import_module(name[0]), name[1]) if isinstance(name, tuple) else name
        for key, name in names.items()
    }
    return Kernel(**functions, **fields)
