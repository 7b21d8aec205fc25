"""Compile small programs in a fraction of the time.

On a CPU, LLVM takes ten times as long for a program of a few milliseconds as the program takes for
a thousand calls. `quick_jit` is `jax.jit`, but compiles what is small with little optimization.
Loops over matrix entries then run at a third of their speed; factorisations and products, which
are library calls, as before. Numbers change by rounding, as between any two versions of XLA.
"""

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, Literal, TypeVar

import jax

from kernelgap._numerics.arrays import is_concrete

ROWS = 512
"""Inputs whose Gram matrix is too small to be worth optimization."""
_LEVEL = "xla_backend_optimization_level"
_EMITTERS = "xla_cpu_use_fusion_emitters"  # of MLIR, whose own passes take half of the time

_T = TypeVar("_T")


def quick_jit(
    function: Callable[..., _T],
    *,
    static_argnames: str | tuple[str, ...] = (),
    rows: int = ROWS,
    level: Literal[0, 1] = 0,
) -> Callable[..., _T]:
    """Return `jax.jit(function)`, compiled with little optimization on a CPU.

    Where arguments are traced, the program is a part of a larger one and compiled with it.

    Args:
        function: A pure function of trees of arrays.
        static_argnames: As in `jax.jit`.
        rows: The largest first axis of an array that is small; about its square is computed.
        level: XLA's level of optimization; 0 for small arrays only, 1 for arrays of any size. With
            1 loops are as fast as usual, and random draws the same to the last bit; it saves most
            of the time for these, and half elsewhere. With 0 the same expression may be rounded
            differently in two places, which error-free transformations do not survive.
    """
    jitted = partial(jax.jit, function, static_argnames=static_argnames)
    usual = jitted()

    @cache
    def lightly() -> Callable:
        return jitted(compiler_options=_options(level))

    @wraps(usual)
    def call(*args: Any, **kwargs: Any) -> _T:
        leaves = [leaf for leaf in jax.tree.leaves((args, kwargs)) if hasattr(leaf, "dtype")]
        small = level or all(leaf.shape[0] <= rows for leaf in leaves if leaf.ndim)
        return (lightly() if small and runs_alone(leaves) else usual)(*args, **kwargs)

    return call


@partial(quick_jit, static_argnames="count", level=1)
def split_key(key: jax.Array, count: int = 2) -> list[jax.Array]:
    """Return the keys of `jax.random.split`, in one program."""
    return list(jax.random.split(key, count))


def small_options(leaves: list[Any]) -> dict[str, Any] | None:
    """Return the compiler options of level 1 for small arrays on one CPU, else None."""
    small = all(leaf.shape[0] <= ROWS for leaf in leaves if leaf.ndim)
    return _options(1) if small and runs_alone(leaves) else None


def runs_alone(leaves: list[Any]) -> bool:
    """Return True if a program of these arrays runs on one CPU, and is not a part of another."""
    return is_concrete(*leaves) and _on_one_cpu(leaves) and _is_outermost(leaves)


def _is_outermost(leaves: list[Any]) -> bool:
    """Return False within another program, where operations on concrete arrays are traced too."""
    return is_concrete(jax.device_put(next(iter(leaves), 0.0)))


def _on_one_cpu(leaves: list[Any]) -> bool:
    arrays = (leaf for leaf in leaves if isinstance(leaf, jax.Array))
    devices = {device for array in arrays for device in array.devices()}
    platforms = {device.platform for device in devices} or {jax.default_backend()}
    return len(devices) <= 1 and platforms == {"cpu"}


@cache
def _options(level: int) -> dict[str, Any] | None:
    """Return the compiler options for a level of optimization that this version of XLA knows."""
    for options in ({_LEVEL: level, _EMITTERS: False}, {_LEVEL: level}):
        try:
            jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
        except Exception:  # the type differs between versions
            continue
        return options
    return None
