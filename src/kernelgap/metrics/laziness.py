r"""How far training has left the linear regime: displacement, tangent kernel, linearisation.

A net is trained lazily if, while its outputs change, its linearisation at the start

    f_lin(Theta; x) = f(Theta_0; x) + <grad f(Theta_0; x), Theta - Theta_0>

remains right, so that its tangent kernel hardly changes. The panel measures this from Theta_0 and
Theta_t alone: it goes into `optim.train(record=...)`, and no path of weights is kept.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kernelgap import _checks, _programs
from kernelgap._blas import limited
from kernelgap._display import shown
from kernelgap._outputs import checked_form
from kernelgap._trees import check_alike, difference, norm, promoted
from kernelgap.metrics.activations import activation_change
from kernelgap.metrics.alignment import (
    kernel_alignment,
    kernel_change,
    kernel_distance,
    target_alignment,
)
from kernelgap.models import Model
from kernelgap.models.linearized import first_order
from kernelgap.typing import Apply, ArrayLike, PyTree, Scalar

TangentKernel = Callable[..., Callable[[jax.Array], jax.Array]]


@shown
class Laziness(NamedTuple):
    """How far a net is from its start; each entry has the shape of the recorded times.

    Attributes:
        displacement: ||Theta_t - Theta_0||.
        relative_displacement: the same over ||Theta_0||.
        linearization_error: ||f_t - f_lin,t|| / ||f_t - f_0|| over the samples.
        activation_change: (..., hidden layers), see `metrics.activation_change`; None unless the
            model is one of `kernelgap.models` with a hidden layer.
        kernel_change: ||K_t - K_0||_F / ||K_0||_F; this and the rest None without `kernel`.
        kernel_distance: 1 - cos of the angle between K_t and K_0.
        kernel_alignment: centred alignment of K_t with K_0.
        target_alignment: centred alignment of K_t with the targets; None without `y`.
        gram: K_t itself, with `keep_gram`; else None.
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


def laziness(
    model: Model | Apply,
    params0: PyTree,
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    kernel: TangentKernel | None = None,
    keep_gram: bool = False,
) -> Callable[[PyTree], Laziness]:
    r"""The panel of laziness: a function `panel(params) -> Laziness` for the start `params0`.

    Args:
        model: a `Model`, or `apply(params, x)` with outputs (n,) or (n, k).
        params0: the initial parameters, Theta_0.
        x: inputs of shape (n, ...) on which outputs and kernels are compared.
        y: targets, as in `target_alignment`; without them that entry is None.
        kernel: how to make the tangent kernel: `kernel(model, params)(x) -> Gram matrix`. That is
            `kernels.empirical_ntk`, or a partial of it (one layer only, say). None leaves out what
            is measured on kernels. K_0 is computed once, when the panel is made.
        keep_gram: put the Gram matrix of each time into the records too.

    Returns:
        A pure function of params that passes through `jit`, `vmap` and `scan`. Give it to
        `optim.train(record=panel)`, call it at a few times of your own loop, or use
        `laziness_along` where the parameters have been kept.

    Raises:
        TypeError: if `model` or `kernel` is no function, or x or a parameter is not floating.
        ValueError: if shapes do not fit or a value is not finite; from the panel, if its
            parameters have another structure than `params0`.

    Example:
        >>> import jax, optax, kernelgap as kg
        >>> data = kg.datasets.xor_noise(jax.random.key(0), 32, 5)
        >>> model = kg.models.homogeneous_mlp((64,), parameterization="ntk")
        >>> params = model.init(jax.random.key(1), 5)
        >>> panel = kg.metrics.laziness(model, params, *data, kernel=kg.kernels.empirical_ntk)
        >>> loss = kg.objectives.regularized_logistic(model.apply, l2=0.0)
        >>> trained = kg.optim.train(loss, params, data, optax.sgd(1.0), steps=60,
        ...                          record=panel, record_every=20)
        >>> trained.records.kernel_change.shape, trained.records.activation_change.shape
        ((3,), (3, 1))

    References:
        Paper C (lazy training of wide nets); L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019; S. Fort
        et al., NeurIPS 2020. The choice of measures is ours.
    """
    apply = model.apply if isinstance(model, Model) else model
    _checks.function(apply, "model", "apply(params, x), or a kernelgap model")
    x, params0 = _checks.examples(x), _checks.parameters(params0, "params0")
    if kernel is not None:
        _checks.function(kernel, "kernel", "kernel(model, params) -> (x -> Gram matrix)")
        if hasattr(kernel, "diag"):
            raise TypeError("`kernel` must be what makes a kernel of a model and its parameters, "
                            "such as kernels.empirical_ntk itself; got a kernel")  # fmt: skip
    gram0 = None if kernel is None else kernel(model, params0)(x)
    if gram0 is not None and y is not None:
        target_alignment(gram0, y)  # refuses bad targets now, not after training
    size0 = norm(params0)
    layered = isinstance(model, Model) and bool(getattr(model.spec, "widths", ()))

    def panel(params: PyTree) -> Laziness:
        far = displacement(params0, params)
        found = Laziness(far, far / size0, linearization_error(apply, params0, params, x))
        if isinstance(model, Model) and layered:
            found = found._replace(activation_change=activation_change(model, params0, params, x))
        if kernel is None or gram0 is None:
            return found
        gram = kernel(model, params)(x)
        return found._replace(
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
    """The panel of laziness at all times of a trajectory, whose first parameters are the start.

    Args:
        model: as in `laziness`.
        trajectory: a list of parameters Theta_0, Theta_1, ...; or one tree whose leaves have these
            times as first axis, as `optim.train(record=lambda p: p)` returns it (which leaves out
            Theta_0: add it in front).
        x: as in `laziness`.
        y: as in `laziness`.
        kernel: as in `laziness`.
        keep_gram: as in `laziness`; for alignments between all pairs of times, see
            `kernel_alignment`.

    Returns:
        `Laziness`, each entry with the times as first axis; the first is that of the start.

    Raises:
        TypeError: as `laziness`.
        ValueError: as `laziness`, or if the parameters of the times differ in structure or shape.

    Example:
        >>> import jax, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((64,))
        >>> path = [model.init(jax.random.key(0), 5)]
        >>> path += [jax.tree.map(lambda w: 1.1 * w, path[0])]
        >>> x = jax.random.normal(jax.random.key(1), (10, 5))
        >>> panel = kg.metrics.laziness_along(model, path, x, kernel=kg.kernels.empirical_ntk)
        >>> [f"{value:.4f}" for value in panel.relative_displacement]
        ['0.0000', '0.1000']

    References:
        As `laziness`.
    """
    if isinstance(trajectory, list):
        if not trajectory:
            raise ValueError("`trajectory` must hold at least the initial parameters; got none")
        kinds = [jax.tree.map(np.shape, params) for params in trajectory]
        if different := [t for t, kind in enumerate(kinds) if kind != kinds[0]]:
            raise ValueError(f"`trajectory` must hold parameters of one structure and shape; entry "
                             f"{different[0]} differs from the first")  # fmt: skip
        trajectory = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trajectory)
    trajectory = _checks.parameters(trajectory, "trajectory")
    times = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(trajectory)}
    if len(times) != 1 or times & {(), (0,)}:
        raise ValueError(f"`trajectory` must be a list of parameters, or a tree whose leaves have "
                         f"the times as first axis; got first axes {sorted(times)}")  # fmt: skip
    start = jax.tree.map(lambda leaf: leaf[0], trajectory)
    panel = laziness(model, start, x, y, kernel=kernel, keep_gram=keep_gram)
    return _programs.run(partial(jax.lax.map, panel), trajectory)


def displacement(params0: PyTree, params: PyTree) -> Scalar:
    """How far parameters have moved, ||Theta - Theta_0|| over all of them.

    Args:
        params0: parameters to compare with.
        params: parameters of the same structure and shapes.

    Returns:
        A scalar >= 0, with gradient 0 at `params0`.

    Raises:
        TypeError: if a parameter is not floating.
        ValueError: if the structures or shapes differ.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.metrics.displacement((jnp.zeros(2), jnp.ones(3)), (jnp.ones(2), jnp.zeros(3))))
        2.236068

    References:
        The usual distance from the start, as in L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019.
    """
    params0 = _checks.parameters(params0, "params0", finite=False)
    params = _checks.parameters(params, finite=False)
    check_alike(params0, params)
    return norm(difference(params, params0))


def linearization_error(
    model: Model | Apply, params0: PyTree, params: PyTree, x: ArrayLike
) -> Scalar:
    r"""How wrong the linearised net is, relative to what changed: ||f - f_lin|| / ||f - f_0||.

    The linearisation at `params0` costs one forward-mode derivative. Norms run over all samples and
    outputs.

    Args:
        model: a `Model`, or `apply(params, x)`.
        params0: parameters at which the net is linearised.
        params: parameters of the same structure and shapes.
        x: inputs of shape (n, ...).

    Returns:
        A scalar >= 0; 0 where no output changed (and at `params0`), small in lazy training, of
        order one beyond it, and where the change of the outputs is lost in their rounding.

    Raises:
        TypeError: if `model` is no function, or x or a parameter is not floating.
        ValueError: if structures or shapes differ, or a value is not finite.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> apply = lambda w, x: (x @ w) ** 2
        >>> w0, w = jnp.array([1.0]), jnp.array([1.5])
        >>> error = kg.metrics.linearization_error(apply, w0, w, jnp.ones((3, 1)))
        >>> print(f"{error:.4f}")  # f goes from 1 to 2.25, its linearisation to 2
        0.2000

    References:
        L. Chizat, E. Oyallon, F. Bach, NeurIPS 2019 (lazy training as linearisation). The ratio is
        ours.
    """
    apply = model.apply if isinstance(model, Model) else model
    _checks.function(apply, "model", "apply(params, x), or a kernelgap model")
    x = _checks.examples(x)
    params0, params = _checks.parameters(params0, "params0"), _checks.parameters(params)
    check_alike(params0, params)
    params0, params = promoted(params0, params), promoted(params, params0)
    checked_form(apply, params0, x)
    step = difference(params, params0)
    before, along = first_order(apply, params0, params, x)
    change = apply(params, x) - before
    size = norm(change)
    # At the start itself the two forward passes may differ by their rounding.
    moved = (size != 0) & (norm(step) != 0)  # NaN stays
    return jnp.where(moved, norm(change - along) / jnp.where(moved, size, 1), 0)


def min_norm_distance(gram: ArrayLike, residuals: ArrayLike) -> Scalar:
    r"""How far the nearest interpolating solution of the linearised net is: sqrt(r' K_0^{-1} r).

    Among all Theta with f_lin(Theta; x_i) = y_i, the nearest to Theta_0 is at this distance, with
    r = y - f(Theta_0; x). Gradient flow on the squared loss of the linearised net ends there.

    Args:
        gram: the tangent kernel's Gram matrix at the start, (n, n) or (n, n, k, k).
        residuals: y - f(Theta_0; x), (n,) or (n, k).

    Returns:
        A scalar. NaN under `jit` where the matrix is not positive definite in its dtype.

    Raises:
        TypeError: if an argument is not floating.
        ValueError: if shapes do not fit or a value is not finite, or the matrix is singular in its
            dtype: equal inputs, or more outputs than parameters.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.metrics.min_norm_distance(4.0 * jnp.eye(2), jnp.array([0.6, 0.8])))
        0.5

    References:
        C. Williams, M. Seeger; the pseudo-inverse solution of least squares. Used for wide nets by
        S. Arora et al., ICML 2019.
    """
    matrix = _checks.gram(gram)
    _checks.solvable_dtype(matrix, "gram")
    n = jnp.shape(gram)[0]
    expected = (n,) if jnp.ndim(gram) == 2 else (n, jnp.shape(gram)[2])
    target = _checks.targets(residuals, n, "residuals", columns=len(expected) == 2)
    if target.shape != expected:
        raise ValueError(f"`residuals` must have shape {expected}, as `gram` does; "
                         f"got {target.shape}")  # fmt: skip
    factor = limited(len(matrix), lambda: jnp.linalg.cholesky((matrix + matrix.T) / 2))
    if _checks.is_concrete(factor) and not np.isfinite(np.asarray(factor)).all():
        raise ValueError(f"`gram` must be positive definite; this one is singular in "
                         f"{matrix.dtype}. Are two inputs equal, or fewer parameters than "
                         f"outputs?")  # fmt: skip
    half = jax.scipy.linalg.solve_triangular(
        factor, target.astype(matrix.dtype).reshape(-1), lower=True
    )
    return jnp.linalg.norm(half)


def divergence_step(losses: ArrayLike) -> Int[Array, "*runs"]:
    """The step at which training diverged, or -1 if it did not.

    Diverged means that the loss ends not finite, or above where it began; the step is the first
    from which on this is so for good. A run that rises and comes back has not diverged.

    Args:
        losses: (..., steps), such as `Trained.losses`; a NaN counts as infinite.

    Returns:
        Integers of shape (...).

    Raises:
        TypeError: if `losses` is not floating.
        ValueError: if it has no steps.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> print(kg.metrics.divergence_step(jnp.array([[1.0, 3.0, 0.5], [1.0, 3.0, jnp.nan]])))
        [-1  1]

    References:
        The definition is ours.
    """
    array = _checks.floating(losses, "losses")
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"`losses` must have shape (..., steps) with steps >= 1; "
                         f"got {array.shape}")  # fmt: skip
    fine = (array <= array[..., :1]) & jnp.isfinite(array)
    steps = array.shape[-1]
    last = jnp.max(jnp.where(fine, jnp.arange(steps), -1), axis=-1)
    return jnp.where(last == steps - 1, -1, last + 1)
