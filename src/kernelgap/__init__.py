"""Measure and certify the gap between a neural network and its tangent kernel.

Import it as `import kernelgap as kg`. Modules:

- `datasets`: the XOR distribution with its planted network, random teachers, inputs with
  chosen moments, handwritten digits;
- `models`: homogeneous and smooth multi-layer perceptrons, nets with fixed output signs;
- `objectives`: the regularised logistic loss and its logarithm, squared loss;
- `optim`: noisy gradient descent and a compiled training loop;
- `margins`: two-sided bounds on the largest margin of any network, and regularisation paths;
- `bounds`: generalisation bounds, each with the status of its proof, and proven eigenvalues;
- `metrics`: normalised margins, errors, similarity of kernels;
- `lazy`: measures of lazy training, and certificates of linear convergence;
- `diversity`: discrepancy of hidden units, its penalty, its limit kernel, and bounds on the loss;
- `kernels`: infinite-width and empirical NTK and NNGP, their Gram products and spectra;
- `predictors`: kernel SVM, logistic and ridge regression with certificates, span predictors;
- `studies`: experiments with configuration, rows, confidence intervals and figure;
- `save` and `load`: predictors, networks and certificates to a file and back, results of studies;
- `proofs`: certificates as files that anybody can check without this library;
- `sklearn`: scikit-learn estimators (extra `sklearn`);
- `testing`: laws and Hypothesis strategies for your own models and kernels.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernelgap._support.version import __version__

if TYPE_CHECKING:
    from kernelgap import (
        bounds,
        datasets,
        diversity,
        kernels,
        lazy,
        margins,
        metrics,
        models,
        objectives,
        optim,
        predictors,
        proofs,
        sklearn as sklearn,
        studies,
        testing,
    )
    from kernelgap.saving import load, save

__all__ = [
    "__version__",
    "bounds",
    "datasets",
    "diversity",
    "kernels",
    "lazy",
    "load",
    "margins",
    "metrics",
    "models",
    "objectives",
    "optim",
    "predictors",
    "proofs",
    "save",
    "studies",
    "testing",
]

_FUNCTIONS = ("load", "save")
_OPTIONAL = ("sklearn",)  # a module that needs an extra


def __getattr__(name: str) -> Any:
    # Every module is imported on first use: nobody waits for what they do not need.
    if name in _FUNCTIONS:
        return getattr(import_module("kernelgap.saving"), name)
    if name in (*__all__, *_OPTIONAL):
        return import_module(f"kernelgap.{name}")
    raise AttributeError(f"module 'kernelgap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_OPTIONAL})  # what tab completion offers
