"""The XOR distribution of Wei et al., and the planted network that classifies it.

Paper A is C. Wei, J. D. Lee, Q. Liu, T. Ma, "Regularization Matters: Generalization and
Optimization of Neural Nets v.s. their Induced Kernel", NeurIPS 2019, arXiv:1810.05369.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.datasets.dataset import Dataset
from kernelgap.typing import DTypeLike, Key

Signal = Literal["axis", "cube"]
Noise = Literal["sign", "gaussian"]


def xor_noise(
    key: Key,
    n: int,
    d: int,
    *,
    signal: Signal = "axis",
    noise: Noise = "sign",
    flip: float = 0.0,
    dtype: DTypeLike | None = None,
) -> Dataset:
    r"""Sample the d-dimensional XOR distribution: two signal and d - 2 noise coordinates.

    With `signal="axis"`, (x_1, x_2, y) is (1, 0, +), (-1, 0, +), (0, 1, -) or (0, -1, -), each
    with probability 1/4. With `signal="cube"`, x_1 and x_2 are independent signs and y = x_1 x_2,
    the same problem rotated by 45 degrees and scaled by sqrt(2). The other coordinates are
    independent of the label: uniform signs (`noise="sign"`) or N(0, 1) (`noise="gaussian"`).

    Args:
        key: JAX random key.
        n: Number of samples, at least 1.
        d: Input dimension, at least 2.
        signal: `"axis"` or `"cube"`.
        noise: `"sign"` or `"gaussian"`.
        flip: Probability, in [0, 0.5], with which each label is flipped independently.
        dtype: Floating dtype of `x` and `y`; JAX's default when None.

    Returns:
        `Dataset(x, y)` with x of shape (n, d) and y of shape (n,) in {-1, +1}.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 100, 20)
        >>> x.shape, y.shape
        ((100, 20), (100,))
        >>> bool((y == abs(x[:, 0]) - abs(x[:, 1])).all())
        True

    References:
        Paper A, the distribution D of its separation theorem. That the noise consists of uniform
        signs is recalled, with high confidence; Gaussian noise is from the first version of the
        paper; the cube form is from the authors' course notes.
    """
    checks.random_key(key)
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=2)
    checks.choice(signal, "signal", ("axis", "cube"))
    checks.choice(noise, "noise", ("sign", "gaussian"))
    checks.number(flip, "flip", minimum=0, maximum=0.5)
    dtype = array_checks.floating_dtype(dtype)

    none = array_checks.is_concrete(flip) and flip == 0
    return Dataset(*_draw(key, None if none else flip, n, d, signal, noise, dtype))


@partial(quick_jit, static_argnames=("n", "d", "signal", "noise", "dtype"), level=1)
def _draw(
    key: Key,
    flip: float | jax.Array | None,
    n: int,
    d: int,
    signal: Signal,
    noise: Noise,
    dtype: DTypeLike,
) -> tuple[jax.Array, jax.Array]:
    sign_key, noise_key, flip_key = jax.random.split(key, 3)
    # Signal and noise share one draw of bits, since each random call adds to the compile time.
    columns = d if noise == "sign" else 2
    bits = jax.random.bits(sign_key, (n, columns), jnp.uint8) & 1
    x = 2 * bits.astype(dtype) - 1
    if signal == "axis":
        # x_1 selects the coordinate that carries the sign x_2.
        first, sign = x[:, :1] > 0, x[:, 1:2]
        y = x[:, 0]
        x_signal = jnp.concatenate([jnp.where(first, sign, 0), jnp.where(first, 0, sign)], axis=1)
    else:
        y = x[:, 0] * x[:, 1]
        x_signal = x[:, :2]
    x_noise = x[:, 2:] if noise == "sign" else jax.random.normal(noise_key, (n, d - 2), dtype)
    x = jnp.concatenate([x_signal, x_noise], axis=1)
    if flip is None:
        return x, y
    return x, jnp.where(jax.random.bernoulli(flip_key, flip, (n,)), -y, y)


def planted_xor(
    d: int, *, signal: Signal = "axis", dtype: DTypeLike | None = None
) -> tuple[Float[Array, "4 d"], Float[Array, "4"]]:
    r"""Return the parameters of the four-unit net with y f(x) = 1 on all of `xor_noise`.

    Axis: f(x) = relu(x_1) + relu(-x_1) - relu(x_2) - relu(-x_2), normalised margin 1/8.
    Cube: f(x) = (relu(x_1+x_2) + relu(-x_1-x_2) - relu(x_1-x_2) - relu(x_2-x_1)) / 2, normalised
    margin 1/(4 sqrt 2). Units are balanced,
    ``|w_j| = ||u_j||``, which gives the smallest parameter norm.

    Args:
        d: Input dimension, at least 2.
        signal: `"axis"` or `"cube"`.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        Parameters for `models.homogeneous_mlp((4,))`: (hidden weights (4, d), readout (4,)).

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> model = kg.models.homogeneous_mlp((4,))
        >>> params = kg.datasets.planted_xor(10)
        >>> print(kg.metrics.normalized_margin(model, params, x, y))
        0.125

    References:
        Paper A (axis form); the margins are derived and checked numerically by this project.
    """
    d = checks.integer(d, "d", minimum=2)
    checks.choice(signal, "signal", ("axis", "cube"))
    dtype = array_checks.floating_dtype(dtype)
    if signal == "axis":
        directions = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
        size = 1.0
    else:
        directions = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]])
        size = 2**-0.25  # ||u_j|| = |w_j|, with w_j ||u_j|| = sqrt(2) / 2
        directions = directions * size / np.sqrt(2)
    hidden = jnp.zeros((4, d), dtype).at[:, :2].set(jnp.asarray(directions, dtype))
    return hidden, size * jnp.array([1, 1, -1, -1], dtype)
