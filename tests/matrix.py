"""Every public function that takes arrays, as a function of one set of data.

`ROWS` says for each of them how to call it and which of its numbers are determined by the problem,
to rounding; `KINDS` are the data, made in float64 and rounded to the dtype under test.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import kernelgap as kg


def describe() -> dict[str, Any]:
    """Return what the rows call functions with besides data, made anew at each call."""
    ntk_net = kg.models.homogeneous_mlp((4,), parameterization="ntk")
    return {
        "NET": kg.models.homogeneous_mlp((4,)),
        "SMOOTH": kg.models.mlp((4,), activation="tanh", parameterization="ntk"),
        "THREE": kg.models.homogeneous_mlp((4,), outputs=3),
        "NTK_NET": ntk_net,
        "KERNEL": kg.kernels.ntk(ntk_net),
    }


NET, SMOOTH, THREE, NTK_NET, KERNEL = describe().values()


class Data(NamedTuple):
    """Arguments of every row; a tree of arrays, so that all of it can be traced."""

    x: Any  # (n, d)
    y: Any  # (n,) signs
    t: Any  # (n,) real targets
    labels: Any  # (n,) classes 0..2
    f: Any  # (n,) outputs of a net
    f3: Any  # (n, 3) outputs of a net
    w: Any  # (4, d) units
    params: Any  # of NET
    moved: Any  # of NET
    params3: Any  # of THREE
    gram: Any  # (n, n), positive definite
    gram1: Any  # another one
    l2: Any  # a strength
    losses: Any  # (5,)


KINDS = {
    "plain": {},
    "equal rows": {"rows": "equal"},
    "opposite rows": {"rows": "opposite"},
    "zero row": {"rows": "zero"},
    "tiny": {"scale": 1e-20},
    "huge": {"scale": 1e20},
    "one class": {"one": True},
    "n = 1": {"n": 1},
    "n = 2": {"n": 2},
    "d = 1": {"d": 1},
}


@lru_cache
def exact(kind: str) -> Data:
    """The data of a kind, in float64."""
    return _make(**KINDS[kind])


def _make(n: int = 8, d: int = 3, rows: str = "", scale: float = 1.0, one: bool = False) -> Data:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((8, 3))[:n, :d]
    signs = np.tile([1.0, -1.0, -1.0, 1.0], 2)[:n]
    t, f = rng.standard_normal(8)[:n], rng.standard_normal(8)[:n]
    f3, labels = rng.standard_normal((8, 3))[:n], np.arange(8)[:n] % 3
    nets = [(rng.standard_normal((4, 3))[:, :d], rng.standard_normal(4)) for _ in range(2)]
    params3 = rng.standard_normal((4, 3))[:, :d], rng.standard_normal((3, 4))
    w = rng.standard_normal((4, 3))[:, :d]
    if rows == "equal":
        x[3], t[3], f[3], f3[3], labels[3] = x[0], t[0], f[0], f3[0], labels[0]
    if rows == "opposite":
        x[3] = -x[0]
    if rows == "zero":
        x[3] = 0
    if one:
        signs[:], labels[:] = 1, 0
    features = rng.standard_normal((2, 8, 10))[:, :n]
    gram, gram1 = (a @ a.T for a in features)
    return Data(
        scale * x, signs, scale * t, labels, scale * f, scale * f3, w, nets[0],
        tuple(a + 0.1 * b for a, b in zip(*nets, strict=True)), params3,
        scale * gram, scale * gram1, np.array(0.1), np.array([0.5, 0.4, 0.3, 0.25, 0.2]),
    )  # fmt: skip


def cast(data: Data, dtype: Any, *, mixed: Any = None) -> Data:
    """The data as JAX arrays of a dtype; all but `x` in the dtype `mixed` where that is given."""

    def to(name: str, leaf: np.ndarray) -> jax.Array:
        if leaf.dtype.kind != "f":
            return jnp.asarray(leaf, jnp.int32)
        chosen = dtype if mixed is None or name == "x" else mixed
        with np.errstate(over="ignore", under="ignore"):
            return jnp.asarray(leaf.astype(jnp.dtype(chosen)))

    return Data(**{
        name: jax.tree.map(lambda leaf, name=name: to(name, leaf), value)
        for name, value in data._asdict().items()
    })  # fmt: skip


def _svm(p: Any) -> tuple:
    return p.margin, p.duality_gap < 1e-3


class Row(NamedTuple):
    """How to call a function, and what its numbers are good for.

    Attributes:
        call: Data -> the numbers that the problem determines.
        roundings: By how many rounding units of the largest number they may be off.
        least: A tolerance that does not depend on the dtype, of methods that stop at one.
        host: It refuses to be traced.
        uses: The entries of the data that it takes.
        partial: Some of its numbers do not depend on all of these.
    """

    call: Callable[[Data], Any]
    uses: str
    roundings: float = 200
    least: float = 0.0
    host: bool = False
    partial: bool = False


_path = {"l2s": (1e-1, 1e-2), "steps": 2}
_random = jax.random.key(0)


def _classified(d: Data) -> Any:
    return jnp.where(NET.apply(d.params, d.x) > 0, 1, -1)


def _train(d: Data) -> Any:
    loss = kg.objectives.regularized_logistic(NET.apply, l2=0.1)
    trained = kg.optim.train(loss, d.params, (d.x, d.y), optax.sgd(0.1), steps=2)
    return trained.losses


def _noisy(d: Data) -> Any:
    optimizer = kg.optim.noisy_gd(0.1, temperature=0.0, key=_random)
    return optimizer.update(d.moved, optimizer.init(d.params), d.params)[0]


ROWS = {
    "bounds.eigenvalue_enclosure": Row(lambda d: kg.bounds.eigenvalue_enclosure(d.gram)[:2], "gram", host=True),
    "bounds.sample_gram_bound": Row(
        lambda d: kg.bounds.sample_gram_bound(d.x, method="eigenvalue").value, "x", host=True
    ),
    "datasets.even_moments": Row(lambda d: kg.datasets.even_moments(d.x), "x"),
    "diversity.add_diversity_penalty": Row(
        lambda d: kg.diversity.add_diversity_penalty(
            kg.objectives.regularized_logistic(NET.apply, l2=0.1), strength=d.l2
        )(d.params, d.x, d.y), "params x y l2",
    ),
    "diversity.diversity_kernel": Row(lambda d: kg.diversity.diversity_kernel()(d.x), "x"),
    "diversity.diversity_penalty": Row(lambda d: kg.diversity.diversity_penalty(d.w), "w"),
    "diversity.extended_feature_gram": Row(
        lambda d: kg.diversity.extended_feature_gram(d.w, d.x), "w x"
    ),
    "diversity.extended_feature_gram (power)": Row(
        lambda d: kg.diversity.extended_feature_gram(d.w, d.x, power=2), "w x"
    ),
    "diversity.hemisphere_discrepancy": Row(
        lambda d: kg.diversity.hemisphere_discrepancy(d.w), "w", roundings=2000
    ),
    "diversity.max_slice_discrepancy": Row(
        lambda d: jnp.stack([kg.diversity.max_slice_discrepancy(
            d.w, key=_random, slices=64, kept=4, steps=10
        ).lower, jnp.ones((), d.w.dtype)]), "w", least=0.5,  # the draws depend on the dtype
    ),
    "diversity.pl_bound": Row(
        lambda d: kg.diversity.pl_bound(d.params, d.l2, n=12), "params l2"
    ),
    "diversity.slice_discrepancy": Row(
        lambda d: kg.diversity.slice_discrepancy(d.w), "w", roundings=2000
    ),
    "diversity.smallest_singular_value": Row(
        lambda d: jnp.stack([
            kg.diversity.smallest_singular_value(d.w, d.x).value, jnp.max(jnp.abs(d.x)),
        ]), "w x", roundings=1e4
    ),
    "kernels.empirical_ntk": Row(lambda d: kg.kernels.empirical_ntk(NET, d.params)(d.x), "params x"),
    "kernels.empirical_ntk (function)": Row(
        lambda d: kg.kernels.empirical_ntk(NET.apply, d.params)(d.x), "params x"
    ),
    "kernels.extreme_eigenvalues": Row(
        lambda d: kg.kernels.extreme_eigenvalues(KERNEL, d.x, k=1)[0], "x",
        least=1e-3, host=True,
    ),
    "kernels.gram": Row(lambda d: kg.kernels.gram(KERNEL, d.x), "x", host=True),
    "kernels.convert": Row(
        lambda d: kg.kernels.convert(KERNEL, "arora")(d.x), "x"
    ),
    "kernels.matmul": Row(lambda d: kg.kernels.matmul(KERNEL, d.x, d.f), "x f"),
    "kernels.nearest_pair": Row(
        lambda d: kg.kernels.nearest_pair(d.x).distance, "x", host=True
    ),
    "kernels.nngp": Row(lambda d: kg.kernels.nngp(NTK_NET)(d.x), "x"),
    "kernels.ntk": Row(lambda d: (KERNEL(d.x), KERNEL(d.x, d.x), KERNEL.diag(d.x)), "x"),
    "kernels.spectrum": Row(lambda d: kg.kernels.spectrum(KERNEL, d.x).values, "x", host=True),
    "lazy.activation_change": Row(
        lambda d: kg.lazy.activation_change(NET, d.params, d.moved, d.x), "params moved x"
    ),
    "lazy.check_run": Row(
        lambda d: kg.lazy.check_run(_certificate(), d.losses).loss_ratio, "losses", host=True
    ),
    "lazy.convergence_certificate": Row(
        lambda d: kg.lazy.convergence_certificate(
            d.losses[0], kg.lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.02
        ).decrease, "losses", host=True,
    ),
    "lazy.displacement": Row(
        lambda d: kg.lazy.displacement(d.params, d.moved), "params moved", roundings=2000
    ),
    "lazy.divergence_step": Row(lambda d: kg.lazy.divergence_step(d.losses), "losses"),
    "lazy.kernel_change": Row(lambda d: kg.lazy.kernel_change(d.gram, d.gram1), "gram gram1"),
    "lazy.laziness": Row(
        lambda d: kg.lazy.laziness(
            NET, d.params, d.x, d.t, kernel=kg.kernels.empirical_ntk
        )(d.moved), "params moved x t", roundings=4000, partial=True,
    ),
    "lazy.laziness_along": Row(
        lambda d: kg.lazy.laziness_along(NET, [d.params, d.moved], d.x)[:3], "params moved x",
        roundings=4000, partial=True,
    ),
    "lazy.linearization_error": Row(
        lambda d: kg.lazy.linearization_error(NET, d.params, d.moved, d.x), "params moved x",
        roundings=4000,
    ),
    "lazy.min_norm_distance": Row(
        lambda d: kg.lazy.min_norm_distance(d.gram, d.t), "gram t", roundings=4000
    ),
    "lazy.output_curvature": Row(
        lambda d: kg.lazy.output_curvature(SMOOTH, d.params, d.x)(0.5), "params x", host=True
    ),
    "lazy.tangent_lipschitz": Row(
        lambda d: kg.lazy.tangent_lipschitz(SMOOTH, d.params, d.x)(0.5), "params x", host=True
    ),
    "margins.duality_gap": Row(
        lambda d: kg.margins.duality_gap(NET, d.params, d.x, d.y, l2=0.1, steps=0)[:2],
        "params x y", host=True,
    ),
    "margins.global_net": Row(
        lambda d: kg.margins.global_net(
            d.x, d.y, l2=0.1, key=_random, max_iterations=0
        ).loss, "x y", host=True
    ),
    "margins.global_path": Row(
        lambda d: kg.margins.global_path(
            d.x, d.y, l2s=(0.2, 0.1), key=_random, max_iterations=0
        )[1].loss, "x y", host=True
    ),
    "margins.kkt_residuals": Row(
        lambda d: kg.margins.kkt_residuals(NET, d.params, d.x, _classified(d))[:3], "params x",
        host=True
    ),
    "margins.kkt_residuals (exponential)": Row(
        lambda d: kg.margins.kkt_residuals(
            NET, d.params, d.x, d.y, multipliers="exponential"
        )[:3], "params x y",
    ),
    "margins.max_margin": Row(
        lambda d: kg.margins.max_margin(d.x, d.y, key=_random, width=4, steps=20, rounds=0).lower,
        "x y", least=0.3, host=True,
    ),
    "margins.most_violating_unit": Row(
        lambda d: kg.margins.most_violating_unit(d.x, d.t, key=_random).value,
        "x t", least=0.3, host=True,
    ),
    "margins.regularization_path": Row(
        lambda d: kg.margins.regularization_path(NET, d.params, d.x, d.y, **_path).log_loss, "params x y",
        roundings=1e4,
    ),
    "margins.upper_bound": Row(
        lambda d: kg.margins.upper_bound(d.x, d.y).value, "x y", least=0.1, host=True
    ),
    "margins.violation_bound": Row(
        lambda d: kg.margins.violation_bound(d.x, d.t).value, "x t", host=True
    ),
    "metrics.error_rate": Row(lambda d: kg.metrics.error_rate(d.f, d.y), "f y"),
    "metrics.error_rate (classes)": Row(
        lambda d: kg.metrics.error_rate(d.f3, d.labels), "f3 labels"
    ),
    "metrics.kernel_alignment": Row(
        lambda d: kg.metrics.kernel_alignment(d.gram, d.gram1), "gram gram1"
    ),
    "metrics.kernel_distance": Row(
        lambda d: kg.metrics.kernel_distance(d.gram, d.gram1), "gram gram1"
    ),
    "metrics.normalized_margin": Row(
        lambda d: [
            kg.metrics.normalized_margin(NET, d.params, d.x, d.y, norm=norm)
            for norm in ("l2", "balanced", "mean_field", "layer_product")
        ], "params x y",
    ),
    "metrics.normalized_margin (classes)": Row(
        lambda d: kg.metrics.normalized_margin(THREE, d.params3, d.x, d.labels, smooth=True),
        "params3 x labels",
    ),
    "metrics.output_margins": Row(
        lambda d: kg.metrics.output_margins(d.f, d.y), "f y"
    ),
    "metrics.output_margins (classes)": Row(
        lambda d: kg.metrics.output_margins(d.f3, d.labels), "f3 labels"
    ),
    "metrics.output_margins (smooth)": Row(
        lambda d: kg.metrics.output_margins(d.f, d.y, smooth=True), "f y"
    ),
    "metrics.output_margins (smooth, classes)": Row(
        lambda d: kg.metrics.output_margins(d.f3, d.labels, smooth=True), "f3 labels"
    ),
    "metrics.target_alignment": Row(
        lambda d: kg.metrics.target_alignment(d.gram, d.t), "gram t"
    ),
    "models.apply": Row(
        lambda d: (NET.apply(d.params, d.x), SMOOTH.apply(d.params, d.x)), "params x"
    ),
    "models.linearize": Row(
        lambda d: kg.models.linearize(NET, d.params).apply(d.moved, d.x), "params moved x",
        roundings=2000,
    ),
    "models.preactivations": Row(
        lambda d: kg.models.preactivations(NET, d.params, d.x), "params x"
    ),
    "objectives.log_regularized_logistic": Row(
        lambda d: kg.objectives.log_regularized_logistic(NET.apply, log_l2=-1.0)(
            d.params, d.x, d.y
        ), "params x y",
    ),
    "objectives.logistic_losses": Row(lambda d: kg.objectives.logistic_losses(d.f, d.y), "f y"),
    "objectives.logistic_losses (classes)": Row(
        lambda d: kg.objectives.logistic_losses(d.f3, d.labels), "f3 labels"
    ),
    "objectives.logistic_losses (log)": Row(
        lambda d: kg.objectives.logistic_losses(d.f, d.y, log=True), "f y"
    ),
    "objectives.logistic_losses (log, classes)": Row(
        lambda d: kg.objectives.logistic_losses(d.f3, d.labels, log=True), "f3 labels"
    ),
    "objectives.regularized_logistic": Row(
        lambda d: kg.objectives.regularized_logistic(NET.apply, l2=d.l2)(d.params, d.x, d.y),
        "params x y l2",
    ),
    "objectives.regularized_squared": Row(
        lambda d: kg.objectives.regularized_squared(NET.apply, l2=d.l2)(d.params, d.x, d.t),
        "params x t l2",
    ),
    "objectives.squared_losses": Row(lambda d: kg.objectives.squared_losses(d.f, d.t), "f t"),
    "optim.noisy_gd": Row(_noisy, "moved", partial=True),
    "optim.scale_by_fan_in": Row(
        lambda d: kg.optim.scale_by_fan_in(NET, 4).update(d.moved, None)[0], "moved",
        partial=True,
    ),
    "optim.train": Row(_train, "params x y"),
    "predictors.best_in_span": Row(
        lambda d: kg.predictors.best_in_span(KERNEL, d.x, d.x, d.t).decision_function(d.x),
        "x t", roundings=1e4,
    ),
    "predictors.hard_margin_svm": Row(
        lambda d: _svm(kg.predictors.hard_margin_svm(KERNEL, d.x, d.y)), "x y", least=1e-3
    ),
    "predictors.kernel_logistic": Row(
        lambda d: kg.predictors.kernel_logistic(KERNEL, d.x, d.y, l2=d.l2).margin, "x y l2",
        least=1e-3,
    ),
    "predictors.kernel_ridge": Row(
        lambda d: kg.predictors.kernel_ridge(KERNEL, d.x, d.t, l2=d.l2).decision_function(d.x),
        "x t l2", roundings=4000,
    ),
    "predictors.logistic_path": Row(
        lambda d: [
            p.margin for p in kg.predictors.logistic_path(KERNEL, d.x, d.y, l2s=(1e-1, 1e-2))
        ], "x y",
        least=1e-3,
    ),
}  # fmt: skip


@lru_cache
def _certificate() -> Any:
    return kg.lazy.convergence_certificate(
        0.5, kg.lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.02
    )
