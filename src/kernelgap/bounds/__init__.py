"""Bounds with their equations, their status, and a verdict whether they are vacuous.

On the error on fresh data:

- `two_layer_margin_bound`, `deep_margin_bound`: homogeneous nets, from their normalised margin;
- `kernel_margin_bound`, `leave_one_out`: kernel classifiers without bias;
- `lazy_bound`: nets near their initial parameters.

On gradient descent:

- `convergence_certificate`: linear convergence, proved from the tangent kernel at the start;
- `eigenvalue_enclosure`: proven ends of the spectrum of a Gram matrix;
- `squared_loss_constants`, `logistic_loss_constants`: PL constant and smoothness of a loss;
- `tangent_lipschitz`, `output_curvature`: smoothness of a net around its start;
- `check_run`: compares a recorded run with its certificate.
"""

from kernelgap.bounds.bound import Bound
from kernelgap.bounds.bound import Status as Status
from kernelgap.bounds.convergence import Convergence, convergence_certificate
from kernelgap.bounds.eigenvalues import EigenvalueEnclosure, eigenvalue_enclosure
from kernelgap.bounds.kernel_bounds import kernel_margin_bound, leave_one_out
from kernelgap.bounds.lazy import lazy_bound
from kernelgap.bounds.losses import (
    LossConstants,
    logistic_loss_constants,
    squared_loss_constants,
)
from kernelgap.bounds.net_bounds import deep_margin_bound, two_layer_margin_bound
from kernelgap.bounds.runs import RunCheck, check_run
from kernelgap.bounds.smoothness import output_curvature, tangent_lipschitz

__all__ = [
    "Bound",
    "Convergence",
    "EigenvalueEnclosure",
    "LossConstants",
    "RunCheck",
    "check_run",
    "convergence_certificate",
    "deep_margin_bound",
    "eigenvalue_enclosure",
    "kernel_margin_bound",
    "lazy_bound",
    "leave_one_out",
    "logistic_loss_constants",
    "output_curvature",
    "squared_loss_constants",
    "tangent_lipschitz",
    "two_layer_margin_bound",
]
