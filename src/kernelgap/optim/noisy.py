"""Noisy gradient descent: the perturbed Wasserstein gradient flow, and Langevin dynamics.

Paper A follows the flow of a measure rho on neurons theta = (w, u),

    d rho / dt = -sigma rho + sigma U - div(v rho),

where U is uniform on the unit sphere: mass moves along the velocity v = -grad L' and is re-drawn
from U at rate sigma. It is a birth-death noise on neurons, not a Gaussian noise on gradients. One
Euler step of size eta for the m neurons of a two-layer net is a gradient step, after which each
neuron is replaced by a fresh draw with probability eta * sigma.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.closure import Closure
from kernelgap._support.registry import saveable
from kernelgap.models import Neurons
from kernelgap.typing import ArrayLike, Key, PyTree

ScalarOrSchedule = float | ArrayLike | optax.Schedule


@saveable()
class NoisyGDState(NamedTuple):
    """Random key and number of steps of `noisy_gd`."""

    key: Key
    step: jax.Array


def noisy_gd(
    learning_rate: ScalarOrSchedule,
    *,
    temperature: ScalarOrSchedule = 0.0,
    resample_rate: ScalarOrSchedule = 0.0,
    neurons: Neurons | None = None,
    key: Key,
) -> optax.GradientTransformation:
    r"""Gradient descent with Langevin noise and re-drawn neurons, as an optax transformation.

        theta <- theta - eta grad + sqrt(2 eta tau) xi,    xi ~ N(0, I);
        then, with probability eta * sigma, each neuron is replaced by a draw uniform on its sphere,

    with eta = `learning_rate`, tau = `temperature` and sigma = `resample_rate`. With both noises
    zero this is exactly gradient descent.

    Time scale: a two-layer net of degree 2 is the measure (1/m) sum_j delta(theta_j / r) with
    r = `neurons.radius(params)`. A step of size eta moves it by a time eta / (m r^2) along the
    paper's flow. In the standard parameterization r = 1/sqrt(m), so that time is eta * steps at
    every width, and `resample_rate` is the paper's sigma; in the mean-field one r = 1, time is
    eta * steps / m, and the paper's sigma is `resample_rate` * m; in the NTK one r^2 = sqrt(d / m),
    time is eta * steps / sqrt(m d), and sigma is `resample_rate` * sqrt(m d). The temperature of
    the flow, that of noise on the particles theta_j / r in the flow's time, is tau * m in all.

    Without re-draws the flow conserves w_j^2 - ||u_j||^2 for ReLU neurons and no penalty: a neuron
    that starts with ``|w_j| >= ||u_j||`` never changes the sign of w_j, and a net whose w_j are all
    positive never has a negative output. Re-draws lead out of such starts.

    The updates it returns are final: in an `optax.chain` put it last, and do not scale them again.
    Under `optax.inject_hyperparams` name `("neurons", "key")` as static arguments. Hyperparameters
    that are traced or scheduled and leave their range give NaN. `optax.MultiSteps` draws once for
    each of its own steps. Under `optax.multi_transform` and `optax.masked` the layers of a neuron
    need the same label; where the net is a part of the parameters, write `models.Neurons` whose
    `pack` picks it and whose `unpack` returns it alone.

    Args:
        learning_rate: eta > 0, or an optax schedule.
        temperature: tau >= 0, or a schedule. In the potential L the stationary distribution is
            proportional to exp(-L / tau) as eta -> 0. A schedule is a function of the number of
            steps taken, as for the learning rate; the noise is off in a step where it is zero.
        resample_rate: sigma >= 0 with eta * sigma <= 1, or a schedule.
        neurons: `model.neurons` of a two-layer net, which tells the neurons. Needed for re-draws
            only.
        key: JAX random key; copied, so that the caller's key stays valid where states are donated.

    Returns:
        An `optax.GradientTransformation`; its `update` needs `params`. Two of them are equal if
        their arguments are; schedules count as equal only if they are the same function.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> optimizer = kg.optim.noisy_gd(
        ...     0.1, resample_rate=0.01, neurons=model.neurons, key=jax.random.key(1))
        >>> params = model.init(jax.random.key(0), 5)
        >>> state = optimizer.init(params)
        >>> updates, state = optimizer.update(params, state, params)

    References:
        Paper A, the perturbed Wasserstein gradient flow. The time scale for finite m is derived by
        this project. The Langevin variant is that of the mean-field Langevin literature.
        `optax.noisy_sgd` is neither: it adds annealed noise to the gradient.
    """
    checks.random_key(key)
    if neurons is not None and not isinstance(neurons, Neurons):
        raise TypeError(f"`neurons` must be model.neurons of a two-layer model; "
                        f"got {type(neurons).__name__}")  # fmt: skip
    learning_rate, temperature, resample_rate = (
        value if callable(value) else checks.number(value, name, minimum=0, exclusive=exclusive)
        for name, value, exclusive in (
            ("learning_rate", learning_rate, True),
            ("temperature", temperature, False),
            ("resample_rate", resample_rate, False),
        )
    )
    known = callable(resample_rate) or _is_number(resample_rate)
    if neurons is None and known and not _is_zero(resample_rate):
        raise ValueError(
            "`resample_rate` needs `neurons`: pass neurons=model.neurons of a two-layer model "
            "(the re-draws are defined for homogeneous nets of two layers only); got neurons=None"
        )
    if _is_number(learning_rate) and _is_number(resample_rate):
        checks.number(learning_rate * resample_rate, "learning_rate * resample_rate", maximum=1)  # type: ignore[operator]

    return optax.GradientTransformation(
        Closure(_init, jnp.copy(key)),
        Closure(_update, learning_rate, temperature, resample_rate, neurons),
    )


def _init(key: Key, params: PyTree) -> NoisyGDState:
    del params
    # A copy for each state: states may be donated.
    return NoisyGDState(jnp.copy(key), jnp.zeros((), jnp.int32))


def _update(
    learning_rate: ScalarOrSchedule,
    temperature: ScalarOrSchedule,
    resample_rate: ScalarOrSchedule,
    neurons: Neurons | None,
    updates: PyTree,
    state: Any,
    params: PyTree | None = None,
) -> tuple[PyTree, NoisyGDState]:
    if params is None:
        raise ValueError("noisy_gd needs the parameters: update(gradient, state, params)")
    rates = (learning_rate, temperature, resample_rate)
    redrawn = None if _is_zero(resample_rate) else neurons
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules do not support strict promotion
        eta, tau, sigma = (_at(value, state.step) for value in rates)
        probability, variance = eta * sigma, 2 * eta * tau
        valid = _are_valid(eta, tau, sigma, probability) if redrawn else _are_valid(eta, tau)
        if neurons is None and not _is_zero(resample_rate):  # traced: it may yet be zero
            valid &= sigma == 0
    next_key, langevin_key, which_key, fresh_key = jax.random.split(state.key, 4)
    updates = jax.tree.map(lambda g: -jnp.asarray(eta, g.dtype) * g, updates)
    if not _is_zero(temperature):
        updates = _add_noise(langevin_key, updates, jnp.sqrt(variance))
    if redrawn is not None:
        moved = redrawn.pack(jax.tree.map(jnp.add, params, updates))
        fresh = _on_sphere(fresh_key, moved, redrawn.radius(params))
        redraw = jax.random.bernoulli(which_key, probability, moved.shape[:1])
        final = _like(params, redrawn.unpack(jnp.where(redraw[:, None], fresh, moved)))
        updates = jax.tree.map(jnp.subtract, final, params)
    if not all(map(_is_number, rates)):  # the others are checked eagerly
        updates = jax.tree.map(lambda u: jnp.where(valid, u, jnp.nan), updates)
    return updates, NoisyGDState(next_key, state.step + 1)


def _at(value: Any, step: jax.Array) -> Any:
    return value(step) if callable(value) else value


def _is_number(value: ScalarOrSchedule) -> bool:
    return not callable(value) and array_checks.is_concrete(value)


def _is_zero(value: ScalarOrSchedule) -> bool:
    """Return True if the value is known to be zero: the noise then costs nothing."""
    return _is_number(value) and float(value) == 0  # type: ignore[arg-type]


def _are_valid(*values: Any) -> Any:
    """Return whether all values are >= 0 and the last of four, a probability, is <= 1."""
    valid = jnp.asarray(True)
    for value in values:
        valid &= jnp.asarray(value) >= 0
    return valid & (values[-1] <= 1) if len(values) == 4 else valid


def _like(params: PyTree, final: PyTree) -> PyTree:
    """Return the parameters from `neurons.unpack` in the containers of the old ones."""
    leaves, treedef = jax.tree.flatten(params)
    shapes, expected = [list(map(jnp.shape, each)) for each in (jax.tree.leaves(final), leaves)]
    if shapes != expected:
        raise ValueError(f"`neurons.unpack` must return arrays of the shapes of the parameters, "
                         f"{expected}; got {shapes}")  # fmt: skip
    return jax.tree.unflatten(treedef, jax.tree.leaves(final))


def _add_noise(key: Key, updates: PyTree, scale: jax.Array) -> PyTree:
    leaves, treedef = jax.tree.flatten(updates)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + scale.astype(leaf.dtype) * jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, noisy)


def _on_sphere(key: Key, like: jax.Array, radius: float) -> jax.Array:
    direction = jax.random.normal(key, like.shape, like.dtype)
    return radius * direction / jnp.linalg.norm(direction, axis=1, keepdims=True)
