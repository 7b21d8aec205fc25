"""Measurements on networks and their kernels: margins, errors, similarity of Gram matrices.

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
