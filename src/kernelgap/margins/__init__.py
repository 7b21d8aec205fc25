"""Maximum margins: paths that lead there, and conditions that say how near they came.

`path` follows the minimisers of the weakly regularised loss as lambda decreases, whose normalised
margins converge to the largest one. `kkt_residuals` says how far parameters are from satisfying
the first-order conditions of the maximum margin, for nets of any depth and number of classes.
"""

from kernelgap.margins.path import MarginPath, path
from kernelgap.margins.stationarity import KKTResiduals, kkt_residuals

__all__ = ["KKTResiduals", "MarginPath", "kkt_residuals", "path"]
