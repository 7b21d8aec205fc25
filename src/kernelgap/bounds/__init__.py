"""Bounds with their equations, their status, and a verdict whether they are vacuous.

On the error on fresh data:

- `two_layer_margin_bound`, `deep_margin_bound`: homogeneous nets, from their normalised margin;
- `kernel_margin_bound`, `leave_one_out`: kernel classifiers without bias;
- `lazy_bound`: nets near their initial parameters.

On a Gram matrix, `eigenvalue_enclosure`: proven ends of its spectrum.
"""

from kernelgap.bounds.bound import Bound as Bound, Status as Status
from kernelgap.bounds.eigenvalues import (
    EigenvalueEnclosure as EigenvalueEnclosure,
    eigenvalue_enclosure,
)
from kernelgap.bounds.kernel_bounds import kernel_margin_bound, leave_one_out
from kernelgap.bounds.lazy import lazy_bound
from kernelgap.bounds.net_bounds import deep_margin_bound, two_layer_margin_bound

__all__ = [
    "deep_margin_bound",
    "eigenvalue_enclosure",
    "kernel_margin_bound",
    "lazy_bound",
    "leave_one_out",
    "two_layer_margin_bound",
]
