"""kernelgap: what a neural network learns that its tangent kernel cannot, measured and certified.

Import it as `import kernelgap as kg`. Rooms:

- `datasets`: the XOR distribution with its planted network, real digits;
- `models`: homogeneous multi-layer perceptrons;
- `objectives`: the regularised logistic loss;
- `optim`: noisy gradient descent, the compiled training loop;
- `metrics`: normalised margins;
- `kernels`: NTK and NNGP kernels;
- `predictors`: hard-margin SVM, ridge regression and the best predictor in a kernel's span;
- `studies`: experiments, each with its configuration, rows, intervals and figure.
"""

from kernelgap import datasets, kernels, metrics, models, objectives, optim, predictors, studies

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "datasets",
    "kernels",
    "metrics",
    "models",
    "objectives",
    "optim",
    "predictors",
    "studies",
]
