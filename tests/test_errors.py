"""Errors of the whole public interface have one voice: eager, and they name the argument."""

import importlib
import inspect
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg

ROOMS = (
    "bounds", "datasets", "diversity", "kernels", "lazy", "margins", "metrics", "models",
    "objectives", "optim", "predictors", "proofs", "saving", "studies", "testing",
)  # fmt: skip
FLAGS = {  # anything is true or false
    "decreasing", "gated", "increasing", "keep_gram", "log", "overwrite", "progress", "resume", "smooth", "squared", "upper", "wide",
}  # fmt: skip
WORDS = {"path", "out"}  # for which a string is right

key = jax.random.key(0)
net = kg.models.homogeneous_mlp((4,))
smooth_net = kg.models.mlp((4,), parameterization="ntk")
params, smooth_params = net.init(key, 3), smooth_net.init(key, 3)
x, y = kg.datasets.xor_noise(key, 12, 3)
kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((4,), parameterization="ntk"))
gram = x @ x.T + jnp.eye(12)
loss = kg.objectives.regularized_logistic(net.apply, l2=0.1)
certificate = kg.lazy.convergence_certificate(
    0.5, kg.lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.02
)
data = {"x": x, "y": y}
of_net = {"model": net, "params": params, "x": x}
of_smooth = {"model": smooth_net, "params": smooth_params, "x": x}
measured = {"model": net, "x": x, "y": y, "kernel": kg.kernels.empirical_ntk}
of_grams = {"gram0": gram, "gram": gram}


def _result():
    config = kg.studies.noisy_gd.NoisyGDConfig()
    study = kg.studies.STUDIES["noisy-gd"]
    return kg.studies.Result(study, config, {}, [], {})


# What a call needs; arguments that are not here are left at their defaults.
GIVEN = {
    "bounds.deep_margin_bound": {"margin": 0.1, "depth": 2, "n": 100, "radius": 2.0},
    "bounds.eigenvalue_enclosure": {"gram": gram},
    "bounds.kernel_margin_bound": {"margin": 0.1, "n": 100, "radius": 2.0},
    "bounds.leave_one_out": {"margin": 0.1, "n": 100, "radius": 2.0},
    "bounds.lazy_bound": {"distance": 0.9, "trace": 1.0, "n": 100},
    "bounds.discrepancy_bound": {"n": 10, "d": 3, "width": 20, "discrepancy": 0.1},
    "bounds.sample_gram_bound": {"x": x},
    "bounds.squared_loss_bound": {
        "train_loss": 0.1, "n": 100, "norm_sum": 1.0, "largest_target": 1.0,
    },
    "bounds.uniform_gram_bound": {"n": 10, "d": 3},
    "bounds.xor_span_bound": {
        "kernel": kg.kernels.ntk(net), "centers": kg.datasets.xor_noise(key, 5, 4).x
    },
    "bounds.two_layer_margin_bound": {"margin": 0.1, "n": 100, "radius": 2.0},
    "datasets.digits": {},
    "datasets.even_moments": {"x": x},
    "datasets.iid_inputs": {"key": key, "n": 4, "d": 3},
    "datasets.mnist": {"path": "."},
    "datasets.moment": {"order": 4},
    "datasets.planted_teacher": {"key": key, "d": 3},
    "datasets.planted_xor": {"d": 3},
    "datasets.sphere": {"key": key, "n": 4, "d": 3},
    "datasets.teacher": {"key": key, "n": 4, "d": 3},
    "datasets.teacher_acceptance": {"key": key, "params": params, "margin": 0.1},
    "datasets.xor_noise": {"key": key, "n": 4, "d": 3},
    "diversity.add_diversity_penalty": {"loss": loss, "strength": 0.1},
    "diversity.diversity_kernel": {},
    "diversity.diversity_penalty": {"w": params[0]},
    "diversity.extended_feature_gram": {"w": params[0], "x": x},
    "diversity.hemisphere_discrepancy": {"w": params[0]},
    "diversity.max_slice_discrepancy": {"w": params[0], "key": key},
    "diversity.pl_bound": {"gradient": params, "smallest": 0.5, "n": 12},
    "diversity.slice_discrepancy": {"w": params[0]},
    "diversity.smallest_singular_value": {"w": params[0], "x": x},
    "kernels.convert": {"kernel": kernel, "convention": "arora"},
    "kernels.empirical_ntk": {"model": net, "params": params},
    "kernels.extreme_eigenvalues": {"kernel": kernel, "x": x},
    "kernels.gram": {"kernel": kernel, "x1": x, "x2": x},
    "kernels.matmul": {"kernel": kernel, "x1": x, "v": y},
    "kernels.nearest_pair": {"x": x},
    "kernels.nngp": {"model": net},
    "kernels.ntk": {"model": net},
    "kernels.spectrum": {"kernel": kernel, "x": x},
    "kernels.zonal_spectrum": {"kernel": kernel, "d": 3, "degree": 2},
    "lazy.activation_change": {**of_net, "params0": params},
    "lazy.check_run": {"certificate": certificate, "losses": np.array([0.5, 0.4])},
    "lazy.convergence_certificate": {
        "initial_loss": 0.5, "loss": kg.lazy.squared_loss_constants(10), "lambda_min": 1.0,
        "lambda_max": 20.0, "lipschitz": 0.02,
    },
    "lazy.displacement": {"params0": params, "params": params},
    "lazy.divergence_step": {"losses": jnp.ones(3)},
    "lazy.kernel_change": of_grams,
    "lazy.laziness": {"params0": params, **measured},
    "lazy.laziness_along": {"trajectory": [params, params], **measured},
    "lazy.linearization_error": {**of_net, "params0": params},
    "lazy.logistic_loss_constants": {"n": 10, "initial_loss": 0.6, "target": 0.1},
    "lazy.min_norm_distance": {"gram": gram, "residuals": y},
    "lazy.output_curvature": of_smooth,
    "lazy.squared_loss_constants": {"n": 10},
    "lazy.tangent_lipschitz": of_smooth,
    "margins.duality_gap": {**of_net, "y": y, "l2": 0.1},
    "margins.kkt_residuals": {**of_net, "y": y},
    "margins.global_net": {**data, "l2": 0.1, "key": key},
    "margins.global_path": {**data, "l2s": (0.1, 0.01), "key": key},
    "margins.max_margin": {**data, "key": key},
    "margins.most_violating_unit": {"x": x, "q": y, "key": key},
    "margins.regularization_path": {**of_net, "y": y, "l2s": (0.1, 0.01)},
    "margins.upper_bound": data,
    "margins.violation_bound": {"x": x, "q": y},
    "metrics.kernel_alignment": of_grams,
    "metrics.kernel_distance": of_grams,
    "metrics.normalized_margin": {**of_net, "y": y},
    "metrics.error_rate": {"outputs": y, "y": y},
    "metrics.output_margins": {"outputs": y, "y": y},
    "metrics.target_alignment": {"gram": gram, "y": y},
    "models.fixed_sign_net": {"width": 4},
    "models.homogeneous_mlp": {"widths": (4,)},
    "models.leaky_relu": {},
    "models.mlp": {"widths": (4,)},
    "models.linearize": {"model": net, "params0": params},
    "models.preactivations": of_net,
    "models.relu_power": {"power": 2.0},
    "objectives.log_regularized_logistic": {"apply": net.apply, "log_l2": -1.0},
    "objectives.logistic_losses": {"outputs": y, "y": y},
    "objectives.regularized_logistic": {"apply": net.apply, "l2": 0.1},
    "objectives.regularized_squared": {"apply": net.apply},
    "objectives.squared_losses": {"outputs": y, "y": y},
    "optim.noisy_gd": {"learning_rate": 0.1, "key": key},
    "optim.scale_by_fan_in": {"model": net, "d": 3},
    "optim.train": {
        "loss": loss, "params": params, "data": (x, y), "optimizer": optax.sgd(0.1), "steps": 1,
    },
    "predictors.best_in_span": {"kernel": kernel, "centers": x[:3], "x": x, "y": y},
    "predictors.hard_margin_svm": {"kernel": kernel, **data},
    "predictors.kernel_logistic": {"kernel": kernel, **data, "l2": 0.1},
    "predictors.kernel_ridge": {"kernel": kernel, **data},
    "predictors.logistic_path": {"kernel": kernel, **data, "l2s": (0.1, 0.01)},
    "proofs.verify": {"path": "proof.json"},
    "proofs.write_eigenvalues": {
        "path": "proof.json", "enclosure": kg.bounds.eigenvalue_enclosure(gram), "gram": gram,
    },
    "proofs.write_loss": {"path": "proof.json", "net": (net, params), **data, "l2": 0.1},
    "proofs.write_margin": {
        "path": "proof.json", "certificate": kg.margins.upper_bound(x, y, max_iterations=5), **data,
    },
    "proofs.write_svm": {
        "path": "proof.json", "predictor": kg.predictors.hard_margin_svm(kernel, x, y), "y": y,
    },
    "saving.load": {"path": "net.npz"},
    "saving.save": {"path": "net.npz", "obj": params},
    "studies.compare": {"first": _result(), "second": _result()},
    "studies.means": {"rows": [{"n": 1, "a": 0.5}], "by": ["n"], "metrics": {"a": (0, 1)}},
    "studies.option": {"default": 1, "help": "a number"},
    "studies.over_seeds": {"function": jnp.sin, "arguments": (x,)},
    "testing.activations": {},
    "testing.assert_close": {"actual": x, "expected": x},
    "testing.assert_homogeneous": {"apply": net.apply, "params": params, "x": x, "degree": 2},
    "testing.assert_infinite_width": {"build": lambda m: net, "kernel": kernel, "x": x, "key": key},
    "testing.assert_kernel": {"kernel": kernel, "x": x},
    "testing.assert_lazy_limit": {"build": lambda m: net, **data, "key": key},
    "testing.assert_margin_invariant": {"margin": lambda p: 1.0, "params": params},
    "testing.datasets": {},
    "testing.kernels": {},
    "testing.keys": {},
    "testing.models": {},
}  # fmt: skip


OTHER_NAMES = {  # another name for something that has one
    "alpha", "batch_size", "block", "eta", "kernel_fn", "l2_path", "lr", "max_iter", "max_steps",
    "maxiter", "n_samples", "random_state", "rng", "samples", "seed", "step", "step_size", "weight_decay",
}  # fmt: skip


def _functions():
    for room in ROOMS:
        module = importlib.import_module(f"kernelgap.{room}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(inspect.unwrap(value)):
                yield f"{room}.{name}", value


def _arguments(function):
    return inspect.signature(function).parameters


@pytest.mark.parametrize(("name", "function"), list(_functions()), ids=lambda v: v)
def test_arguments_are_few_and_named_as_elsewhere(name, function):
    arguments = _arguments(function)
    assert not OTHER_NAMES & set(arguments)
    positional = [a.name for a in arguments.values() if a.kind is a.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 4, positional
    assert "key" not in positional[1:]  # first in samplers, by keyword elsewhere
    assert all(a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY) for a in arguments.values())


def test_every_public_function_is_listed():
    assert {name for name, _ in _functions()} == set(GIVEN)


CASES = [
    (name, argument, nonsense)
    for name, function in _functions()
    for argument in _arguments(function)
    if argument not in FLAGS
    for nonsense in (object(), "nonsense", {"a": 1})
    if not (argument in WORDS and isinstance(nonsense, str))
]
OTHERWISE = {  # strings and dicts are fine
    ("saving.save", "obj"), ("studies.option", "default"), ("studies.option", "help"),
    ("studies.option", "divides"), ("studies.option", "at_most"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "function"), list(_functions()), ids=lambda v: v)
def test_nonsense_is_refused_by_name(name, function):
    for case, argument, nonsense in CASES:
        if case != name or (name, argument) in OTHERWISE:
            continue
        with pytest.raises((TypeError, ValueError)) as caught:
            function(**(GIVEN[name] | {argument: nonsense}))
        message = str(caught.value)
        assert re.search(rf"`{argument}\b", message), f"{argument}={nonsense!r}: {message}"
        assert len(message) < 400, message
        # Raised here, not in JAX, NumPy or optax.
        assert "kernelgap" in str(caught.traceback[-1].path), (argument, message)


def _again(name, **change):
    room, function = name.split(".")
    return getattr(getattr(kg, room), function)(**(GIVEN[name] | change))


def _fit():
    return _again("predictors.kernel_ridge")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: _again("metrics.output_margins", y=(y + 1) / 2), ValueError,
         r"got \[0.0.*\]. For labels 0 and 1 pass 2.0 \* y - 1"),
        (lambda: _again("metrics.output_margins", y=y.astype(complex)), TypeError,
         "`y` must hold labels -1 and \\+1; got dtype complex"),
        (lambda: _again("objectives.logistic_losses", outputs=jnp.ones((12, 1))), ValueError,
         r"`outputs` must have shape .* k >= 2; got \(12, 1\)"),
        (lambda: _again("objectives.logistic_losses", log=True, outputs=y[:0], y=y[:0]), ValueError,
         "`outputs` must have shape .* n >= 1"),
        (lambda: _again("objectives.squared_losses", outputs=y[:0], y=y[:0]), ValueError,
         "`outputs` must have shape .* n, k >= 1"),
        (lambda: loss(params, x[:0], y[:0]), ValueError, "`outputs` must have shape"),
        (lambda: net.apply(params, x.astype(int)), TypeError, "`x` must be a floating-point array"),
        (lambda: net.apply(params, x[:, :0]), ValueError, "`x` must have shape .* d >= 1"),
        (lambda: net.apply([w.tolist() for w in params], x), TypeError,
         "`params` must be the tuple of 2 weight arrays"),
        (lambda: net.init(key, 3, int), TypeError, "`dtype` must be a floating dtype; got int"),
        (lambda: net.init(key, 3, "real"), TypeError, "`dtype` must be a floating dtype"),
        (lambda: kernel(x, None, 3), TypeError, "`get` must be a name, a sequence of names, or N"),
        (lambda: kernel(x, None, ()), TypeError, "`get` must be a name"),
        (lambda: kg.models.mlp((4,), activation=kg.models.Activation(1.0, 0.0, 0.5)), ValueError,
         "`activation.power` must be a finite number >= 1; got 0.5"),
        (lambda: kg.models.mlp((4,), activation=kg.models.Activation("1", 0.0, 1.0)), TypeError,
         "`activation.positive` must be a finite number"),
        (lambda: _again("models.preactivations", model=replace(net, spec="mine")), TypeError,
         "`model` must describe its layers, .*; got a Model of your own"),
        (lambda: _again("kernels.ntk", model=replace(net, spec="mine")), TypeError,
         "describes its layers; got a Model of your own"),
        (lambda: _again("optim.train", data=(x, y, y)), TypeError, r"a pair \(x, y\); got tuple"),
        (lambda: _again("optim.train", params=(params[0] * np.nan, params[1])), ValueError,
         r"`params\[0\]` must be finite"),
        (lambda: _again("optim.train", opt_state=optax.adam(0.1).init(params)), ValueError,
         "`opt_state` must be a state of `optimizer` for these parameters"),
        (lambda: _again("lazy.convergence_certificate", lambda_min=[]), ValueError, "got shape \\(0,\\)"),
        (lambda: _again("lazy.convergence_certificate", lambda_max=0.5), ValueError,
         "`lambda_max` must be at least `lambda_min`; got 0.5 and 1.0"),
        (lambda: _again("lazy.tangent_lipschitz", params=(np.nan * smooth_params[0],
         smooth_params[1])), ValueError, r"`params\[0\]` must be finite"),
        (lambda: _again("lazy.laziness", kernel=kernel), TypeError,
         "`kernel` must be a function that builds a kernel .*empirical_ntk itself"),
        (lambda: _again("lazy.linearization_error", params=(params[0] * np.nan, params[1])),
         ValueError, r"`params\[0\]` must be finite"),
        (lambda: _again("kernels.zonal_spectrum", kernel=lambda a, b: a @ b.T), TypeError,
         "`kernel` as a function must be a profile of one argument"),
        (lambda: _fit().predict(x[:, :2]), ValueError, r"`x` must have shape \(n, 3\); got"),
        (lambda: _fit().predict(x.astype(jnp.float16)), TypeError, "`x` must have the dtype of the"),
        (lambda: kg.save("study.npz", _result()), TypeError, "study has a `save` method"),
        (lambda: kg.load("gap"), ValueError, "end in .npz or be the folder of a study.*; got 'gap'"),
        (lambda: kg.load("gap.npz", study=_result().study), ValueError, "`study` is for results of"),
        (lambda: kg.save("gap.json", params), ValueError, "`path` must end in .npz; got 'gap.json'"),
        (lambda: _result().save(None), TypeError, "`out` must be the name of a folder; got NoneType"),
        (lambda: kg.models.mlp((4,), activation=jax.nn.relu), TypeError,
         "`activation` must be one of 'gelu', .*, or a models.Activation or a models.Smooth"),
        (lambda: _again("datasets.teacher", params=params[:1]), TypeError, "`params` must be a pair"),
        (lambda: _again("testing.assert_homogeneous", scales=()), ValueError, "`scales` must be"),
        (lambda: _again("testing.assert_margin_invariant", scales=(0.0,)), ValueError, "`scales`"),
        (lambda: _again("testing.assert_close", actual=np.arange(3)), TypeError,
         "`actual` must be a floating-point array"),
        (lambda: _again("testing.assert_close", actual=x[:1]), AssertionError,
         "`expected` must have the shape"),
        (lambda: _again("testing.datasets", classes=1), ValueError, "`classes` must be an integer"),
        (lambda: _again("testing.models", outputs=[]), ValueError, "`outputs` must be a sequence"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_any_work(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_lists_and_numpy_arrays_are_arrays():
    assert kg.metrics.output_margins([1.0, -2.0], [1, -1]).tolist() == [1, 2]
    assert kg.objectives.squared_losses([1.0, 3.0], np.ones(2)).tolist() == [0, 2]
    assert net.apply(tuple(map(np.asarray, params)), np.asarray(x)).shape == (12,)
    assert kg.models.preactivations(net, params, x.tolist())[0].shape == (12, 4)


def test_unknown_values_stay_unknown_under_jit():
    """A net that diverged is not called lazy."""
    panel = jax.jit(kg.lazy.laziness(**GIVEN["lazy.laziness"]))  # type: ignore[arg-type]
    assert all(np.all(value == 0) for value in panel(params)[:6])
    lost = panel(jax.tree.map(lambda w: w * np.nan, params))
    for name, value in lost._asdict().items():
        assert value is None or name == "activation_change" or np.isnan(value), name
    assert np.isnan(kg.lazy.displacement(params, (params[0] * np.nan, params[1])))
