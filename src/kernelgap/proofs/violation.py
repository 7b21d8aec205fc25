"""Proofs that ``|sum_i q_i relu(u.x_i)| <= bound`` on the unit ball, in the form of proof files.

Multipliers are rounded to 60 bits, such that they satisfy their inequalities exactly; without
multipliers the ball is divided into cones (`proofs.cones`) where it has few dimensions.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from kernelgap.margins.certify.multipliers import SideMultipliers
from kernelgap.margins.certify.weak_duality import bound_violation
from kernelgap.margins.problem import divide_by_power_of_two
from kernelgap.proofs import cones
from kernelgap.proofs.exact import exactly, truncated

_BITS = 60
_SAFE = 1 - 2.0**-40  # a share that rounding leaves below 1
_SLACK = 1e-6  # of bounds that are proved by cones
_LINEAR = {"q", "scales", "quadratic", "transfer", "weights", "vectors"}  # proportional to q


class ViolationProof(NamedTuple):
    """Fields of a proof file, and the bound that they prove up to rounding."""

    fields: dict[str, Any]
    bound: float


def prove_violation(
    x: np.ndarray, q: np.ndarray, multipliers: tuple[SideMultipliers, ...]
) -> ViolationProof:
    """Prove a bound on h(q) by multipliers, or without them as tightly as is possible."""
    scaled, scale = divide_by_power_of_two(x)
    weights, weight_scale = divide_by_power_of_two(q)
    if np.count_nonzero(q) <= 2:  # as where no net separates the data
        proof = _by_relaxation(scaled, q, _cancelled(scaled, q), scale)
        if proof.bound <= 1e-14 * scale * float(np.abs(q).sum()):
            return proof
    if not multipliers:
        proof = _by_cones(scaled, weights)
        if proof is not None:
            unit = round(math.log2(weight_scale))
            fields = {"q": _times(proof.fields["q"], unit)}
            for name in ("plus", "minus"):
                side = proof.fields[name]
                vectors = _times(side["vectors"], unit + round(math.log2(scale)))
                fields[name] = side | {"vectors": vectors}
            return ViolationProof(fields, proof.bound * weight_scale * scale)
        multipliers = bound_violation(scaled, q, "relaxation").multipliers
    return _by_relaxation(scaled, q, multipliers or _cancelled(scaled, q), scale)


def multiplied(fields: dict[str, Any], factor: float) -> tuple[dict[str, Any], float]:
    """Return the fields of a proof for q times a factor, which is rounded down to 40 bits."""
    mantissa, power = math.frexp(factor)
    whole, power = int(math.ldexp(mantissa, 40)), power - 40

    def times(part: Any, name: str) -> Any:
        if "entries" not in part:
            return {key: times(value, key) for key, value in part.items()}
        if name not in _LINEAR:
            return part
        rows = [
            [e * whole for e in r] if isinstance(r, list) else r * whole for r in part["entries"]
        ]
        return {"exponent": part["exponent"] + power, "entries": rows}

    return times(fields, ""), math.ldexp(whole, power)


def _times(array: dict[str, Any], exponent: int) -> dict[str, Any]:
    return array | {"exponent": array["exponent"] + exponent}


def _by_cones(x: np.ndarray, q: np.ndarray) -> ViolationProof | None:
    """Divide the ball of few dimensions; None if it takes too many cones."""
    if x.shape[1] > cones.DIMENSIONS:
        return None
    units = truncated(q, -_BITS)
    exact = np.array(units, float) * 2.0**-_BITS
    bound = bound_violation(x, exact).value * (1 + _SLACK)
    sides = {}
    for sign, name in ((1, "plus"), (-1, "minus")):
        division = cones.divide(x, sign * exact, bound)
        if division is None:
            return None
        slopes, vectors = exactly(division.slopes), exactly(division.vectors)
        splits = {"exponent": 0, "entries": division.splits}
        sides[name] = {"splits": splits, "vectors": vectors, "slopes": slopes}
    return ViolationProof({"q": {"exponent": -_BITS, "entries": units}} | sides, bound)


def _by_relaxation(
    x: np.ndarray, q: np.ndarray, multipliers: tuple[SideMultipliers, ...], scale: float
) -> ViolationProof:
    """Round multipliers for inputs x, which are those of the file over the power of two `scale`."""
    size = math.frexp(float(np.abs(q).sum()))[1]
    unit, inputs = size - _BITS, round(math.log2(scale))
    entries = truncated(q, unit)
    fields: dict[str, Any] = {"q": {"exponent": unit, "entries": entries}}
    bounds = []
    for sign, name, side in zip((1, -1), ("plus", "minus"), multipliers, strict=True):
        signed = [sign * entry for entry in entries]
        fields[name], bound = _side(x, signed, side, unit, -_BITS - abs(size), inputs)
        bounds.append(bound * scale)
    return ViolationProof(fields, max(bounds))


def _side(
    x: np.ndarray, q: list[int], m: SideMultipliers, unit: int, fine: int, inputs: int
) -> tuple[dict[str, Any], float]:
    """Return the fields of one side, and the bound that they prove up to rounding."""
    n = len(q)
    sign = np.array([0] + [(entry > 0) - (entry < 0) for entry in q])
    positive, negative = sign > 0, sign < 0
    positive[0] = True  # the linear part
    kept = positive[m.rows] & negative[m.columns]
    transfer, rows, columns = truncated(m.transfer[kept], unit), m.rows[kept], m.columns[kept]
    if not positive[1:].any():  # nothing is positive: the linear part is cancelled
        columns = np.flatnonzero(negative)
        transfer, rows = [q[j - 1] for j in columns.tolist()], np.zeros(len(columns), int)
    transfer, paid = _affordable(q, transfer, columns)
    left = np.array([max(-q_j - paid_j, 0) for q_j, paid_j in zip(q, paid, strict=True)], float)
    with np.errstate(all="ignore"):
        quadratic = np.ldexp(left, unit) * _SAFE / np.linalg.norm(x, axis=1)
    quadratic = truncated(np.where(negative[1:], quadratic, 0.0), fine)
    scales = truncated(np.where(positive, m.scales, 0.0), unit)
    scales = [max(entry, 1) if own else 0 for entry, own in zip(scales, positive, strict=True)]
    cuts = positive[np.abs(m.triangles)].all(axis=1) & (m.weights > 0)
    weights, triangles = truncated(m.weights[cuts], unit), m.triangles[cuts]
    used = [k for k, entry in enumerate(transfer) if entry]
    transfer, rows, columns = [transfer[k] for k in used], rows[used], columns[used]
    fields = {
        "scales": {"exponent": unit + inputs, "entries": scales},
        "quadratic": {"exponent": fine - inputs, "entries": quadratic},
        "transfer": {"exponent": unit, "entries": transfer},
        "rows": {"exponent": 0, "entries": rows.tolist()},
        "columns": {"exponent": 0, "entries": columns.tolist()},
        "weights": {"exponent": unit + inputs, "entries": weights},
        "triangles": {"exponent": 0, "entries": triangles.tolist()},
    }

    q_all, k, t, moved, mu = (
        np.ldexp(np.array(entries, float), power)
        for entries, power in (
            ([0, *q], unit), ([0, *quadratic], fine), (scales, unit), (transfer, unit),
            (weights, unit),
        )
    )  # fmt: skip
    points = np.vstack([np.zeros(x.shape[1]), x])
    shape = (n + 1, n + 1)
    v = np.maximum(q_all, 0)[:, None] * points
    v[0] = q_all @ points
    v -= sparse.csr_array((moved, (rows, columns)), shape=shape) @ points
    form = np.diag(t)
    for mu_c, triple in zip(mu, triangles, strict=True):
        own = np.zeros(n + 1)
        np.add.at(own, np.abs(triple), np.where(triple < 0, -1.0, 1.0))
        form -= mu_c * np.outer(own, own)
    h = v[positive].T @ np.linalg.solve(form[np.ix_(positive, positive)], v[positive]) / 2
    h -= (points * k[:, None]).T @ points
    top = float(np.linalg.eigvalsh((h + h.T) / 2)[-1])
    return fields, (t.sum() - mu.sum()) / 4 + max(top, 0.0) / 2


def _affordable(
    q: list[int], transfer: list[int], columns: np.ndarray
) -> tuple[list[int], list[int]]:
    """Return transfers that are not more than q_j together, and their sums."""
    paid, transfer, where = [0] * len(q), list(transfer), (columns - 1).tolist()
    for j, entry in zip(where, transfer, strict=True):
        paid[j] += abs(entry)
    over = {j for j, sum_j in enumerate(paid) if sum_j > max(-q[j], 0)}
    for k, j in enumerate(where):
        if j in over:
            size = abs(transfer[k]) * max(-q[j], 0) // paid[j]
            transfer[k] = size if transfer[k] > 0 else -size
    return transfer, [min(sum_j, max(-q_j, 0)) for sum_j, q_j in zip(paid, q, strict=True)]


def _cancelled(x: np.ndarray, q: np.ndarray) -> tuple[SideMultipliers, ...]:
    """Return multipliers by which equal points cancel, and others are bounded by their norms."""
    n, used = len(x), np.flatnonzero(q)
    least = 2.0**-50 * float(np.abs(q).sum())
    sides = []
    for sign in (1, -1):
        v = np.vstack([sign * q @ x, np.abs(q)[:, None] * x])
        transfer, rows, columns = [], [], []
        for i in used[sign * q[used] > 0].tolist():
            for j in used[sign * q[used] < 0].tolist():
                if np.array_equal(x[i], x[j]):
                    transfer.append(min(abs(q[i]), abs(q[j])))
                    rows.append(1 + i)
                    columns.append(1 + j)
                    v[1 + i] -= transfer[-1] * x[j]
        moved = np.array(transfer), np.array(rows, int), np.array(columns, int)
        scales = np.maximum(np.linalg.norm(v, axis=1), least)
        none = np.zeros(0), np.zeros((0, 3), int)
        sides.append(SideMultipliers(scales, np.zeros(n), *moved, *none))
    return tuple(sides)
