"""Hard-margin SVM against scikit-learn's libsvm, on the same Gram matrix."""

import argparse

import jax
import numpy as np
from sklearn.svm import SVC

import kernelgap as kg
from timing import compare, describe


def main() -> None:
    """Time both and compare the margins they reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=3200)
    parser.add_argument("--d", type=int, default=40)
    arguments = parser.parse_args()
    describe()
    x, y = kg.datasets.xor_noise(jax.random.key(0), arguments.n, arguments.d)
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
    gram, labels = kernel(x), np.asarray(y)
    gram_numpy = np.asarray(gram, np.float64)

    def given(a: jax.Array, b: jax.Array | None = None) -> jax.Array:
        del a, b
        return gram

    def libsvm() -> SVC:
        # With bias, unlike ours: libsvm has no other. Its margin is that of f + b.
        return SVC(kernel="precomputed", C=1e8, cache_size=2000).fit(gram_numpy, labels)

    print(f"hard-margin SVM after the Gram, n = {arguments.n}, d = {arguments.d}")
    compare(
        {
            "kernelgap": lambda: kg.predictors.hard_margin_svm(given, x, y).coef,
            "libsvm (C = 1e8)": lambda: libsvm().dual_coef_,
        },
        repeats=3,
    )
    ours, theirs = kg.predictors.hard_margin_svm(given, x, y), libsvm()
    beta = np.zeros(arguments.n)
    beta[theirs.support_] = theirs.dual_coef_[0]
    outputs = labels * (gram_numpy @ beta + theirs.intercept_[0])
    print(f"margin: kernelgap {float(ours.margin):.6f} (gap {float(ours.gap):.0e}), "
          f"libsvm {outputs.min() / np.sqrt(beta @ gram_numpy @ beta):.6f}")  # fmt: skip


if __name__ == "__main__":
    main()
