"""The inequalities of proof files in floating point, derived apart from the checker's.

`slack` is what a file has left: positive where its numbers prove its claim, negative where they do
not, and within 1e-7 of zero where rounding decides.
"""

import itertools
from fractions import Fraction

import numpy as np


def array(node):
    entries = np.array(node["entries"], object)
    flat = [int(e) * 2.0 ** node["exponent"] for e in entries.ravel()]
    return np.array(flat, float).reshape(entries.shape)


def slack(claim):
    kind = claim["kind"].split()[-1]
    values = np.array(list(globals()[f"_{kind}"](claim)))
    least = np.nanmin(values)  # NaN where rounding decides
    return least if least < 0 or not np.isnan(values).any() else np.nan


def _relative(small, large):
    """How far `large` is above `small`."""
    return (large - small) / max(abs(large), abs(small), 1e-300)


def _margin(claim):
    x, y = array(claim["x"]), array(claim["y"])
    if claim["lower"]:
        u, w, value = (array(claim["lower"][k]) for k in ("hidden", "readout", "value"))
        size = np.sum(u**2) + np.sum(w**2)
        yield _relative(value, np.min(y * (np.maximum(x @ u.T, 0) @ w)) / size) if size else -1
    if claim["upper"]:
        p = y * array(claim["upper"]["q"])
        yield np.inf if p.min() >= 0 < p.max() else -1
        yield from _violation(x, claim["upper"], 2 * array(claim["upper"]["value"]) * p.sum())


def _loss(claim):
    x, y, l2, scale = (array(claim[k]) for k in ("x", "y", "l2", "scale"))
    kind, samples = claim["kind"].split()[0], len(x) if claim["reduction"] == "mean" else 1
    yield np.inf if l2 >= 0 < scale else -1
    u, w, value = (array(claim["upper"][k]) for k in ("hidden", "readout", "value"))
    f = scale * (np.maximum(x @ u.T, 0) @ w)
    losses = {
        "squared": (f - y) ** 2 / 2, "hinge": np.maximum(1 - y * f, 0),
        "logistic": np.logaddexp(0, -y * f),
    }[kind]  # fmt: skip
    yield _relative(losses.sum() / samples + l2 * (np.sum(u**2) + np.sum(w**2)), value)
    q, value = array(claim["lower"]["q"]), array(claim["lower"]["value"])
    c = q * y
    if kind != "squared":
        yield min(c.min(), 1 - c.max()) if c.min() < 0 or c.max() > 1 else np.inf
        c = np.clip(c, 1e-300, 1)
    duals = {
        "squared": c - q**2 / 2, "hinge": c,
        "logistic": -c * np.log(c) - (1 - c) * np.log1p(-np.minimum(c, 1 - 1e-16)),
    }[kind]  # fmt: skip
    yield (duals.sum() / samples - value) / np.abs(duals).sum() * samples
    yield from _violation(x, claim["lower"], 2 * l2 * samples / scale)


def _svm(claim):
    gram, y = array(claim["gram"]), array(claim["y"])
    yield np.inf if np.array_equal(gram, gram.T) else -1
    c, value = array(claim["lower"]["coef"]), array(claim["lower"]["value"])
    yield value if value < 0 else np.inf
    yield _relative(value, np.min(y * (gram @ c)) / np.sqrt(c @ gram @ c))
    c, value = array(claim["upper"]["coef"]), array(claim["upper"]["value"])
    yield np.inf if np.min(y * c) >= 0 else -1
    yield _relative(np.sqrt(c @ gram @ c) / np.sum(y * c), value)


def _eigenvalues(claim):
    gram = array(claim["gram"])
    yield np.inf if np.array_equal(gram, gram.T) else -1
    values = np.linalg.eigvalsh(gram)
    yield (values[0] - array(claim["lower"]["value"])) / values[-1]
    yield (array(claim["upper"]["value"]) - values[-1]) / values[-1]


def _violation(x, dual, bound):
    for sign, name in ((1, "plus"), (-1, "minus")):
        side = {k: array(v) for k, v in dual[name].items()}
        if "scales" in side:
            left = [max(-sign * q_j, 0) for q_j in _exact(dual["q"])]
            for t, j in zip(_exact(dual[name]["transfer"]), side["columns"], strict=True):
                if 1 <= j <= len(x):
                    left[int(j) - 1] -= abs(t)
            side["left"] = np.array(left, float)  # differences of numbers that are nearly equal
        least = _relaxation if "scales" in side else _cones
        yield _relative(least(x, sign * array(dual["q"]), side), bound)


def _exact(node):
    return [e * Fraction(2) ** node["exponent"] for e in node["entries"]]


def _relaxation(x, q, side):
    """The least bound that multipliers prove, by K^-1 and the largest eigenvalue."""
    n = len(x)
    positive = np.append(True, q > 0)
    v = np.vstack([q @ x, np.maximum(q, 0)[:, None] * x])
    for t, i, j in zip(side["transfer"], side["rows"], side["columns"], strict=True):
        i, j = int(i), int(j)
        if not (0 <= i <= n and 1 <= j <= n and positive[i] and q[j - 1] <= 0):
            return np.inf
        v[i] -= t * x[j - 1]
    k = np.where(q <= 0, side["quadratic"], 0)
    left = side["left"] - k * np.linalg.norm(x, axis=1)
    form = np.diag(side["scales"])
    for mu, triple in zip(side["weights"], side["triangles"], strict=True):
        b = np.zeros(n + 1)
        for m in triple.astype(int):
            if abs(m) > n or not positive[abs(m)]:
                return np.inf
            b[abs(m)] += -1 if m < 0 else 1
        form -= mu * np.outer(b, b)
    kept = np.ix_(positive, positive)
    spare = (left / np.abs(q))[q < 0].min(initial=1)
    bad = k.min(initial=0) < 0 or side["weights"].min(initial=0) < 0 or left[q == 0].any()
    if bad or np.linalg.eigvalsh(form[kept])[0] <= 0 or spare < -1e-9:
        return np.inf
    if spare < 0:
        return np.nan
    h = v[positive].T @ np.linalg.solve(form[kept], v[positive]) / 2 - (x * k[:, None]).T @ x
    cost = side["scales"][positive].sum() - side["weights"].sum()
    return cost / 4 + max(np.linalg.eigvalsh((h + h.T) / 2)[-1], 0) / 2


def _cones(x, q, side):
    """The longest of the vectors, or infinity if one does not bound its cone."""
    d = x.shape[1]
    waiting = [np.diag(s).astype(float) for s in itertools.product((-1, 1), repeat=d)]
    vectors, slopes, longest = iter(side["vectors"]), iter(side["slopes"]), 0.0
    for k, m in side["splits"].astype(int):
        if not waiting or not (0 <= k < d and 0 <= m < d):
            return np.inf
        cone = waiting.pop()
        if k != m:
            for gone in (k, m):
                child = cone.copy()
                child[gone] = cone[k] + cone[m]
                waiting.append(child)
            continue
        w, z = next(vectors, np.full(d, np.inf)), cone @ x.T
        c = np.maximum(z, 0) @ np.maximum(q, 0)
        for i in np.flatnonzero(q < 0):
            slope = float(z[:, i].max() > 0)
            if z[:, i].min() < 0 < z[:, i].max():
                slope = next(slopes, 2.0)
                if not 0 <= slope <= 1:
                    return np.inf
            c = c + q[i] * slope * z[:, i]
        lengths = np.linalg.norm(cone, axis=1)
        short = np.max((c - cone @ w) / lengths)
        longest = max(longest, np.linalg.norm(w) + max(short, 0) * 1e6)
    return np.inf if waiting else longest
