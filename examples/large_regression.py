"""Kernel regression beyond memory: the Gram matrix is never formed, or stored on disk.

`python large_regression.py gram.npy` also writes the matrix, 1.6 GB for n = 20,000. You can
interrupt it at any time: the same command continues where it stopped.
"""

import sys

import jax
import jax.numpy as jnp

import kernelgap as kg


def main(n: int = 20_000, d: int = 20, out: str | None = None) -> dict[str, float]:
    """Fit ridge regression by kernel products, test it, and find the largest eigenvalues."""
    train_key, test_key, teacher_key = jax.random.split(jax.random.key(0), 3)
    units = kg.datasets.planted_teacher(teacher_key, d)
    x, y = kg.datasets.teacher(train_key, n, d, params=units, labels="value")
    x_test, y_test = kg.datasets.teacher(test_key, 2000, d, params=units, labels="value")
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))

    l2 = 1e-3 * n  # (K + l2 I) coef = y
    ridge = kg.predictors.kernel_ridge(kernel, x, y, l2=l2, solver=kg.predictors.MatrixFree())
    error = jnp.mean((ridge.decision_function(x_test) - y_test) ** 2) / jnp.var(y_test)
    print(f"test error {error:.4f} of the variance, residual {ridge.kkt_residual:.0e}")

    top = kg.kernels.extreme_eigenvalues(kernel, x, k=min(3, n - 1), which="largest")
    print("largest eigenvalues", ", ".join(f"{value:.1f}" for value in top.values[::-1]))

    if out is not None:
        gram = kg.kernels.gram(kernel, x, out=out, resume=True, overwrite=True, progress=True)
        # `gram` is a memory map: NumPy reads only the rows that it needs.
        fitted = gram[0] @ ridge.coef + l2 * ridge.coef[0]
        print(f"first row of (K + l2 I) coef: {fitted:.4f}; first label: {y[0]:.4f}")
    results = {"error": error, "largest": top.values[-1], "residual": ridge.kkt_residual}
    return {name: float(value) for name, value in results.items()}


if __name__ == "__main__":
    main(out=sys.argv[1] if len(sys.argv) > 1 else None)
