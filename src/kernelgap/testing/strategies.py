"""Hypothesis strategies with few shapes, so that a test compiles few programs."""

from collections.abc import Sequence

import jax
import numpy as np
from hypothesis import HealthCheck, settings, strategies as st

from kernelgap import kernels as kernel_module, models as model_module
from kernelgap._numerics import checks
from kernelgap.datasets import Dataset
from kernelgap.kernels import Kernel
from kernelgap.models import Activation, Model

# JAX compiles at the first call with each shape, which takes longer than the 200 ms that Hypothesis
# allows by default, while later calls do not: tests with a deadline would be flaky. A profile that
# the user has chosen is kept.
if settings.default == settings.get_profile("default"):
    settings.register_profile(
        "kernelgap", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("kernelgap")

_ACTIVATIONS = (
    model_module.Activation(1.0, 0.0, 1.0),
    model_module.leaky_relu(0.3),
    model_module.Activation(1.0, 1.0, 1.0),
    model_module.Activation(1.0, -2.0, 1.0),
    model_module.relu_power(2),
    model_module.Activation(1.0, 0.5, 3.0),
)


def keys() -> st.SearchStrategy[jax.Array]:
    """Draw JAX random keys.

    Returns:
        A strategy of keys.

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
    """Draw homogeneous activations: ReLU, leaky ReLU, absolute value, an odd one, and powers.

    Args:
        largest_power: Highest degree, at least 1; 1 draws only piecewise linear activations.

    Returns:
        A strategy of `models.Activation`.

    Example:
        >>> import kernelgap as kg
        >>> strategy = kg.testing.activations(largest_power=1)
    """
    checks.number(largest_power, "largest_power", minimum=1)
    return st.sampled_from([a for a in _ACTIVATIONS if a.power <= largest_power])


def models(
    *,
    widths: Sequence[tuple[int, ...]] = ((), (6,), (5, 4)),
    largest_power: float = 3,
    outputs: Sequence[int | None] = (None, 3),
) -> st.SearchStrategy[Model]:
    """Draw homogeneous MLPs in every parameterization.

    Args:
        widths: Hidden widths to choose from.
        largest_power: Highest degree of an activation, at least 1.
        outputs: Numbers of outputs to choose from; None for outputs of shape (n,).

    Returns:
        A strategy of `models.Model`.

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
        model_module.homogeneous_mlp,
        st.sampled_from(list(widths)),
        activation=activations(largest_power=largest_power),
        parameterization=st.sampled_from(["standard", "ntk", "mean_field", "mup"]),
        outputs=st.sampled_from(list(outputs)),
        init_scale=st.sampled_from([1.0, 1.5]),
    )


def datasets(
    *, shapes: Sequence[tuple[int, int]] = ((12, 4),), classes: int = 2
) -> st.SearchStrategy[Dataset]:
    """Draw XOR samples with either signal, or normal inputs with random labels.

    Args:
        shapes: Pairs (n, d) to choose from, d >= 2.
        classes: Number of classes, at least 2; labels are -1 and +1 for 2 classes, and random
            integers for more.

    Returns:
        A strategy of `datasets.Dataset`.

    Example:
        >>> import kernelgap as kg
        >>> from hypothesis import given
        >>> @given(kg.testing.datasets(shapes=[(8, 3)]))
        ... def test_labels(data):
        ...     assert (abs(data.y) == 1).all()
    """
    _check_choice(shapes, "shapes")
    classes = checks.integer(classes, "classes", minimum=2)

    def draw(seed: int, shape: tuple[int, int], kind: str) -> Dataset:
        # Drawn by NumPy, so that nothing is compiled.
        rng = np.random.default_rng(seed)
        dtype = np.dtype(jax.dtypes.canonicalize_dtype(float))
        if classes > 2:
            x, y = rng.standard_normal(shape), rng.integers(0, classes, shape[0], np.int32)
            return Dataset(*jax.device_put((x.astype(dtype), y)))
        if kind == "random":
            x, y = rng.standard_normal(shape), rng.choice([-1.0, 1.0], shape[0])
        else:
            x = rng.choice([-1.0, 1.0], shape)
            y = x[:, 0] * x[:, 1]
        if kind == "axis":  # rotate the cube signal to the axes
            x[:, :2] = np.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], axis=1) / 2
        return Dataset(*jax.device_put((x.astype(dtype), y.astype(dtype))))

    kinds = st.sampled_from(["axis", "cube", "random"])
    return st.builds(draw, st.integers(0, 2**31 - 1), st.sampled_from(list(shapes)), kinds)


def kernels(*, largest_power: float = 1) -> st.SearchStrategy[Kernel]:
    """Draw NTK and NNGP kernels of infinitely wide MLPs.

    Args:
        largest_power: Highest degree of an activation, at least 1; kernels of higher degree grow
            rapidly with the norm of x.

    Returns:
        A strategy of `kernels.Kernel`.

    Example:
        >>> import jax, kernelgap as kg
        >>> from hypothesis import given
        >>> x = jax.random.normal(jax.random.key(0), (4, 3))
        >>> @given(kg.testing.kernels())
        ... def test_kernel(kernel):
        ...     kg.testing.assert_kernel(kernel, x)
    """

    def build(model: Model, kind: str) -> Kernel:
        return kernel_module.ntk(model) if kind == "ntk" else kernel_module.nngp(model)

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
