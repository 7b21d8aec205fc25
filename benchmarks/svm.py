"""Hard-margin SVM: scikit-learn's libsvm on the same Gram matrix, and large n without one.

`--regimes` compares both where few, some or nearly all points are support vectors, where rows
repeat, and for ten classes; `--mnist FOLDER` adds rows of MNIST.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from functools import partial

import jax
import numpy as np
from sklearn.svm import SVC

import kernelgap as kg
from timing import compare, describe, seconds


def main() -> None:
    """Time both and compare the margins they reach; then a problem that libsvm cannot hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=6400)
    parser.add_argument("--d", type=int, default=40)
    parser.add_argument("--free", type=int, nargs="*", default=[20_000], help="n without the Gram")
    parser.add_argument("--free-d", type=int, default=100)
    parser.add_argument("--block", type=int, help="points that may be factorised without the Gram")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--regimes", action="store_true")
    parser.add_argument("--mnist", help="folder of the four files of MNIST")
    arguments = parser.parse_args()
    describe()
    if arguments.regimes or arguments.mnist:
        _all_regimes(arguments.mnist)
        return
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
    if arguments.seeds:
        _against_libsvm(kernel, arguments.n, arguments.d, arguments.seeds)
    for n in arguments.free:
        _without_gram(kernel, n, arguments.free_d, arguments.block)


def _regimes(mnist: str | None) -> Iterator[tuple[str, int, np.ndarray, np.ndarray, int | None]]:
    """Yield name, hidden layers, inputs, labels and number of classes."""
    for n, d in ((1000, 10), (3000, 10), (4000, 20), (10_000, 20), (6400, 40)):
        x, y = kg.datasets.xor_noise(jax.random.key(0), n, d)
        yield f"XOR, n = {n}, d = {d}", 1, np.asarray(x), np.asarray(y), None
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 20)).astype(np.float32)
    yield "normal, random labels, n = 1000", 1, x, np.sign(rng.normal(size=1000)), None
    yield "normal, label sign(x_1), n = 1000", 1, x, np.sign(x[:, 0]), None
    x, y = kg.datasets.digits()
    yield f"digits, ten classes, n = {len(x)}", 2, np.asarray(x), np.asarray(y), 10
    if mnist:
        x, y = kg.datasets.mnist(mnist).train
        x, y = np.asarray(x), np.asarray(y)
        pair = np.isin(y, (3, 8))
        yield (
            "MNIST 3 and 8, n = 1500",
            2,
            x[pair][:1500],
            np.where(y[pair] == 3, 1, -1)[:1500],
            None,
        )
        for n in (2000, 8000):
            yield f"MNIST, ten classes, n = {n}", 2, x[:n], y[:n], 10


def _all_regimes(mnist: str | None) -> None:
    print("| data | libsvm, with conversion | first call | again | ratio | support vectors | gap |")
    print("|---|---|---|---|---|---|---|")
    for name, layers, x, y, classes in _regimes(mnist):
        model = kg.models.homogeneous_mlp((1,) * layers, parameterization="ntk")
        gram = jax.block_until_ready(kg.kernels.ntk(model)(x))
        columns = [y] if classes is None else [np.where(y == j, 1, -1) for j in range(classes)]
        fit = partial(kg.predictors.hard_margin_svm, _Given(gram), x, y, classes=classes)
        first, ours, theirs, svm = seconds(fit), [], [], fit()
        for _ in range(3):  # interleaved
            ours.append(seconds(fit))
            theirs.append(seconds(lambda g=gram, c=columns: _libsvm(g, c)))
        support = np.asarray(svm.support_size)
        print(
            f"| {name} | {min(theirs):.3f} s | {first:.2f} s | {min(ours):.3f} s "
            f"| {min(theirs) / min(ours):.2f} | {support.min()} to {support.max()} "
            f"| {float(np.max(svm.duality_gap)):.0e} |",
            flush=True,
        )


def _libsvm(gram: jax.Array, columns: list[np.ndarray]) -> list[SVC]:
    converted = np.asarray(gram, np.float64)
    return [SVC(kernel="precomputed", C=1e8, cache_size=4000).fit(converted, y) for y in columns]


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


def _without_gram(kernel: kg.kernels.Kernel, n: int, d: int, block: int | None) -> None:
    x, y = kg.datasets.xor_noise(jax.random.key(0), n, d)
    solver = kg.predictors.MatrixFree(block=block)
    fit = partial(kg.predictors.hard_margin_svm, kernel, x, y, solver=solver)
    started = time.perf_counter()
    fit()
    first = time.perf_counter() - started
    started = time.perf_counter()
    found = fit()
    again = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"matrix-free, n = {n}, d = {d}, block {block}: {again:.1f} s (first call {first:.1f} s), "
        f"gap {float(found.duality_gap):.1e}, margin {float(found.margin):.6f}, support "
        f"{int(found.support_size)}, {int(found.iterations)} systems, peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
