"""KKT residuals at known solutions, against a generic solver, and along the flow of Lyu and Li."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st
from scipy import optimize

import kernelgap as kg
from helpers import ACTIVATIONS, assert_close, eps, keys, x64
from kernelgap.margins import kkt_multipliers

pytestmark = pytest.mark.slow

key = jax.random.key(0)


def _planted():
    """The whole population of the XOR distribution, d = 4, and its planted net."""
    noise = jnp.array(list(itertools.product([-1.0, 1.0], repeat=2)))
    signal = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    x = jnp.concatenate([jnp.repeat(signal, 4, axis=0), jnp.tile(noise, (4, 1))], axis=1)
    y = jnp.repeat(jnp.array([1.0, 1.0, -1.0, -1.0]), 4)
    return kg.models.homogeneous_mlp((4,)), kg.datasets.planted_xor(4), x, y, None


def _line(depth):
    """One positive point on each side: the solution of test_path's largest margin on the line."""
    sizes = np.array([1.0, 2.0])
    top = np.sum(1 / sizes) ** ((depth - 2) / depth)  # C, the product of the norms from layer 3 on
    units = np.sqrt(1 / (sizes * top))
    chain = [[[top ** (1 / (depth - 2))]]] * (depth - 2) if depth > 2 else []
    second = units[None] if depth > 2 else units
    params = [units[:, None] * [[1.0], [-1.0]], second, *chain]
    params[-1] = np.ravel(params[-1])
    widths = (2, *[1] * (depth - 2))
    y = jnp.array([1.0, 1.0])
    params = tuple(jnp.asarray(w, float) for w in params)
    x = jnp.asarray(sizes[:, None] * [[1.0], [-1.0]], float)
    return kg.models.homogeneous_mlp(widths), params, x, y, units**2


def _classes():
    """Three classes on the line: readouts proportional to (1, -1/2, -1/2)."""
    size = np.array([1.0, 2.0])
    best = np.sqrt(1.5)  # the margin of a readout of norm 1
    units = np.sqrt(1 / (best * size))
    readout = np.array([[1.0, -0.5], [-0.5, -0.5], [-0.5, 1.0]]) / best
    params = (
        jnp.asarray(units[:, None] * [[1.0], [-1.0]], float),
        jnp.asarray(readout * units, float),
    )
    x = jnp.asarray(size[:, None] * [[1.0], [-1.0]], float)
    # readout: units / best = sum_j alpha_j units size, half for each of two rivals
    alpha = 0.5 / (best * size)
    multipliers = np.array([[0, alpha[0], alpha[0]], [alpha[1], alpha[1], 0]])
    return kg.models.homogeneous_mlp((2,), outputs=3), params, x, jnp.array([0, 2]), multipliers


@pytest.mark.parametrize("problem", [_planted(), _line(2), _line(3), _line(4), _classes()])
@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_zero_at_solutions_of_any_scale(problem, scale):
    model, params, x, y, multipliers = problem
    scaled = jax.tree.map(lambda w: scale * w, params)
    found = kg.margins.kkt_residuals(model, scaled, x, y)
    assert found.status == "converged"
    assert found.stationarity < 200 * eps()
    assert 0 <= found.slackness < 200 * eps()
    assert_close(found.margin, kg.metrics.normalized_margin(model, params, x, y))
    if multipliers is not None:  # those of the solution with margin 1, whatever the scale
        assert_close(found.multipliers, np.asarray(multipliers, found.margin.dtype), factor=1000)
    # Away from it the residuals are not zero: the first layer times 2 is no stationary point.
    off = kg.margins.kkt_residuals(model, (2 * scaled[0], *scaled[1:]), x, y)
    assert off.stationarity > 0.1
    # Nor is a net that serves one point better than the other, though its margin is the same.
    if y.shape == (2,) and model.degree == 2:
        uneven = kg.margins.kkt_residuals(
            model, (scaled[0] * jnp.array([[1.0], [2.0]]), scaled[1]), x, y
        )
        assert uneven.gap > 0.1


def _separated(model, key, n=5, d=8):
    """A random net on inputs that it classifies rightly, with uneven margins."""
    params = model.init(key, d)
    x = jax.random.normal(jax.random.fold_in(key, 1), (n, d))
    outputs = model.apply(params, x)
    y = jnp.where(outputs > 0, 1.0, -1.0) if outputs.ndim == 1 else jnp.argmax(outputs, axis=1)
    return params, x, y


NETS = {
    "relu": kg.models.homogeneous_mlp((6,)),
    "leaky": kg.models.homogeneous_mlp((5, 4), activation=ACTIVATIONS["leaky_relu"]),
    "odd, square": kg.models.homogeneous_mlp((5,), activation=ACTIVATIONS["relu^2"], outputs=3),
    "linear": kg.models.homogeneous_mlp(()),
}


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("parameterization", ["standard", "ntk"])
def test_solutions_at_kinks(outputs, parameterization):
    """Two unit inputs at an angle t, opposite labels: each unit turns to the other input's kink.

    With its unit at an angle s from the other input, a margin is cos(s - t) - relu(cos s), greatest
    at s = pi/2. There u is proportional to x - cos(t) x', so that the slope at the kink is cos(t).
    """
    t = 1.1
    x = jnp.array([[1.0, 0.0], [np.cos(t), np.sin(t)]])
    units = jnp.array([[np.sin(t), -np.cos(t)], [0.0, 1.0]], x.dtype)
    model = kg.models.homogeneous_mlp((2,), outputs=outputs, parameterization=parameterization)
    if outputs is None:
        params, y = (units, jnp.array([1.0, -1.0])), jnp.array([1.0, -1.0])
    else:
        params, y = (units, jnp.array([[1.0, -1.0], [-1.0, 1.0]]) / 2**0.5), jnp.array([0, 1])
    plain = kg.margins.kkt_residuals(model, params, x, y)
    found = kg.margins.kkt_residuals(model, params, x, y, kinks=1e-5)
    assert plain.stationarity > 0.1
    assert found.stationarity < 1e-3
    assert found.slackness < 1e-5
    # What is no solution stays none: kinks excuse only the slopes of units that are at one.
    moved = kg.margins.kkt_residuals(model, (units + 0.2, params[1]), x, y, kinks=1e-5)
    assert moved.gap > 0.05
    with pytest.raises(ValueError, match="`kinks` is for multipliers='optimal' and two-layer"):
        kg.margins.kkt_residuals(model, params, x, y, kinks=0.1, multipliers="exponential")


@given(keys)
@example(jax.random.key(38044))  # kinks of the sample of least margin excuse its whole gradient
def test_kinks_never_make_the_gap_larger(key):
    model = NETS["relu"]
    params, x, y = _separated(model, key)
    if not _defined(params, x, y, model):
        return
    found = [kg.margins.kkt_residuals(model, params, x, y, kinks=k) for k in (0.0, 1e-9, 0.01)]
    gaps = [float(residuals.gap) for residuals in found]
    assert all(0 <= residuals.stationarity <= 1 for residuals in found)
    np.testing.assert_allclose(gaps[1], gaps[0], atol=1e-4)  # no unit is at a kink
    assert gaps[2] <= gaps[0] + 0.1  # a slope may be wrong, but by 0.01 of its input


def _squared(tree):
    return sum(jnp.sum(leaf**2) for leaf in tree)


def _log_inverse_loss(model, params, x, y):
    """log(1 / L_exp), the sum over samples and rivals."""
    smoothed = kg.metrics.normalized_margin(model, params, x, y, smooth=True)
    return _squared(params) ** (model.degree / 2) * smoothed


@partial(jax.jit, static_argnames=("model",))
def _constraints(params, x, y, *, model):
    """y f, or f_y - f_j for every class j, flat."""
    outputs = model.apply(params, x)
    if outputs.ndim == 1:
        return y * outputs
    return (jnp.take_along_axis(outputs, y[:, None], axis=1) - outputs).ravel()


_jacobian = partial(jax.jit, static_argnames=("model",))(jax.jacobian(_constraints))


def _defined(params, x, y, model):
    return bool(jnp.min(kg.metrics.output_margins(model.apply(params, x), y)) > 1e-3)


@given(st.sampled_from(sorted(NETS)), keys)
@example("relu", jax.random.key(6377155))  # L-BFGS-B ends early
def test_against_a_generic_solver(name, key):
    """The gap at the best multipliers, from L-BFGS-B on the dual of the tangent SVM in float64."""
    with x64(True):
        model = NETS[name]
        params, x, y = _separated(model, key)
        if not _defined(params, x, y, model):
            return
        found = kg.margins.kkt_residuals(model, params, x, y)

        rivals = np.ones(len(y), bool)
        if model.spec.outputs is not None:
            rivals = ~np.eye(3, dtype=bool)[np.asarray(y)].ravel()
        q = np.asarray(_constraints(params, x, y, model=model))[rivals]
        unit = q.min() ** (-1 / model.degree)
        scaled = jax.tree.map(lambda w: unit * w, params)
        jacobian = _jacobian(scaled, x, y, model=model)
        rows = np.concatenate([np.reshape(j, (len(rivals), -1)) for j in jacobian], axis=1)[rivals]
        squared = sum(float(jnp.sum(w**2)) for w in scaled)
        gram, a = rows @ rows.T, model.degree
        solved = optimize.minimize(
            lambda v: (v @ gram @ v / 2 - a * v.sum(), gram @ v - a), np.ones(len(q)) / np.trace(gram),
            jac=True, bounds=[(0, None)] * len(q), method="L-BFGS-B",
            options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        gap = 1 + 2 * solved.fun / squared
        assert 0 <= found.gap <= min(gap + 1e-6, 1)
        slope = gram @ solved.x - a
        if np.abs(np.minimum(slope, solved.x * np.diag(gram))).max() <= 1e-6:  # it has converged
            np.testing.assert_allclose(found.gap, gap, atol=1e-6)
        alpha = np.asarray(found.multipliers).ravel()[rivals]
        # The residuals are those of the multipliers returned, at the parameters of margin 1.
        theta = np.concatenate([np.ravel(w) for w in scaled])
        np.testing.assert_allclose(
            found.stationarity, np.linalg.norm(theta - rows.T @ alpha) / squared**0.5, atol=1e-9
        )
        np.testing.assert_allclose(
            found.slackness, a * alpha @ (q / q.min() - 1) / squared, atol=1e-9
        )
        # No other multipliers do better, and fewer candidates do no better.
        other = kg.margins.kkt_residuals(model, params, x, y, multipliers="exponential")
        few = kg.margins.kkt_residuals(model, params, x, y, candidates=2)
        assert other.gap >= found.gap - 1e-9
        assert few.gap >= found.gap - 1e-9
        assert np.count_nonzero(few.multipliers) <= 2


@partial(jax.jit, static_argnums=0)
def _exponential_residuals(model, params, x, y):
    residuals = partial(kg.margins.kkt_residuals, model, multipliers="exponential")
    return jax.vmap(lambda p: residuals(p, x, y))(jax.tree.map(lambda w: w[None], params))


_log_inverse_gradient = jax.jit(jax.grad(_log_inverse_loss, argnums=1), static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _smoothed_along_the_flow(model, params, x, y):
    """The smoothed margin and its slope along -grad log L, a positive multiple of -grad L."""
    smoothed = partial(kg.metrics.normalized_margin, model, smooth=True)
    ascent = _log_inverse_gradient(model, params, x, y)
    return jax.jvp(lambda p: smoothed(p, x, y), (params,), (ascent,))


@given(st.sampled_from(sorted(NETS)), keys)
def test_exponential_multipliers_are_the_gradient_of_the_loss(name, key):
    """Stationarity is then the sine of the angle between Theta and -grad L_exp."""
    model = NETS[name]
    params, x, y = _separated(model, key)
    if not _defined(params, x, y, model):
        return

    found = _exponential_residuals(model, params, x, y)
    gradient = _log_inverse_gradient(model, params, x, y)
    theta, g = (np.concatenate([np.ravel(w) for w in t]).astype(float) for t in (params, gradient))
    cosine = theta @ g / np.linalg.norm(theta) / np.linalg.norm(g)
    np.testing.assert_allclose(found.stationarity[0], np.sqrt(1 - cosine**2), atol=1e-3)


@given(st.sampled_from(sorted(NETS)), keys, st.sampled_from([1.0, 3.0]))
def test_smoothed_margin_rises_along_gradient_flow(name, key, scale):
    """Lyu and Li: d/dt log(1/L)/||Theta||^a = <grad of it, -grad L> >= 0 wherever L_exp < 1."""
    with x64(True):
        model = NETS[name]
        params, x, y = _separated(model, key)
        params = jax.tree.map(lambda w: scale * w, params)
        value, slope = _smoothed_along_the_flow(model, params, x, y)
        if value > 0:  # log(1 / L) > 0
            assert slope >= -1e-12 * abs(value)


SQUARE = kg.models.relu_power(2)


@pytest.mark.parametrize(
    ("widths", "activation", "outputs"),
    [((8,), SQUARE, None), ((8,), SQUARE, 3), ((8, 8), "relu", None), ((6, 6, 6), "relu", 3)],
)
def test_nets_follow_the_flow(widths, activation, outputs):
    """Small steps: the smoothed margin rises from L < 1 on, within its bracket of the margin."""
    with x64(True):
        model = kg.models.homogeneous_mlp(widths, activation=activation, outputs=outputs)
        params, x, y = _separated(model, jax.random.key(1), n=8)
        if outputs is None:
            y = y.at[0].multiply(-1)  # one error to begin with

        def step(p, _):
            value, g = jax.value_and_grad(lambda p: _log_inverse_loss(model, p, x, y))(p)
            # Margins move by about 0.02 in every step: the flow in another time.
            size = 0.02 / (1 + jnp.abs(value)) * jnp.sqrt(_squared(p) / _squared(g))
            p = jax.tree.map(lambda w, g: w + size * g, p, g)
            hard, smooth = (
                kg.metrics.normalized_margin(model, p, x, y, smooth=s) for s in (False, True)
            )
            kkt = kg.margins.kkt_residuals(model, p, x, y, multipliers="exponential")
            return p, (hard, smooth, _squared(p) ** (model.degree / 2), kkt.stationarity)

        params, (hard, smooth, norm, stationarity) = jax.jit(
            lambda p: jax.lax.scan(step, p, length=2000)
        )(params)
        rivals = 1 if outputs is None else 2
        assert (smooth <= hard + 1e-12).all()
        assert (smooth >= hard - np.log(8 * rivals) / norm - 1e-12).all()
        first = int(np.argmax(np.asarray(smooth) > 0))
        assert 0 < first < 500
        # ReLU nets cross kinks, between two of which the gradient jumps.
        slack = 0 if activation == SQUARE else 1e-4 * smooth[-1]
        assert (np.diff(smooth)[first:] > -slack).all()
        if activation == SQUARE:
            # The limit is a KKT point. (That of a ReLU net lies at kinks, where one gradient of
            # many cannot show it.)
            assert stationarity[-1] < 0.5 * stationarity[first]


def test_residuals_fall_along_the_path():
    x = jax.random.normal(key, (20, 4))
    y = jnp.sign(x[:, 0] * x[:, 1])
    smooth = kg.models.homogeneous_mlp((16,), activation=SQUARE)
    path = kg.margins.regularization_path(
        smooth, smooth.init(key, 4), x, y, l2s=[1e-2, 1e-4, 1e-8, 1e-30], steps=1000,
        record=lambda p: p,
    )  # fmt: skip
    gaps = []
    for i in range(4):
        params = jax.tree.map(lambda w, i=i: w[i], path.records)
        gaps.append(float(kg.margins.kkt_residuals(smooth, params, x, y).gap))
    assert gaps[3] < 0.05 < gaps[1]


def test_without_separation_there_is_only_a_margin():
    model, params, x, y, _ = _planted()
    for multipliers in ("optimal", "exponential"):
        found = kg.margins.kkt_residuals(model, params, x, -y, multipliers=multipliers)
        assert_close(found.margin, -kg.metrics.normalized_margin(model, params, x, y), scale=1)
        assert np.isnan(found.stationarity)
        assert np.isnan(found.slackness)
        assert np.isnan(found.multipliers).all()
        assert found.status == "not_separated"
        zero = jax.tree.map(jnp.zeros_like, params)
        assert np.isnan(kg.margins.kkt_residuals(model, zero, x, y, multipliers=multipliers).gap)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"multipliers": "best"}, ValueError, "`multipliers` must be one of 'optimal', 'expon"),
        ({"candidates": 0}, ValueError, "`candidates` must be an integer >= 1"),
        ({"candidates": 1.5}, TypeError, "`candidates`"),
        ({"kinks": -0.1}, ValueError, "`kinks` must be a finite number >= 0"),
        ({"x": jnp.ones(3)}, ValueError, "`x` must have shape \\(n, d\\)"),
        ({"y": jnp.zeros(16)}, ValueError, "labels -1 and \\+1 only"),
        ({"y": jnp.ones(3)}, ValueError, "`y` must have shape \\(16,\\)"),
    ],
)
def test_refuses(change, error, match):
    model, params, x, y, _ = _planted()
    arguments = {"x": x, "y": y} | change
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(error, match=match):
        kg.margins.kkt_residuals(model, params, x, y, **arguments)


def test_refuses_what_cannot_be_read():
    model, params, x, y, _ = _planted()
    with pytest.raises(ValueError, match="multipliers='optimal'. needs concrete arrays"):
        jax.jit(lambda p: kg.margins.kkt_residuals(model, p, x, y))(params)
    one = kg.models.homogeneous_mlp((2,), outputs=1)
    with pytest.raises(ValueError, match="k >= 2; got \\(16, 1\\)"):
        kg.margins.kkt_residuals(one, one.init(key, 4), x, jnp.zeros(16, int))


def _failing(failure):
    def nnls(system, target, maxiter):
        if failure is not None:
            raise failure
        return np.zeros(system.shape[1]), 1.0

    return nnls


@pytest.mark.parametrize("failure", [RuntimeError, np.linalg.LinAlgError, None])
def test_multipliers_where_one_solver_fails(monkeypatch, failure):
    """SciPy's nnls raises or stops early on vectors that are equal but for rounding."""
    params, x, y = _separated(NETS["relu"], key)
    expected = kg.margins.kkt_residuals(NETS["relu"], params, x, y)
    assert expected.status == "converged"
    monkeypatch.setattr(kkt_multipliers.optimize, "nnls", _failing(failure))
    residuals = kg.margins.kkt_residuals(NETS["relu"], params, x, y)
    np.testing.assert_allclose(residuals.multipliers, expected.multipliers, atol=1e-5)
    assert residuals.status == "converged"


def test_multipliers_where_all_solvers_fail_are_told(monkeypatch):
    params, x, y = _separated(NETS["relu"], key)
    best = kg.margins.kkt_residuals(NETS["relu"], params, x, y)
    zeros = optimize.OptimizeResult(x=np.zeros(len(x)))
    monkeypatch.setattr(kkt_multipliers.optimize, "nnls", _failing(RuntimeError))
    monkeypatch.setattr(kkt_multipliers.optimize, "lsq_linear", lambda *_, **__: zeros)
    residuals = kg.margins.kkt_residuals(NETS["relu"], params, x, y)
    assert residuals.status == "solver_failed"
    assert residuals.gap > best.gap  # those of the multipliers returned
