r"""Gradients of the outputs for one example, as outer products where they are such.

The gradient in the weights of a dense layer is delta h': the signal times the features. Its trace
ends with a product over axes of length 1 in all, perhaps transposed and reshaped. Taking the two
factors in its place, inner products of gradients are

    <delta_i h_i', delta_j h_j'> = <delta_i, delta_j> <h_i, h_j>,

and the gradient is never formed. Weights that are used twice, and those of convolutions, have no
such trace; their gradients are formed.

Reference: R. Novak et al., ICML 2022 (structured derivatives); the reading of traces is our own.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array, Float

from kernelgap.typing import Apply, PyTree

_REARRANGING = {"transpose", "reshape", "squeeze", "broadcast_in_dim"}
_COMPILED = {"jit", "pjit"}


class Outer(NamedTuple):
    """Gradients delta h' of all outputs of each example."""

    delta: Float[Array, "rows k _"]
    h: Float[Array, "rows _"]


Gradient: TypeAlias = Outer | Float[Array, "_ k _"]
"""Of each output for each example in one leaf of the parameters, factored or not."""


def example_gradients(
    apply: Apply, params: PyTree, x: Float[Array, "rows *shape"]
) -> list[Gradient]:
    """Return the gradients of the outputs for each example in each leaf of the parameters."""
    outputs = jax.eval_shape(apply, params, x[:1])
    signals = jnp.eye(math.prod(outputs.shape), dtype=outputs.dtype)
    weights, tree = jax.tree.flatten(params)

    def pulled_back(signal: jax.Array, example: jax.Array, *weights: jax.Array) -> list[jax.Array]:
        _, pull = jax.vjp(
            lambda weights: apply(jax.tree.unflatten(tree, weights), example[None]), weights
        )
        return list(pull(signal.reshape(outputs.shape))[0])

    first = signals[0], x[0], *weights
    nested = jax.make_jaxpr(pulled_back)(*first)
    flat = jax.make_jaxpr(partial(_evaluated, nested, nested.jaxpr.outvars))(first)
    leaves = _factors(flat.jaxpr)
    variables = [var for leaf in leaves for var in leaf]

    def evaluate(*inputs: jax.Array) -> list[jax.Array]:
        return _evaluated(flat, variables, inputs)

    # The features h are the same for all outputs.
    axes = [axis for leaf in leaves for axis in (0, None)[: len(leaf)]]

    of_outputs = jax.vmap(evaluate, (0, *[None] * (1 + len(weights))), axes)
    of_examples = jax.vmap(of_outputs, (None, 0, *[None] * len(weights)))
    values = iter(of_examples(signals, x, *weights))
    rows, k = x.shape[0], len(signals)
    return [
        next(values).reshape(rows, k, -1)
        if len(leaf) == 1
        else Outer(next(values).reshape(rows, k, -1), next(values).reshape(rows, -1))
        for leaf in leaves
    ]


def _evaluated(closed: ClosedJaxpr, wanted: Sequence, inputs: Sequence) -> list[jax.Array]:
    """Evaluate variables of a trace, entering the compiled functions that it calls."""
    given = zip([*closed.jaxpr.constvars, *closed.jaxpr.invars], [*closed.consts, *inputs],
                strict=True)  # fmt: skip
    values = dict(given)

    def value(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else values[var]

    for equation in closed.jaxpr.eqns:
        arguments = list(map(value, equation.invars))
        if equation.primitive.name in _COMPILED:
            inner = equation.params["jaxpr"]
            results = _evaluated(inner, inner.jaxpr.outvars, arguments)
        else:
            options: Any = equation.primitive.get_bind_params(equation.params)
            # Older versions of JAX return functions and options.
            functions, options = options if isinstance(options, tuple) else ((), options)
            results = equation.primitive.bind(*functions, *arguments, **options)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(value, wanted))


def _factors(jaxpr: Jaxpr) -> list[tuple]:
    """Return for each output its factors (signal, features), or itself alone.

    Signals depend on the first input of the trace, features do not.
    """
    dependent, producers = {jaxpr.invars[0]}, {}
    for equation in jaxpr.eqns:
        producers.update(dict.fromkeys(equation.outvars, equation))
        if any(not isinstance(var, Literal) and var in dependent for var in equation.invars):
            dependent.update(equation.outvars)

    def factors(output: Any) -> tuple:
        var = output
        while not isinstance(var, Literal) and var in producers:
            equation = producers[var]
            if equation.primitive.name == "dot_general":
                if not _is_outer(equation, output):
                    break
                signals = [var for var in equation.invars if var in dependent]
                features = [var for var in equation.invars if var not in dependent]
                return (*signals, *features) if len(signals) == 1 else (output,)
            if equation.primitive.name not in _REARRANGING:
                break
            var = equation.invars[0]
            if var.aval.size != output.aval.size:
                break
        return (output,)

    return [factors(output) for output in jaxpr.outvars]


def _is_outer(equation: Any, output: Any) -> bool:
    """Return True for a product without sums whose factors are smaller than the result."""
    first, second = (var.aval for var in equation.invars)
    (summed, _), (shared, _) = equation.params["dimension_numbers"]
    single = math.prod(first.shape[axis] for axis in summed) == 1 and not shared
    dtypes = {first.dtype, second.dtype, output.aval.dtype}
    return single and len(dtypes) == 1 and first.size + second.size < output.aval.size
