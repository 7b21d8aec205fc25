"""Compare a recorded run of gradient descent with its certificate."""

from typing import NamedTuple

import numpy as np

from kernelgap._numerics import checks
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.lazy.convergence import Convergence
from kernelgap.typing import ArrayLike


@saveable()
class RunCheck(NamedTuple):
    """Ratios of recorded to certified values; at most 1 where the certificate was kept.

    Arrays have the shape of the certificate, one entry per run.

    Attributes:
        loss_ratio: The largest ratio of a loss to its certified value; inf if a loss is not finite.
        violation: The first step whose loss was above its certified value, or not finite; -1 if
            none was.
        path_ratio: Length of the path over its bound; None if it was not recorded.
        displacement_ratio: Largest ||Theta_t - Theta_0|| over the same bound; None likewise.
        claimed: True where there was a certificate. Without one all ratios are 0.
    """

    loss_ratio: np.ndarray
    violation: np.ndarray
    path_ratio: np.ndarray | None
    displacement_ratio: np.ndarray | None
    claimed: np.ndarray

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def kept(self) -> np.ndarray:
        """True where everything recorded was within the certificate, or there is none."""
        kept = self.violation < 0
        for ratio in (self.path_ratio, self.displacement_ratio):
            if ratio is not None:
                kept = kept & (ratio <= 1)
        return kept


def check_run(
    certificate: Convergence,
    losses: ArrayLike,
    *,
    path_lengths: ArrayLike | None = None,
    displacements: ArrayLike | None = None,
    every: int = 1,
    rounding: float | None = None,
) -> RunCheck:
    """Compare a recorded run with its certificate, step by step.

    Args:
        certificate: From `convergence_certificate`, of shape (...).
        losses: (..., times): the loss before steps 0, `every`, 2 `every`, ...; with `every` = 1
            what `Trained.losses` holds.
        path_lengths: (..., any): lengths of the path so far, or its whole length.
        displacements: (..., any): ||Theta_t - Theta_0|| at any times. Lengths, too, are certified
            only until the target of the loss is reached, where it has one.
        every: Steps between recorded losses, at least 1.
        rounding: Absolute error allowed on losses, and relative one on lengths; by default 16
            eps times the initial loss, for the eps of the dtype of `losses`, and 100 eps for
            lengths: theorems are about exact arithmetic, runs are not.

    Returns:
        `RunCheck`.

    Raises:
        ValueError: If the arrays do not have the certificate's shape and one axis more.

    Example:
        >>> import numpy as np, kernelgap as kg
        >>> certificate = kg.lazy.convergence_certificate(
        ...     0.5, kg.lazy.squared_loss_constants(1), lambda_min=1.0, lambda_max=1.0,
        ...     lipschitz=0.0)
        >>> losses = 0.5 * 0.0 ** np.arange(5)  # f = (theta - 1)^2 / 2 with step 1
        >>> check = kg.lazy.check_run(certificate, losses, displacements=[0.0, 1.0])
        >>> bool(check.kept), int(check.violation), float(check.displacement_ratio) <= 1
        (True, -1, True)

    References:
        What is certified: see `convergence_certificate`. The allowance for rounding is ours.
    """
    if not isinstance(certificate, Convergence):
        raise TypeError(f"`certificate` must come from lazy.convergence_certificate; "
                        f"got {type(certificate).__name__}")  # fmt: skip
    every = checks.integer(every, "every", minimum=1)
    shape, claimed = certificate.decrease.shape, certificate.holds
    recorded = _recorded(losses, "losses", shape)
    dtype = np.asarray(losses).dtype
    eps = float(np.finfo(dtype if np.issubdtype(dtype, np.floating) else np.float64).eps)
    if rounding is not None:
        checks.number(rounding, "rounding", minimum=0)
    allowance = 16 * eps * certificate.initial_loss[..., None] if rounding is None else rounding
    limits = certificate.curve(recorded.shape[-1], every=every) + allowance
    finite = np.isfinite(recorded)
    over = np.zeros(recorded.shape, bool)  # the target was reached before: nothing is claimed
    if certificate.target > certificate.optimum:
        reached = np.maximum.accumulate(recorded <= certificate.target, axis=-1)
        over[..., 1:] = reached[..., :-1]
    over |= ~claimed[..., None]
    fine = finite & (recorded <= limits) | over
    gaps = np.where(finite, recorded, certificate.optimum) - certificate.optimum
    spans = limits - certificate.optimum
    ratios = np.where(
        spans > 0, gaps / np.where(spans > 0, spans, 1), np.where(gaps > 0, np.inf, 0)
    )
    ratios = np.where(over, 0, np.where(finite, ratios, np.inf))
    first = np.where(fine.all(-1), -1, np.argmin(fine, axis=-1) * every)
    slack = 1 + (100 * eps if rounding is None else rounding)

    def ratio(values: ArrayLike | None, name: str) -> np.ndarray | None:
        if values is None:
            return None
        longest = np.max(_recorded(values, name, shape), axis=-1)  # NaN if one is
        longest = np.where(np.isnan(longest), np.inf, longest)
        bound = certificate.path_length * slack
        shares = np.where(
            bound > 0, longest / np.where(bound > 0, bound, 1), np.where(longest > 0, np.inf, 0)
        )
        return np.where(claimed, shares, 0.0)

    return RunCheck(
        np.max(ratios, axis=-1),
        first,
        ratio(path_lengths, "path_lengths"),
        ratio(displacements, "displacements"),
        claimed,
    )


def _recorded(values: ArrayLike, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 of shape (*shape, times); one number per run counts as one time."""
    try:
        array = np.asarray(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must hold numbers; got {values!r:.40}") from error
    if name != "losses" and array.shape == shape:
        array = array[..., None]
    if array.shape[:-1] != shape or array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"`{name}` must have shape {(*shape, 'times')}, as the certificate has "
                         f"shape {shape}; got {array.shape}")  # fmt: skip
    return array
