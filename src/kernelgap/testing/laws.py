"""Assertions for laws that models, kernels and margins obey."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap.typing import Apply, ArrayLike, PyTree


def assert_close(
    actual: ArrayLike, expected: ArrayLike, *, factor: float = 100.0, scale: float | None = None
) -> None:
    """Assert that two arrays agree up to `factor` rounding units of the largest entry.

    The assertion also fails if an entry is not finite or the shapes do not match.

    Args:
        actual: Array of any shape, whose dtype determines the rounding unit.
        expected: Array of the same shape, or one that broadcasts to it.
        factor: Number of rounding units allowed, at least 0.
        scale: Magnitude to which the rounding unit is relative, at least 0; the maximum of
            ``|expected|`` when None.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> kg.testing.assert_close(jnp.sqrt(jnp.array(2.0)) ** 2, 2.0)
    """
    checks.number(factor, "factor", minimum=0)
    if scale is not None:
        checks.number(scale, "scale", minimum=0)
    actual, expected = _to_numpy(actual, "actual"), _to_numpy(expected, "expected")
    if not jnp.issubdtype(actual.dtype, jnp.inexact):
        raise TypeError(f"`actual` must be a floating-point array; got dtype {actual.dtype}")
    try:
        agree = np.broadcast_shapes(actual.shape, expected.shape) == actual.shape
    except ValueError:
        agree = False
    assert agree, (
        f"`expected` must have the shape {actual.shape} or broadcast to it; got {expected.shape}"
    )
    size = np.max(np.abs(expected), initial=0.0) if scale is None else float(scale)
    bound = factor * float(np.finfo(actual.dtype).eps) * max(size, np.finfo(actual.dtype).tiny)
    worst = np.max(np.abs(np.float64(actual) - expected), initial=0.0)
    assert worst <= bound, (
        f"off by {worst:.3g}, allowed {bound:.3g}: {factor:g} rounding units of {size:.3g}"
    )


def assert_homogeneous(
    apply: Apply,
    params: PyTree,
    x: jax.Array,
    *,
    degree: float,
    scales: Sequence[float] = (0.5, 3.0),
    factor: float = 2000.0,
) -> None:
    """Assert that f(c Theta; x) = c^degree f(Theta; x) for c > 0, and Euler's identity.

    Args:
        apply: `apply(params, x)` with outputs of any shape.
        params: Parameters at which the law is checked, in general position.
        x: Inputs.
        degree: Claimed degree of positive homogeneity in all parameters jointly.
        scales: Positive values of c to test, at least one.
        factor: Number of rounding units allowed, relative to the largest output.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((4, 4))
        >>> params = model.init(jax.random.key(0), 3)
        >>> kg.testing.assert_homogeneous(model.apply, params, jax.numpy.ones((2, 3)), degree=3)

    References:
        Euler's theorem on homogeneous functions.
    """
    checks.function(apply, "apply", "apply(params, x)")
    params = array_checks.parameters(params)
    checks.number(degree, "degree")
    scales = _positive(scales, "scales")
    value, derivative = jax.jvp(lambda p: apply(p, x), (params,), (params,))
    assert_close(derivative, degree * np.asarray(value), factor=factor)
    for c in scales:
        scaled = apply(jax.tree.map(lambda w, c=c: c * w, params), x)
        assert_close(scaled, c**degree * np.asarray(value), factor=factor)


def assert_kernel(
    kernel: Callable[..., jax.Array],
    x: ArrayLike,
    *,
    factor: float = 1e4,
) -> None:
    """Assert that a kernel is symmetric, positive semi-definite and a function of pairs of rows.

    The checks on x are: K(x) = K(x)'; no eigenvalue is negative beyond rounding; K(x) = K(x, x);
    blocks of K are K of blocks; K(z, x) = K(x, z)'; permuting the rows of x permutes the matrix;
    `jit` does not change the values; and `kernel.diag(x)`, if it exists, is the diagonal.

    Args:
        kernel: `kernel(x1, x2=None) -> (n1, n2)`, a `kernels.Kernel` or any such function.
        x: Inputs of shape (n, ...), n >= 3.
        factor: Number of rounding units allowed, relative to the largest diagonal entry; angles
            between nearly parallel inputs lose that many.

    Example:
        >>> import jax, kernelgap as kg
        >>> x = jax.random.normal(jax.random.key(0), (6, 3))
        >>> kg.testing.assert_kernel(lambda a, b=None: a @ (a if b is None else b).T, x)
    """
    checks.function(kernel, "kernel", "kernel(x1, x2=None)")
    x = array_checks.examples(x)
    n = x.shape[0]
    if n < 3:
        raise ValueError(f"`x` must have at least 3 rows; got {n}")
    gram = np.asarray(kernel(x))
    assert gram.shape == (n, n), f"K(x) must have shape {(n, n)}; got {gram.shape}"
    assert np.isfinite(gram).all(), "K(x) has entries that are not finite"
    scale = float(np.max(np.abs(np.diag(gram))))
    tolerance = {"factor": factor, "scale": scale}
    assert_close(gram, gram.T, **tolerance)
    values = np.linalg.eigvalsh(np.float64(gram))
    allowed = -factor * n * np.finfo(gram.dtype).eps * scale
    assert values[0] >= allowed, f"eigenvalue {values[0]:.3g} of K(x) is below {allowed:.3g}"
    half = n // 2
    assert_close(kernel(x, x), gram, **tolerance)
    assert_close(kernel(x[:half], x[half:]), gram[:half, half:], **tolerance)
    assert_close(kernel(x[half:], x[:half]), gram[half:, :half], **tolerance)
    order = np.roll(np.arange(n), 1)
    assert_close(kernel(x[order]), gram[np.ix_(order, order)], **tolerance)
    assert_close(jax.jit(lambda a: kernel(a))(x), gram, **tolerance)
    if hasattr(kernel, "diag"):
        assert_close(kernel.diag(x), np.diag(gram), **tolerance)  # type: ignore[attr-defined]


def assert_margin_invariant(
    margin: Callable[[PyTree], ArrayLike],
    params: PyTree,
    *,
    scales: Sequence[float] = (0.5, 3.0),
    factor: float = 5000.0,
    scale: float | None = None,
) -> None:
    """Assert that a normalised margin is invariant under Theta -> c Theta for c > 0.

    Args:
        margin: `margin(params) -> scalar`.
        params: Parameters at which the law is checked.
        scales: Positive values of c to test, at least one.
        factor: Number of rounding units allowed.
        scale: Magnitude to which the rounding unit is relative; the margin itself when None. If the
            margin is small because outputs cancel, pass the size of a typical normalised output.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 8, 4)
        >>> model, params = kg.models.homogeneous_mlp((4,)), kg.datasets.planted_xor(4)
        >>> kg.testing.assert_margin_invariant(
        ...     lambda p: kg.metrics.normalized_margin(model, p, x, y), params)
    """
    checks.function(margin, "margin", "margin(params)")
    params = array_checks.parameters(params)
    scales = _positive(scales, "scales")
    expected = margin(params)
    for c in scales:
        scaled = margin(jax.tree.map(lambda w, c=c: c * w, params))
        assert_close(scaled, expected, factor=factor, scale=scale)


def _to_numpy(value: ArrayLike, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        array.astype(complex)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array of numbers; got {value!r:.40}") from error
    return array


def _positive(values: Sequence[float], name: str) -> tuple[float, ...]:
    """Require at least one positive number, since a law that is checked nowhere would pass."""
    if not isinstance(values, Sequence) or not values or isinstance(values, str):
        raise ValueError(f"`{name}` must be a sequence of positive numbers; got {values!r:.40}")
    for value in values:
        checks.number(value, name, minimum=0, exclusive=True)
    return tuple(values)
