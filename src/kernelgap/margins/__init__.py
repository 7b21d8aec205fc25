"""Maximum margins: networks, rigorous upper bounds, paths that lead there, optimality conditions.

For two-layer ReLU networks of any width, `max_margin` finds a network and proves how far it is from
the best; `duality_gap` does so for the regularised loss of any given network. `upper_bound` returns
a margin that no network exceeds, by weak duality; `violation_bound` is what it stands on: how much
one ReLU unit can violate, exactly for d <= 3, bounded beyond. `most_violating_unit` is the local
search, a bound from below.

For nets of any depth and number of classes, `path` follows the minimisers of the weakly regularised
loss as lambda decreases, whose normalised margins converge to the largest one, and `kkt_residuals`
says how far parameters are from satisfying the first-order conditions of the maximum margin.
"""

from kernelgap.margins.gap import LossGap, duality_gap
from kernelgap.margins.max_margin import MarginCertificate, max_margin
from kernelgap.margins.oracle import Unit, most_violating_unit
from kernelgap.margins.path import MarginPath, path
from kernelgap.margins.stationarity import KKTResiduals, kkt_residuals
from kernelgap.margins.upper import UpperBound, upper_bound
from kernelgap.margins.violation import ViolationBound, violation_bound

__all__ = [
    "KKTResiduals",
    "LossGap",
    "MarginCertificate",
    "MarginPath",
    "Unit",
    "UpperBound",
    "ViolationBound",
    "duality_gap",
    "kkt_residuals",
    "max_margin",
    "most_violating_unit",
    "path",
    "upper_bound",
    "violation_bound",
]
