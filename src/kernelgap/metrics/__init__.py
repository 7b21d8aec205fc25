"""What is measured on networks: normalised margins."""

from kernelgap.metrics.margin import normalized_margin, output_margins

__all__ = ["normalized_margin", "output_margins"]
