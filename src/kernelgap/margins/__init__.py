"""Maximum margins of networks, with certificates.

- `max_margin`: the best two-layer ReLU network found, with a bound that no width exceeds;
- `upper_bound`: that bound alone, by weak duality;
- `violation_bound`: a rigorous bound on the violation of one unit, on which it stands;
- `most_violating_unit`: a unit of large violation, by local search;
- `global_net`: the network of least regularised loss over all widths, with a proven gap;
- `global_path`: the same for falling lambda;
- `duality_gap`: the distance of a network's regularised loss from that minimum;
- `regularization_path`: minimisers of the loss as lambda falls, whose margins tend to the largest;
- `kkt_residuals`: first-order conditions of the maximum margin, for nets of any depth.

All but the last two are for two layers, one output and ReLU. Results say in `status` how they
ended; Ctrl-C in `max_margin` raises `Interrupted` with the best network until then.
"""

from kernelgap.margins.best_network import Interrupted, max_margin
from kernelgap.margins.certificate import MarginCertificate as MarginCertificate
from kernelgap.margins.certify.multipliers import SideMultipliers as SideMultipliers
from kernelgap.margins.certify.weak_duality import (
    UpperBound as UpperBound,
    ViolationBound as ViolationBound,
    upper_bound,
    violation_bound,
)
from kernelgap.margins.gap import DualityGap as DualityGap, duality_gap
from kernelgap.margins.global_minimum import (
    GlobalNet as GlobalNet,
    global_net,
    global_path,
)
from kernelgap.margins.kkt import KKTResiduals as KKTResiduals, kkt_residuals
from kernelgap.margins.path import RegularizationPath as RegularizationPath, regularization_path
from kernelgap.margins.search.units import Unit as Unit, most_violating_unit

__all__ = [
    "Interrupted",
    "duality_gap",
    "global_net",
    "global_path",
    "kkt_residuals",
    "max_margin",
    "most_violating_unit",
    "regularization_path",
    "upper_bound",
    "violation_bound",
]
