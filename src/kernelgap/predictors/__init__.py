"""Predictors in the span of a kernel, each with the certificate of its own optimisation problem.

- `kernel_ridge`: ridge regression, or the interpolant of least norm;
- `hard_margin_svm`: the classifier of largest margin;
- `kernel_logistic`, `logistic_path`: regularised logistic regression, for one strength or several;
- `best_in_span`: the best function in the span of given centres.

Each returns a `KernelPredictor`, which predicts and scores, and whose `status`, a `Status`, says
how the method ended. `Direct`, `Iterative` and `MatrixFree` choose the solver; "auto" is right as a
rule.
"""

from kernelgap.predictors.interface import Direct, Iterative, KernelPredictor, MatrixFree, Status
from kernelgap.predictors.logistic import kernel_logistic, logistic_path
from kernelgap.predictors.ridge import kernel_ridge
from kernelgap.predictors.span import best_in_span
from kernelgap.predictors.svm import hard_margin_svm

__all__ = [
    "Direct",
    "Iterative",
    "KernelPredictor",
    "MatrixFree",
    "Status",
    "best_in_span",
    "hard_margin_svm",
    "kernel_logistic",
    "kernel_ridge",
    "logistic_path",
]
