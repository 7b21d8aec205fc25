"""Laws and Hypothesis strategies for testing your own models, kernels and margins.

A law is a function that raises `AssertionError` and reports the violation: `assert_close`,
`assert_homogeneous`, `assert_margin_invariant`, `assert_kernel`, `assert_infinite_width`,
`assert_lazy_limit`. Tolerances are multiples of the rounding unit of the dtype, or of a standard
error, so they need no tuning. Strategies: `keys`, `models`, `activations`, `datasets`, `kernels`.

Example:
    A complete downstream test:

    >>> import jax, kernelgap as kg
    >>> kernel = lambda x1, x2=None: kg.kernels.ntk(kg.models.homogeneous_mlp((1,)))(x1, x2)
    >>> kg.testing.assert_kernel(kernel, jax.random.normal(jax.random.key(0), (8, 3)))

    Strategies draw keys, models, data sets and kernels (extra `test`). Drawing them compiles
    nothing, but the first JAX call of a test does, and may exceed the default deadline of
    Hypothesis. The first use of a strategy therefore loads a profile without deadline, unless
    another profile is loaded already; a decorator `hypothesis.settings` needs its own
    `deadline=None`:

    >>> import hypothesis
    >>> @hypothesis.settings(max_examples=3, deadline=None)
    ... @hypothesis.given(kg.testing.models(), kg.testing.keys())
    ... def test_euler(model, key):
    ...     x = jax.random.normal(key, (5, 3))
    ...     kg.testing.assert_homogeneous(model.apply, model.init(key, 3), x, degree=model.degree)
    >>> test_euler()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernelgap._support.extras import missing_extra
from kernelgap.testing.laws import (
    assert_close,
    assert_homogeneous,
    assert_kernel,
    assert_margin_invariant,
)
from kernelgap.testing.limits import assert_infinite_width, assert_lazy_limit

if TYPE_CHECKING:
    from kernelgap.testing.strategies import activations, datasets, kernels, keys, models

__all__ = [
    "activations",
    "assert_close",
    "assert_homogeneous",
    "assert_infinite_width",
    "assert_kernel",
    "assert_lazy_limit",
    "assert_margin_invariant",
    "datasets",
    "kernels",
    "keys",
    "models",
]

_STRATEGIES = ("activations", "datasets", "kernels", "keys", "models")


def __getattr__(name: str) -> Any:
    if name not in _STRATEGIES:
        raise AttributeError(f"module 'kernelgap.testing' has no attribute {name!r}")
    try:  # Hypothesis is optional: the laws do not need it
        return getattr(import_module("kernelgap.testing.strategies"), name)
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise missing_extra("strategies need", "hypothesis", "test") from error


def __dir__() -> list[str]:
    return sorted(__all__)  # for tab completion
