import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

import kernelgap as kg
from helpers import keys

key = jax.random.key(0)
inputs = st.sampled_from(["gaussian", "sphere"])


@given(keys, inputs, st.sampled_from([(6, 20), (2, 3)]))
def test_the_teacher_classifies_its_samples_with_a_margin(key, inputs, shape):
    units, d = shape
    params = kg.datasets.planted_teacher(key, d, units=units)
    x, y = kg.datasets.teacher(key, 500, d, params=params, inputs=inputs)
    outputs = kg.models.homogeneous_mlp((units,)).apply(params, x)
    assert x.shape == (500, d)
    # Also where all units were off, 2^-units of the inputs; what is 0 up to rounding has no sign.
    clear = np.abs(outputs) > 1e-6
    assert (y * outputs)[clear].min() > 0
    assert np.mean(clear) > 0.99
    np.testing.assert_allclose(jnp.linalg.norm(params[0], axis=1), jnp.abs(params[1]), rtol=1e-5)
    assert sorted(set(params[1].tolist())) == [-1, 1]


@given(keys, inputs)
def test_values_are_the_teachers_output(key, inputs):
    hidden, readout = params = kg.datasets.planted_teacher(key, 7, units=5)
    x, y = kg.datasets.teacher(key, 64, 7, params=params, inputs=inputs, labels="value")
    expected = np.maximum(np.float64(x) @ np.float64(hidden).T, 0) @ np.float64(readout)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_inputs_that_switch_all_units_off_are_turned_round_and_no_others():
    params = kg.datasets.planted_teacher(key, 6, units=2)
    plain = kg.datasets.teacher(key, 400, 6, params=params, labels="value").x
    x = kg.datasets.teacher(key, 400, 6, params=params).x
    off = np.asarray((plain @ params[0].T <= 0).all(axis=1))
    assert stats.binomtest(int(off.sum()), 400, 0.25).pvalue > 1e-6
    np.testing.assert_array_equal(x, np.where(off[:, None], -plain, plain))


def test_one_key_draws_a_teacher_of_its_own():
    a = kg.datasets.teacher(key, 50, 4)
    np.testing.assert_array_equal(a.x, kg.datasets.teacher(key, 50, 4).x)
    # Labels of another teacher on the same inputs differ: it is drawn from the key.
    other = kg.datasets.teacher(
        key, 50, 4, params=kg.datasets.planted_teacher(jax.random.key(9), 4), labels="value"
    )
    own = kg.datasets.teacher(key, 50, 4, labels="value")
    np.testing.assert_array_equal(own.x, other.x)
    assert (own.y != other.y).any()


def test_a_margin_conditions_the_inputs_and_changes_nothing_else():
    """Rejection in NumPy, from fresh draws, has the same distribution."""
    params = kg.datasets.planted_teacher(key, 3, units=2)
    x, y = kg.datasets.teacher(key, 3000, 3, params=params, margin=0.8)
    rng = np.random.default_rng(0)
    fresh = rng.standard_normal((20_000, 3))
    outputs = np.maximum(fresh @ np.asarray(params[0]).T, 0) @ np.asarray(params[1])
    kept = np.abs(outputs) >= 0.8
    for j in range(3):
        assert stats.ks_2samp(np.asarray(x[:, j]), fresh[kept, j]).pvalue > 1e-6
    values = kg.datasets.teacher(key, 3000, 3, params=params, margin=0.8, labels="value")
    np.testing.assert_array_equal(values.x, x)
    np.testing.assert_array_equal(np.sign(values.y), y)
    assert np.abs(values.y).min() >= 0.8
    assert len(np.unique(x, axis=0)) == 3000
    # The share of accepted inputs, and its independent estimate.
    share = kg.datasets.teacher_acceptance(key, params, margin=0.8, n=20_000)
    table = [[kept.sum(), 20_000 - kept.sum()], [share * 20_000, (1 - share) * 20_000]]
    assert stats.chi2_contingency(table).pvalue > 1e-6
    # Blocks are drawn from one stream, whatever the number of samples in a block.
    small = kg.datasets.teacher(key, 200, 3, params=params, margin=0.8)
    np.testing.assert_array_equal(
        small.x[:9], kg.datasets.teacher(key, 9, 3, params=params, margin=0.8).x
    )


def test_a_margin_under_jit_and_vmap_and_where_it_is_hopeless():
    params = kg.datasets.planted_teacher(key, 4, units=3)
    split = jax.random.split(key, 4)
    margins = jnp.array([0.5, 1.0, 50.0, -1.0])

    def draw(key, margin):
        return kg.datasets.teacher(key, 5, 4, params=params, inputs="sphere", margin=margin)

    batched = jax.jit(jax.vmap(draw))(split, margins / 4)
    for k in (0, 1):
        np.testing.assert_allclose(batched.x[k], draw(split[k], margins[k] / 4).x, rtol=1e-6)
    assert np.isnan(batched.x[2:]).all()
    assert np.isnan(batched.y[2:]).all()
    with pytest.raises(ValueError, match=r"0\.1% of the inputs; got 50, which 0 of 65536 reach"):
        draw(key, 50.0)
    half = kg.datasets.teacher(key, 5, 4, margin=0.25, dtype=jnp.float16)
    assert half.x.dtype == half.y.dtype == jnp.float16
    shares = jax.jit(
        jax.vmap(lambda m: kg.datasets.teacher_acceptance(key, params, margin=m, n=50))
    )(margins)
    assert (np.diff(shares[:3]) < 0).all()
    assert shares[2] == 0
    assert np.isnan(shares[3])


def test_normal_weights_are_normal():
    hidden, readout = kg.datasets.planted_teacher(key, 3, units=20_000, weights="normal")
    assert (hidden.shape, readout.shape) == ((20_000, 3), (20_000,))
    for column in (*hidden.T, readout):
        assert stats.kstest(np.asarray(column), stats.norm.cdf).pvalue > 1e-6
    assert abs(np.corrcoef(np.column_stack([hidden, readout]).T) - np.eye(4)).max() < 0.05


@given(keys, st.sampled_from([1, 2, 15]))
def test_sphere_has_norm_one(key, d):
    x = kg.datasets.sphere(key, 30, d)
    np.testing.assert_allclose(jnp.sum(x**2, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("d", [2, 3, 15])
def test_sphere_is_uniform(d):
    x = np.asarray(kg.datasets.sphere(key, 20_000, d), float)
    # A coordinate of a uniform direction: (1 + x_1) / 2 has the law Beta((d-1)/2, (d-1)/2).
    law = stats.beta((d - 1) / 2, (d - 1) / 2)
    for j in (0, d - 1):
        assert stats.kstest((1 + x[:, j]) / 2, law.cdf).pvalue > 1e-6
    # Off-diagonal second moments deviate by 1 / (d sqrt(n)).
    np.testing.assert_allclose(x.T @ x / 20_000, np.eye(d) / d, atol=6 / d / 20_000**0.5 * 1.5)


def test_teacher_units_are_uniform_and_labels_balanced():
    hidden, _ = kg.datasets.planted_teacher(key, 3, units=20_000)
    assert stats.kstest(np.asarray(hidden[:, 0]), stats.uniform(-1, 2).cdf).pvalue > 1e-6
    shares = jax.vmap(lambda k: jnp.mean(kg.datasets.teacher(k, 500, 20).y))(
        jax.random.split(key, 40)
    )
    assert abs(float(jnp.mean(shares))) < 0.25
    assert float(jnp.max(jnp.abs(shares))) < 1  # both labels occur for each


def test_dtype_and_transforms():
    params = kg.datasets.planted_teacher(key, 4, dtype=jnp.bfloat16)
    assert params[0].dtype == params[1].dtype == jnp.bfloat16
    for labels in ("sign", "value"):
        data = kg.datasets.teacher(key, 5, 4, dtype=jnp.float16, labels=labels)
        assert data.x.dtype == data.y.dtype == jnp.float16
    split = jax.random.split(key, 3)
    batched = jax.jit(jax.vmap(lambda k: kg.datasets.teacher(k, 10, 4)))(split)
    np.testing.assert_allclose(batched.x[1], kg.datasets.teacher(split[1], 10, 4).x, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kg.datasets.sphere(0, 5, 3), TypeError, "must be a JAX random key"),
        (lambda: kg.datasets.sphere(key, 0, 3), ValueError, "`n` must be an integer >= 1"),
        (lambda: kg.datasets.sphere(key, 5, 0), ValueError, "`d` must be an integer >= 1"),
        (lambda: kg.datasets.sphere(key, 5, 3, dtype=int), TypeError, "`dtype`"),
        (lambda: kg.datasets.planted_teacher(key, 3, units=0), ValueError, "`units`"),
        (lambda: kg.datasets.planted_teacher(key, 3, units=1.5), TypeError, "`units`"),
        (lambda: kg.datasets.teacher(7, 5, 3), TypeError, "must be a JAX random key"),
        (lambda: kg.datasets.teacher(key, 0, 3), ValueError, "`n`"),
        (lambda: kg.datasets.teacher(key, 5, 0), ValueError, "`d`"),
        (lambda: kg.datasets.teacher(key, 5, 3, units=0), ValueError, "`units`"),
        (
            lambda: kg.datasets.teacher(key, 5, 3, inputs="cube"),
            ValueError,
            "`inputs` must be one of 'gaussian', 'sphere'; got 'cube'",
        ),
        (lambda: kg.datasets.teacher(key, 5, 3, margin=-1), ValueError, "`margin` must be .* >= 0"),
        (lambda: kg.datasets.teacher(key, 5, 3, margin="1"), TypeError, "`margin` must be"),
        (
            lambda: kg.datasets.planted_teacher(key, 3, weights="uniform"),
            ValueError,
            "`weights` must be one of 'unit', 'normal'; got 'uniform'",
        ),
        (
            lambda: kg.datasets.teacher_acceptance(key, (jnp.ones(3), jnp.ones(3)), margin=1),
            ValueError,
            r"`params` must have shapes \(units, d\) and \(units,\); got \(3,\) and \(3,\)",
        ),
        (
            lambda: kg.datasets.teacher(key, 5, 3, labels="class"),
            ValueError,
            "`labels` must be one of 'sign', 'value'",
        ),
        (
            lambda: kg.datasets.teacher(key, 5, 3, params=kg.datasets.planted_teacher(key, 4)),
            ValueError,
            r"`params` must have shapes \(units, 3\) and \(units,\); got \(6, 4\) and \(6,\)",
        ),
        (
            lambda: kg.datasets.teacher(key, 5, 3, params=(jnp.ones((2, 3)), jnp.ones(3))),
            ValueError,
            "`params` must have shapes",
        ),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
