r"""Diverse hidden units, and what they guarantee: the subject of paper B.

For a ReLU layer of m units with fixed output signs (`models.fixed_sign_net`), on n samples:

- `smallest_singular_value` of the extended feature matrix D, whose Gram matrix is
  `extended_feature_gram`, and `pl_bound`, the bound on the loss that it gives; also for powers of
  the ReLU;
- `diversity_kernel`, the limit of D'D / m for units that are uniform on the sphere; its
  eigenvalues are those of `kernels.zonal_spectrum`, and `bounds.sample_gram_bound` and
  `bounds.uniform_gram_bound` bound the smallest one of its Gram matrix and s_min(D) from below;
- `slice_discrepancy`, `hemisphere_discrepancy` and `max_slice_discrepancy`, the distance of the
  units from that limit;
- `diversity_penalty`, a differentiable measure of it, and `add_diversity_penalty`, which adds it
  to a loss.

Paper B is B. Xie, Y. Liang, L. Song, "Diverse Neural Network Learns True Target Functions",
AISTATS 2017, arXiv:1611.03131.
"""

from kernelgap.diversity.discrepancy import (
    WorstSlice as WorstSlice,
    hemisphere_discrepancy,
    max_slice_discrepancy,
    slice_discrepancy,
)
from kernelgap.diversity.features import (
    SmallestSingularValue as SmallestSingularValue,
    extended_feature_gram,
    smallest_singular_value,
)
from kernelgap.diversity.kernel import diversity_kernel
from kernelgap.diversity.loss_bound import pl_bound
from kernelgap.diversity.penalty import add_diversity_penalty, diversity_penalty

__all__ = [
    "add_diversity_penalty",
    "diversity_kernel",
    "diversity_penalty",
    "extended_feature_gram",
    "hemisphere_discrepancy",
    "max_slice_discrepancy",
    "pl_bound",
    "slice_discrepancy",
    "smallest_singular_value",
]
