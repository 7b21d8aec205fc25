"""Assertions for the limits of wide networks."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kernelgap import kernels, lazy, optim
from kernelgap._numerics import array_checks, checks
from kernelgap.models import Model
from kernelgap.typing import ArrayLike, Key, PyTree

_SIGMAS = 5.0  # standard errors; a correct mean is further away once in two million times


def assert_infinite_width(
    build: Callable[[int], Model],
    kernel: Callable[..., jax.Array],
    x: ArrayLike,
    *,
    key: Key,
    width: int = 512,
    seeds: int = 32,
    bias: float = 8.0,
) -> None:
    """Assert that the empirical NTK, averaged over initialisations, has the claimed limit.

    Entries of the mean over `seeds` nets may be off by 5 standard errors plus `bias / width` times
    the diagonal, since for more than two layers the mean converges to its limit like 1 / width.

    Args:
        build: Function from a width to a `Model` with one output.
        kernel: Claimed infinite-width limit, `kernel(x) -> (n, n)`.
        x: Inputs of shape (n, d).
        key: JAX random key.
        width: Width of the nets.
        seeds: Number of nets, at least 2.
        bias: Allowed bias times width, at least 0; use 0 for two layers, where the mean is exact
            at any width.

    Example:
        >>> import jax, kernelgap as kg
        >>> build = lambda m: kg.models.homogeneous_mlp((m,), parameterization="ntk")
        >>> x = jax.random.normal(jax.random.key(0), (4, 3))
        >>> kg.testing.assert_infinite_width(
        ...     build, kg.kernels.ntk(build(1)), x, key=jax.random.key(1), width=64, bias=0)
    """
    checks.function(build, "build", "build(width)")
    checks.function(kernel, "kernel", "kernel(x1, x2=None)")
    x = array_checks.inputs(x)
    checks.random_key(key)
    checks.number(bias, "bias", minimum=0)
    seeds = checks.integer(seeds, "seeds", minimum=2)
    model = build(checks.integer(width, "width", minimum=1))

    def sample_gram(key: jax.Array) -> jax.Array:
        return kernels.empirical_ntk(model, model.init(key, x.shape[1], x.dtype))(x)

    grams = np.asarray(jax.jit(jax.vmap(sample_gram))(jax.random.split(key, seeds)), float)
    limit = np.asarray(kernel(x), float)
    size = np.sqrt(np.outer(np.diag(limit), np.diag(limit)))
    error = grams.std(axis=0, ddof=1) / seeds**0.5
    allowed = _SIGMAS * error + (bias / width + 1e3 * np.finfo(x.dtype).eps) * size
    excess = np.abs(grams.mean(axis=0) - limit) / allowed
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[worst] <= 1, (
        f"entry {tuple(map(int, worst))}: mean {grams.mean(axis=0)[worst]:.4g} of {seeds} nets of "
        f"width {width}, limit {limit[worst]:.4g}, allowed difference {allowed[worst]:.2g}"
    )


def assert_lazy_limit(
    build: Callable[[int], Model],
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: Key,
    widths: tuple[int, int] = (64, 1024),
    steps: int = 50,
    learning_rate: float = 0.5,
    seeds: int = 8,
) -> None:
    """Assert that the tangent kernel changes less in wider nets, like 1 / sqrt(width).

    Nets are trained by gradient descent on the squared loss from random initialisations. The root
    mean square over seeds of the relative change of the empirical NTK (Frobenius norm) must decay
    from the narrow to the wide net with at least half of the exponent of 1 / sqrt(width). This
    separates lazy training from parameterizations whose kernel changes at every width.

    Args:
        build: Function from a width to a `Model` with one output, in the NTK parameterization or
            another lazy one. Its kernel must change in training.
        x: Inputs of shape (n, d).
        y: Real targets of shape (n,).
        key: JAX random key.
        widths: A narrow and a wide width; the latter must be at least 4 times the former.
        steps: Number of gradient descent steps, at least 1.
        learning_rate: Step size, below 2, in units of the inverse of the largest Hessian eigenvalue
            of the linearised net at initialisation.
        seeds: Number of random initialisations per width.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 8, 4)
        >>> build = lambda m: kg.models.homogeneous_mlp((m,), parameterization="ntk")
        >>> kg.testing.assert_lazy_limit(build, x, y, key=jax.random.key(1), widths=(16, 256))

    References:
        A. Jacot et al., NeurIPS 2018; L. Chizat et al., NeurIPS 2019. The threshold is ours.
    """
    checks.function(build, "build", "build(width)")
    x = array_checks.inputs(x)
    y = array_checks.targets(y, x.shape[0])
    checks.random_key(key)
    checks.number(learning_rate, "learning_rate", minimum=0, exclusive=True)
    if not isinstance(widths, Sequence) or len(widths) != 2:
        raise TypeError(f"`widths` must be a pair (narrow, wide); got {widths!r:.40}")
    narrow, wide = (checks.integer(w, "widths", minimum=1) for w in widths)
    steps = checks.integer(steps, "steps", minimum=1)
    seeds = checks.integer(seeds, "seeds", minimum=1)
    if wide < 4 * narrow:
        raise ValueError(f"`widths` must differ by a factor of at least 4; got {narrow} and {wide}")

    def change(width: int) -> float:
        model = build(width)

        def loss(params: PyTree, x: jax.Array, y: jax.Array) -> jax.Array:
            return jnp.mean(jnp.square(model.apply(params, x) - y)) / 2

        def train_one(key: jax.Array) -> jax.Array:
            params = model.init(key, x.shape[1], x.dtype)
            before = kernels.empirical_ntk(model, params)(x)
            rate = learning_rate * x.shape[0] / jnp.linalg.eigvalsh(before)[-1]
            trained = optim.train(loss, params, (x, y), optax.sgd(rate), steps=steps).params
            after = kernels.empirical_ntk(model, trained)(x)
            return lazy.kernel_change(before, after)

        changes = jax.jit(jax.vmap(train_one))(jax.random.split(key, seeds))
        return float(np.sqrt(np.mean(np.square(np.float64(changes)))))

    narrow_change, wide_change = change(narrow), change(wide)
    if not narrow_change > 0:
        raise ValueError(
            f"the kernel of width {narrow} did not change in {steps} steps; got {narrow_change:g}"
        )
    ratio = narrow_change / wide_change if wide_change > 0 else np.inf
    exponent = np.log(ratio) / np.log(wide / narrow)
    assert exponent >= 0.25, (
        f"the kernel changes by {narrow_change:.3g} at width {narrow} and by {wide_change:.3g} at "
        f"width {wide}: exponent {exponent:.2f}, but lazy training has 0.5"
    )
