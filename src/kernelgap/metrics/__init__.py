"""Measurements on networks and their kernels.

- `normalized_margin`: the margin over a power of the norm of the parameters;
- `output_margins` and `error_rate`: margins of single samples, and the share of errors;
- `kernel_alignment`, `kernel_distance`, `target_alignment`: similarity of two Gram matrices, or of
  one with the labels.

`lazy` has the measures of lazy training and `diversity` those of hidden units.
"""

from kernelgap.metrics.alignment import kernel_alignment, kernel_distance, target_alignment
from kernelgap.metrics.margin import error_rate, normalized_margin, output_margins

__all__ = [
    "error_rate",
    "kernel_alignment",
    "kernel_distance",
    "normalized_margin",
    "output_margins",
    "target_alignment",
]
