"""Bounds with their equations, their status, and whether they say anything.

On the error on fresh data, and on the convergence of gradient descent.
"""

from kernelgap.bounds.convergence import Convergence, convergence
from kernelgap.bounds.eigenvalues import EigenvalueRange, gram_range
from kernelgap.bounds.generalization import Bound, deep, kernel, leave_one_out, two_layer
from kernelgap.bounds.generalization import Status as Status
from kernelgap.bounds.losses import LossConstants, logistic_loss, squared_loss
from kernelgap.bounds.near_start import near_start
from kernelgap.bounds.runs import RunCheck, check_run
from kernelgap.bounds.smoothness import output_curvature, tangent_lipschitz

__all__ = [
    "Bound",
    "Convergence",
    "EigenvalueRange",
    "LossConstants",
    "RunCheck",
    "check_run",
    "convergence",
    "deep",
    "gram_range",
    "kernel",
    "leave_one_out",
    "logistic_loss",
    "near_start",
    "output_curvature",
    "squared_loss",
    "tangent_lipschitz",
    "two_layer",
]
