"""Ridge and logistic regression with kernels against scikit-learn, on the same Gram matrix.

Every measurement has a process of its own. Its memory is counted from before the first fit, when
the Gram matrix is there already, to the peak.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.linalg
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import Kernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression

import kernelgap as kg
from timing import peak

_L2 = 0.5  # of sum_i loss_i + l2 ||f||^2, for which the Laplace approximation has the same mode


def main() -> None:
    """Print a row for each data set and method, then the path, then large n without the Gram."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="table, path, free; all when empty")
    parser.add_argument("--mnist", help="folder of the four files of MNIST")
    parser.add_argument("--data", default="", help="only data sets whose name holds this")
    parser.add_argument("--free-n", type=int, default=60_000)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measured(*arguments.child)))
        return
    parts = arguments.parts or ["table", "path", "free"]
    with tempfile.TemporaryDirectory() as folder:
        if "table" in parts:
            _table(pathlib.Path(folder), arguments.mnist, arguments.data)
        if "path" in parts:
            _path(pathlib.Path(folder))
    if "free" in parts:
        _without_gram(arguments.free_n)


def _cases(mnist: str | None) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Yield name, hidden layers, inputs and labels: signs, or classes."""
    for n, d in ((1000, 10), (2000, 20), (4000, 20), (4000, 40)):
        x, y = kg.datasets.xor_noise(jax.random.key(0), n, d)
        yield f"XOR, n = {n}, d = {d}", 1, np.asarray(x), np.asarray(y)
    if mnist:
        x, y = map(np.asarray, kg.datasets.mnist(mnist).train)
        pair = np.isin(y, (3, 8))
        yield "MNIST 3 and 8, n = 1500", 2, x[pair][:1500], np.where(y[pair] == 3, 1, -1)[:1500]
        for n in (2000, 4000):
            yield f"MNIST, ten classes, n = {n}", 2, x[:n], y[:n]


def _table(folder: pathlib.Path, mnist: str | None, part: str) -> None:
    print("| data | method | peer | ours, first call | again | peer / ours | memory of peer, ours "
          "| difference |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for name, layers, x, y in _cases(mnist):
        if part not in name:
            continue
        model = kg.models.homogeneous_mlp((1,) * layers, parameterization="ntk")
        np.savez(folder / "data.npz", x=x, y=y, gram=np.asarray(kg.kernels.ntk(model)(x)))
        for method, peers in _PEERS.items():
            ours = _in_own_process(folder, "kernelgap", method)
            for peer in peers:
                if peer == "GaussianProcessClassifier" and len(np.unique(y)) > 2:
                    continue  # multi-class Laplace is not one against the rest on one Gram
                theirs = _in_own_process(folder, peer, method)
                values, expected = (np.asarray(row["values"]) for row in (ours, theirs))
                difference = np.max(np.abs(values - expected)) / np.max(np.abs(expected))
                print(
                    f"| {name} | {method}, {peer} | {theirs['again']:.3f} s "
                    f"| {ours['first']:.2f} s | {ours['again']:.3f} s "
                    f"| {theirs['again'] / ours['again']:.2f} "
                    f"| {theirs['memory']:.2f}, {ours['memory']:.2f} GiB | {difference:.0e} |",
                    flush=True,
                )


_PEERS = {
    "ridge": ("KernelRidge",),
    "logistic": ("LogisticRegression", "GaussianProcessClassifier"),
}


def _in_own_process(folder: pathlib.Path, library: str, method: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(folder / "data.npz"), library, method]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def _measured(path: str, library: str, method: str) -> dict[str, Any]:
    """Return the seconds of the first of four fits and of the best other, GiB, and outputs."""
    data = np.load(path)
    x, y, gram = data["x"], data["y"], data["gram"]
    prepare = {
        "kernelgap": _ours,
        "KernelRidge": _kernel_ridge,
        "LogisticRegression": _logistic_regression,
        "GaussianProcessClassifier": _gaussian_process,
    }[library]
    fit = prepare(x, y, gram, method)
    before, times, values = peak(), [], None
    for _ in range(4):
        started = time.perf_counter()
        values = fit()
        times.append(time.perf_counter() - started)
    row = {"first": times[0], "again": min(times[1:]), "memory": peak() - before}
    if method in _PEERS:
        row["values"] = (gram @ np.asarray(values, float)).tolist()
    return row


def _indicators(y: np.ndarray) -> np.ndarray:
    classes = np.unique(y)
    return np.where(y[:, None] == classes, 1.0, 0.0) - 1 / len(classes)


def _ours(x: np.ndarray, y: np.ndarray, gram: np.ndarray, method: str) -> Callable[[], Any]:
    classes = None if len(np.unique(y)) == 2 else len(np.unique(y))
    held = jax.device_put(gram)
    inputs, labels = jax.device_put((x, y if classes else y.astype(gram.dtype)))

    def kernel(x1: Any, x2: Any = None) -> jax.Array:
        del x1, x2
        return held

    options = {"reduction": "sum", "classes": classes}
    ridge = partial(kg.predictors.kernel_ridge, kernel, inputs, labels, **options)
    logistic = partial(kg.predictors.kernel_logistic, kernel, inputs, labels, **options)
    strengths = np.logspace(2, -4, 50).tolist()
    return {
        "ridge": lambda: ridge(l2=_L2).coef,
        "logistic": lambda: logistic(l2=_L2).coef,
        "single fits": lambda: [logistic(l2=l2).margin for l2 in strengths],
        "path": lambda: [
            fit.margin
            for fit in kg.predictors.logistic_path(kernel, inputs, labels, l2s=strengths, **options)
        ],
    }[method]


def _kernel_ridge(x: np.ndarray, y: np.ndarray, gram: np.ndarray, _: str) -> Callable[[], Any]:
    del x
    targets = y if len(np.unique(y)) == 2 else _indicators(y)
    method: Any = KernelRidge
    return lambda: method(alpha=_L2, kernel="precomputed").fit(gram, targets).dual_coef_


def _logistic_regression(
    x: np.ndarray, y: np.ndarray, gram: np.ndarray, _: str
) -> Callable[[], Any]:
    """Fit on features F with F F' = K, from its eigenvectors, which are a part of the fit."""
    del x
    columns = [y] if len(np.unique(y)) == 2 else [np.where(y == j, 1, -1) for j in np.unique(y)]

    def fit() -> np.ndarray:
        values, vectors = scipy.linalg.eigh(np.asarray(gram, np.float64))
        kept = values > 1e-7 * values[-1]  # rounding in float32
        roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
        one = partial(LogisticRegression, C=1 / (2 * _L2), fit_intercept=False, max_iter=1000)
        weights = [one().fit(vectors * roots, labels).coef_[0] for labels in columns]
        coef = vectors @ (np.stack(weights, 1) / roots[:, None])
        return coef[:, 0] if len(columns) == 1 else coef

    return fit


def _gaussian_process(x: np.ndarray, y: np.ndarray, gram: np.ndarray, _: str) -> Callable[[], Any]:
    """The mode of the Laplace approximation minimises the same objective, for l2 = 1/2."""
    base: Any = Kernel

    class Given(base):
        def __init__(self) -> None:
            """Without parameters, as `clone` wants to read."""

        def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> np.ndarray:
            return gram.astype(np.float64)

        def diag(self, X: Any) -> np.ndarray:
            return np.diagonal(gram).astype(np.float64)

        def is_stationary(self) -> bool:
            return False

    def fit() -> np.ndarray:
        classifier: Any = GaussianProcessClassifier
        mode = classifier(Given(), optimizer=None).fit(x, y).base_estimator_
        return mode.y_train_ - mode.pi_

    return fit


def _path(folder: pathlib.Path) -> None:
    """Compare a path of 50 strengths with 50 single fits, on one Gram matrix."""
    x, y = map(np.asarray, kg.datasets.xor_noise(jax.random.key(0), 2000, 20))
    gram = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))(x)
    np.savez(folder / "data.npz", x=x, y=y, gram=np.asarray(gram))
    print("\n| 50 strengths, XOR, n = 2000, d = 20 | first call | again | memory |")
    print("|---|---|---|---|")
    for method in ("path", "single fits"):
        row = _in_own_process(folder, "kernelgap", method)
        print(
            f"| {method} | {row['first']:.2f} s | {row['again']:.2f} s | {row['memory']:.2f} GiB |"
        )


def _without_gram(n: int) -> None:
    """Fit ten classes of `n` synthetic digits: convex combinations of two of one class, noisy."""
    digits, classes = map(np.asarray, kg.datasets.digits())
    rng = np.random.default_rng(0)
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], np.arange(11))
    y = rng.integers(0, 10, n)
    first, second = (
        digits[order[starts[y] + (rng.random(n) * np.diff(starts)[y]).astype(int)]]
        for _ in range(2)
    )
    share = rng.random((n, 1))
    x = share * first + (1 - share) * second + 0.01 * rng.standard_normal(digits[:1].shape)
    x = jax.device_put(x.astype(np.float32))
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1, 1), parameterization="ntk"))
    before, started = peak(), time.perf_counter()
    fit = kg.predictors.kernel_ridge(
        kernel, x, y, l2=1.0, classes=10, solver=kg.predictors.MatrixFree()
    )
    seconds = time.perf_counter() - started
    print(
        f"\nridge, ten classes of synthetic digits, n = {n}, d = {x.shape[1]}, without the Gram: "
        f"{seconds:.0f} s, residual {float(fit.kkt_residual):.0e}, {int(fit.iterations)} "
        f"corrections, {peak() - before:.2f} GiB beyond {before:.2f}"
    )


if __name__ == "__main__":
    main()
