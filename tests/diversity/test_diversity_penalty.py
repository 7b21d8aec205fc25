import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, strategies as st

import kernelgap as kg
from helpers import assert_close, eps, keys, x64
from kernelgap.diversity import wedges

penalty = kg.diversity.diversity_penalty
add_diversity_penalty = kg.diversity.add_diversity_penalty
value_and_gradient = jax.jit(jax.value_and_grad(penalty))
key = jax.random.key(0)


def directions(w):
    w = np.float64(w)
    sizes = np.linalg.norm(w, axis=1, keepdims=True)
    return w / np.where(sizes > 0, sizes, 1)


def formula(w):
    """In numpy and float64, by theta = 2 atan2(|u - v|, |u + v|)."""
    u = directions(w)
    apart, along = (np.linalg.norm(u[:, None] + s * u[None], axis=2) for s in (-1, 1))
    # Both are 0 between zero units: k = 1/2 as on the diagonal; elsewhere a zero unit has k = 1/4.
    k = 0.5 - np.arctan2(apart, along) / np.pi
    zero = ~u.any(axis=1)
    k[zero[:, None] | zero[None]] = 0.25
    np.fill_diagonal(k, 0.5)
    return np.mean(k**2)


def slopes(w):
    """The gradient in numpy and float64, pair by pair, from differences."""
    u, n = directions(w), len(w)
    sizes = np.linalg.norm(np.float64(w), axis=1)
    found = np.zeros_like(u)
    for i in range(n):
        for j in range(n):
            chord, sign = u[j] - u[i], np.linalg.norm(u[i] + u[j])
            if i == j or not np.linalg.norm(chord) or not sizes[i] or not sizes[j]:
                continue
            theta = 2 * np.arctan2(np.linalg.norm(chord), sign)
            tangent = chord - (chord @ u[i]) * u[i]
            if np.linalg.norm(tangent):
                k = 0.5 - theta / (2 * np.pi)
                found[i] += 2 * k * tangent / np.linalg.norm(tangent) / (np.pi * n**2 * sizes[i])
    return found


def rounding_of_slopes(w):
    """How far rounded directions may move the gradient of each unit, row by row.

    A pair's gradient, of size 1 / (pi n^2 ||w_i||) at most, turns by eps / ||u_i - u_j||.
    """
    u, sizes = directions(w), np.linalg.norm(np.float64(w), axis=1)
    chords = np.linalg.norm(u[:, None] - u[None], axis=2) + np.diag(np.full(len(w), np.inf))
    return 4 * eps() * np.sum(1 / chords, axis=1) / (np.pi * len(w) ** 2 * sizes)


@given(keys, st.sampled_from([(1, 3), (2, 1), (9, 2), (14, 7)]))
@example(jax.random.key(13240), (9, 2))  # two units at an angle of 6e-6
def test_formula_and_gradient(key, shape):
    w = jnp.exp(jax.random.normal(key, (shape[0], 1))) * jax.random.normal(key, shape)
    value, gradient = value_and_gradient(w)
    assert_close(value, formula(w), factor=20)
    assert_close(penalty(w), value)
    if shape[1] > 1:  # on a line all angles are 0 or pi
        expected = slopes(w)
        room = 5000 * eps() * (np.abs(expected).max() + 1e-3) + rounding_of_slopes(w)[:, None]
        assert (np.abs(gradient - expected) <= room).all()
    else:
        assert not np.any(gradient)


def test_distinct_pairs_are_the_mean_off_the_diagonal():
    """Eq. 28 of paper B, pair by pair, and its strength in the other convention."""
    w = jax.random.normal(key, (9, 4))
    u = directions(w)
    k = 0.5 - np.arccos(np.clip(u @ u.T, -1, 1)) / (2 * np.pi)
    expected = np.mean([k[i, j] ** 2 for i in range(9) for j in range(9) if i != j])
    assert_close(penalty(w, pairs="distinct"), expected, factor=20)
    losses = [
        add_diversity_penalty(_data_term, strength=strength, pairs=pairs)
        for strength, pairs in ((0.8, "distinct"), (0.8 * 9 / 8, "all"))
    ]
    first, second = (jax.grad(loss)(w, w, w[:, 0]) for loss in losses)
    assert_close(first, second, factor=50)
    assert_close(losses[0](w, w, w[:, 0]), _data_term(w, w, w[:, 0]) + 0.8 * expected, factor=20)
    for wrong in (penalty, lambda w, pairs: losses[0](w, w, w[:, 0])):
        with pytest.raises(ValueError, match="must have at least 2 units for"):
            wrong(w[:1], pairs="distinct")
    with pytest.raises(ValueError, match="`pairs` must be one of"):
        penalty(w, pairs="some")


def _data_term(w, x, y):
    return jnp.mean(jnp.square(x @ w[0] - y))


def test_a_batch_is_its_members_and_keeps_its_branches():
    """A member with near pairs does not change the others; a `cond` is not made a `select`."""
    w = jax.random.normal(key, (3, 8, 4))
    w = w.at[1, 3].set(w[1, 2] * (1 + 1e-4) + 1e-5)
    batched = jax.jit(jax.vmap(jax.value_and_grad(penalty)))
    for value, gradient, member in zip(*batched(w), w, strict=True):
        assert_close(value, formula(member), factor=20)
        assert_close(gradient, value_and_gradient(member)[1], factor=50, scale=1 / 8)
    assert "cond[" in str(jax.make_jaxpr(jax.vmap(penalty))(w))


def test_gradient_against_finite_differences():
    with x64(True):
        w = jax.random.normal(key, (12, 4), jnp.float64)
        change = jax.random.normal(jax.random.key(1), w.shape, jnp.float64)
        step = 1e-5
        central = (penalty(w + step * change) - penalty(w - step * change)) / (2 * step)
        np.testing.assert_allclose(jnp.sum(jax.grad(penalty)(w) * change), central, rtol=1e-8)
        np.testing.assert_allclose(jax.jvp(penalty, (w,), (change,))[1], central, rtol=1e-8)
        second = (jax.grad(penalty)(w + step * change) - jax.grad(penalty)(w - step * change)) / (
            2 * step
        )
        hessian = jax.hessian(penalty)(w)
        np.testing.assert_allclose(
            jnp.einsum("ijkl,kl->ij", hessian, change),
            second,
            atol=1e-8 * np.max(np.abs(second)) * 10,
        )


@pytest.mark.parametrize("n", [8, 9, 21, 64])
def test_tiles(monkeypatch, n):
    w = jax.random.normal(key, (n, 3)).at[n // 2].set(0).at[1].set(0)
    monkeypatch.setattr(wedges, "_TILE", 8)
    jax.clear_caches()
    value, gradient = jax.value_and_grad(penalty)(w)
    assert_close(value, formula(w), factor=20)
    assert_close(gradient, slopes(w), factor=500, scale=1 / n)
    assert_close(jnp.where(gradient == 0, 0, gradient)[1], np.zeros(3), scale=1e-30)
    jax.clear_caches()


def test_coincident_opposite_and_zero_units():
    base = jax.random.normal(key, (4, 5))
    w = jnp.concatenate([base, base, 3 * base, -base, -0.7 * base, jnp.zeros((2, 5))])
    value, gradient = jax.value_and_grad(penalty)(w)
    assert_close(value, formula(w), factor=20)
    assert np.isfinite(gradient).all()
    assert not np.any(gradient[-2:])
    assert np.isfinite(jax.hessian(penalty)(w[::3])).all()
    # Coincident units do not repel: each copy has the same gradient.
    assert_close(gradient[:4], gradient[4:8])
    assert_close(gradient[8:12], gradient[:4] / 3, factor=500)
    # Exact constants: on the diagonal, for coincident and for opposite units.
    assert float(penalty(base[:1])) == 0.25
    assert float(penalty(jnp.concatenate([base[:1], base[:1]]))) == 0.25
    assert_close(penalty(jnp.concatenate([base[:1], -base[:1]])), np.float64(1 / 8), factor=1)
    assert_close(penalty(jnp.zeros((2, 3))), np.float64((0.25 + 0.0625) / 2))
    assert not np.any(jax.grad(penalty)(jnp.zeros((2, 3))))


@pytest.mark.parametrize("angle", [0.03, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("opposite", [False, True])
def test_near_pairs_in_single_precision(angle, opposite):
    """A cosine in float32 has no digit of the angle left at 1e-4; the difference has."""
    u = jnp.array([[0.6, 0.8, 0.0]], jnp.float32)
    v = u + angle * jnp.array([[0.8, -0.6, 0.0]], jnp.float32)
    w = jnp.concatenate([u, -v if opposite else v])
    gradient = jax.grad(penalty)(w)
    rounding = float(jnp.finfo(jnp.float32).eps)
    size = float(np.max(np.abs(slopes(w)))) if not opposite else angle
    assert (
        np.max(np.abs(np.asarray(gradient) - slopes(w))) <= max(1e-5, 4 * rounding / angle) * size
    )
    assert abs(float(penalty(w)) - formula(w)) < 3e-8


@given(keys, st.sampled_from([(2, 3), (15, 4)]))
def test_invariances(key, shape):
    w = jax.random.normal(key, shape)
    value, gradient = value_and_gradient(w)
    sizes = jnp.exp(2 * jax.random.normal(key, (shape[0], 1)))
    rotation = jnp.linalg.qr(jax.random.normal(key, (shape[1],) * 2))[0]
    order = jax.random.permutation(key, shape[0])
    scaled, inward = value_and_gradient(sizes * w)
    assert_close(scaled, value)
    assert_close(sizes * inward, gradient, factor=5000)
    assert_close(jnp.sum(gradient * w, axis=1), np.zeros(shape[0]), scale=0.1)  # degree 0
    turned, outward = value_and_gradient(jnp.matmul(w, rotation, precision="highest"))
    assert_close(turned, value)
    assert_close(outward, gradient @ rotation, factor=5000)
    assert_close(value_and_gradient(w[order])[1], gradient[order], factor=500)
    assert_close(penalty(-w), value)
    for c in (1e-30, 1e30):
        assert_close(penalty(c * w), value)


def test_it_is_the_discrepancy_over_slices():
    w = jax.random.normal(key, (50, 6))
    found = penalty(w) - wedges.mean_square(6)
    assert_close(found, kg.diversity.slice_discrepancy(w, squared=True), scale=1)


def test_descent_spreads_units_towards_the_least_value():
    w = jnp.eye(5)[:1] + 0.1 * jax.random.normal(key, (40, 5))
    step = jax.jit(lambda w: w - 40 * jax.grad(penalty)(w) * jnp.sum(w * w, axis=1, keepdims=True))
    values = [float(penalty(w))]
    for _ in range(300):
        w = step(w)
        values.append(float(penalty(w)))
    least = wedges.mean_square(5)
    random = least + (3 / 16 - (least - 1 / 16)) / 40
    assert values[0] > 0.2
    assert least < values[-1] < random
    assert np.all(np.diff(values[:20]) < 0)


def test_memory_at_ten_thousand_units():
    w = jax.ShapeDtypeStruct((10_000, 20), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(penalty)).lower(w).compile()
    # A single (n, n) matrix would take 400 MB.
    assert compiled.memory_analysis().temp_size_in_bytes < 100e6


def test_transforms():
    w = jnp.stack([jax.random.normal(jax.random.fold_in(key, s), (7, 3)) for s in range(3)])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(penalty)))(w)
    for i in range(3):
        value, gradient = jax.value_and_grad(penalty)(w[i])
        assert_close(values[i], value)
        assert_close(gradients[i], gradient)
    assert np.isnan(jax.jit(penalty)(w[0].at[0, 0].set(np.nan)))
    assert penalty(w[0].astype(jnp.float16)).dtype == jnp.float16


def test_composes_with_any_loss_and_first_layer():
    x, y = kg.datasets.xor_noise(key, 20, 4)
    model = kg.models.homogeneous_mlp((6, 5))
    params = model.init(key, 4)
    base = kg.objectives.regularized_logistic(model.apply, l2=1e-2)
    expected = base(params, x, y) + 0.3 * penalty(params[0])
    assert_close(add_diversity_penalty(base, strength=0.3)(params, x, y), expected)
    assert_close(
        jax.jit(lambda s: add_diversity_penalty(base, strength=s)(params, x, y))(jnp.asarray(0.3)),
        expected,
    )
    second = add_diversity_penalty(base, strength=0.3, first_layer=lambda p: p[1])
    assert_close(second(params, x, y), base(params, x, y) + 0.3 * penalty(params[1]))
    assert float(add_diversity_penalty(base, strength=0.0)(params, x, y)) == float(
        base(params, x, y)
    )
    gradient = jax.grad(add_diversity_penalty(base, strength=0.3))(params, x, y)
    assert_close(gradient[0], jax.grad(base)(params, x, y)[0] + 0.3 * jax.grad(penalty)(params[0]))
    assert_close(gradient[2], jax.grad(base)(params, x, y)[2])
    # Parameters that are one array, or a tree with the units in columns.
    squared = lambda w, x, y: jnp.mean(jnp.square(jnp.sum(jax.nn.relu(x @ w.T), axis=1) - y))
    alone = add_diversity_penalty(squared, strength=2.0)(params[0], x, y)
    assert_close(alone, squared(params[0], x, y) + 2 * penalty(params[0]))
    tree = {"bias": jnp.zeros(6), "kernel": params[0].T}
    other = add_diversity_penalty(
        lambda p, x, y: squared(p["kernel"].T, x, y),
        strength=2.0,
        first_layer=lambda p: p["kernel"].T,
    )
    assert_close(other(tree, x, y), alone)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda w: penalty(w[0]), ValueError, r"`w` must have shape \(n, d\)"),
        (lambda w: penalty(w.astype(int)), TypeError, "`w` must be a floating-point array"),
        (lambda w: penalty(w * np.nan), ValueError, "`w` must be finite"),
        (lambda w: add_diversity_penalty(1.0, strength=1.0), TypeError, "`loss` must be a function"),
        (lambda w: add_diversity_penalty(max, strength="1"), TypeError, "`strength` must be a finite number"),
        (lambda w: add_diversity_penalty(max, strength=-1.0), ValueError, "`strength` must be a finite number >= 0"),
        (lambda w: add_diversity_penalty(max, strength=1.0, first_layer=0), TypeError, "`first_layer` must be a function"),
        (lambda w: add_diversity_penalty(lambda *a: 0.0, strength=1.0)((w[0], w), w, w), ValueError, "Pass `first_layer`"),
        (lambda w: add_diversity_penalty(lambda *a: 0.0, strength=1.0)((), w, w), ValueError, "got no array"),
        (lambda w: add_diversity_penalty(lambda *a: 0.0, strength=1.0)(w * np.nan, w, w), ValueError, "`first_layer` must be finite"),
        (lambda w: add_diversity_penalty(lambda *a: 0.0, strength=1.0, first_layer=lambda p: p[0])(w, w, w), ValueError, "`first_layer` must have shape"),
    ],
)  # fmt: skip
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call(jnp.ones((4, 3)))


def test_rounding_unit_is_that_of_the_dtype():
    with x64(True):
        w = jax.random.normal(key, (9, 3), jnp.float64)
        assert abs(float(penalty(w)) - formula(w)) < 1e-15
