"""What is measured on networks: normalised margins, how far training left its start.

`laziness` measures the whole panel at once; its parts are functions of their own, those of kernels
of Gram matrices that come from anywhere.
"""

from kernelgap.metrics.activations import activation_change
from kernelgap.metrics.alignment import (
    kernel_alignment,
    kernel_change,
    kernel_distance,
    target_alignment,
)
from kernelgap.metrics.laziness import (
    Laziness,
    displacement,
    divergence_step,
    laziness,
    laziness_along,
    linearization_error,
    min_norm_distance,
)
from kernelgap.metrics.margin import normalized_margin, output_margins

__all__ = [
    "Laziness",
    "activation_change",
    "displacement",
    "divergence_step",
    "kernel_alignment",
    "kernel_change",
    "kernel_distance",
    "laziness",
    "laziness_along",
    "linearization_error",
    "min_norm_distance",
    "normalized_margin",
    "output_margins",
    "target_alignment",
]
