"""What is measured on networks: normalised margins, how far training left its start."""

from kernelgap.metrics.activations import activation_change
from kernelgap.metrics.margin import normalized_margin, output_margins

__all__ = ["activation_change", "normalized_margin", "output_margins"]
