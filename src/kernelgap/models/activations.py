"""Activations that are positively homogeneous: phi(c z) = c^p phi(z) for c > 0."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernelgap import _checks


class Activation(NamedTuple):
    """phi(z) = positive * max(z, 0)^power + negative * max(-z, 0)^power.

    Every function of one variable that is positively homogeneous of degree `power` has this
    form. Its derivative at 0 is taken to be 0.
    """

    positive: float
    negative: float
    power: float

    def __call__(self, z: jax.Array) -> jax.Array:
        """Apply the activation entrywise."""
        value = jnp.zeros_like(z)
        for slope, side, part in ((self.positive, z > 0, z), (self.negative, z < 0, -z)):
            if slope:
                base = jnp.where(side, part, 1)
                value += jnp.where(side, slope * (base if self.power == 1 else base**self.power), 0)
        return value


def leaky_relu(slope: float = 0.01) -> Activation:
    """max(z, 0) + slope * min(z, 0).

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.models.leaky_relu(0.1)(jnp.array([-2.0, 3.0])))
        [-0.2  3. ]
    """
    _checks.number(slope, "slope")
    return Activation(1.0, -float(slope), 1.0)


def relu_power(power: float) -> Activation:
    """max(z, 0)^power, for power >= 1.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.models.relu_power(2)(jnp.array([-2.0, 3.0])))
        [0. 9.]
    """
    _checks.number(power, "power", minimum=1)
    return Activation(1.0, 0.0, float(power))


ACTIVATIONS = {
    "relu": Activation(1.0, 0.0, 1.0),
    "leaky_relu": leaky_relu(),
    "abs": Activation(1.0, 1.0, 1.0),
}
