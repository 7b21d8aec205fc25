"""Proof files of bounds for two-layer ReLU networks: the largest margin, the least loss."""

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap.margins import GlobalNet, MarginCertificate, UpperBound
from kernelgap.margins.certify.loss_bound import best_multiple
from kernelgap.margins.certify.multipliers import SideMultipliers
from kernelgap.margins.losses import Name
from kernelgap.margins.objective import Reduction, forward_factors, loss_above, prepare
from kernelgap.margins.problem import prepare_problem
from kernelgap.models import Model, Params, homogeneous_mlp
from kernelgap.proofs.exact import exactly
from kernelgap.proofs.verdict import Verdict, checked_path, write_first_proved
from kernelgap.proofs.violation import multiplied, prove_violation
from kernelgap.typing import ArrayLike

_OTHER = 1 + 1e-4  # what a certificate of other data is told by
_SLACKS = (1e-10, 1e-8, 1e-6)  # relative room for what is computed in floating point


def write_margin(
    path: str | os.PathLike,
    certificate: MarginCertificate | UpperBound,
    x: ArrayLike,
    y: ArrayLike,
    *,
    overwrite: bool = False,
) -> Verdict:
    """Write a margin certificate to a file from which anybody can derive both bounds again.

    The lower end is that of the certificate. So is the upper end where the certificate has
    `multipliers`; where it was enumerated (d <= 3), the file proves it up to a factor 1 + 1e-6 by
    a division into cones, or by the relaxation where that takes too many.

    Args:
        path: Name of the file, ending in `.json`.
        certificate: The result of `margins.max_margin` or `margins.upper_bound`.
        x: The inputs (n, d) that it is about.
        y: Their labels (n,).
        overwrite: Replace a file of that name.

    Returns:
        The `Verdict` of the checker on the file.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
        ValueError: If the certificate is not that of these data.
        RuntimeError: If the checker refuses the file. No file is left then.

    Example:
        >>> import tempfile, pathlib, jax, jax.numpy as jnp, kernelgap as kg
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> x, y = jnp.array([[3.0, 4.0]]), jnp.array([1.0])
        >>> best = kg.margins.max_margin(x, y, key=jax.random.key(0), width=8, steps=10)
        >>> verdict = kg.proofs.write_margin(folder / "margin.json", best, x, y)
        >>> print(f"{verdict.lower:.4f} {verdict.upper:.4f}")
        2.5000 2.5000

    References:
        The bounds and their proof are ours; see `margins.certify.relaxation`.
    """
    path = checked_path(path, overwrite)
    if not isinstance(certificate, MarginCertificate | UpperBound):
        raise TypeError("`certificate` must be a MarginCertificate or an UpperBound; "
                        f"got {type(certificate).__name__}")  # fmt: skip
    problem = prepare_problem(x, y)
    array_checks.targets(certificate.weights, len(problem.y), "certificate.weights")
    lower = None
    if isinstance(certificate, UpperBound):
        upper, multipliers = certificate.value, certificate.violation.multipliers
    else:
        upper, multipliers = certificate.upper, certificate.multipliers
        if certificate.lower > 0:
            hidden, readout = (np.asarray(p, np.float64) for p in certificate.params)
            lower = {"value": exactly(certificate.lower)} | {
                "hidden": exactly(hidden), "readout": exactly(readout),
            }  # fmt: skip
    data = {"x": exactly(problem.inputs), "y": _labels(problem.y), "lower": lower}

    def claims() -> Iterator[dict[str, Any]]:
        if not math.isfinite(upper):
            yield data | {"upper": None}
            return
        q = np.asarray(certificate.weights, np.float64) * problem.y
        proof = prove_violation(problem.inputs, q, multipliers)
        least = proof.bound / (2 * float(np.abs(q).sum()))
        if least > _OTHER * upper + 1e-9 * problem.scale and (
            multipliers or "splits" in proof.fields["plus"]
        ):
            raise ValueError("`certificate` must be that of these inputs and labels; for these its "
                             f"weights prove {least:g} and not {upper:g}")  # fmt: skip
        for value in (upper, *((1 + slack) * max(least, 1e-300) for slack in _SLACKS)):
            yield data | {"upper": {"value": exactly(value)} | proof.fields}

    return write_first_proved(path, "margin", claims())


def write_loss(
    path: str | os.PathLike,
    net: tuple[Model, Params] | GlobalNet,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float,
    loss: Name = "logistic",
    reduction: Reduction = "mean",
    dual: ArrayLike | None = None,
    multipliers: tuple[SideMultipliers, ...] = (),
    overwrite: bool = False,
) -> Verdict:
    r"""Write a file that proves how far a regularised loss can be from its minimum over all widths.

    L(Theta) = R(f) + l2 ||Theta||^2 with R the mean or sum of losses. The upper end is the loss of
    the given network; the lower end is the dual value of a multiple of q, the best one for which
    ``|sum_i q_i relu(u.x_i)| <= 2 l2 n / scale`` is proved on the unit ball (2 l2 / scale for the
    sum), where `scale` is the product of the factors of the parameterization.

    Args:
        path: Name of the file, ending in `.json`.
        net: The pair (model, params) of a two-layer `homogeneous_mlp` with ReLU and one output,
            `outputs=None`, and its parameters; or a `GlobalNet`, with `dual` and `multipliers`.
        x: Inputs of shape (n, d).
        y: (n,) labels -1 or +1, or any real targets for the squared loss.
        l2: lambda > 0.
        loss: `"logistic"` is log(1 + exp(-y f)), `"squared"` (f - y)^2 / 2, `"hinge"`
            max(0, 1 - y f).
        reduction: `"mean"` or `"sum"` over samples.
        dual: (n,) the point q, of any size; -dR/df at the given network when None, which is the
            best one at an optimum only.
        multipliers: Multipliers for this q, if they are known; see `margins.violation_bound`.
        overwrite: Replace a file of that name.

    Returns:
        The `Verdict` of the checker on the file.

    Raises:
        ValueError: If the model has another depth or activation, or several outputs.
        FileExistsError: If the file exists and `overwrite` is False.
        RuntimeError: If the checker refuses the file, as where the multipliers are not for this q.

    Example:
        >>> import tempfile, pathlib, jax, kernelgap as kg
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "loss.json"
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 40, 2)
        >>> model, params = kg.models.homogeneous_mlp((4,)), kg.datasets.planted_xor(2)
        >>> params = jax.tree.map(lambda p: 1.9 * p, params)
        >>> verdict = kg.proofs.write_loss(path, (model, params), x, y, l2=0.01)
        >>> bool(0.7 < verdict.lower / verdict.upper < 1)
        True

    References:
        Paper A: the objective and its l1 form (T4). The dual bound is ours; see `margins.gap`.
    """
    path = checked_path(path, overwrite)
    if isinstance(net, GlobalNet):
        dual = net.weights if dual is None else dual
        multipliers = multipliers or net.multipliers
        net = homogeneous_mlp((len(net.params[1]),)), net.params
    if not isinstance(net, tuple) or len(net) != 2:
        raise TypeError(f"`net` must be a pair (model, params); got {type(net).__name__}")
    model, params = net
    objective = prepare(x, y, loss, reduction)
    checks.number(l2, "l2", minimum=0, exclusive=True)
    inputs, targets, convex = objective.problem.inputs, objective.y, objective.loss
    n, samples = len(inputs), objective.samples
    factors = forward_factors(model, array_checks.parameters(params), objective.problem.device_x)
    scale = math.prod(factors)
    hidden, readout = (np.asarray(p, np.float64) for p in params)
    upper, f = loss_above(objective, hidden, readout, l2, factors)
    if dual is not None:
        array_checks.targets(dual, n, "dual")
    if multipliers and not (
        isinstance(multipliers, tuple)
        and len(multipliers) == 2
        and all(isinstance(m, SideMultipliers) and len(m.quadratic) == n for m in multipliers)
    ):
        raise TypeError("`multipliers` must be the two SideMultipliers of a bound for this q; "
                        f"got {multipliers!r:.60}")  # fmt: skip
    q = convex.pull(targets, f) if dual is None else np.asarray(dual, np.float64)
    if not q.any() or (loss != "squared" and np.min(q * targets) < 0):
        what = "the dual point of this network" if dual is None else "`dual`"
        raise ValueError(
            f"`dual` must not be all zero, nor y_i q_i < 0 but for the squared loss; {what} is"
        )
    data = {
        "x": exactly(inputs), "y": exactly(targets), "l2": exactly(l2), "reduction": reduction,
        "scale": exactly(scale),
    }  # fmt: skip

    def claims() -> Iterator[dict[str, Any]]:
        proof = prove_violation(inputs, q, multipliers)
        for slack in _SLACKS:
            limit = 2 * l2 * samples / scale * (1 - slack)
            factor = best_multiple(convex, targets, q, limit / max(proof.bound, 1e-300))
            fields, factor = multiplied(proof.fields, factor)
            values = convex.dual(targets, factor * q) / samples
            lower = np.sum(values) - slack * np.sum(np.abs(values))
            net = {"hidden": exactly(hidden), "readout": exactly(readout)}
            yield data | {
                "lower": {"value": exactly(lower)} | fields,
                "upper": {"value": exactly(upper * (1 + slack))} | net,
            }

    return write_first_proved(path, f"{loss} loss", claims())


def _labels(y: np.ndarray) -> dict[str, Any]:
    return {"exponent": 0, "entries": y.astype(int).tolist()}
