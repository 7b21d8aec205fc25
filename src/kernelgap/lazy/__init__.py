r"""Lazy training: nets that stay near their linearisation, and the convergence that it proves.

Training is lazy while the net agrees with its linearisation at the start (`models.linearize`), so
that its tangent kernel hardly changes. For wide nets it is claim (iv) of paper C,
second version. Measures of it:

- `laziness` computes several at once, also along a run of `optim.train(record=...)`, and
  `laziness_along` along a stored trajectory;
- `displacement`, `linearization_error`, `activation_change` and `kernel_change` are single ones;
  `kernel_distance` and the alignments of `metrics` compare any two Gram matrices;
- `min_norm_distance` is the distance to the nearest interpolating linearised net, and
  `divergence_step` the step at which a run diverged.

Certificates of gradient descent:

- `convergence_certificate`: linear convergence, proved from the tangent kernel at the start, whose
  spectrum `bounds.eigenvalue_enclosure` encloses;
- `squared_loss_constants`, `logistic_loss_constants`: PL constant and smoothness of a loss,
  which are `LossConstants`;
- `tangent_lipschitz`, `output_curvature`: smoothness of a net around its start;
- `check_run`: compares a recorded run with its certificate.

`bounds.lazy_bound` bounds the error on fresh data of nets that stay near their start.
"""

from kernelgap.lazy.changes import activation_change, kernel_change
from kernelgap.lazy.convergence import Convergence as Convergence, convergence_certificate
from kernelgap.lazy.linearization import (
    displacement,
    divergence_step,
    linearization_error,
    min_norm_distance,
)
from kernelgap.lazy.losses import (
    LossConstants,
    logistic_loss_constants,
    squared_loss_constants,
)
from kernelgap.lazy.measures import Laziness as Laziness, laziness, laziness_along
from kernelgap.lazy.runs import RunCheck as RunCheck, check_run
from kernelgap.lazy.smoothness import output_curvature, tangent_lipschitz

__all__ = [
    "LossConstants",
    "activation_change",
    "check_run",
    "convergence_certificate",
    "displacement",
    "divergence_step",
    "kernel_change",
    "laziness",
    "laziness_along",
    "linearization_error",
    "logistic_loss_constants",
    "min_norm_distance",
    "output_curvature",
    "squared_loss_constants",
    "tangent_lipschitz",
]
