"""Eager argument checks, whose messages state what was expected and what was received.

A check of a single value returns it, converted if it is an array. Shapes, dtypes and options are
static and always checked. Values (NaN, labels, strengths) are checked if they are concrete;
under `jit`, `vmap` or `grad`, invalid values become NaN instead. `nan_unless` is for functions that
would otherwise lose the NaN on the way.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics.arrays import array, is_concrete
from kernelgap.typing import ArrayLike, DTypeLike, PyTree


def floating_dtype(dtype: DTypeLike | None) -> np.dtype:
    """Return the floating dtype that JAX will use; its default for None."""
    try:
        chosen = jnp.dtype(jax.dtypes.canonicalize_dtype(float if dtype is None else dtype))
    except TypeError as error:
        raise TypeError(f"`dtype` must be a floating dtype; got {dtype!r:.40}") from error
    if not jnp.issubdtype(chosen, jnp.floating):
        raise TypeError(f"`dtype` must be a floating dtype; got {chosen}")
    return chosen


def floating(x: ArrayLike, name: str) -> jax.Array:
    """Convert to an array of a floating dtype, without a check of its values."""
    converted = array(x, name)
    if not jnp.issubdtype(converted.dtype, jnp.floating):
        is_complex = jnp.issubdtype(converted.dtype, jnp.complexfloating)
        cure = f"Pass {name}.real" if is_complex else f"Convert it by {name}.astype(float)"
        raise TypeError(
            f"`{name}` must be a floating-point array; got dtype {converted.dtype}. {cure}"
        )
    if converted.dtype.itemsize < 2:
        raise TypeError(f"`{name}` must be float16, bfloat16, float32 or float64; got "
                        f"{converted.dtype}. Convert it, for example with "
                        f"{name}.astype(jax.numpy.float32)")  # fmt: skip
    return converted


def inputs(x: ArrayLike, name: str = "x", *, d: int | None = None) -> jax.Array:
    """Check inputs of shape (n, d) with n, d >= 1, finite if concrete."""
    array = floating(x, name)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"`{name}` must have shape (n, d) with n, d >= 1; got {array.shape}")
    if d is not None and array.shape[1] != d:
        raise ValueError(f"`{name}` must have shape (n, {d}); got {array.shape}")
    return _finite(array, name)


def same_dtype(x1: jax.Array, x2: jax.Array, name1: str = "x1", name2: str = "x2") -> None:
    """Raise if two arrays have different dtypes, which leaves that of the result unclear."""
    if x1.dtype != x2.dtype:
        raise TypeError(f"`{name1}` and `{name2}` must have the same dtype; got {x1.dtype}, "
                        f"{x2.dtype}. Convert one, for example with "
                        f"{name1}.astype({name2}.dtype)")  # fmt: skip


def common_dtype(*arrays: jax.Array) -> np.dtype:
    """Return the dtype to which JAX promotes floating arrays, also in strict mode."""
    dtypes = sorted({array.dtype for array in arrays}, key=lambda dtype: dtype.itemsize)
    if len(dtypes) > 1 and dtypes[-1].itemsize < 4:
        return np.dtype(np.float32)  # the common dtype of float16 and bfloat16
    return dtypes[-1]


def solvable(x: ArrayLike, name: str = "x", *, d: int | None = None) -> jax.Array:
    """Check inputs as `inputs` does, and that their dtype allows linear solves."""
    return solvable_dtype(inputs(x, name, d=d), name)


def solvable_dtype(array: jax.Array, name: str) -> jax.Array:
    """Raise for half precision, in which JAX cannot factorise matrices."""
    if array.dtype.itemsize < 4:
        raise TypeError(f"`{name}` must be float32 or float64, in which JAX can solve linear "
                        f"systems; got {array.dtype}. Convert it, for example with "
                        f"{name}.astype(jax.numpy.float32)")  # fmt: skip
    return array


def examples(x: ArrayLike, name: str = "x", *, shape: tuple[int, ...] | None = None) -> jax.Array:
    """Check n >= 1 examples of any shape, finite if concrete."""
    array = floating(x, name)
    if array.ndim == 0 or 0 in array.shape:
        raise ValueError(f"`{name}` must have shape (n, ...) with n >= 1 and no empty axis; "
                         f"got {array.shape}")  # fmt: skip
    if shape is not None and array.shape[1:] != shape:
        expected = ", ".join(["n", *map(str, shape)])
        raise ValueError(f"`{name}` must have shape ({expected}); got {array.shape}")
    return _finite(array, name)


def parameters(params: PyTree, name: str = "params", *, finite: bool = True) -> PyTree:
    """Check a tree with at least one array, all floating and, if `finite`, finite if concrete."""
    if not jax.tree.leaves(params):
        raise ValueError(f"`{name}` must hold at least one array; got {params!r:.40}")

    def convert(path: Any, leaf: Any) -> jax.Array:
        where = f"{name}{jax.tree_util.keystr(path)}"
        checked = array(leaf, where)
        if not jnp.issubdtype(checked.dtype, jnp.floating):
            raise TypeError(
                f"`{name}` must hold floating-point arrays only; `{where}` has dtype "
                f"{checked.dtype}. Close over leaves that are not differentiated, as in "
                "lambda p, x: apply((p, fixed), x)"
            )
        return _finite(checked, where) if finite else checked

    return jax.tree_util.tree_map_with_path(convert, params)


def targets(y: ArrayLike, n: int, name: str = "y", *, columns: bool = False) -> jax.Array:
    """Check real targets of shape (n,), or (n, k) if `columns`, finite if concrete."""
    array = floating(y, name)
    if array.shape[:1] != (n,) or array.ndim not in ((1, 2) if columns else (1,)):
        shapes = f"({n},) or ({n}, k)" if columns else f"({n},)"
        raise ValueError(f"`{name}` must have shape {shapes}, one entry per row of x; "
                         f"got {array.shape}{_flatten(array, n, name)}")  # fmt: skip
    return _finite(array, name)


def gram(gram: ArrayLike, name: str = "gram") -> jax.Array:
    """Check a Gram matrix of shape (n, n), or (n, n, k, k) for k outputs, finite if concrete.

    The result has shape (n, n) or (n k, n k), ordered by sample. Symmetry is not checked.
    """
    array = floating(gram, name)
    pairs = array.shape[:1] * 2 + array.shape[2:3] * 2
    if array.ndim not in (2, 4) or array.shape != pairs or 0 in array.shape:
        raise ValueError(f"`{name}` must be a Gram matrix of shape (n, n), or (n, n, k, k) for k "
                         f"outputs; got {array.shape}")  # fmt: skip
    array = _finite(array, name)
    if array.ndim == 2:
        return array
    n, _, k, _ = array.shape
    return array.transpose(0, 2, 1, 3).reshape(n * k, n * k)


def signs(y: ArrayLike, n: int, name: str = "y") -> jax.Array:
    """Check labels -1 and +1 of shape (n,); traced labels become floats."""
    labels = array(y, name)
    if jnp.issubdtype(labels.dtype, jnp.complexfloating):
        raise TypeError(f"`{name}` must hold labels -1 and +1; got dtype {labels.dtype}")
    if labels.shape != (n,):
        raise ValueError(f"`{name}` must have shape ({n},), one label per row of x; "
                         f"got {labels.shape}{_flatten(labels, n, name)}")  # fmt: skip
    if is_concrete(labels):
        values = np.asarray(labels)
        bad = values[np.abs(values) != 1]
        if bad.size:
            zero_one = set(np.unique(values).tolist()) <= {0, 1}
            hint = f". For labels 0 and 1 pass 2.0 * {name} - 1" if zero_one else ""
            if labels.dtype.kind == "u" and values.max() == np.iinfo(values.dtype).max:
                signed = str(labels.dtype).removeprefix("u")
                hint = f". {labels.dtype} has no -1: pass {name}.astype({signed!r})"
            raise ValueError(f"`{name}` must hold labels -1 and +1 only; got {bad[:3].tolist()}"
                             f"{hint}")  # fmt: skip
        return labels
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        labels = jax.lax.convert_element_type(labels, float)
    return jnp.where(jnp.abs(labels) == 1, labels, jnp.nan)


def classes(y: ArrayLike, n: int, k: int, name: str = "y") -> jax.Array:
    """Check integer classes 0..k-1 of shape (n,); invalid traced classes become k."""
    labels = array(y, name)
    if labels.shape != (n,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        hint = _flatten(labels, n, name)
        if labels.shape == (n,):
            hint = f". Convert integer-valued classes by {name}.astype(int)"
        elif labels.shape == (n, k):
            hint = f". Pass {name}.argmax(axis=1) of one-hot labels"
        raise ValueError(
            f"`{name}` must hold integer classes 0..{k - 1} in shape ({n},) for {k} classes; "
            f"got {labels.dtype} of shape {labels.shape}{hint}"
        )
    if is_concrete(labels):
        values = np.asarray(labels)
        bad = values[(values < 0) | (values >= k)]
        if bad.size:
            binary = set(np.unique(values).tolist()) <= {-1, 1}
            hint = ". Labels -1 and +1 are floats, for one output of shape (n,)" if binary else ""
            raise ValueError(f"`{name}` must hold classes 0..{k - 1}; got {bad[:3].tolist()}{hint}")
        return labels
    labels = labels.astype(jnp.int32)
    return jnp.where((labels >= 0) & (labels < k), labels, k)


def _flatten(array: jax.Array, n: int, name: str) -> str:
    return f". Pass {name}.ravel()" if array.shape in ((n, 1), (1, n)) else ""


def all_finite(*trees: PyTree) -> jax.Array | Literal[True]:
    """Return True if all traced leaves are finite; concrete ones have been checked already."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if not is_concrete(leaf)]
    if not leaves:
        return True
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def nan_unless(valid: jax.Array | bool, tree: PyTree) -> PyTree:
    """Replace all floating leaves, and their derivatives, by NaN unless `valid`."""
    if valid is True:
        return tree

    def mask(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf * jnp.where(valid, jnp.ones((), leaf.dtype), jnp.nan)

    return jax.tree.map(mask, tree)


def _finite(array: jax.Array, name: str) -> jax.Array:
    if not is_concrete(array):
        return jnp.where(jnp.isfinite(array), array, jnp.nan)
    # NumPy, because a jnp operation would be compiled for every new shape. Arrays on the devices of
    # other processes cannot be read here.
    if array.is_fully_addressable and not np.isfinite(values := np.asarray(array)).all():
        where = np.argwhere(~np.isfinite(values))
        raise ValueError(f"`{name}` must be finite; found NaN or inf in {len(where)} entries, "
                         f"the first at index {tuple(where[0].tolist())}")  # fmt: skip
    return array
