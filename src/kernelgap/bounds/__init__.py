"""Bounds from the papers, each with its equation, its status, and whether it says anything."""

from kernelgap.bounds.generalization import Bound, deep, kernel, leave_one_out, two_layer
from kernelgap.bounds.generalization import Status as Status

__all__ = ["Bound", "deep", "kernel", "leave_one_out", "two_layer"]
