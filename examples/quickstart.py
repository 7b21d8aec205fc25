# %% [markdown]
# # The gap in five minutes
#
# A network and its tangent kernel learn from the same samples of the XOR distribution: two
# coordinates carry the signal, d - 2 are noise. Run this file as a script, or cell by cell in an
# editor that supports `# %%`.

# %%
import jax
import optax

import kernelgap as kg

# %% [markdown]
# n = 8d samples are plenty for the network, but far fewer than the d^2 that the kernel needs.


# %%
def main(d: int = 20, ratio: int = 8) -> dict[str, float]:
    """Train both learners on n = ratio * d samples and return their test errors."""
    train_key, test_key, init_key, noise_key = jax.random.split(jax.random.key(0), 4)
    n = ratio * d
    x, y = kg.datasets.xor_noise(train_key, n, d)
    x_test, y_test = kg.datasets.xor_noise(test_key, 5000, d)

    # %% [markdown]
    # ## The kernel: a hard-margin SVM with a certified duality gap

    # %%
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
    svm = kg.predictors.hard_margin_svm(kernel, x, y)
    kernel_error = float(kg.metrics.error_rate(svm.decision_function(x_test), y_test))
    print(f"NTK SVM: test error {kernel_error:.3f}, duality gap {float(svm.duality_gap):.0e}")

    # %% [markdown]
    # ## The network: logistic loss with weak l2 regularisation

    # %%
    model = kg.models.homogeneous_mlp((128,))
    params = model.init(init_key, d)
    for l2 in (1e-2, 1e-3, 1e-4):
        loss = kg.objectives.regularized_logistic(model.apply, l2=l2)
        params = kg.optim.train(loss, params, (x, y), optax.adam(0.02), steps=500).params
    net_error = float(kg.metrics.error_rate(model.apply(params, x_test), y_test))
    margin = float(kg.metrics.normalized_margin(model, params, x, y, norm="balanced"))
    print(f"net:     test error {net_error:.3f}, normalised margin {margin:.3f}")
    print(f"         (the planted net of four units has {1 / 8})")

    # %% [markdown]
    # ## Noisy gradient descent, the optimiser of the paper's convergence proof

    # %%
    loss = kg.objectives.regularized_logistic(model.apply, l2=1e-2)
    noisy = kg.optim.noisy_gd(0.5, resample_rate=1e-3, neurons=model.neurons, key=noise_key)
    trained = kg.optim.train(loss, model.init(init_key, d), (x, y), noisy, steps=4000)
    noisy_error = float(kg.metrics.error_rate(model.apply(trained.params, x_test), y_test))
    print(f"noisy:   test error {noisy_error:.3f}, loss {float(trained.losses[-1]):.3f}")
    return {"kernel": kernel_error, "net": net_error, "noisy": noisy_error}


# %%
if __name__ == "__main__":
    main()
