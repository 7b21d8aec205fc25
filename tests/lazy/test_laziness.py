import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
from helpers import assert_close, eps, keys, labels_for, x64

pytestmark = pytest.mark.slow

lazy, metrics = kg.lazy, kg.metrics
key = jax.random.key(0)
PAIRS = [
    jax.jit(f) for f in (lazy.kernel_change, metrics.kernel_distance, metrics.kernel_alignment)
]


def _grams(key, n=8, k=None, count=2):
    """Positive semi-definite matrices of random features, which are not centred."""
    shape = (count, n * (k or 1), 12)
    features = 0.5 + jax.random.normal(key, shape)
    grams = features @ features.transpose(0, 2, 1)
    if k:
        grams = grams.reshape(count, n, k, n, k).transpose(0, 1, 3, 2, 4)
    return grams


@given(keys, st.sampled_from([None, 3]), st.floats(1e-3, 1e3))
def test_ranges_scales_and_symmetry(key, k, c):
    first, second = _grams(key, k=k)
    change, distance, alignment = PAIRS
    for measure in (distance, alignment):
        value = measure(first, second)
        assert 0 <= value <= 1
        assert_close(measure(second, first), value, scale=1)
        assert_close(measure(first, c * second), value, scale=1)
    assert_close(change(first, c * first), abs(jnp.asarray(c) - 1), scale=c + 1)
    assert_close(change(c * first, c * second), change(first, second))
    # Exactly, whatever the rounding; proportional ones up to its square.
    assert distance(first, first) == 0
    assert change(first, first) == 0
    assert alignment(first, first) == 1
    assert distance(first, c * first) <= 100 * eps() ** 2


@given(keys)
def test_rotations_and_shifts(key):
    first, second = _grams(key)
    q = jnp.linalg.qr(jax.random.normal(key, (8, 8)))[0]
    ones = jnp.ones(8) / 8**0.5
    # A rotation that keeps the vector of ones: centring commutes with it.
    basis = jnp.linalg.qr(jnp.column_stack([ones, jax.random.normal(key, (8, 7))]))[0]
    inner = jnp.linalg.qr(jax.random.normal(key, (7, 7)))[0]
    keep = jnp.outer(ones, ones) + basis[:, 1:] @ inner @ basis[:, 1:].T
    for measure, turn in zip(PAIRS, (q, q, keep), strict=True):
        found = measure(turn @ first @ turn.T, turn @ second @ turn.T)
        assert_close(found, measure(first, second), factor=1e3, scale=1)
    shift = jax.random.normal(key, (8,))
    moved = second + shift[:, None] + shift[None, :] + 5.0
    assert_close(
        metrics.kernel_alignment(first, moved), metrics.kernel_alignment(first, second),
        factor=1e4, scale=1,
    )  # fmt: skip
    y = jax.random.normal(key, (8,))
    assert_close(
        metrics.target_alignment(first, y + 3.0), metrics.target_alignment(first, y),
        factor=1e4, scale=1,
    )  # fmt: skip


def test_in_numpy():
    first, second = (np.asarray(g, np.float64) for g in _grams(key))
    h = np.eye(8) - 1 / 8

    def cosine(a, b):
        return np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)

    y = np.arange(8.0) ** 2
    expected = [
        np.linalg.norm(second - first) / np.linalg.norm(first),
        1 - cosine(first, second),
        cosine(h @ first @ h, h @ second @ h),
        cosine(h @ first @ h, h @ np.outer(y, y) @ h),
    ]
    first, second = _grams(key)
    found = [measure(first, second) for measure in PAIRS]
    found.append(metrics.target_alignment(first, jnp.asarray(y)))
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, scale=1)


def test_small_distances_do_not_cancel():
    """At a relative change of 1e-4, 1 - cos is 1e-9: below the eps of float32."""
    first, second = _grams(key)
    with x64(True):
        a, b = (np.asarray(g, np.float64) for g in (first, second))
        change = b - a * np.sum(a * b) / np.sum(a * a)
        near = a + 1e-4 * np.linalg.norm(a) / np.linalg.norm(change) * change
        exact = float(metrics.kernel_distance(jnp.asarray(a), jnp.asarray(near)))
    np.testing.assert_allclose(exact, 0.5e-8, rtol=1e-3)
    found = metrics.kernel_distance(first, jnp.asarray(near, jnp.float32).astype(first.dtype))
    np.testing.assert_allclose(found, exact, rtol=1e-2)


def test_several_outputs_are_one_kernel_of_pairs():
    first, second = _grams(key, k=3)
    flat = [g.transpose(0, 2, 1, 3).reshape(24, 24) for g in (first, second)]
    for measure in PAIRS[:2]:
        assert_close(measure(first, second), measure(*flat), scale=1)
    h = np.kron(np.eye(8) - 1 / 8, np.eye(3))
    a, b = (h @ np.asarray(g, np.float64) @ h for g in flat)
    expected = np.sum(a * b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert_close(metrics.kernel_alignment(first, second), expected, scale=1)
    y = jax.random.normal(key, (8, 3))
    t = h @ np.asarray(y, np.float64).ravel()
    expected = t @ a @ t / (t @ t) / np.linalg.norm(a)
    assert_close(metrics.target_alignment(first, y), expected, scale=1)
    classes = jnp.arange(8) % 3
    assert_close(
        metrics.target_alignment(first, classes),
        metrics.target_alignment(first, jax.nn.one_hot(classes, 3)),
    )


def test_targets_of_their_own_kernel():
    classes = jnp.array([0, 1, 2, 0, 1, 2])
    hot = jax.nn.one_hot(classes, 3)
    assert_close(metrics.target_alignment(hot @ hot.T, classes), 1.0)
    signs = jnp.where(classes == 0, 1.0, -1.0)
    assert_close(metrics.target_alignment(jnp.outer(signs, signs), signs), 1.0)


def test_zero_kernels_are_nan_and_gradients_finite():
    first, second = _grams(key)
    assert jnp.isnan(metrics.kernel_distance(first, 0 * first))
    assert not jnp.isfinite(lazy.kernel_change(0 * first, first))
    assert jnp.isnan(metrics.target_alignment(first, jnp.ones(8)))
    for measure in PAIRS:
        for at in (first, second):
            assert jnp.isfinite(jax.grad(measure, argnums=1)(first, at)).all()


smooth = [kg.models.mlp((16, 16), activation=a, parameterization="ntk") for a in ("gelu", "tanh")]


@pytest.mark.parametrize(
    "model",
    [
        smooth[0],
        kg.models.homogeneous_mlp((5, 4), outputs=3),
        kg.models.homogeneous_mlp((), parameterization="ntk"),
    ],
    ids=["gelu", "relu", "linear"],
)
def test_the_panel_is_its_parts(model):
    a, b, c = jax.random.split(key, 3)
    params0, params = model.init(a, 4), model.init(b, 4)
    x = jax.random.normal(c, (6, 4))
    y = labels_for(model, c, 6)
    make = kg.kernels.empirical_ntk
    panel = lazy.laziness(model, params0, x, y, kernel=make, keep_gram=True)
    found, start = panel(params), panel(params0)
    assert_close(found.displacement, lazy.displacement(params0, params))
    sizes = [np.sqrt(sum(np.sum(np.float64(w) ** 2) for w in p)) for p in (params0,)]
    assert_close(found.relative_displacement * sizes[0], found.displacement)
    grams = [make(model, p)(x) for p in (params0, params)]
    assert_close(found.gram, grams[1])
    for measure in (lazy.kernel_change, metrics.kernel_distance, metrics.kernel_alignment):
        value = getattr(found, measure.__name__)
        assert_close(value, measure(*grams), factor=1e4, scale=1)
    np.testing.assert_array_equal(found.target_alignment, metrics.target_alignment(grams[1], y))
    if model.spec.widths:
        expected = lazy.activation_change(model, params0, params, x)
        np.testing.assert_array_equal(found.activation_change, expected)
        assert not start.activation_change.any()
    else:
        assert found.activation_change is None
        assert_close(found.linearization_error, 0.0, scale=1)  # linear in its parameters
    for name in ("displacement", "linearization_error", "kernel_change", "kernel_distance"):
        assert getattr(start, name) == 0
    assert start.kernel_alignment == 1


def test_parts_may_be_left_out():
    model = smooth[0]
    params = model.init(key, 4)
    x = jnp.ones((3, 4))
    found = lazy.laziness(model.apply, params, x)(params)
    assert found[3:] == (None,) * 6
    found = lazy.laziness(model.apply, params, x, kernel=kg.kernels.empirical_ntk)(params)
    assert found.kernel_change == 0
    assert found.target_alignment is None
    assert found.gram is None


@pytest.mark.parametrize("model", smooth)
def test_linearization_error_falls_with_the_step(model):
    """By Taylor, ||f - f_lin|| / ||f - f_0|| is linear in the step; slope from finite differences."""
    with x64(True):
        params = model.init(key, 4)
        x = jax.random.normal(key, (5, 4))
        way = model.init(jax.random.key(5), 4)

        def along(t):
            return model.apply(jax.tree.map(lambda w, v: w + t * v, params, way), x)

        def error(t):
            moved = jax.tree.map(lambda w, v: w + t * v, params, way)
            return float(lazy.linearization_error(model, params, moved, x))

        h = 1e-4
        first = (along(h) - along(-h)) / (2 * h)
        second = (along(h) + along(-h) - 2 * along(0.0)) / h**2
        expected = jnp.linalg.norm(second) / 2 / jnp.linalg.norm(first)
        np.testing.assert_allclose(error(1e-3) / 1e-3, expected, rtol=1e-2)


def test_records_of_a_run_batched_over_seeds():
    model = kg.models.homogeneous_mlp((32,), parameterization="ntk")
    loss = kg.objectives.regularized_logistic(model.apply, l2=0.0)
    data = kg.datasets.xor_noise(key, 16, 4)

    def run(key):
        params = model.init(key, 4)
        panel = lazy.laziness(model, params, *data, kernel=kg.kernels.empirical_ntk)
        kept = kg.optim.train(
            loss, params, data, optax.sgd(0.5), steps=20, record_every=5,
            record=lambda p: (p, panel(p)),
        )  # fmt: skip
        return params, kept.records

    params, (path, records) = jax.jit(jax.vmap(run))(jax.random.split(key, 3))
    assert records.kernel_change.shape == (3, 4)
    assert records.activation_change.shape == (3, 4, 1)
    # The same from the path, which was kept here for the purpose.
    whole = jax.tree.map(lambda w, p: jnp.concatenate([w[1][None], p[1]]), params, path)
    along = lazy.laziness_along(model, whole, *data, kernel=kg.kernels.empirical_ntk)
    for ours, theirs in zip(along, records, strict=True):
        if theirs is not None:
            assert_close(ours[1:], theirs[1], factor=1e4, scale=1)
    listed = [jax.tree.map(lambda w, t=t: w[t], whole) for t in range(5)]
    again = lazy.laziness_along(model, listed, *data, kernel=kg.kernels.empirical_ntk)
    np.testing.assert_array_equal(again.kernel_distance, along.kernel_distance)


def test_wider_nets_are_lazier():
    """Relative kernel change and linearisation error fall with the width at one displacement."""
    found = []
    for width in (32, 2048):  # one displacement
        model = kg.models.mlp((width,), activation="tanh", parameterization="ntk")
        params = model.init(key, 4)
        x = jax.random.normal(key, (8, 4))
        slope = jax.grad(lambda p: model.apply(p, x)[0])(params)
        size = lazy.displacement(jax.tree.map(jnp.zeros_like, slope), slope)
        moved = jax.tree.map(lambda w, g: w + g / size, params, slope)
        panel = lazy.laziness(model, params, x, kernel=kg.kernels.empirical_ntk)(moved)
        found.append(panel)
    for name in ("kernel_change", "linearization_error", "relative_displacement"):
        few, many = (float(getattr(panel, name)) for panel in found)
        assert many < few / 4, name  # 1 / 8 in theory


@given(keys, st.sampled_from([None, 2]))
def test_min_norm_distance_is_least_squares(key, k):
    with x64(True):
        n, p = 5, 30
        a, b = jax.random.split(key)
        jacobian = jax.random.normal(a, (n * (k or 1), p))
        r = jax.random.normal(b, (n * (k or 1),))
        gram = jacobian @ jacobian.T
        if k:
            gram = gram.reshape(n, k, n, k).transpose(0, 2, 1, 3)
        step = np.linalg.lstsq(np.asarray(jacobian), np.asarray(r), rcond=None)[0]
        found = lazy.min_norm_distance(gram, r.reshape(n, k) if k else r)
        np.testing.assert_allclose(found, np.linalg.norm(step), rtol=1e-8)


def test_divergence():
    losses = jnp.array(
        [
            [1.0, 0.5, 0.2, 0.1],
            [1.0, 5.0, 9.0, 0.9],  # rises and comes back
            [1.0, 0.9, 1.1, 1.2],
            [1.0, 2.0, jnp.inf, jnp.nan],
            [1.0, 0.5, jnp.nan, 0.1],
            [jnp.nan, 1.0, 1.0, 1.0],
        ]
    )
    expected = [-1, -1, 2, 1, -1, 0]
    found = jax.jit(lazy.divergence_step)(losses)
    np.testing.assert_array_equal(found, expected)
    assert int(lazy.divergence_step(losses[2])) == 2
    np.testing.assert_array_equal(jax.vmap(lazy.divergence_step)(losses), expected)


def test_divergence_of_gradient_descent():
    """On f = theta^2 / 2 a step above 2 diverges at once, and one below never."""
    for step, expected in ((1.9, -1), (2.1, 1)):
        theta = (1 - step) ** np.arange(50.0)
        assert int(lazy.divergence_step(jnp.asarray(theta**2 / 2, float))) == expected


gram = jnp.eye(3)
model = smooth[1]
params = model.init(key, 4)
x = jnp.ones((3, 4))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: lazy.kernel_change(gram[:2], gram),
            ValueError,
            "`gram0` must be a Gram matrix",
        ),
        (lambda: metrics.kernel_distance(gram, jnp.eye(4)), ValueError, "must have the same shape"),
        (
            lambda: metrics.kernel_alignment(gram, gram.astype(int)),
            TypeError,
            "`gram` must be a fl",
        ),
        (lambda: lazy.kernel_change(gram, gram * jnp.nan), ValueError, "`gram` must be finite"),
        (lambda: metrics.target_alignment(gram, jnp.ones(4)), ValueError, "`y` must have shape"),
        (
            lambda: metrics.target_alignment(jnp.ones((3, 3, 2, 2)), jnp.ones(3)),
            ValueError,
            "`y` must have shape \\(3, 2\\) for a kernel of 2 outputs",
        ),
        (
            lambda: jax.jit(lambda y: metrics.target_alignment(gram, y))(jnp.arange(3)),
            TypeError,
            "integer classes whose number is not known under jit",
        ),
        (
            lambda: metrics.target_alignment(gram, jnp.array([0, -1, 1])),
            ValueError,
            "`y` must hold",
        ),
        (lambda: lazy.laziness(None, params, x), TypeError, "`model` must be a function"),
        (
            lambda: lazy.laziness(model, params, x, kernel=3),
            TypeError,
            "`kernel` must be a func",
        ),
        (lambda: lazy.laziness(model, params, x * jnp.inf), ValueError, "`x` must be finite"),
        (
            lambda: lazy.laziness(model, params, x, jnp.ones(5), kernel=kg.kernels.empirical_ntk),
            ValueError,
            "`y` must have shape",
        ),
        (
            lambda: lazy.laziness(model, params, x)(params[:2]),
            ValueError,
            "`params` must have the structure and shapes of `params0`",
        ),
        (lambda: lazy.laziness_along(model, [], x), ValueError, "at least the initial"),
        (
            lambda: lazy.laziness_along(model, [params, params[:2]], x),
            ValueError,
            "entry 1 differs from the first",
        ),
        (
            lambda: lazy.laziness_along(model, (jnp.ones((3, 2)), jnp.ones((2, 2))), x),
            ValueError,
            "times as first axis; got first axes",
        ),
        (
            lambda: lazy.displacement(params, params[:1]),
            ValueError,
            "`params` must have the str",
        ),
        (
            lambda: lazy.linearization_error(1, params, params, x),
            TypeError,
            "`model` must be a function",
        ),
        (
            lambda: lazy.min_norm_distance(jnp.ones((3, 3)), jnp.ones(3)),
            ValueError,
            "`gram` must be positive definite; this one is singular",
        ),
        (
            lambda: lazy.min_norm_distance(gram, jnp.ones((3, 1))),
            ValueError,
            "`residuals` must have shape",
        ),
        (
            lambda: lazy.min_norm_distance(jnp.ones((3, 3, 2, 2)), jnp.ones((3, 1))),
            ValueError,
            "`residuals` must have shape \\(3, 2\\)",
        ),
        (lambda: lazy.divergence_step(jnp.arange(3)), TypeError, "`losses` must be a floating"),
        (lambda: lazy.divergence_step(jnp.ones((3, 0))), ValueError, "with steps >= 1"),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
