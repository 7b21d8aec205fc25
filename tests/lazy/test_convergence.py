"""The certificate of linear convergence: by hand, and never violated by an exact run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.optimize import OptimizeResult

import kernelgap as kg
from helpers import x64
from kernelgap.lazy import ball, losses

pytestmark = pytest.mark.slow

bounds, lazy = kg.bounds, kg.lazy
GOOD = {"lambda_min": 1.0, "lambda_max": 20.0, "lipschitz": 0.02}


def _certificate(loss=0.5, n=10, **change):
    return lazy.convergence_certificate(loss, lazy.squared_loss_constants(n), **(GOOD | change))


def test_linear_models_by_hand():
    """L = 0: S = Lambda b^2, and the constants of the docstring."""
    found = _certificate(lipschitz=0.0)
    np.testing.assert_allclose(found.learning_rate, 10 / 20, rtol=1e-9)
    np.testing.assert_allclose(found.decrease, 0.5 * 0.1, rtol=1e-9)
    np.testing.assert_allclose(found.path_length, np.sqrt(8 * 0.5 / 0.1), rtol=1e-9)
    flow = _certificate(lipschitz=0.0, learning_rate=1e-9)
    np.testing.assert_allclose(flow.path_length, np.sqrt(2 * 0.5 / 0.1), rtol=1e-6)
    np.testing.assert_allclose(flow.decrease, 2e-9 * 0.1, rtol=1e-6)


@given(st.floats(0.0, 0.06), st.floats(0.01, 1.0))
def test_the_ball_is_self_consistent(lipschitz, share):
    """Every entry follows from the definitions, with the radius put in."""
    limit = _certificate(lipschitz=lipschitz)
    found = _certificate(lipschitz=lipschitz, learning_rate=share * float(limit.max_learning_rate))
    assert found.holds
    radius = found.path_length
    alpha, beta = 1 - lipschitz * radius, 20**0.5 + lipschitz * radius
    smooth = beta**2 / 10 + lipschitz * np.sqrt(2 * 0.5 / 10)
    c = 1 - found.learning_rate * smooth / 2
    assert c >= 0.5 * (1 - 1e-9)
    assert np.sqrt(2 * 0.5 * 10) / (c * alpha) <= radius  # no path is longer than the radius
    np.testing.assert_allclose(np.sqrt(2 * 0.5 * 10) / (c * alpha), radius, rtol=1e-6)
    assert found.decrease <= 2 * found.learning_rate * c * alpha**2 / 10
    np.testing.assert_allclose(
        found.decrease, 2 * found.learning_rate * c * alpha**2 / 10, rtol=1e-6
    )
    np.testing.assert_allclose([found.sigma_min, found.sigma_max], [alpha, beta], rtol=1e-9)
    np.testing.assert_allclose(found.smoothness, smooth, rtol=1e-9)


def _unlucky(share):
    """A root finder, or maximiser, that stops at this share of its bracket."""

    def stop(function, *, bracket=None, bounds=None, **_):
        low, high = bracket or bounds
        at = low + share * (high - low)
        return OptimizeResult(root=at, x=at)

    return stop


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_certificates_do_not_depend_on_the_luck_of_solvers(share, monkeypatch):
    best = [_certificate(lipschitz=c) for c in (0.0, 0.02, 0.06)]
    exact = lazy.logistic_loss_constants(20, initial_loss=3.0, target=0.3).pl
    for module, name in ((ball, "root_scalar"), (ball, "minimize_scalar"), (losses, "root_scalar")):
        monkeypatch.setattr(module, name, _unlucky(share))
    for lipschitz, lucky in zip((0.0, 0.02, 0.06), best, strict=True):
        step = 0.3 * float(lucky.learning_rate)
        for found in (_certificate(lipschitz=lipschitz),
                      _certificate(lipschitz=lipschitz, learning_rate=step)):  # fmt: skip
            assert found.max_learning_rate <= lucky.max_learning_rate * (1 + 1e-12)
            if found.holds:
                alpha = 1 - lipschitz * found.path_length
                c = 1 - found.learning_rate * found.smoothness / 2
                assert c >= 0.5 * (1 - 1e-9)
                assert np.sqrt(2 * 0.5 * 10) / (c * alpha) <= found.path_length
    found = lazy.logistic_loss_constants(20, initial_loss=3.0, target=0.3).pl
    assert 0 <= found <= exact * (1 + 1e-12)


def test_largest_learning_rate_against_a_grid():
    for lipschitz in (0.005, 0.03, 0.06, 0.07):
        radii = np.linspace(3.2, 40, 200001)
        alpha, beta = 1 - lipschitz * radii, 20**0.5 + lipschitz * radii
        smooth = beta**2 / 10 + lipschitz * np.sqrt(0.1)
        with np.errstate(divide="ignore"):
            c = np.where(alpha > 0, np.sqrt(10) / (radii * alpha), np.inf)
        best = np.max(np.minimum(1, 2 * (1 - c)) / smooth)
        np.testing.assert_allclose(
            _certificate(lipschitz=lipschitz).max_learning_rate, best, rtol=1e-4
        )


def test_where_the_nonlinearity_forbids():
    """4 L D / a^2 = 1 divides; at most 1/2 admits the step 1 / S."""
    edge = 1 / (4 * np.sqrt(10))
    below, above = (_certificate(lipschitz=c * edge) for c in (0.999, 1.001))
    assert below.holds
    assert not above.holds
    assert above.max_learning_rate == 0
    assert above.decrease == 0
    np.testing.assert_allclose(above.nonlinearity, 1.001, rtol=1e-9)
    half = _certificate(lipschitz=edge / 2.0001)
    np.testing.assert_allclose(half.learning_rate * half.smoothness, 1, rtol=1e-2)
    assert "none: nonlinearity 1, below 1" in repr(above)


def test_functions_and_radius():
    """A function of the radius is the number where it is constant; a number ends at `lipschitz_radius`."""
    assert _certificate(lipschitz=lambda r: 0.02) == _certificate()
    rising = _certificate(lipschitz=lambda r: 0.01 + 0.001 * r)
    at = 0.01 + 0.001 * float(rising.path_length)
    frozen = _certificate(lipschitz=at, learning_rate=float(rising.learning_rate))
    np.testing.assert_allclose(rising.path_length, frozen.path_length, rtol=1e-6)
    np.testing.assert_allclose(rising.decrease, frozen.decrease, rtol=1e-6)
    whole = float(_certificate().path_length)
    assert _certificate(lipschitz_radius=1.01 * whole).holds
    assert not _certificate(
        lipschitz_radius=0.99 * whole, learning_rate=float(_certificate().learning_rate)
    ).holds
    assert not _certificate(lipschitz_radius=3.0).holds  # below D / a


def test_along_the_run_nothing_drifts():
    found = _certificate(constants="run", lipschitz=0.5)
    assert (found.sigma_min, found.sigma_max) == (1, 20**0.5)
    np.testing.assert_allclose(found.smoothness, 2 + 0.5 * np.sqrt(0.1))
    assert found.status == "along the run"
    assert not _certificate(lipschitz=0.5).holds


def test_broadcasts_over_seeds_and_keeps_the_hopeless():
    found = _certificate(np.array([0.5, 0.25, 0.5]), lambda_min=[1.0, 1.0, -1e-9])
    np.testing.assert_array_equal(found.holds, [True, True, False])
    for field, one in zip(found[:9], _certificate(0.25)[:9], strict=True):
        np.testing.assert_array_equal(field[1], one)
    curve = found.curve(3, every=2)
    assert curve.shape == (3, 3)
    np.testing.assert_allclose(curve[1], 0.25 * found.rate[1] ** np.array([0, 2, 4]))
    assert np.isinf(curve[2]).all()
    assert "2 of 3 hold" in repr(found)


def test_at_the_optimum():
    found = _certificate(0.0)
    assert found.path_length == 0
    assert found.holds
    assert (found.curve(3) == 0).all()


def _problem(key, width, activation, outputs=None, n=6, d=10, depth=1):
    a, b, c = jax.random.split(key, 3)
    x = jax.random.normal(a, (n, d))
    x *= d**0.5 / jnp.linalg.norm(x, axis=1, keepdims=True)
    model = kg.models.mlp(
        (width,) * depth, activation=activation, parameterization="ntk", outputs=outputs
    )
    params = model.init(b, d)
    f0 = model.apply(params, x)
    # Residuals are small: the nonlinearity falls with them, as it does with 1 / sqrt(width).
    return model, params, x, f0 + 0.05 * jax.random.normal(c, f0.shape)


def _run(model, params, x, y, step, steps, loss):
    @jax.jit
    def go(params):
        def one(carry, _):
            here, path = carry
            value, slope = jax.value_and_grad(loss)(here, x, y)
            there = jax.tree.map(lambda w, g: w - step * g, here, slope)
            moved = kg.lazy.displacement(here, there)
            far = kg.lazy.displacement(params, there)
            return (there, path + moved), (value, path + moved, far)

        return jax.lax.scan(one, (params, 0.0), length=steps)[1]

    return go(params)


def _squared(model):
    return lambda p, x, y: jnp.sum((model.apply(p, x) - y) ** 2) / (2 * x.shape[0])


CASES = [("tanh", None, 1, 300), ("gelu", None, 1, 300), ("erf", 2, 1, 1000)]


@pytest.mark.parametrize(("activation", "outputs", "depth", "width"), CASES)
def test_an_exact_run_keeps_to_its_certificate(activation, outputs, depth, width):
    with x64(True):
        key = jax.random.key(0)
        model, params, x, y = _problem(key, width, activation, outputs, depth=depth)
        gram = kg.kernels.empirical_ntk(model, params)(x)
        ends = bounds.eigenvalue_enclosure(gram)
        loss = _squared(model)
        certificate = lazy.convergence_certificate(
            loss(params, x, y), lazy.squared_loss_constants(6),
            lambda_min=ends.lower, lambda_max=ends.upper,
            lipschitz=lazy.tangent_lipschitz(model, params, x),
        )  # fmt: skip
        assert certificate.holds, certificate
        values, path, far = _run(model, params, x, y, float(certificate.learning_rate), 400, loss)
        check = lazy.check_run(certificate, values, path_lengths=path, displacements=far)
        assert check.kept, check
        assert check.displacement_ratio <= check.path_ratio <= 1
        # The bound on the path says something: within a factor of what the run does.
        assert check.path_ratio > 0.05
        # K_t stays where the ball says it does.
        moved = bounds.eigenvalue_enclosure(kg.kernels.empirical_ntk(model, params)(x))
        assert moved.smallest >= certificate.sigma_min**2


@pytest.mark.parametrize("target", [0.3, 0.05])
def test_a_logistic_run_keeps_to_its_certificate_until_the_target(target):
    with x64(True):
        model, params, x, y = _problem(jax.random.key(1), 1, "tanh", n=3, depth=0)
        y = jnp.sign(y)
        loss = kg.objectives.regularized_logistic(model.apply, l2=0.0)
        initial = float(loss(params, x, y))
        ends = bounds.eigenvalue_enclosure(kg.kernels.empirical_ntk(model, params)(x))
        certificate = lazy.convergence_certificate(
            initial, lazy.logistic_loss_constants(3, initial_loss=initial, target=target),
            lambda_min=ends.lower, lambda_max=ends.upper, lipschitz=0.0,
        )  # fmt: skip
        assert certificate.holds, certificate
        values, path, _ = _run(model, params, x, y, float(certificate.learning_rate), 400, loss)
        reached = int(np.argmax(np.asarray(values) <= target))
        assert reached > 0
        check = lazy.check_run(certificate, values, path_lengths=path[:reached])
        assert check.kept, check


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (
            {"lambda_min": np.nan},
            ValueError,
            "`lambda_min` must hold finite numbers; got \\[nan\\]",
        ),
        ({"lambda_max": 0.5}, ValueError, "`lambda_max` must be at least `lambda_min`"),
        ({"lambda_max": "x"}, TypeError, "`lambda_max` must hold finite numbers"),
        ({"lipschitz": -1.0}, ValueError, "`lipschitz` must hold finite numbers >= 0; got"),
        (
            {"learning_rate": 0.0},
            ValueError,
            "`learning_rate` must hold finite numbers > 0; got \\[0.0\\]",
        ),
        ({"lipschitz_radius": -1.0}, ValueError, "`lipschitz_radius` must hold numbers >= 0"),
        ({"loss": -0.1}, ValueError, "`initial_loss` must hold finite numbers >= 0"),
        ({"constants": "all"}, ValueError, "`constants` must be one of 'ball', 'run'"),
    ],
)
def test_refuses(change, error, match):
    with pytest.raises(error, match=match):
        _certificate(**change)


def test_refuses_losses_and_tracers():
    with pytest.raises(TypeError, match="`loss` must come from lazy.squared_loss_constants"):
        lazy.convergence_certificate(0.5, 10, **GOOD)
    with pytest.raises(TypeError, match="known now: certificates are computed on the host"):
        jax.jit(lambda v: _certificate(v).decrease)(0.5)
    with pytest.raises(ValueError, match="`times`"):
        _certificate().curve(0)
    with pytest.raises(ValueError, match="`every`"):
        _certificate().curve(3, every=0)


@pytest.mark.parametrize("n", [3, 20])
@pytest.mark.parametrize("classes", [None, 3])
def test_loss_constants_hold(n, classes):
    """PL above the target and smoothness, at random outputs below the initial loss."""
    with x64(True):
        keys = jax.random.split(jax.random.key(n), 3)
        if classes is None:
            y = jnp.sign(jax.random.normal(keys[0], (n,)))
            shape = (n,)
        else:
            y, shape = jax.random.randint(keys[0], (n,), 0, classes), (n, classes)

        def ell(z):
            return jnp.mean(kg.objectives.logistic_losses(z, y))

        scales = 10.0 ** jax.random.uniform(keys[1], (2000,), minval=-1, maxval=1.5)
        z = jax.random.normal(keys[2], (2000, *shape)) * scales.reshape(-1, *[1] * len(shape))
        # Half of the outputs agree with the labels, so that small losses occur.
        right = y if classes is None else jax.nn.one_hot(y, classes)
        z = z.at[::2].set(jnp.abs(z[::2]) * right[None])
        values, slopes = jax.vmap(jax.value_and_grad(ell))(z)
        squares = jnp.sum(slopes.reshape(2000, -1) ** 2, axis=1)
        worst = np.inf
        for initial, target in ((1.0, 0.5), (1.0, 1e-3), (0.3, 0.01), (3.0, 0.1)):
            found = lazy.logistic_loss_constants(
                n, initial_loss=initial, target=target, classes=classes
            )
            held = (values <= initial) & (values > target)
            assert held.any()
            share = np.asarray(squares / (2 * found.pl * values))[np.asarray(held)]
            assert share.min() >= 1
            worst = min(worst, share.min())
            # One sample with all of the loss, against the envelope: it is nearly reached.
        gap = jnp.linalg.norm((slopes[1:] - slopes[:-1]).reshape(1999, -1), axis=1)
        far = jnp.linalg.norm((z[1:] - z[:-1]).reshape(1999, -1), axis=1)
        assert (gap <= found.smoothness * far * (1 + 1e-9)).all()
        assert worst < 50


def test_equal_small_losses_reach_the_logistic_constant():
    with x64(True):
        target = 1e-3
        z = -jnp.log(jnp.expm1(target)) * jnp.ones(7)
        ell = lambda z: jnp.mean(jax.nn.softplus(-z))
        square = jnp.sum(jax.grad(ell)(z) ** 2)
        found = lazy.logistic_loss_constants(7, initial_loss=0.5, target=target)
        np.testing.assert_allclose(square, 2 * found.pl * target, rtol=1e-9)


def test_squared_loss_is_exact():
    found = lazy.squared_loss_constants(4)
    assert found == (0.25, 0.25, 0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lazy.squared_loss_constants(0), ValueError, "`n` must be an integer >= 1"),
        (
            lambda: lazy.logistic_loss_constants(0, initial_loss=1.0, target=0.1),
            ValueError,
            "`n`",
        ),
        (
            lambda: lazy.logistic_loss_constants(3, initial_loss=0.0, target=0.1),
            ValueError,
            "`initial_loss`",
        ),
        (
            lambda: lazy.logistic_loss_constants(3, initial_loss=1.0, target=0.0),
            ValueError,
            "`target`",
        ),
        (
            lambda: lazy.logistic_loss_constants(3, initial_loss=1.0, target=1.0),
            ValueError,
            "`target` must be below `initial_loss`; got 1 and 1",
        ),
        (
            lambda: lazy.logistic_loss_constants(3, initial_loss=1.0, target=0.1, classes=1),
            ValueError,
            "`classes` must be an integer >= 2",
        ),
    ],
)
def test_losses_refuse(call, error, match):
    with pytest.raises(error, match=match):
        call()
