"""The type that all kernels share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from kernelgap import _checks
from kernelgap.typing import ArrayLike, PyTree


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["evaluate", "evaluate_diag", "spec", "default"],
)
@dataclass(frozen=True, eq=True)
class Kernel:
    """A positive semi-definite function of two inputs.

    Call it as `kernel(x1, x2=None, get=None)`: the Gram matrix of shape (n1, n2), or (n1, n1),
    symmetric with exact diagonal, when `x2` is None. `get` is neural_tangents' third argument:
    `"ntk"`, `"nngp"` or a tuple of them; by default the kernel that the object was made for.
    Kernels of equal description are equal and hash alike, so that jitted code is not traced anew.

    Attributes:
        evaluate: `evaluate(spec, params, x1, x2, get) -> (n1, n2)`.
        evaluate_diag: `evaluate_diag(spec, params, x, get) -> (n,)`.
        spec: static, hashable description.
        default: what a call returns when `get` is None.
        params: arrays the kernel depends on, or None.
    """

    evaluate: Callable[..., jax.Array]
    evaluate_diag: Callable[..., jax.Array]
    spec: Any
    default: str
    params: PyTree = None

    def __call__(
        self, x1: ArrayLike, x2: ArrayLike | None = None, get: str | Sequence[str] | None = None
    ) -> Any:
        """The Gram matrix of x1 (n1, d) and x2 (n2, d); a tuple of them when `get` is a tuple."""
        x1 = _checks.inputs(x1, "x1")
        if x2 is not None:
            x2 = _checks.inputs(x2, "x2", d=x1.shape[1])
        return self._each(get, lambda g: self.evaluate(self.spec, self.params, x1, x2, g))

    def diag(self, x: ArrayLike, get: str | Sequence[str] | None = None) -> Any:
        """k(x_i, x_i) for each row of x: shape (n,), without the Gram matrix."""
        x = _checks.inputs(x)
        return self._each(get, lambda g: self.evaluate_diag(self.spec, self.params, x, g))

    def _each(
        self, get: str | Sequence[str] | None, evaluate: Callable[[str], jax.Array]
    ) -> jax.Array | tuple[jax.Array, ...]:
        names = (get,) if isinstance(get, str) else tuple(get or (self.default,))
        for name in names:
            _checks.choice(name, "get", ("ntk", "nngp"))
        values = tuple(evaluate(name) for name in names)
        return values[0] if get is None or isinstance(get, str) else values

    def __repr__(self) -> str:
        return f"Kernel({self.default}, {self.spec})"
