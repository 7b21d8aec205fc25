"""Bounds with their equations, their status, and a verdict whether they are vacuous.

On the error on fresh data:

- `two_layer_margin_bound`, `deep_margin_bound`: homogeneous nets, from their normalised margin;
- `kernel_margin_bound`, `leave_one_out`: kernel classifiers without bias;
- `lazy_bound`: nets near their initial parameters;
- `squared_loss_bound`: the squared loss of a ReLU layer with fixed output signs (paper B).

On the squared error of every predictor in the span of kernel functions, on paper A's data:

- `xor_span_bound`: the exact minimum, from the law of the distribution.

On the eigenvalues of a Gram matrix:

- `eigenvalue_enclosure`: proven ends of the spectrum of any one;
- `sample_gram_bound`, `uniform_gram_bound`: the smallest eigenvalue for diverse ReLU units, many or
  of a given number, on given inputs and on uniform ones;
- `discrepancy_bound`: paper B's bound on the same, with its probability, which is negative.
"""

from kernelgap.bounds.bound import Bound as Bound, Status as Status
from kernelgap.bounds.diverse_units import discrepancy_bound, squared_loss_bound
from kernelgap.bounds.eigenvalues import (
    EigenvalueEnclosure as EigenvalueEnclosure,
    eigenvalue_enclosure,
)
from kernelgap.bounds.gram_bounds import (
    EigenvalueBound as EigenvalueBound,
    sample_gram_bound,
    uniform_gram_bound,
)
from kernelgap.bounds.kernel_bounds import kernel_margin_bound, leave_one_out
from kernelgap.bounds.lazy import lazy_bound
from kernelgap.bounds.net_bounds import deep_margin_bound, two_layer_margin_bound
from kernelgap.bounds.xor_span import SpanBound as SpanBound, xor_span_bound

__all__ = [
    "deep_margin_bound",
    "discrepancy_bound",
    "eigenvalue_enclosure",
    "kernel_margin_bound",
    "lazy_bound",
    "leave_one_out",
    "sample_gram_bound",
    "squared_loss_bound",
    "two_layer_margin_bound",
    "uniform_gram_bound",
    "xor_span_bound",
]
