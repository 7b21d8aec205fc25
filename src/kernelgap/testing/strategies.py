"""Hypothesis strategies over few shapes, so that a property compiles a handful of programs."""

from collections.abc import Sequence

import jax
from hypothesis import strategies as st

from kernelgap import datasets as data
from kernelgap import kernels as kernel_room
from kernelgap import models as model_room
from kernelgap.datasets import Dataset
from kernelgap.kernels import Kernel
from kernelgap.models import Activation, Model

_ACTIVATIONS = (
    model_room.Activation(1.0, 0.0, 1.0),
    model_room.leaky_relu(0.3),
    model_room.Activation(1.0, 1.0, 1.0),
    model_room.Activation(1.0, -2.0, 1.0),
    model_room.relu_power(2),
    model_room.Activation(1.0, 0.5, 3.0),
)


def keys() -> st.SearchStrategy[jax.Array]:
    """JAX random keys."""
    return st.integers(0, 2**31 - 1).map(jax.random.key)


def activations(*, largest_power: float = 3) -> st.SearchStrategy[Activation]:
    """Homogeneous activations: ReLU, leaky, absolute value, an odd one, and powers.

    Args:
        largest_power: the highest degree; 1 for activations that keep scales.
    """
    return st.sampled_from([a for a in _ACTIVATIONS if a.power <= largest_power])


def models(
    *,
    widths: Sequence[tuple[int, ...]] = ((), (6,), (5, 4)),
    largest_power: float = 3,
    outputs: Sequence[int | None] = (None, 3),
) -> st.SearchStrategy[Model]:
    """Homogeneous MLPs of every parameterization.

    Args:
        widths: hidden widths to choose from.
        largest_power: the highest degree of an activation.
        outputs: numbers of outputs to choose from; None for outputs of shape (n,).
    """
    return st.builds(
        model_room.homogeneous_mlp,
        st.sampled_from(list(widths)),
        activation=activations(largest_power=largest_power),
        parameterization=st.sampled_from(["standard", "ntk", "mean_field"]),
        outputs=st.sampled_from(list(outputs)),
        init_scale=st.sampled_from([1.0, 1.5]),
    )


def datasets(
    *, shapes: Sequence[tuple[int, int]] = ((12, 4),), classes: int = 2
) -> st.SearchStrategy[Dataset]:
    """Samples of the XOR distribution of both signals, or normal inputs with random labels.

    Args:
        shapes: pairs (n, d) to choose from, d >= 2.
        classes: 2 for labels -1 and +1; k > 2 for random integer classes.
    """

    def draw(key: jax.Array, shape: tuple[int, int], kind: str) -> Dataset:
        n, d = shape
        if classes == 2 and kind != "random":
            return data.xor_noise(key, n, d, signal=kind)  # type: ignore[arg-type]
        x_key, y_key = jax.random.split(key)
        x = jax.random.normal(x_key, (n, d))
        if classes == 2:
            return Dataset(x, jax.random.rademacher(y_key, (n,), x.dtype))
        return Dataset(x, jax.random.randint(y_key, (n,), 0, classes))

    kinds = st.sampled_from(["axis", "cube", "random"])
    return st.builds(draw, keys(), st.sampled_from(list(shapes)), kinds)


def kernels(*, largest_power: float = 1) -> st.SearchStrategy[Kernel]:
    """NTK and NNGP kernels of infinitely wide MLPs.

    Args:
        largest_power: the highest degree of an activation; kernels of powers grow fast with x.
    """

    def build(model: Model, room: str) -> Kernel:
        return kernel_room.ntk(model) if room == "ntk" else kernel_room.nngp(model)

    return st.builds(
        build,
        models(largest_power=largest_power, outputs=(None,)),
        st.sampled_from(["ntk", "nngp"]),
    )
