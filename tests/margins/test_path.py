"""Weak regularisation: the exact path on the line, the theorem on margins, tiny lambda in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg
from helpers import assert_close, x64

pytestmark = pytest.mark.slow

key = jax.random.key(0)
model = kg.models.homogeneous_mlp((8,))
LINE = (jnp.array([[1.0], [-2.0]]), jnp.array([1.0, -1.0]))


def _line_optimum(l2s, sizes=(1.0, 2.0)):
    """(margin, ||Theta||^2, loss) of the minimisers on the line, one point x = +-s on each side.

    The two sides share no unit, and ||w|| ||u|| = alpha costs 2 alpha: each side minimises
    log(1 + exp(-alpha s)) / 2 + 2 lambda alpha, so that s sigmoid(-alpha s) / 2 = 2 lambda.
    """
    l2s, sizes = np.asarray(l2s, float)[:, None], np.asarray(sizes)
    q = np.log(sizes / (4 * l2s) - 1)
    squared = 2 * np.sum(q / sizes, axis=1)
    loss = np.mean(np.log1p(np.exp(-q)), axis=1) + l2s[:, 0] * squared
    return q.min(axis=1) / squared, squared, loss


def test_exact_path_on_the_line():
    l2s = [1e-2, 1e-3, 1e-5, 1e-8, 1e-14, 1e-30, 1e-100, 1e-300]
    path = kg.margins.regularization_path(model, model.init(key, 1), *LINE, l2s=l2s, steps=600)
    margins, squared, losses = _line_optimum(l2s)
    np.testing.assert_allclose(path.margin, margins, rtol=2e-3)
    np.testing.assert_allclose(path.norm**2, squared, rtol=2e-3)
    # The loss has its minimum there: an error of the parameters enters squared.
    np.testing.assert_allclose(path.log_loss, np.log(losses), atol=1e-4, rtol=3e-6)
    np.testing.assert_allclose(path.loss[:4], losses[:4], rtol=1e-4)
    np.testing.assert_allclose(path.log_l2, np.log(l2s), rtol=1e-6)
    assert (path.stationarity < 0.05).all()
    assert (path.train_error == 0).all()


@pytest.mark.parametrize(("depth", "power"), [(2, 1.0), (3, 4.0), (4, 2.0)])
def test_largest_margin_on_the_line(depth, power):
    """Two positive points on two sides: gamma* = K^(-K/2) / (1/a + 1/b), for every depth K.

    The sides meet in the second layer at the earliest, so with z_i the inputs there ||W_1||^2 +
    ||W_2||^2 >= 2 sum ||z_i|| / s_i, and |f| <= ||z|| times the product C of the other layers'
    norms, whose squares sum to at least (K - 2) C^(2 / (K-2)). A net with equality: one unit for
    each side, then a chain. The sum is least at K S^(2/K) for margins 1, with S = 1/a + 1/b.
    """
    x, y = jnp.array([[1.0], [-2.0]]), jnp.array([1.0, 1.0])
    deep = kg.models.homogeneous_mlp((6,) * (depth - 1))
    best = depth ** (-depth / 2) / 1.5
    l2s = [1e-2, 1e-4, 1e-8, 1e-16, 1e-32, 1e-64]

    def run(key):
        return kg.margins.regularization_path(
            deep, deep.init(key, 1), x, y, l2s=l2s, steps=300, power=power
        )

    path = jax.jit(jax.vmap(run))(jax.random.split(key, 4))
    margins = np.asarray(path.margin)
    assert (margins <= best * (1 + 1e-5)).all()
    # From some starts all units of one side are dead; from the others the margin converges.
    share = margins.max(axis=0) / best
    assert (np.diff(share[2:]) > -1e-3).all()
    assert share[-1] > 0.99


def test_largest_margin_on_the_line_of_opposite_signs():
    """Depth 3, labels +1 and -1: two chains, gamma* = (3 (a^(-2/3) + b^(-2/3)))^(-3/2)."""
    deep = kg.models.homogeneous_mlp((6, 6))
    best = (3 * (1 + 2 ** (-2 / 3))) ** -1.5

    def run(key):
        return kg.margins.regularization_path(
            deep, deep.init(key, 1), *LINE, l2s=[1e-3, 1e-12, 1e-60], steps=500
        )

    margins = np.asarray(jax.jit(jax.vmap(run))(jax.random.split(key, 4)).margin)
    assert (margins <= best * (1 + 1e-5)).all()
    assert margins[:, -1].max() > 0.98 * best


def test_largest_margin_on_the_line_of_several_classes():
    """k outputs: the best readout (1, -1/(k-1), ...) gains sqrt(k / (k-1)) over one output."""
    several = kg.models.homogeneous_mlp((8,), outputs=3)
    best = np.sqrt(3 / 2) / (2 * 1.5)

    def run(key):
        return kg.margins.regularization_path(
            several, several.init(key, 1), LINE[0], jnp.array([0, 2]), l2s=[1e-3, 1e-9, 1e-60],
            steps=400,
        )  # fmt: skip

    path = jax.jit(jax.vmap(run))(jax.random.split(key, 4))
    margins = np.asarray(path.margin)
    assert (margins <= best * (1 + 1e-5)).all()
    assert margins[:, -1].max() > 0.99 * best


def test_float32_follows_float64():
    """Margins q reach 300 at lambda = 1e-130; the two precisions see the same path."""
    l2s, found = [1e-2, 1e-6, 1e-12, 1e-40, 1e-130], {}
    with x64(True):
        x, y = kg.datasets.xor_noise(key, 20, 4, dtype=jnp.float64)
        start = kg.models.homogeneous_mlp((16,)).init(key, 4, jnp.float64)
    for dtype in (np.float32, np.float64):
        with x64(dtype == np.float64):
            wide = kg.models.homogeneous_mlp((16,))
            params = jax.tree.map(lambda w: jnp.asarray(np.asarray(w), dtype), start)
            data = (jnp.asarray(np.asarray(a), dtype) for a in (x, y))
            path = kg.margins.regularization_path(wide, params, *data, l2s=l2s, steps=400)
            found[dtype] = {k: np.asarray(v) for k, v in path._asdict().items() if k in
                            ("log_loss", "log_data_loss", "norm", "train_error")}  # fmt: skip
            found[dtype]["margin"] = np.asarray(path.margin)
            assert path.margin.dtype == dtype
    for name, values in found[np.float64].items():
        np.testing.assert_allclose(found[np.float32][name], values, rtol=2e-2, atol=1e-6)
    assert found[np.float32]["margin"][-1] > 0.1
    assert -310 < found[np.float32]["log_loss"][-1] < -280


def test_margins_of_the_xor_net():
    """T2: at every small lambda the margin is at least gamma* / (2 4^(a/r)) = gamma* / 8.

    The planted net's 1/8 is a lower bound on gamma*. Its own path keeps that margin.
    """
    x, y = kg.datasets.xor_noise(key, 60, 5)
    wide = kg.models.homogeneous_mlp((32,))
    l2s = 10.0 ** -np.array([2, 4, 6, 8, 30])
    trained = kg.margins.regularization_path(wide, wide.init(key, 5), x, y, l2s=l2s, steps=300)
    assert (trained.margin > 1 / 64).all()
    assert trained.margin[-1] > 0.12
    planted = kg.margins.regularization_path(
        kg.models.homogeneous_mlp((4,)), kg.datasets.planted_xor(5), x, y, l2s=l2s, steps=300
    )
    assert (planted.margin[1:] > 0.118).all()
    assert planted.margin[-1] > 0.123


def test_a_path_recovers_from_a_minimiser_at_zero():
    x, y = kg.datasets.xor_noise(jax.random.key(0), 40, 6)
    model = kg.models.homogeneous_mlp((16,))
    params = model.init(jax.random.key(1), 6)
    path = kg.margins.regularization_path(
        model, params, x, y, l2s=[10.0, 1.0, 1e-3, 1e-6], steps=400
    )
    assert path.norm[1] < 1e-3  # log 2 + lambda ||Theta||^2 is least at zero there
    usual = kg.margins.regularization_path(model, params, x, y, l2s=[1e-3, 1e-6], steps=400)
    np.testing.assert_allclose(path.margin[2:], usual.margin, rtol=0.01)


def test_records_agree_with_the_other_rooms():
    x, y = kg.datasets.xor_noise(key, 40, 5)
    l2s = np.array([1e-2, 1e-3])
    path = kg.margins.regularization_path(
        model, model.init(key, 5), x, y, l2s=l2s, steps=50, power=1, reduction="sum",
        record=lambda p: p,
    )  # fmt: skip
    assert path.records[0].shape == (2, 8, 5)
    for kept, last in zip(path.records, path.params, strict=True):
        np.testing.assert_array_equal(kept[-1], last)

    @jax.jit
    @jax.vmap
    def reference(params, l2):
        loss = kg.objectives.regularized_logistic(model.apply, l2=l2, power=1, reduction="sum")
        data = kg.objectives.regularized_logistic(model.apply, l2=0.0, reduction="sum")
        gradients = [jax.grad(f)(params, x, y) for f in (loss, data)]
        both = [jnp.concatenate([leaf.ravel() for leaf in g]) for g in gradients]
        sizes = [jnp.linalg.norm(g) for g in (both[0], both[1], both[0] - both[1])]
        wrong = jnp.mean(jnp.where(y * model.apply(params, x) > 0, 0.0, 1.0))
        margins = {
            norm: kg.metrics.normalized_margin(model, params, x, y, norm=norm)
            for norm in ("l2", "balanced", "mean_field", "layer_product")
        } | {"smooth": kg.metrics.normalized_margin(model, params, x, y, smooth=True)}
        stationarity = sizes[0] / (sizes[1] + sizes[2])
        return loss(params, x, y), data(params, x, y), stationarity, wrong, margins

    expected = reference(path.records, jnp.asarray(l2s, x.dtype))
    found = (path.loss, path.data_loss, path.stationarity, path.train_error, path.margins)
    jax.tree.map(lambda a, b: assert_close(a, b, factor=5000), found, expected)
    np.testing.assert_allclose(path.l2, l2s, rtol=1e-5)
    deep = kg.models.homogeneous_mlp((4, 4))
    path = jax.eval_shape(
        lambda: kg.margins.regularization_path(deep, deep.init(key, 5), x, y, l2s=[1], steps=5)
    )
    assert sorted(path.margins) == ["l2", "layer_product", "smooth"]


def test_the_optimiser_keeps_its_state_and_may_be_any():
    x, y = kg.datasets.xor_noise(key, 40, 5)
    # From step 5 on, in the second lambda, this schedule stands still: only the ray is searched.
    early = kg.optim.noisy_gd(lambda count: jnp.where(count < 5, 0.1, 0.0), key=key)
    path = kg.margins.regularization_path(
        model, model.init(key, 5), x, y, l2s=[1e-2, 1e-3, 1e-4], steps=5, optimizer=early,
        record=lambda p: p[0] / jnp.linalg.norm(p[0]),
    )  # fmt: skip
    assert_close(path.records[1], path.records[0])
    assert_close(path.records[2], path.records[0])
    # Gradient descent on log L without steps worth the name: only the ray is searched.
    still = kg.margins.regularization_path(
        kg.models.homogeneous_mlp((4,)), kg.datasets.planted_xor(5), x, y,
        l2s=[1e-2, 1e-4], steps=1, optimizer=optax.sgd(1e-12),
    )  # fmt: skip
    np.testing.assert_allclose(still.margin, 1 / 8, rtol=1e-5)
    # On that ray q_i = c^2 = q for all i, and q sigmoid(-q) = 2 lambda 8 q / 2.
    q = np.log(1 / (8 * np.array([1e-2, 1e-4])) - 1)
    np.testing.assert_allclose(still.norm**2, 8 * q, rtol=2e-3)


GOOD = {"l2s": [1e-2, 1e-3], "steps": 2}


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"l2s": [1e-3, 1e-2]}, ValueError, "`l2s` must decrease strictly"),
        ({"l2s": [1e-2, 0.0]}, ValueError, "`l2s`"),
        ({"l2s": []}, TypeError, "`l2s` must be a non-empty sequence"),
        ({"l2s": ["1e-2"]}, TypeError, "`l2s` must be a finite number > 0"),
        ({"l2s": [np.inf, 1.0]}, ValueError, "`l2s`"),
        ({"l2s": 1e-2}, TypeError, "`l2s` must be"),
        ({"steps": 0}, ValueError, "`steps` must be an integer >= 1"),
        ({"steps": 1.0}, TypeError, "`steps`"),
        ({"learning_rate": 0.0}, ValueError, "`learning_rate` must be a finite number > 0"),
        ({"power": 0}, ValueError, "`power` must be a finite number > 0"),
        ({"reduction": "max"}, ValueError, "`reduction` must be one of"),
        ({"record": 3}, TypeError, "`record` must be a function record\\(params\\); got int"),
        ({"optimizer": "adam"}, TypeError, "`optimizer` must be an optax transformation"),
        ({"x": jnp.array([[1.0], [jnp.nan]])}, ValueError, "`x` must be finite"),
        ({"x": jnp.ones(2)}, ValueError, "`x` must have shape \\(n, d\\)"),
        ({"x": jnp.ones((2, 3))}, ValueError, "`params` must have the shapes"),
        ({"y": jnp.array([1.0, 0.0])}, ValueError, "labels -1 and \\+1 only; got \\[0.0\\]"),
        ({"y": jnp.ones(3)}, ValueError, "shape"),
    ],
)  # fmt: skip
def test_refuses(change, error, match):
    arguments = {"x": LINE[0], "y": LINE[1]} | GOOD | change
    x, y = arguments.pop("x"), arguments.pop("y")
    with pytest.raises(error, match=match):
        kg.margins.regularization_path(model, model.init(key, 1), x, y, **arguments)


def test_a_path_recovers_from_a_net_without_units_for_a_sample():
    x = jax.random.normal(key, (24, 20), jnp.float32)
    y = jnp.where(x[:, 0] * x[:, 1] + x[:, 2] / 2 > 0, 1.0, -1.0)
    model = kg.models.homogeneous_mlp((16,))
    params = model.init(jax.random.key(9), 20, jnp.float32)
    path = kg.margins.regularization_path(
        model, params, x, y, l2s=[0.1, 1e-3, 1e-6], steps=300, record=lambda p: p
    )
    after_first = jax.tree.map(lambda w: w[0], path.records)
    assert (model.apply(after_first, x) == 0).any()  # and its gradient is zero for ever
    assert path.norm[0] > 1  # while the net is far from zero
    usual = kg.margins.regularization_path(model, params, x, y, l2s=[1e-3, 1e-6], steps=300)
    np.testing.assert_allclose(path.margin[1:], usual.margin, rtol=0.01)
    assert usual.margin[-1] > 0.19
