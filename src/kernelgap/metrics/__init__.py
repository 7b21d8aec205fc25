"""Measurements on networks: margins, lazy training, and the diversity of hidden units.

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
from kernelgap.metrics.discrepancy import (
    WorstSlice,
    hemisphere_discrepancy,
    max_slice_discrepancy,
    slice_discrepancy,
)
from kernelgap.metrics.features import (
    SmallestSingularValue,
    extended_feature_gram,
    pl_bound,
    smallest_singular_value,
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
    "SmallestSingularValue",
    "WorstSlice",
    "activation_change",
    "displacement",
    "divergence_step",
    "error_rate",
    "extended_feature_gram",
    "hemisphere_discrepancy",
    "kernel_alignment",
    "kernel_change",
    "kernel_distance",
    "laziness",
    "laziness_along",
    "linearization_error",
    "max_slice_discrepancy",
    "min_norm_distance",
    "normalized_margin",
    "output_margins",
    "pl_bound",
    "slice_discrepancy",
    "smallest_singular_value",
    "target_alignment",
]
