"""Predictors in the span of a kernel, each with the certificate of its own optimisation problem."""

from kernelgap.predictors.logistic import kernel_logistic, logistic_path
from kernelgap.predictors.predictor import KernelPredictor
from kernelgap.predictors.ridge import kernel_ridge
from kernelgap.predictors.span import best_in_span
from kernelgap.predictors.svm import hard_margin_svm

__all__ = [
    "KernelPredictor",
    "best_in_span",
    "hard_margin_svm",
    "kernel_logistic",
    "kernel_ridge",
    "logistic_path",
]
