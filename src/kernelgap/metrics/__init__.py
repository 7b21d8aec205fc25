"""Measurements on networks: margins and lazy training.

`laziness` computes several measures of lazy training at once; each of them is also a function of
its own. Those that compare kernels take any two Gram matrices.
"""

from kernelgap.metrics.activations import activation_change
from kernelgap.metrics.alignment import (
    kernel_alignment,
    kernel_change,
    kernel_distance,
    target_alignment,
)
from kernelgap.metrics.lazy_training import Laziness, laziness, laziness_along
from kernelgap.metrics.linearization import (
    displacement,
    divergence_step,
    linearization_error,
    min_norm_distance,
)
from kernelgap.metrics.margin import error_rate, normalized_margin, output_margins

__all__ = [
    "Laziness",
    "activation_change",
    "displacement",
    "divergence_step",
    "error_rate",
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
