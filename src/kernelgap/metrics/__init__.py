"""What is measured on networks: margins, distance from the start, diversity of their units."""

from kernelgap.metrics.activations import activation_change
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
from kernelgap.metrics.margin import normalized_margin, output_margins

__all__ = [
    "SmallestSingularValue",
    "WorstSlice",
    "activation_change",
    "extended_feature_gram",
    "hemisphere_discrepancy",
    "max_slice_discrepancy",
    "normalized_margin",
    "output_margins",
    "pl_bound",
    "slice_discrepancy",
    "smallest_singular_value",
]
