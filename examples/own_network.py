"""Analyse your own network: its laws, tangent kernel, margin and laziness.

Replace `init` and `apply` by your own. This network has two ReLU layers without biases, so it is
homogeneous of degree 2. Its parameters are a dict; any tree works.
"""

from typing import Any

import jax
import optax

import kernelgap as kg

WIDTH = 256


def init(key: jax.Array, d: int, dtype: Any = None) -> dict[str, jax.Array]:
    """Draw standard normal weights."""
    first, second = jax.random.split(key)
    hidden = jax.random.normal(first, (d, WIDTH), dtype)
    return {"hidden": hidden, "readout": jax.random.normal(second, (WIDTH,), dtype)}


def apply(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Compute outputs of shape (n,)."""
    return jax.nn.relu(x @ params["hidden"]) @ params["readout"] / WIDTH**0.5


def main(n: int = 128, d: int = 10, steps: int = 2000) -> dict[str, float]:
    """Check the laws, train the network, and return the measurements."""
    data_key, init_key, search_key = jax.random.split(jax.random.key(0), 3)
    x, y = kg.datasets.xor_noise(data_key, n, d)
    model = kg.models.Model(init, apply, degree=2)
    params = model.init(init_key, d)
    kernel = kg.kernels.empirical_ntk(apply, params)
    kg.testing.assert_homogeneous(apply, params, x[:20], degree=2)  # or AssertionError
    kg.testing.assert_kernel(kernel, x[:20])

    panel = kg.lazy.laziness(apply, params, x, y, kernel=kg.kernels.empirical_ntk)
    loss = kg.objectives.regularized_logistic(apply, l2=1e-4)
    trained = kg.optim.train(loss, params, (x, y), optax.adam(1e-2), steps=steps)
    change = panel(trained.params)
    # The bound is for networks without our factor 1 / sqrt(WIDTH).
    best = kg.margins.max_margin(x, y, key=search_key)
    results = {
        "margin of the kernel's SVM": kg.predictors.hard_margin_svm(kernel, x, y).margin,
        "normalised margin at the start": kg.metrics.normalized_margin(model, params, x, y),
        "after training": kg.metrics.normalized_margin(model, trained.params, x, y),
        "of any width, at most": best.upper / WIDTH**0.5,
        "change of the kernel": change.kernel_change,
        "change of the weights": change.relative_displacement,
    }
    for name, value in results.items():
        print(f"{name:31s} {value:8.4f}")
    return {name: float(value) for name, value in results.items()}


if __name__ == "__main__":
    main()
