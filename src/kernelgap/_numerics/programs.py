"""Compile equal programs once, whatever functions they were written as.

`jax.jit` recognises a function by its hash and equality. An optax transformation, a loop body or a
user's loss is a new closure at every call and equal to nothing, so that its program is compiled
again. Comparing the code and the closed-over values of two functions would not be safe: what a
function does also depends on the globals and mutable objects that it reads. Only tracing tells.
`run` therefore traces the function anew, which takes milliseconds, and looks up the program that
comes out instead of compiling it, which takes a hundred times as long.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from kernelgap._numerics.arrays import is_concrete
from kernelgap._numerics.quick import small_options

_LIMIT = 256  # programs that are kept; the least recently used one is dropped first
_programs: OrderedDict[tuple, Callable] = OrderedDict()
_lock = threading.Lock()


def run(function: Callable, *args: Any) -> Any:
    """Return `function(*args)`, compiled unless an equal program was run before.

    Two programs are equal if XLA is given the same StableHLO module and their inputs and outputs
    have the same JAX types. The module holds every number that the trace has fixed; arrays that the
    function closes over are inputs, so that functions that differ only in these share a program.
    Nothing else reaches the compiler except Python callbacks, which the module does not identify: a
    function with callbacks or other effects is called as it is, without sharing. So is one whose
    arguments or closed-over arrays are being traced, because it is then a part of a larger program,
    and every function while `jax_disable_jit` is set.

    Args:
        function: A pure function of trees of arrays that returns a tree of arrays.
        args: Its arguments.

    Example:
        >>> import jax.numpy as jnp
        >>> from kernelgap._numerics import programs
        >>> for scale in (2.0, 3.0, 2.0):  # three functions, two programs
        ...     print(programs.run(lambda x: scale * x, jnp.float32(1.0)))
        2.0
        3.0
        2.0
    """
    leaves = jax.tree.leaves(args)
    eager = jax.config.jax_disable_jit  # pyright: ignore[reportAttributeAccessIssue]
    if eager or not is_concrete(*leaves):
        return function(*args)
    # Through a new function each time: JAX does not trace again what it has seen before.
    traced, outputs = jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*args)
    if not is_concrete(*traced.consts) or traced.effects or "callback" in str(traced):
        return function(*args)

    def evaluate(constants: list, leaves: list) -> list:
        return jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, constants))(*leaves)

    # Unused arguments are kept, or its module would not tell f(a) from f(b).
    options = small_options([*traced.consts, *leaves])
    program = jax.jit(evaluate, keep_unused=True, compiler_options=options)
    module = program.lower(traced.consts, leaves).as_text().encode()
    types = tuple(traced.in_avals), tuple(traced.out_avals)
    key = (hashlib.sha256(module).digest(), *types, options is None)
    with _lock:
        program = _programs.setdefault(key, program)
        _programs.move_to_end(key)
        if len(_programs) > _LIMIT:
            _programs.popitem(last=False)
    return jax.tree.unflatten(jax.tree.structure(outputs), program(traced.consts, leaves))
