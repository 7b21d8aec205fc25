"""The types that all kernel methods share: solvers, the result, and its status."""

from dataclasses import dataclass, fields
from enum import IntEnum
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._numerics.quick import quick_jit
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.kernels import matmul as kernel_matmul
from kernelgap.kernels.functions import KernelFunction, saveable_kernel
from kernelgap.kernels.tiled import sharding
from kernelgap.predictors import scores
from kernelgap.typing import ArrayLike, Scalar


@dataclass(frozen=True)
class _Solver:
    """Options that all solvers share, checked on creation."""

    max_iterations: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_iterations", "tile", "block"):
            value = getattr(self, name, None)
            if value is not None:
                object.__setattr__(self, name, checks.integer(value, name, minimum=1))
        sharding.checked_mesh(getattr(self, "mesh", None))


@dataclass(frozen=True)
class Direct(_Solver):
    """Hold the Gram matrix and factorise it, with memory for n^2 numbers and time n^3.

    Args:
        max_iterations: Largest number of linear systems; each method states its default.

    Example:
        >>> from kernelgap.predictors import Direct
        >>> Direct(max_iterations=10)
        Direct(max_iterations=10)
    """


@dataclass(frozen=True)
class Iterative(_Solver):
    """Hold the Gram matrix and use only products with it, which take time n^2 each.

    Args:
        max_iterations: Largest number of linear systems, each of several products.
    """


@dataclass(frozen=True)
class MatrixFree(_Solver):
    """Evaluate the kernel tile by tile in every product, with memory for vectors and tiles only.

    A Gram matrix of a single tile is evaluated once.

    Args:
        max_iterations: Largest number of linear systems, each of several products.
        tile: Largest side of a tile, at least 1; see `kernels.matmul`.
        mesh: Devices that share the products, a `jax.sharding.Mesh`.
        block: Largest number of inputs between which `hard_margin_svm` may hold kernel values, at
            least 1; by default 4096. It factorises them, with memory for block^2 numbers, where no
            more points matter. This is the better choice where the kernel is nearly singular.
    """

    tile: int | None = None
    mesh: Mesh | None = None
    block: int | None = None


Solver: TypeAlias = Direct | Iterative | MatrixFree | Literal["auto"]
for _cls in (Direct, Iterative, MatrixFree):  # without leaves: static where they pass through jit
    _names = [field.name for field in fields(_cls)]
    jax.tree_util.register_dataclass(_cls, data_fields=[], meta_fields=_names)


def checked_solver(solver: Solver) -> Solver:
    """Refuse anything but a solver object or "auto"."""
    if isinstance(solver, _Solver) or (isinstance(solver, str) and solver == "auto"):
        return solver
    came = f"the class {solver.__name__}" if isinstance(solver, type) else f"{solver!r:.40}"
    raise TypeError("`solver` must be 'auto', Direct(), Iterative() or MatrixFree(), of "
                    f"kernelgap.predictors; got {came}")  # fmt: skip


def mesh_of(solver: Solver) -> Mesh | None:
    """Return the devices that share the work."""
    return solver.mesh if isinstance(solver, MatrixFree) else None


def most_iterations(solver: Solver, default: int) -> int:
    """Return the largest number of linear systems."""
    return (None if solver == "auto" else solver.max_iterations) or default


class Status(IntEnum):
    """Outcome of a kernel method, as `KernelPredictor.status` holds it.

    Attributes:
        CONVERGED: 0. The tolerance was reached.
        ABOVE_TOL: 1. The result is right within its own `duality_gap` or `kkt_residual`, which is
            above the tolerance: `max_iterations` or rounding ended the iteration.
        INSEPARABLE: 2. The kernel does not separate the data; numbers are NaN.
        INDEFINITE: 3. The Gram matrix is not positive definite to rounding, so that the data were
            shown neither to be separable nor to be inseparable; numbers are NaN.
        INVALID: 4. The inputs would be refused outside of `jit` and `vmap`, or overflowed; numbers
            are NaN.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((8,)))
        >>> x, y = jnp.array([[1.0, 2.0], [1.0, 2.0]]), jnp.array([1.0, -1.0])
        >>> svm = kg.predictors.hard_margin_svm(kernel, x, y, throw=False)
        >>> kg.predictors.Status(int(svm.status)).name
        'INSEPARABLE'
    """

    CONVERGED = 0
    ABOVE_TOL = 1
    INSEPARABLE = 2
    INDEFINITE = 3
    INVALID = 4


@saveable(
    lambda p: p._asdict() | {"kernel": saveable_kernel(p.kernel, p.x)}, x="nd", coef="n[k]",
    margin="[k]", duality_gap="[k]", kkt_residual="[k]", iterations="[k]", status="[k]", classes="",
)  # fmt: skip
class KernelPredictor(NamedTuple):
    """The function f(x) = sum_i coef_i K(x, x_i).

    For one-versus-rest classification `margin` and all fields below it but `classes` have shape
    (k,).

    Attributes:
        kernel: The kernel K.
        x: Centres x_i, shape (n, d).
        coef: Coefficients, shape (n,) or (n, k).
        margin: min_i y_i f(x_i) / ||f|| in the norm of the kernel's Hilbert space; NaN where the
            targets are not signs.
        duality_gap: Relative duality gap (P - D) / P of the optimisation problem; NaN if the method
            has none and states a `kkt_residual` only.
        kkt_residual: Relative violation of the optimality conditions; each method states the norm.
        iterations: Number of linear systems solved.
        status: A `Status`: an int32 code that survives `jit` and `vmap`.
        classes: The task, which `score` depends on: 0 for real targets, 2 for signs, k for k
            classes.
    """

    kernel: KernelFunction
    x: jax.Array
    coef: jax.Array
    margin: Scalar
    duality_gap: Scalar
    kkt_residual: Scalar
    iterations: jax.Array
    status: Int[Array, "*k"]
    classes: Int[Array, ""]

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def support_size(self) -> jax.Array:
        """Number of coefficients that are not 0, shape () or (k,)."""
        return jnp.sum(self.coef != 0, axis=0)

    def decision_function(self, x: ArrayLike) -> jax.Array:
        """Return the values of f at the rows of x: shape (n_new,), or (n_new, k).

        The values of a fit that failed (see `status`) are NaN.
        """
        x = array_checks.inputs(x, d=self.x.shape[1])
        if x.dtype != self.x.dtype:
            known = jax.dtypes.canonicalize_dtype(self.x.dtype) == self.x.dtype
            cure = f"Convert it, for example with x.astype({str(self.x.dtype)!r})"
            raise TypeError(
                f"`x` must have the dtype of the centres, {self.x.dtype}; got {x.dtype}. "
                f"{cure if known else 'Set jax_enable_x64, as when they were fitted'}"
            )
        failed = self.status > Status.ABOVE_TOL.value
        if not array_checks.is_concrete(failed) or not np.any(failed):
            return kernel_matmul(self.kernel, x, self.coef, x2=self.x)
        values = kernel_matmul(self.kernel, x, jnp.nan_to_num(self.coef), x2=self.x)
        return jnp.where(failed if failed.ndim == 0 else failed[None, :], jnp.nan, values)

    def predict(self, x: ArrayLike) -> jax.Array:
        """Return the labels: the sign of f (0 counts as -1), or the class of the largest output."""
        return scores.labels(self.decision_function(x))

    def score(self, x: ArrayLike, y: ArrayLike) -> jax.Array:
        """Return the accuracy of a classifier, or R^2 of a regression, as scikit-learn does.

        R^2 = 1 - sum_i (y_i - f(x_i))^2 / sum_i (y_i - mean(y))^2, averaged over several outputs.
        Targets that are constant have R^2 = 1 if f meets them and 0 else.

        Args:
            x: Inputs of shape (n_new, d).
            y: Targets of the fitted kind: labels -1 and +1, integer classes, or real targets of
                shape (n_new,) or (n_new, k). A value of f that is NaN counts as an error.

        Returns:
            A scalar in the dtype of x. R^2 of a single sample is NaN.

        Example:
            >>> import jax, kernelgap as kg
            >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 100, 10)
            >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), parameterization="ntk"))
            >>> print(kg.predictors.hard_margin_svm(kernel, x, y).score(x, y))
            1.0
        """
        values = self.decision_function(x)
        n, k = values.shape[0], values.shape[1:]
        task = int(self.classes) if array_checks.is_concrete(self.classes) else None
        if task or (task is None and jnp.issubdtype(jnp.asarray(y).dtype, jnp.integer)):
            y = (
                array_checks.classes(y, n, k[0])
                if k
                else array_checks.signs(y, n).astype(values.dtype)
            )
            return scores.accuracy(values, y)
        targets = array_checks.targets(y, n, columns=bool(k)).astype(values.dtype)
        if targets.shape != values.shape:
            raise ValueError(f"`y` must have shape {values.shape}, that of the values; "
                             f"got {targets.shape}")  # fmt: skip
        fit = scores.r_squared(values, targets)
        if task == 0:
            return fit
        # The task is traced. Integer labels of several classes were handled above.
        return jnp.where(self.classes == 0, fit, jnp.nan if k else scores.accuracy(values, targets))

    def _entries(self) -> dict:
        entries = self._asdict()
        if array_checks.is_concrete(self.status):
            names = [Status(code).name for code in np.ravel(self.status).tolist()]
            entries["status"] = names[0] if np.ndim(self.status) == 0 else tuple(names)
        return entries


@quick_jit
def outcome(reached: jax.Array, tol: float | jax.Array) -> Int[Array, "*k"]:
    """Return the status of a residual or gap that should reach `tol`; NaN is INVALID."""
    code = jnp.where(reached <= tol, Status.CONVERGED.value, Status.ABOVE_TOL.value)
    return jnp.where(jnp.isnan(reached), Status.INVALID.value, code).astype(jnp.int32)


def task(classes: int) -> Int[Array, ""]:
    """Return the field `classes` of a predictor."""
    return cast(classes, np.dtype(np.int32))


def not_a_number(dtype: np.dtype) -> jax.Array:
    """Return the NaN of a field without meaning, in a way that `jax_debug_nans` accepts."""
    return jax.device_put(np.asarray(np.nan, dtype))


def one_versus_rest(y: ArrayLike, x: jax.Array, classes: int) -> jax.Array:
    """Return signs of shape (n, classes): +1 where the label is the class, -1 elsewhere."""
    classes = checks.integer(classes, "classes", minimum=2)
    y = array_checks.classes(y, x.shape[0], classes)
    if array_checks.is_concrete(y):
        missing = sorted(set(range(classes)) - set(np.unique(np.asarray(y)).tolist()))
        if missing:
            raise ValueError(f"`y` must hold every class 0..{classes - 1}; missing: {missing[:5]}")
    signs = _signs(y, classes, x.dtype)
    valid = (
        True
        if array_checks.is_concrete(y)
        else jnp.all(jnp.any(signs > 0, axis=0)) & jnp.all(y < classes)
    )
    return array_checks.nan_unless(valid, signs)


@partial(quick_jit, static_argnames=("classes", "dtype"))
def _signs(y: jax.Array, classes: int, dtype: np.dtype) -> jax.Array:
    own = y[:, None] == jnp.arange(classes, dtype=y.dtype)[None, :]
    return jnp.where(own, 1, -1).astype(dtype)
