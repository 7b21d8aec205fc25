"""Maximum margins of two-layer ReLU networks of any width: networks, and rigorous upper bounds.

`max_margin` finds a network and proves how far it is from the best; `duality_gap` does so for the
regularised loss of any given network. `upper_bound` returns a margin that no network exceeds, by
weak duality; `violation_bound` is what it stands on: how much one ReLU unit can violate, exactly
for d <= 3, bounded beyond. `most_violating_unit` is the local search, a bound from below.
"""

from kernelgap.margins.gap import LossGap, duality_gap
from kernelgap.margins.max_margin import MarginCertificate, max_margin
from kernelgap.margins.oracle import Unit, most_violating_unit
from kernelgap.margins.upper import UpperBound, upper_bound
from kernelgap.margins.violation import ViolationBound, violation_bound

__all__ = [
    "LossGap",
    "MarginCertificate",
    "Unit",
    "UpperBound",
    "ViolationBound",
    "duality_gap",
    "max_margin",
    "most_violating_unit",
    "upper_bound",
    "violation_bound",
]
