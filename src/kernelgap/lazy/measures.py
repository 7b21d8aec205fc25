r"""Measures of lazy training: displacement, change of the tangent kernel, linearisation error.

Training is lazy if the outputs of a net change while its linearisation at initialisation,

    f_lin(Theta; x) = f(Theta_0; x) + <grad f(Theta_0; x), Theta - Theta_0>,

remains accurate, so that its tangent kernel hardly changes. All measures depend only on Theta_0 and
Theta_t, so they can be recorded by `optim.train(record=...)` without storing a trajectory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks, programs
from kernelgap._numerics.trees import norm
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.lazy.changes import activation_change, kernel_change
from kernelgap.lazy.linearization import displacement, linearization_error
from kernelgap.metrics import kernel_alignment, kernel_distance, target_alignment
from kernelgap.models import Model
from kernelgap.typing import Apply, ArrayLike, PyTree

TangentKernel = Callable[..., Callable[[jax.Array], jax.Array]]


@saveable()
class Laziness(NamedTuple):
    """Measures of lazy training; each entry has the shape of the recorded times.

    Attributes:
        displacement: ||Theta_t - Theta_0||.
        relative_displacement: ||Theta_t - Theta_0|| / ||Theta_0||.
        linearization_error: ||f_t - f_lin,t|| / ||f_t - f_0|| over the samples.
        activation_change: (..., hidden layers), as in `lazy.activation_change`; None unless the
            model comes from `kernelgap.models` and has a hidden layer.
        kernel_change: ||K_t - K_0||_F / ||K_0||_F; None without `kernel`, like all entries below.
        kernel_distance: 1 - cos of the angle between K_t and K_0.
        kernel_alignment: Centred alignment of K_t with K_0.
        target_alignment: Centred alignment of K_t with the targets; None without `y`.
        gram: K_t itself; None unless `keep_gram`.
    """

    displacement: Float[Array, "..."]
    relative_displacement: Float[Array, "..."]
    linearization_error: Float[Array, "..."]
    activation_change: Float[Array, "... layers"] | None = None
    kernel_change: Float[Array, "..."] | None = None
    kernel_distance: Float[Array, "..."] | None = None
    kernel_alignment: Float[Array, "..."] | None = None
    target_alignment: Float[Array, "..."] | None = None
    gram: Float[Array, "..."] | None = None

    __repr__ = compact_repr
    _repr_html_ = html_repr


def laziness(
    model: Model | Apply,
    params0: PyTree,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    kernel: TangentKernel | None = None,
    keep_gram: bool = False,
) -> Callable[[PyTree], Laziness]:
    r"""Build a function `panel(params) -> Laziness` that measures lazy training from `params0`.

    Args:
        model: A `Model`, or `apply(params, x)` with outputs (n,) or (n, k).
        params0: The initial parameters, Theta_0.
        x: Inputs of shape (n, ...) on which outputs and kernels are compared.
        y: Targets, as in `target_alignment`; if None, so is that entry.
        kernel: A function that builds the tangent kernel, `kernel(model, params)(x) -> Gram
            matrix`, that is `kernels.empirical_ntk` or a partial of it (for one layer, say). None
            omits all measures of the kernel. K_0 is computed once, when the panel is built.
        keep_gram: Include the Gram matrix at each time in the records.

    Returns:
        A pure function of params that works under `jit`, `vmap` and `scan`. Pass it to
        `optim.train(record=panel)` or call it in your own training loop; if you have stored the
        parameters, use `laziness_along`.

    Example:
        >>> import jax, optax, kernelgap as kg
        >>> data = kg.datasets.xor_noise(jax.random.key(0), 32, 5)
        >>> model = kg.models.homogeneous_mlp((64,), parameterization="ntk")
        >>> params = model.init(jax.random.key(1), 5)
        >>> panel = kg.lazy.laziness(model, params, *data, kernel=kg.kernels.empirical_ntk)
        >>> loss = kg.objectives.regularized_logistic(model.apply, l2=0.0)
        >>> trained = kg.optim.train(loss, params, data, optax.sgd(1.0), steps=60,
        ...                          record=panel, record_every=20)
        >>> trained.records.kernel_change.shape, trained.records.activation_change.shape
        ((3,), (3, 1))

    References:
        Paper C, second version (lazy training of wide nets); L. Chizat, E. Oyallon, F. Bach,
        NeurIPS 2019; S. Fort et al., NeurIPS 2020. The choice of measures is ours.
    """
    apply = model.apply if isinstance(model, Model) else model
    checks.function(apply, "model", "apply(params, x), or a kernelgap model")
    x, params0 = array_checks.examples(x), array_checks.parameters(params0, "params0")
    if kernel is not None:
        checks.function(kernel, "kernel", "kernel(model, params) -> (x -> Gram matrix)")
        if hasattr(kernel, "diag"):
            raise TypeError(
                "`kernel` must be a function that builds a kernel from a model and its parameters, "
                "such as kernels.empirical_ntk itself; got a kernel"
            )
    gram0 = None if kernel is None else kernel(model, params0)(x)
    if gram0 is not None and y is not None:
        target_alignment(gram0, y)  # raise for bad targets before training
    norm0 = norm(params0)
    layered = isinstance(model, Model) and bool(getattr(model.spec, "widths", ()))

    def panel(params: PyTree) -> Laziness:
        distance = displacement(params0, params)
        error = linearization_error(apply, params0, params, x)
        measures = Laziness(distance, distance / norm0, error)
        if isinstance(model, Model) and layered:
            change = activation_change(model, params0, params, x)
            measures = measures._replace(activation_change=change)
        if kernel is None or gram0 is None:
            return measures
        gram = kernel(model, params)(x)
        return measures._replace(
            kernel_change=kernel_change(gram0, gram),
            kernel_distance=kernel_distance(gram0, gram),
            kernel_alignment=kernel_alignment(gram0, gram),
            target_alignment=None if y is None else target_alignment(gram, y),
            gram=gram if keep_gram else None,
        )

    return panel


def laziness_along(
    model: Model | Apply,
    trajectory: Sequence[PyTree] | PyTree,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    kernel: TangentKernel | None = None,
    keep_gram: bool = False,
) -> Laziness:
    """Measure lazy training along a trajectory, relative to its first parameters.

    Args:
        model: As in `laziness`.
        trajectory: A list of parameters Theta_0, Theta_1, ..., or a tree whose leaves have the
            times as first axis. The records of `optim.train(record=lambda p: p)` have this form
            but lack Theta_0; prepend it.
        x: As in `laziness`.
        y: As in `laziness`.
        kernel: As in `laziness`.
        keep_gram: As in `laziness`; for alignments between all pairs of times, see
            `kernel_alignment`.

    Returns:
        `Laziness`, whose entries have the times as first axis, beginning with Theta_0.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> path = [model.init(jax.random.key(0), 5)]
        >>> path += [jax.tree.map(lambda w: 1.1 * w, path[0])]
        >>> x = jax.random.normal(jax.random.key(1), (10, 5))
        >>> panel = kg.lazy.laziness_along(model, path, x, kernel=kg.kernels.empirical_ntk)
        >>> [f"{value:.4f}" for value in panel.relative_displacement]
        ['0.0000', '0.1000']

    References:
        As `laziness`.
    """
    if isinstance(trajectory, list):
        if not trajectory:
            raise ValueError("`trajectory` must hold at least the initial parameters; got none")
        shapes = [jax.tree.map(np.shape, params) for params in trajectory]
        if different := [t for t, tree in enumerate(shapes) if tree != shapes[0]]:
            raise ValueError(
                f"`trajectory` must hold parameters of equal structure and shapes; entry "
                f"{different[0]} differs from the first"
            )
        trajectory = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trajectory)
    trajectory = array_checks.parameters(trajectory, "trajectory")
    times = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(trajectory)}
    if len(times) != 1 or times & {(), (0,)}:
        raise ValueError(
            f"`trajectory` must be a list of parameters, or a tree whose leaves have "
            f"the times as first axis; got first axes {sorted(times)}"
        )
    start = jax.tree.map(lambda leaf: leaf[0], trajectory)
    panel = laziness(model, start, x, y, kernel=kernel, keep_gram=keep_gram)
    return programs.run(partial(jax.lax.map, panel), trajectory)
