"""Activations: positively homogeneous ones, phi(c z) = c^p phi(z) for c > 0, and smooth ones."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from kernelgap._numerics import checks
from kernelgap._support.registry import saveable


@saveable()
class Activation(NamedTuple):
    """A positively homogeneous activation, phi(c z) = c^power phi(z) for c > 0.

        phi(z) = positive * max(z, 0)^power + negative * max(-z, 0)^power.

    Every function of one variable that is positively homogeneous of degree `power` has this
    form. Its derivative at 0 is taken to be 0.

    Attributes:
        positive: The factor for z > 0, finite.
        negative: The factor for z < 0, finite; of max(-z, 0), so that the identity has -1.
        power: The degree, at least 1.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> identity = kg.models.Activation(positive=1.0, negative=-1.0, power=1.0)
        >>> print(identity(jnp.array([-2.0, 3.0])))
        [-2.  3.]
    """

    positive: float
    negative: float
    power: float

    def __call__(self, z: jax.Array) -> jax.Array:
        """Apply the activation entrywise."""
        value = jnp.where(jnp.isnan(z), z, 0)  # a NaN is on neither side and must not be lost
        for slope, side, part in ((self.positive, z > 0, z), (self.negative, z < 0, -z)):
            if slope:
                base = jnp.where(side, part, 1)
                value += jnp.where(side, slope * (base if self.power == 1 else base**self.power), 0)
        return value


@saveable()
class SmoothActivation(NamedTuple):
    """A sigmoid, phi(z) = s(z / scale), or the identity gated by one, z (1 + s(z / scale)) / 2.

    s is the error function or the hyperbolic tangent, both from -1 to 1. Gated, these are GELU,
    z Phi(z) with Phi the cumulative distribution function of N(0, 1) (s = erf, scale sqrt(2)), and
    SiLU, z / (1 + exp(-z)) (s = tanh, scale 2).

    Attributes:
        sigmoid: s, `"erf"` or `"tanh"`.
        scale: The width of the sigmoid, positive.
        gated: Whether the sigmoid gates the identity.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> z = jnp.linspace(-3.0, 3.0, 7)
        >>> silu = kg.models.SmoothActivation("tanh", scale=2.0, gated=True)
        >>> bool(jnp.allclose(silu(z), jax.nn.silu(z), atol=1e-6))
        True
    """

    sigmoid: Literal["erf", "tanh"]
    scale: float = 1.0
    gated: bool = False

    def __call__(self, z: jax.Array) -> jax.Array:
        """Apply the activation entrywise."""
        t = z / self.scale
        if not self.gated:
            return jnp.tanh(t) if self.sigmoid == "tanh" else jax.scipy.special.erf(t)
        # 1 + s(t) would lose all digits where s(t) is near -1.
        if self.sigmoid == "tanh":
            return z * jax.nn.sigmoid(2 * t)
        return z * (0.5 * jax.scipy.special.erfc(-t))


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return the leaky ReLU, max(z, 0) + slope * min(z, 0).

    Args:
        slope: Any finite number; 0 for ReLU, 1 for the identity, -1 for the absolute value.

    Returns:
        An `Activation` of power 1.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.models.leaky_relu(0.1)(jnp.array([-2.0, 3.0])))
        [-0.2  3. ]
    """
    return Activation(1.0, -checks.static_number(slope, "slope"), 1.0)


def relu_power(power: float) -> Activation:
    """Return the ReLU to a power, max(z, 0)^power for power >= 1.

    Args:
        power: The degree, at least 1; 1 for ReLU.

    Returns:
        An `Activation` of that power.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.models.relu_power(2)(jnp.array([-2.0, 3.0])))
        [0. 9.]
    """
    return Activation(1.0, 0.0, checks.static_number(power, "power", minimum=1))


HOMOGENEOUS = {
    "relu": Activation(1.0, 0.0, 1.0),
    "leaky_relu": leaky_relu(),
    "abs": Activation(1.0, 1.0, 1.0),
}
SMOOTH = {
    "gelu": SmoothActivation("erf", 2**0.5, gated=True),
    "silu": SmoothActivation("tanh", 2.0, gated=True),
    "tanh": SmoothActivation("tanh"),
    "erf": SmoothActivation("erf"),
}


def checked_activation(
    activation: str | Activation | SmoothActivation, *, smooth: bool
) -> Activation | SmoothActivation:
    """Return the activation, looked up if it is a name; refuse smooth ones unless `smooth`."""
    known = SMOOTH | HOMOGENEOUS if smooth else HOMOGENEOUS
    if isinstance(activation, Activation):
        lows = {"positive": -math.inf, "negative": -math.inf, "power": 1}
        return Activation(*(
            checks.static_number(getattr(activation, name), f"activation.{name}", minimum=low)
            for name, low in lows.items()
        ))  # fmt: skip
    if isinstance(activation, SmoothActivation) and smooth:
        checks.choice(activation.sigmoid, "activation.sigmoid", ("erf", "tanh"))
        scale = checks.static_number(
            activation.scale, "activation.scale", minimum=0, exclusive=True
        )
        return activation._replace(scale=scale, gated=bool(activation.gated))
    if isinstance(activation, SmoothActivation) or (
        isinstance(activation, str) and activation in SMOOTH and not smooth
    ):
        names = ", ".join(map(repr, known))
        raise ValueError(f"`activation` must be one of {names} or a models.Activation; got "
                         f"{activation!r}, for which there is models.mlp")  # fmt: skip
    if not isinstance(activation, str):
        also = "a models.Activation" + (" or a models.SmoothActivation" if smooth else "")
        raise TypeError(f"`activation` must be one of {', '.join(map(repr, known))}, or {also}; "
                        f"got {type(activation).__name__}")  # fmt: skip
    checks.choice(activation, "activation", tuple(known))
    return known[activation]
