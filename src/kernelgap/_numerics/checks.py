"""Check arguments that are not data: numbers, options, functions, keys."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics.arrays import array, is_concrete


def random_key(key: Any, name: str = "key") -> jax.Array:
    """Check a single JAX random key; an integer seed is the usual mistake."""
    hint = f"`{name}` must be a JAX random key such as jax.random.key(0)"
    if not isinstance(key, jax.Array):
        raise TypeError(f"{hint}; got {type(key).__name__} {key!r:.40}")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.ndim != 0:
            raise ValueError(f"{hint}, a single one; got an array of keys of shape {key.shape}")
    elif not (key.dtype == jnp.uint32 and key.ndim == 1):
        raise TypeError(f"{hint}; got an array of dtype {key.dtype} and shape {key.shape}")
    return key


def integer(value: Any, name: str, *, minimum: int) -> int:
    """Check an integer, which may be NumPy's but not a bool."""
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
    """Check a real scalar within [minimum, maximum], or above `minimum` if `exclusive`.

    A concrete scalar is returned unchanged; a traced one becomes NaN if it is out of range.
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
    """Check a real scalar as `number` does, and that it is not traced."""
    if not is_concrete(value):
        raise TypeError(
            f"`{name}` must be a number that is known before tracing; got a traced value. "
            "Close over it, or name it in static_argnames"
        )
    return float(number(value, name, minimum=minimum, exclusive=exclusive))


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
    """Check strictly decreasing positive numbers, in a sequence or a one-dimensional array."""
    if isinstance(values, jax.Array | np.ndarray) and values.ndim == 1:
        values = np.asarray(values).tolist()
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise TypeError(f"`{name}` must be a non-empty sequence of decreasing numbers; "
                        f"got {values!r:.40}")  # fmt: skip
    numbers = tuple(static_number(value, name, minimum=0, exclusive=True) for value in values)
    if any(after >= before for before, after in pairwise(numbers)):
        raise ValueError(f"`{name}` must decrease strictly; got {numbers!s:.80}")
    return numbers


def function(value: Any, name: str, signature: str) -> Callable:
    if not callable(value):
        raise TypeError(f"`{name}` must be a function {signature}; got {type(value).__name__}")
    return value


def optimizer(value: Any) -> Any:
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise TypeError(
            f"`optimizer` must be an optax transformation such as optax.adam(1e-2); "
            f"got {type(value).__name__}"
        )
    return value


def choice(value: Any, name: str, options: Sequence[str]) -> Any:
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"`{name}` must be one of {listed}; got {value!r:.40}")
    return value
