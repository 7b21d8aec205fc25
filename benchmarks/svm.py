"""Hard-margin SVM: scikit-learn's libsvm on the same Gram matrix, and large n without one."""

import argparse
import resource
import time
from functools import partial

import jax
import numpy as np
from sklearn.svm import SVC

import kernelgap as kg
from timing import compare, describe


def main() -> None:
    """Time both and compare the margins they reach; then a problem that libsvm cannot hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=6400)
    parser.add_argument("--d", type=int, default=40)
    parser.add_argument("--free", type=int, nargs="*", default=[20_000], help="n without the Gram")
    parser.add_argument("--free-d", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    describe()
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
    _against_libsvm(kernel, arguments.n, arguments.d, arguments.seeds)
    for n in arguments.free:
        _without_gram(kernel, n, arguments.free_d)


def _against_libsvm(kernel: kg.kernels.Kernel, n: int, d: int, seeds: int) -> None:
    for seed in range(seeds):
        x, y = kg.datasets.xor_noise(jax.random.key(seed), n, d)
        gram, labels = kernel(x), np.asarray(y)
        ours = partial(kg.predictors.hard_margin_svm, _Given(gram), x, y)
        # With bias, unlike ours: libsvm has no other. Its margin is that of f + b.
        svc = SVC(kernel="precomputed", C=1e8, cache_size=4000)
        gram_numpy = np.asarray(gram, np.float64)
        libsvm = partial(svc.fit, gram_numpy, labels)
        if seed == 0:
            print(f"hard-margin SVM after the Gram, n = {n}, d = {d}, {gram.dtype}")
            compare(
                {
                    "kernelgap": lambda f=ours: f().coef,
                    "libsvm (C = 1e8)": lambda f=libsvm: f().dual_coef_,
                },
                repeats=3,
            )
        found, theirs = ours(), libsvm()
        beta = np.zeros(n)
        beta[theirs.support_] = theirs.dual_coef_[0]
        outputs = labels * (gram_numpy @ beta + theirs.intercept_[0])
        print(f"seed {seed}: margin kernelgap {float(found.margin):.6f} (gap "
              f"{float(found.duality_gap):.0e}, support {int(found.support_size)}), "
              f"libsvm {outputs.min() / np.sqrt(beta @ gram_numpy @ beta):.6f}")  # fmt: skip


class _Given:
    """A kernel whose Gram matrix is there already."""

    def __init__(self, gram: jax.Array) -> None:
        self.gram = gram

    def __call__(self, x1: jax.Array, x2: jax.Array | None = None) -> jax.Array:
        del x1, x2
        return self.gram


def _without_gram(kernel: kg.kernels.Kernel, n: int, d: int) -> None:
    x, y = kg.datasets.xor_noise(jax.random.key(0), n, d)
    solver = kg.predictors.MatrixFree()
    fit = partial(kg.predictors.hard_margin_svm, kernel, x, y, solver=solver)
    started = time.perf_counter()
    fit()
    first = time.perf_counter() - started
    started = time.perf_counter()
    found = fit()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"matrix-free, n = {n}, d = {d}: {seconds:.1f} s (first call {first:.1f} s), gap "
        f"{float(found.duality_gap):.1e}, margin {float(found.margin):.6f}, support "
        f"{int(found.support_size)}, {int(found.iterations)} systems, peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
