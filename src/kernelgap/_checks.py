"""Eager checks of what users pass, with messages that say what was expected and what came.

Shapes, dtypes and options are always checked: they are static. Values (NaN, labels, strengths) are
checked when they are concrete. What would be refused comes back as NaN where it is being traced,
under `jit`, `vmap` or `grad`; `nan_unless` is for functions that would lose the NaN on the way.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._arrays import array, is_concrete
from kernelgap.typing import ArrayLike, DTypeLike, PyTree


def random_key(key: Any, name: str = "key") -> None:
    """Refuse anything but one JAX random key; an integer seed is the usual mistake."""
    hint = f"`{name}` must be a JAX random key such as jax.random.key(0)"
    if not isinstance(key, jax.Array):
        raise TypeError(f"{hint}; got {type(key).__name__} {key!r:.40}")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.ndim != 0:
            raise ValueError(f"{hint}, a single one; got an array of keys of shape {key.shape}")
    elif not (key.dtype == jnp.uint32 and key.ndim == 1):
        raise TypeError(f"{hint}; got an array of dtype {key.dtype} and shape {key.shape}")


def integer(value: Any, name: str, *, minimum: int) -> int:
    """An int (or NumPy integer) of at least `minimum`; bools are refused."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"`{name}` must be an integer >= {minimum}; got {value!r:.40}")
    if value < minimum:
        raise ValueError(f"`{name}` must be an integer >= {minimum}; got {value}")
    return int(value)


def number(
    value: Any,
    name: str,
    *,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    exclusive: bool = False,
) -> Any:
    """A real scalar within [minimum, maximum], or above `minimum` when `exclusive`.

    Returned as it came; a traced one is NaN where it is out of range.
    """
    low = f"> {minimum:g}" if exclusive else f">= {minimum:g}"
    limits = [low] if np.isfinite(minimum) else []
    limits += [f"<= {maximum:g}"] if np.isfinite(maximum) else []
    expected = f"a finite number {' and '.join(limits)}".strip()
    if not is_concrete(value) and value.ndim == 0:
        if not jnp.issubdtype(value.dtype, jnp.floating):
            value = jax.lax.convert_element_type(value, float)
        inside = (value > minimum if exclusive else value >= minimum) & (value <= maximum)
        return jnp.where(inside & jnp.isfinite(value), value, jnp.nan)
    if isinstance(value, str | bytes | bool | complex) or np.ndim(value) != 0:
        raise TypeError(f"`{name}` must be {expected}; got {value!r:.40}")
    try:
        as_float = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be {expected}; got {value!r:.40}") from error
    too_low = as_float <= minimum if exclusive else as_float < minimum
    if not np.isfinite(as_float) or too_low or as_float > maximum:
        raise ValueError(f"`{name}` must be {expected}; got {as_float:g}")
    return value


def static_number(
    value: Any, name: str, *, minimum: float = -np.inf, exclusive: bool = False
) -> float:
    """A real scalar, as in `number`, that is part of a description: it cannot be traced."""
    if not is_concrete(value):
        raise TypeError(f"`{name}` must be a number that is known before tracing; got a traced "
                        "value. Close over it, or name it in static_argnames")  # fmt: skip
    number(value, name, minimum=minimum, exclusive=exclusive)
    return float(value)


def numbers(
    value: Any,
    name: str,
    *,
    minimum: float = -np.inf,
    maximum: float = np.inf,
    exclusive: bool = False,
) -> jax.Array:
    """Real numbers of any shape within [minimum, maximum], or strictly between when `exclusive`.

    Values are checked where they are concrete; integers stay integers.
    """
    expected = _range("finite numbers", minimum, maximum, exclusive)
    try:
        if isinstance(value, int | np.integer) and abs(int(value)) >= 2**31:
            value = float(value)  # JAX would not hold it
        converted = array(value, name)
    except TypeError as error:
        raise TypeError(f"`{name}` must hold {expected}; got {value!r:.40}") from error
    kinds = (jnp.floating, jnp.integer)
    if not any(jnp.issubdtype(converted.dtype, kind) for kind in kinds):
        raise TypeError(f"`{name}` must hold {expected}; got dtype {converted.dtype}")
    if is_concrete(converted):
        values = np.asarray(converted, np.float64)
        outside = ~np.isfinite(values) | _outside(values, minimum, maximum, exclusive)
        if outside.any():
            raise ValueError(f"`{name}` must hold {expected}; got {values[outside][:3].tolist()}")
    return converted


def host_numbers(
    value: Any,
    name: str,
    *,
    minimum: float = -np.inf,
    exclusive: bool = False,
    infinite: bool = False,
) -> np.ndarray:
    """Return concrete real numbers of any shape in float64; inf is allowed where `infinite`."""
    expected = _range("numbers" if infinite else "finite numbers", minimum, np.inf, exclusive)
    if not is_concrete(value):
        raise TypeError(f"`{name}` must hold {expected}, known now: certificates are computed on "
                        "the host, outside of jit, vmap and grad")  # fmt: skip
    try:
        values = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must hold {expected}; got {value!r:.40}") from error
    if values.size == 0:
        raise ValueError(f"`{name}` must hold {expected}; got shape {values.shape}")
    outside = np.isnan(values) | _outside(values, minimum, np.inf, exclusive)
    outside |= np.isinf(values) & (not infinite)
    if outside.any():
        raise ValueError(f"`{name}` must hold {expected}; got {values[outside][:3].tolist()}")
    return values


def _range(kind: str, minimum: float, maximum: float, exclusive: bool) -> str:
    limits = [f"{'>' if exclusive else '>='} {minimum:g}"] if np.isfinite(minimum) else []
    limits += [f"{'<' if exclusive else '<='} {maximum:g}"] if np.isfinite(maximum) else []
    return f"{kind} {' and '.join(limits)}".strip()


def _outside(values: np.ndarray, minimum: float, maximum: float, exclusive: bool) -> np.ndarray:
    if exclusive:
        return (values <= minimum) | (values >= maximum)
    return (values < minimum) | (values > maximum)


def decreasing(values: Any, name: str) -> tuple[float, ...]:
    """Numbers above 0 that decrease strictly: a non-empty sequence, or an array of one axis."""
    if isinstance(values, jax.Array | np.ndarray) and values.ndim == 1:
        values = np.asarray(values).tolist()
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise TypeError(f"`{name}` must be a non-empty sequence of decreasing numbers; "
                        f"got {values!r:.40}")  # fmt: skip
    numbers = tuple(static_number(value, name, minimum=0, exclusive=True) for value in values)
    if any(after >= before for before, after in pairwise(numbers)):
        raise ValueError(f"`{name}` must decrease strictly; got {numbers!s:.80}")
    return numbers


def function(value: Any, name: str, form: str) -> None:
    """Something callable, of the given form."""
    if not callable(value):
        raise TypeError(f"`{name}` must be a function {form}; got {type(value).__name__}")


def optimizer(value: Any) -> None:
    """An optax transformation."""
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise TypeError(f"`optimizer` must be an optax transformation such as optax.adam(1e-2); "
                        f"got {type(value).__name__}")  # fmt: skip


def choice(value: Any, name: str, options: Sequence[str]) -> None:
    """One of a few strings."""
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"`{name}` must be one of {listed}; got {value!r:.40}")


def floating_dtype(dtype: DTypeLike | None) -> np.dtype:
    """The dtype as JAX will make it, JAX's default for None; refused unless floating."""
    try:
        chosen = jnp.dtype(jax.dtypes.canonicalize_dtype(float if dtype is None else dtype))
    except TypeError as error:
        raise TypeError(f"`dtype` must be a floating dtype; got {dtype!r:.40}") from error
    if not jnp.issubdtype(chosen, jnp.floating):
        raise TypeError(f"`dtype` must be a floating dtype; got {chosen}")
    return chosen


def floating(x: ArrayLike, name: str) -> jax.Array:
    """An array of a floating dtype, of any shape; its values are not looked at."""
    found = array(x, name)
    if not jnp.issubdtype(found.dtype, jnp.floating):
        real = jnp.issubdtype(found.dtype, jnp.complexfloating)
        cure = f"Pass {name}.real" if real else f"Convert it, for example with {name}.astype(float)"
        raise TypeError(f"`{name}` must be a floating-point array; got dtype {found.dtype}. {cure}")
    if found.dtype.itemsize < 2:
        raise TypeError(f"`{name}` must be float16, bfloat16, float32 or float64; got "
                        f"{found.dtype}. Convert it, for example with "
                        f"{name}.astype(jax.numpy.float32)")  # fmt: skip
    return found


def inputs(x: ArrayLike, name: str = "x", *, d: int | None = None) -> jax.Array:
    """A floating array of shape (n, d) with n, d >= 1 and, where concrete, finite entries."""
    array = floating(x, name)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"`{name}` must have shape (n, d) with n, d >= 1; got {array.shape}")
    if d is not None and array.shape[1] != d:
        raise ValueError(f"`{name}` must have shape (n, {d}); got {array.shape}")
    return _finite(array, name)


def same_dtype(x1: jax.Array, x2: jax.Array, name1: str = "x1", name2: str = "x2") -> None:
    """Refuse two arrays of different dtypes: which one the result should have is not clear."""
    if x1.dtype != x2.dtype:
        raise TypeError(f"`{name1}` and `{name2}` must have the same dtype; got {x1.dtype}, "
                        f"{x2.dtype}. Convert one, for example with "
                        f"{name1}.astype({name2}.dtype)")  # fmt: skip


def common_dtype(*arrays: jax.Array) -> np.dtype:
    """The dtype that JAX promotes floating arrays to, in its strict mode too."""
    dtypes = sorted({array.dtype for array in arrays}, key=lambda dtype: dtype.itemsize)
    if len(dtypes) > 1 and dtypes[-1].itemsize < 4:
        return np.dtype(np.float32)  # of float16 and bfloat16
    return dtypes[-1]


def solvable(x: ArrayLike, name: str = "x", *, d: int | None = None) -> jax.Array:
    """As `inputs`, of a dtype that linear systems can be solved in."""
    array = inputs(x, name, d=d)
    solvable_dtype(array, name)
    return array


def solvable_dtype(array: jax.Array, name: str) -> None:
    """Refuse half precision, in which JAX factorises no matrices."""
    if array.dtype.itemsize < 4:
        raise TypeError(f"`{name}` must be float32 or float64, in which JAX can solve linear "
                        f"systems; got {array.dtype}. Convert it, for example with "
                        f"{name}.astype(jax.numpy.float32)")  # fmt: skip


def examples(x: ArrayLike, name: str = "x", *, shape: tuple[int, ...] | None = None) -> jax.Array:
    """A floating array of shape (n, ...), n >= 1, of examples of any shape; finite if concrete."""
    array = floating(x, name)
    if array.ndim == 0 or 0 in array.shape:
        raise ValueError(f"`{name}` must have shape (n, ...) with n >= 1 and no empty axis; "
                         f"got {array.shape}")  # fmt: skip
    if shape is not None and array.shape[1:] != shape:
        wanted = ", ".join(["n", *map(str, shape)])
        raise ValueError(f"`{name}` must have shape ({wanted}); got {array.shape}")
    return _finite(array, name)


def parameters(params: PyTree, name: str = "params", *, finite: bool = True) -> PyTree:
    """A tree of floating arrays, at least one, finite (unless that is waived) where concrete."""
    if not jax.tree.leaves(params):
        raise ValueError(f"`{name}` must hold at least one array; got {params!r:.40}")

    def converted(path: Any, leaf: Any) -> jax.Array:
        where = f"{name}{jax.tree_util.keystr(path)}"
        checked = array(leaf, where)
        if not jnp.issubdtype(checked.dtype, jnp.floating):
            raise TypeError(
                f"`{name}` must hold floating-point arrays only; `{where}` has dtype "
                f"{checked.dtype}. Close over what is not differentiated, as in "
                "lambda p, x: apply((p, rest), x)"
            )
        return _finite(checked, where) if finite else checked

    return jax.tree_util.tree_map_with_path(converted, params)


def targets(y: ArrayLike, n: int, name: str = "y", *, columns: bool = False) -> jax.Array:
    """Real targets of shape (n,), or (n, k) where `columns`, finite where concrete."""
    array = floating(y, name)
    if array.shape[:1] != (n,) or array.ndim not in ((1, 2) if columns else (1,)):
        shapes = f"({n},) or ({n}, k)" if columns else f"({n},)"
        raise ValueError(f"`{name}` must have shape {shapes}, one entry per row of x; "
                         f"got {array.shape}{_flatten(array, n, name)}")  # fmt: skip
    return _finite(array, name)


def gram(gram: ArrayLike, name: str = "gram") -> jax.Array:
    """A Gram matrix of shape (n, n), or of n k outputs in shape (n, n, k, k); finite if concrete.

    Returns it as a matrix of shape (n, n) or (n k, n k), sample by sample. Symmetry is not checked.
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
    """Binary labels of shape (n,), each -1 or +1; returned as they came, traced ones as floats."""
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
    """Integer class labels of shape (n,) in 0..k-1; traced ones are k where out of range."""
    labels = array(y, name)
    if labels.shape != (n,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        hint = _flatten(labels, n, name)
        if labels.shape == (n,):
            hint = f". Convert classes that are whole numbers by {name}.astype(int)"
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
            two = set(np.unique(values).tolist()) <= {-1, 1}
            hint = ". Labels -1 and +1 are floats, for one output of shape (n,)" if two else ""
            raise ValueError(f"`{name}` must hold classes 0..{k - 1}; got {bad[:3].tolist()}{hint}")
        return labels
    labels = labels.astype(jnp.int32)
    return jnp.where((labels >= 0) & (labels < k), labels, k)


def _flatten(array: jax.Array, n: int, name: str) -> str:
    return f". Pass {name}.ravel()" if array.shape in ((n, 1), (1, n)) else ""


def all_finite(*trees: PyTree) -> jax.Array | Literal[True]:
    """Whether all numbers are finite; True where they are concrete, and have been checked."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if not is_concrete(leaf)]
    if not leaves:
        return True
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def nan_unless(valid: jax.Array | bool, tree: PyTree) -> PyTree:
    """The tree, all its floating numbers NaN unless `valid`; so are their derivatives then."""
    if valid is True:
        return tree

    def gated(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf * jnp.where(valid, jnp.ones((), leaf.dtype), jnp.nan)

    return jax.tree.map(gated, tree)


def _finite(array: jax.Array, name: str) -> jax.Array:
    if not is_concrete(array):
        return jnp.where(jnp.isfinite(array), array, jnp.nan)
    # In NumPy: a jnp operation would be compiled for every new shape. What lies on the devices of
    # other processes cannot be read here.
    if array.is_fully_addressable and not np.isfinite(values := np.asarray(array)).all():
        where = np.argwhere(~np.isfinite(values))
        raise ValueError(f"`{name}` must be finite; found NaN or inf in {len(where)} entries, "
                         f"the first at index {tuple(where[0].tolist())}")  # fmt: skip
    return array
