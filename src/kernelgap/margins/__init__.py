"""Maximum margins: the best network of any width, found and bounded, and paths that lead there.

`max_margin` returns the best two-layer ReLU network it finds with a bound that no network of any
width exceeds: `upper_bound`, which stands on `violation_bound`, how much one unit can violate.
`most_violating_unit` looks for such a unit. `duality_gap` certifies the regularised loss.

`path` follows the minimisers of the weakly regularised loss as lambda decreases, whose normalised
margins converge to the largest one. `kkt_residuals` says how far parameters are from satisfying
the first-order conditions of the maximum margin, for nets of any depth and number of classes.
"""

from kernelgap.margins.certificate import Interrupted, MarginCertificate
from kernelgap.margins.gap import LossGap, duality_gap
from kernelgap.margins.margin_path import MarginPath
from kernelgap.margins.max_margin import max_margin
from kernelgap.margins.oracle import Unit, most_violating_unit
from kernelgap.margins.path import path
from kernelgap.margins.stationarity import KKTResiduals, kkt_residuals
from kernelgap.margins.upper import UpperBound, upper_bound
from kernelgap.margins.violation import ViolationBound, violation_bound

__all__ = [
    "Interrupted",
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
