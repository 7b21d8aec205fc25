"""Hypothesis strategies over few shapes, so that a property compiles a handful of programs."""

from collections.abc import Sequence

import jax
from hypothesis import strategies as st

from kernelgap import _checks
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
    """JAX random keys.

    Returns:
        A strategy of keys, for functions that take one.

    Example:
        >>> import kernelgap as kg
        >>> from hypothesis import given
        >>> @given(kg.testing.keys())
        ... def test_repeats(key):
        ...     x = kg.datasets.sphere(key, 3, 2)
        ...     assert (x == kg.datasets.sphere(key, 3, 2)).all()
    """
    return st.integers(0, 2**31 - 1).map(jax.random.key)


def activations(*, largest_power: float = 3) -> st.SearchStrategy[Activation]:
    """Homogeneous activations: ReLU, leaky, absolute value, an odd one, and powers.

    Args:
        largest_power: the highest degree, at least 1; 1 for activations that keep scales.

    Returns:
        A strategy of `models.Activation`.

    Raises:
        TypeError: if `largest_power` is no number.
        ValueError: if `largest_power` < 1.

    Example:
        >>> import kernelgap as kg
        >>> strategy = kg.testing.activations(largest_power=1)
    """
    _checks.number(largest_power, "largest_power", minimum=1)
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

    Returns:
        A strategy of `models.Model`.

    Raises:
        TypeError: if `largest_power` is no number, or `widths` or `outputs` no sequence.
        ValueError: if `largest_power` < 1, or there is nothing to choose from.

    Example:
        >>> import jax, kernelgap as kg
        >>> from hypothesis import given
        >>> @given(kg.testing.models(widths=[(6,)], outputs=[3]))
        ... def test_shape(model):
        ...     params = model.init(jax.random.key(0), 2)
        ...     assert model.apply(params, jax.numpy.ones((5, 2))).shape == (5, 3)
    """
    _check_choice(widths, "widths")
    _check_choice(outputs, "outputs")
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

    Returns:
        A strategy of `datasets.Dataset`.

    Raises:
        TypeError: if `classes` is no integer or `shapes` no sequence.
        ValueError: if `classes` < 2, or there is nothing to choose from.

    Example:
        >>> import kernelgap as kg
        >>> from hypothesis import given
        >>> @given(kg.testing.datasets(shapes=[(8, 3)]))
        ... def test_labels(data):
        ...     assert (abs(data.y) == 1).all()
    """
    _check_choice(shapes, "shapes")
    classes = _checks.integer(classes, "classes", minimum=2)

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
        largest_power: the highest degree of an activation, at least 1; kernels of powers grow
            fast with x.

    Returns:
        A strategy of `kernels.Kernel`.

    Raises:
        TypeError: if `largest_power` is no number.
        ValueError: if `largest_power` < 1.

    Example:
        >>> import jax, kernelgap as kg
        >>> from hypothesis import given
        >>> x = jax.random.normal(jax.random.key(0), (4, 3))
        >>> @given(kg.testing.kernels())
        ... def test_kernel(kernel):
        ...     kg.testing.assert_kernel(kernel, x)
    """

    def build(model: Model, room: str) -> Kernel:
        return kernel_room.ntk(model) if room == "ntk" else kernel_room.nngp(model)

    return st.builds(
        build,
        models(largest_power=largest_power, outputs=(None,)),
        st.sampled_from(["ntk", "nngp"]),
    )


def _check_choice(values: Sequence, name: str) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"`{name}` must be a sequence to choose from; got {values!r:.40}")
    if not values:
        raise ValueError(f"`{name}` must be a sequence to choose from; got none")
