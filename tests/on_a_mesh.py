"""Public calls with arrays that are split over the four devices of a mesh; run by test_arrays."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

import kernelgap as kg

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
warnings.simplefilter("ignore")

devices = jax.devices()
explicit = jax.make_mesh((4,), ("d",))  # axes of explicit type, in new versions of JAX
auto = Mesh(np.array(devices), ("d",))

rng = np.random.default_rng(0)
shapes = {
    "x": (12, 4),
    "z": (7, 4),
    "v": (12,),
    "hidden": (8, 4),
    "readout": (8,),
    "centers": (8, 4),
}
plain = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
plain["y"] = np.sign(plain["v"])
model = kg.models.homogeneous_mlp((8,))
kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((8,), parameterization="ntk"))
plain["gram"] = np.asarray(kernel(plain["x"]))
loss = kg.objectives.regularized_logistic(model.apply, l2=1e-3)


def net(a):
    return a["hidden"], a["readout"]


def moved(a):
    return jax.tree.map(lambda w: 1.5 * jnp.asarray(w), net(a))


def fitted(predictor, a):
    return predictor.coef, predictor.decision_function(a["z"]), predictor.predict(a["x"])


CALLS = {
    "apply": lambda a: model.apply(net(a), a["x"]),
    "loss": lambda a: loss(net(a), a["x"], a["y"]),
    "losses": lambda a: kg.objectives.squared_losses(a["v"], a["y"]),
    "train": lambda a: kg.optim.train(loss, net(a), (a["x"], a["y"]), optax.adam(0.1), steps=2),
    "normalized_margin": lambda a: kg.metrics.normalized_margin(model, net(a), a["x"], a["y"]),
    "linearization_error": lambda a: kg.lazy.linearization_error(
        model, net(a), moved(a), a["x"]
    ),
    "target_alignment": lambda a: kg.metrics.target_alignment(a["gram"], a["y"]),
    "smallest": lambda a: kg.diversity.smallest_singular_value(a["hidden"], a["x"])[:2],
    "near_start": lambda a: kg.bounds.leave_one_out(jnp.abs(a["v"]), n=12, radius=5.0),
    "eigenvalue_enclosure": lambda a: kg.bounds.eigenvalue_enclosure(a["gram"])[:2],
    "kernel": lambda a: (kernel(a["x"]), kernel(a["x"], a["z"]), kernel.diag(a["x"])),
    "empirical": lambda a: kg.kernels.empirical_ntk(model, net(a))(a["x"]),
    "gram": lambda a: kg.kernels.gram(kernel, a["x"], a["z"]),
    "matmul": lambda a: kg.kernels.matmul(kernel, a["z"], a["v"], x2=a["x"]),
    "spectrum": lambda a: kg.kernels.spectrum(a["gram"]).values,
    "nearest_pair": lambda a: kg.kernels.nearest_pair(a["x"]),
    "svm": lambda a: fitted(kg.predictors.hard_margin_svm(kernel, a["x"], a["y"]), a),
    "ridge": lambda a: fitted(kg.predictors.kernel_ridge(kernel, a["x"], a["v"], l2=0.1), a),
    "logistic": lambda a: fitted(kg.predictors.kernel_logistic(kernel, a["x"], a["y"], l2=0.1), a),
    "span": lambda a: fitted(
        kg.predictors.best_in_span(kernel, a["centers"], a["x"], a["y"]), a
    ),
    "duality_gap": lambda a: kg.margins.duality_gap(
        model, net(a), a["x"], a["y"], l2=1e-2, steps=2
    )[:2],
}  # fmt: skip


def split(mesh, axis=0, only=None):
    def one(name, array):
        divides = array.ndim > axis and array.shape[axis] % 4 == 0
        spec = P(*[None] * axis, "d") if divides else P()
        return jax.device_put(array, NamedSharding(mesh, spec))

    return {name: one(name, a) if only is None or name in only else a for name, a in plain.items()}


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if not isinstance(leaf, str)]


def close(found, expected, what):
    for one, other in zip(numbers(found), expected, strict=True):
        scale = max(np.max(np.abs(other), initial=0), 1)
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4 * scale, err_msg=what)


rows, columns, only_x = split(explicit), split(explicit, 1), split(explicit, 0, "x")
expected = {name: numbers(call(plain)) for name, call in CALLS.items()}
for name, call in CALLS.items():
    found = call(rows)
    close(found, expected[name], name)
    # What comes back goes with the user's other arrays of the mesh.
    for leaf in jax.tree.leaves(found):
        if isinstance(leaf, jax.Array) and leaf.committed:
            leaf + jax.device_put(np.zeros(leaf.shape, leaf.dtype), NamedSharding(explicit, P()))
for name in ("apply", "kernel", "matmul"):
    close(jax.jit(CALLS[name])(rows), expected[name], f"{name} under jit")
    close(CALLS[name](split(auto)), expected[name], f"{name} on an auto mesh")
    close(CALLS[name](columns), expected[name], f"{name} of columns")
for name in ("train", "linearization_error", "gram", "duality_gap"):
    close(CALLS[name](only_x), expected[name], f"{name} where x alone is split")

# Arrays that are elsewhere than a predictor, and than one another.
x, y, z = (plain[name] for name in "xvz")
right = kg.predictors.kernel_ridge(kernel, x, y, l2=0.1).decision_function(z)
places = [explicit, auto, devices[1], None]
for mesh in (explicit, auto):
    for place in (auto, devices[1], "rows"):
        where = NamedSharding(place, P()) if isinstance(place, Mesh) else place
        near = rows if place == "rows" else {"x": jax.device_put(x, where), "v": y}
        predictor = kg.predictors.kernel_ridge(
            kernel, near["x"], near["v"], l2=0.1, solver=kg.predictors.MatrixFree(mesh=mesh)
        )
        for other in places:
            where = NamedSharding(other, P()) if isinstance(other, Mesh) else other
            new = jax.device_put(z, where)
            found = predictor.decision_function(new)
            close(found, [np.asarray(right)], f"{mesh}, {place}, {other}")
            if other is devices[1]:
                assert found.devices() == {devices[1]}
split_gram = kg.kernels.gram(kernel, x, mesh=explicit)
close(kg.kernels.spectrum(split_gram).values, expected["spectrum"], "spectrum of a result")
assert kg.metrics.kernel_alignment(split_gram, split_gram) > 0.999

# An array on one device is computed with there.
there = {name: jax.device_put(array, devices[2]) for name, array in plain.items()}
for name in ("apply", "kernel", "gram", "matmul", "ridge"):
    for leaf in jax.tree.leaves(CALLS[name](there)):
        assert leaf.devices() == {devices[2]}, name
