"""kernelgap: what a neural network learns that its tangent kernel cannot, measured and certified.

Import it as `import kernelgap as kg`. Rooms:

- `datasets`: the XOR distribution with its planted network, random teachers, inputs of chosen
  moments, real digits;
- `models`: multi-layer perceptrons, homogeneous or smooth; nets of fixed output signs;
- `objectives`: the regularised logistic loss and its logarithm, squared loss, diversity of units;
- `optim`: noisy gradient descent, the compiled training loop;
- `margins`: the largest margin of any network, bounded from both sides, and paths that lead to it;
- `bounds`: generalisation bounds and convergence certificates, each with its status;
- `metrics`: normalised margins, laziness of training, diversity of units;
- `kernels`: NTK and NNGP, in the limit and of finite nets; their products and spectra;
- `predictors`: SVM, logistic and ridge regression with certificates; the best in a kernel's span;
- `studies`: experiments, each with its configuration, rows, intervals and figure;
- `saving`: `save` and `load`, which are also here;
- `sklearn`: scikit-learn estimators (extra `sklearn`);
- `testing`: laws and Hypothesis strategies for your own models and kernels.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kernelgap import datasets, kernels, metrics, models, objectives, predictors

if TYPE_CHECKING:
    from kernelgap import bounds, margins, optim, saving, studies, testing
    from kernelgap import sklearn as sklearn
    from kernelgap.saving import load, save

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "bounds",
    "datasets",
    "kernels",
    "load",
    "margins",
    "metrics",
    "models",
    "objectives",
    "optim",
    "predictors",
    "save",
    "saving",
    "studies",
    "testing",
]

_LAZY = ("bounds", "margins", "optim", "saving", "sklearn", "studies", "testing")


def __getattr__(name: str) -> Any:
    # These bring optax, scipy.special and scipy.optimize, a third of what `import jax` costs or
    # more: on first use.
    if name in _LAZY:
        return import_module(f"kernelgap.{name}")
    if name in ("load", "save"):
        return getattr(import_module("kernelgap.saving"), name)
    raise AttributeError(f"module 'kernelgap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_LAZY})  # what tab completion offers
