"""Maximum margins of two-layer ReLU networks of any width, with rigorous upper bounds.

`upper_bound` returns a margin that no network exceeds, by weak duality; `violation_bound` is what
it stands on: how much one ReLU unit can violate, exactly for d <= 3, bounded beyond.
"""

from kernelgap.margins.upper import UpperBound, upper_bound
from kernelgap.margins.violation import ViolationBound, violation_bound

__all__ = ["UpperBound", "ViolationBound", "upper_bound", "violation_bound"]
