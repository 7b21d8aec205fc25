r"""KKT residuals of the maximum margin, for homogeneous nets of any depth.

The largest normalised margin solves

    minimise ||Theta||^2 / 2   subject to   q_i(Theta) >= 1 for all i,

with q_i = y_i f(Theta; x_i), or one q_ij = f_{y_i} - f_j for every rival class j. Theta satisfies
its first-order (KKT) conditions if there are multipliers alpha >= 0 with Theta = sum_i alpha_i
grad q_i and alpha_i (q_i - 1) = 0. Gradient flow on the logistic loss converges in direction to
such points (Lyu and Li 2020; Ji and Telgarsky 2020).

By Euler's identity <Theta, grad q_i> = a q_i, so Theta satisfies them exactly if it solves the
hard-margin SVM of its own tangent features: minimise ||w||^2 / 2 subject to <w, grad q_i> >= a. Its
duality gap at (Theta, alpha) is ||Theta - sum alpha_i grad q_i||^2 / 2 + a sum_i alpha_i (q_i - 1):
the two residuals below.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.outputs import check_apply, check_outputs, rival_gaps, signed_outputs
from kernelgap._numerics.trees import squared_norm
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.kkt_multipliers import ROUNDING, least_combination
from kernelgap.models import Activation, Model, Params
from kernelgap.models.model import homogeneous_degree
from kernelgap.typing import ArrayLike


@saveable()
class KKTResiduals(NamedTuple):
    """Residuals of the KKT conditions of the maximum margin; scale-invariant.

    With Theta rescaled to min_i q_i = 1:

    Attributes:
        stationarity: ``||Theta - sum_i alpha_i grad q_i|| / ||Theta||``, in [0, 1].
        slackness: ``a sum_i alpha_i (q_i - 1) / ||Theta||^2``, at least 0.
        margin: The normalised margin ``min_i q_i / ||Theta||^a``, before rescaling.
        multipliers: alpha, of shape (n,), or (n, k) with zeros at the samples' own classes.
        converged: False where the solver for the multipliers stopped early: then the residuals are
            those of the multipliers returned, and better ones may exist.
    """

    stationarity: Float[Array, "..."]
    slackness: Float[Array, "..."]
    margin: Float[Array, "..."]
    multipliers: Float[Array, "... n"] | Float[Array, "... n k"]
    converged: Bool[Array, "..."]

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def gap(self) -> Float[Array, "..."]:
        """The duality gap of the tangent SVM over ||Theta||^2 / 2, stationarity^2 + 2 slackness."""
        return self.stationarity**2 + 2 * self.slackness

    @property
    def status(self) -> Literal["converged", "not_separated", "solver_failed"]:
        """Say in a word what the residuals are worth, for concrete ones of a single net.

        `"not_separated"`: no multiple of Theta satisfies the constraints, all but `margin` are NaN.
        `"solver_failed"`: the multipliers may not be the best ones; see `converged`.
        """
        if np.isnan(self.stationarity):
            return "not_separated"
        return "converged" if self.converged else "solver_failed"


def kkt_residuals(
    model: Model,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    multipliers: Literal["optimal", "exponential"] = "optimal",
    candidates: int = 500,
    kinks: float = 0.0,
) -> KKTResiduals:
    r"""Compute residuals of the first-order conditions of the maximum margin.

    Both are zero exactly at KKT points, which every solution of the maximum margin is. At kinks of
    the activation the gradient is the one JAX computes, one of many. The best ReLU nets have most
    of their units at kinks, and trained ones near them: their residuals go to zero only if `kinks`
    lets each such slope be anything between those on its two sides.

    Args:
        model: A `homogeneous_mlp` of any depth, or a `Model` of your own with its `degree`.
        params: Its parameters.
        x: Inputs of shape (n, d).
        y: (n,) labels: -1 or +1 for one output, integers 0..k-1 for k >= 2 outputs.
        multipliers: `"optimal"` solves the dual of the tangent SVM by non-negative least squares,
            which makes `gap` as small as it can be; concrete arrays only. `"exponential"` takes
            alpha_i proportional to exp(-q_i) at the given scale of the parameters, as Lyu and Li
            do, times the factor that makes `stationarity` least. It costs one gradient and passes
            through `jit` and `vmap`; it depends on the scale, and goes to zero along gradient flow.
        candidates: For `"optimal"`, how many constraints, those of smallest margin, may have
            multipliers; their gradients are held in memory. More never makes `gap` larger but for
            rounding.
        kinks: For `"optimal"`, two layers and activations of degree 1: unit u counts as being at a
            kink of input x if ``|u . x| <= kinks ||u|| ||x||``. 0 for none; 1e-3 or so for trained
            nets. Much larger values excuse too much: <Theta, g> = a q then holds only roughly.

    Returns:
        `KKTResiduals`. Unless all samples are
        classified rightly, no multiple of Theta satisfies the constraints: then all but `margin`
        are NaN.

    Raises:
        ValueError: If `kinks` is not defined for the model and multipliers, the model is not
            homogeneous, or `"optimal"` is asked for under `jit`, `vmap` or `grad`.

    Example:
        The planted network of the XOR distribution has the largest margin on its population:

        >>> import itertools, jax.numpy as jnp, kernelgap as kg
        >>> noise = jnp.array(list(itertools.product([-1.0, 1.0], repeat=2)))
        >>> signal = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> x = jnp.concatenate([jnp.repeat(signal, 4, axis=0), jnp.tile(noise, (4, 1))], axis=1)
        >>> y = jnp.repeat(jnp.array([1.0, 1.0, -1.0, -1.0]), 4)
        >>> model = kg.models.homogeneous_mlp((4,))
        >>> kkt = kg.margins.kkt_residuals(model, kg.datasets.planted_xor(4), x, y)
        >>> print(f"{kkt.margin:.3f} {kkt.stationarity:.2f} {kkt.slackness:.2f} {kkt.status}")
        0.125 0.00 0.00 converged

    References:
        K. Lyu, J. Li, "Gradient Descent Maximizes the Margin of Homogeneous Neural Networks", ICLR
        2020: approximate KKT points and the multipliers proportional to exp(-q_i) (recalled). The
        scaling of the residuals and the tangent SVM as their source are derived.
    """
    x = array_checks.inputs(x)
    params = array_checks.parameters(params)
    checks.choice(multipliers, "multipliers", ("optimal", "exponential"))
    candidates = checks.integer(candidates, "candidates", minimum=1)
    checks.number(kinks, "kinks", minimum=0)
    homogeneous_degree(model)
    phi = None if model.spec is None else model.spec.activation
    one_kink = model.neurons is not None and isinstance(phi, Activation) and phi.power == 1
    if kinks > 0 and not (one_kink and multipliers == "optimal"):
        raise ValueError("`kinks` is for multipliers='optimal' and two-layer nets whose activation "
                         f"has degree 1; got kinks={kinks:g}")  # fmt: skip
    if model.spec is None:
        check_apply(model.apply, params, x)
    y = array_checks.array(y, "y")
    q = _constraints(model, params, x, y)
    if multipliers == "exponential":
        with jax.debug_nans(False):  # which is what a net that does not separate is answered with
            return _exponential(model, params, x, y)
    if not array_checks.is_concrete(q, x, y):
        raise ValueError("`multipliers='optimal'` needs concrete arrays; under jit, vmap or grad "
                         "use multipliers='exponential'")  # fmt: skip
    return _optimal(model, params, x, y, np.asarray(q), candidates, kinks)


def _optimal(
    model: Model,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    q: np.ndarray,
    candidates: int,
    kinks: float,
) -> KKTResiduals:
    """The residuals of the best multipliers, in float64."""
    degree = homogeneous_degree(model)
    theta = np.concatenate([np.asarray(w, np.float64).ravel() for w in jax.tree.leaves(params)])
    converged = True
    with np.errstate(divide="ignore", invalid="ignore"):
        values = [np.nan, np.nan, q.min() / np.linalg.norm(theta) ** degree]
        multipliers = np.full(q.shape, np.nan)
    if q.min() > 0:
        weights, gradient, converged = least_combination(
            model, params, x, y, q.astype(np.float64),
            constraints=_constraints, candidates=candidates, kinks=kinks,
        )  # fmt: skip
        squared, least = theta @ theta, float(q.min())
        excess = degree * np.sum(weights * (np.where(weights > 0, q, least) - least))
        # The factor that makes the gap least. Without kinks <Theta, gradient> is a q, and it solves
        # the dual of the tangent SVM; generous kinks may cancel all but rounding errors.
        size, along = gradient @ gradient, theta @ gradient - excess if kinks else degree * least
        cancelled = size <= ROUNDING * (degree * least) ** 2 / squared
        factor = 0.0 if cancelled else max(along, 0.0) / size
        values[0] = np.linalg.norm(theta - factor * gradient) / np.sqrt(squared)
        values[1] = factor * excess / squared
        # Multipliers belong to the parameters rescaled by least^(-1 / a).
        multipliers = factor * weights * least ** (1 - 2 / degree)
    stationarity, slackness, margin, multipliers = (
        jnp.asarray(v, q.dtype) for v in (*values, multipliers)
    )
    return KKTResiduals(stationarity, slackness, margin, multipliers, jnp.asarray(converged))


@partial(jax.jit, static_argnames=("model",))
def _exponential(model: Model, params: Params, x: jax.Array, y: jax.Array) -> KKTResiduals:
    """The residuals of multipliers proportional to exp(-q)."""
    degree = homogeneous_degree(model)
    dtype = array_checks.common_dtype(x, *jax.tree.leaves(params))
    params, x = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, x))
    q, pull = jax.vjp(lambda p: _constraints(model, p, x, y), params)
    weights = jax.nn.softmax(-q.ravel()).reshape(q.shape)
    (gradient,) = pull(weights)
    least = jnp.min(q)
    excess = jnp.where(jnp.isinf(q), 0, q - least)
    squared = squared_norm(params)
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True)
    products = [jnp.vdot(a, b) for a, b in pairs]
    factor = sum(products[1:], start=products[0]) / squared_norm(gradient)  # least stationarity
    difference = jax.tree.map(lambda a, b: a - factor * b, params, gradient)
    unit = jnp.where(least > 0, least, jnp.nan)
    return KKTResiduals(
        stationarity=jnp.sqrt(squared_norm(difference) / squared) + 0 * unit,
        slackness=degree * factor * jnp.sum(weights * excess) / squared + 0 * unit,
        margin=least / squared ** (degree / 2),
        multipliers=factor * weights * unit ** (1 - 2 / degree) + 0 * unit,
        converged=jnp.ones_like(least, bool),
    )


def _constraints(model: Model, params: Params, x: jax.Array, y: ArrayLike) -> jax.Array:
    """Return all q_i of shape (n,), or (n, k) with inf at the samples' own classes."""
    outputs = check_outputs(model.apply(params, x))
    if outputs.ndim == 1:
        return signed_outputs(outputs, y)
    return -rival_gaps(outputs, y)
