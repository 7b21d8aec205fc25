"""Predictors in the span of a kernel, each with the certificate of its own optimisation problem."""

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
