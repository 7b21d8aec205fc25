"""Check proof files: `python checker.py FILE ...` needs Python >= 3.11 and no other package.

All is decided in integers and rationals; logarithms have 100 digits. The page "Check our proofs
yourself" of kernelgap describes the format and proves every inequality that is tested here. Exit
status: 0 if all claims are proved, 1 if one is not, 2 if a file is malformed.
"""

import json
import math
import sys
from collections import namedtuple
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from itertools import product
from operator import mul

# The format: a string is the shape of an array of integers times a power of two, with equal sizes
# for equal letters (c, k, l, m, p: in one object); a list holds alternatives; one end may be null.
SIDE = [
    {"scales": "p", "quadratic": "n", "transfer": "k", "rows": "k", "columns": "k",
     "weights": "c", "triangles": "c3"},
    {"splits": "l2", "vectors": "md", "slopes": "k"},
]  # fmt: skip
NET, COEF = {"value": "", "hidden": "md", "readout": "m"}, {"value": "", "coef": "n"}
DUAL = {"value": "", "q": "n", "plus": SIDE, "minus": SIDE}
FILE = {"format": ["kernelgap proof, version 1"], "claim": [
    {"kind": ["margin"], "x": "nd", "y": "n", "lower": NET, "upper": DUAL},
    {"kind": ["logistic loss", "squared loss", "hinge loss"], "x": "nd", "y": "n", "l2": "",
     "reduction": ["mean", "sum"], "scale": "", "lower": DUAL, "upper": NET},
    {"kind": ["svm"], "gram": "nn", "y": "n", "lower": COEF, "upper": COEF},
    {"kind": ["eigenvalues"], "gram": "nn", "lower": {"value": ""}, "upper": {"value": ""}},
]}  # fmt: skip
DIGITS = Context(prec=100, Emax=MAX_EMAX, Emin=MIN_EMIN)
TWO, ROUNDING = Fraction(2), Fraction(1, 10**60)  # the latter far above the errors of logarithms
Dyadic = namedtuple("Dyadic", "entries exponent")  # nested lists, in units of 2^exponent
Unproved = type("Unproved", (ValueError,), {"__doc__": "The numbers do not prove the claim."})


def check(path):
    """Return what a file proves, in words and as the two ends; raise an error if it does not."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file, parse_float=str, parse_constant=str, object_pairs_hook=_unique)
    claim = read(content, FILE, {"2": 2, "3": 3}, "the file")["claim"]
    kind, rows = claim["kind"].split()[-1], claim["x" if "x" in claim else "gram"].entries
    about = globals()[f"check_{kind}"](**claim) + f" ({len(rows)} x {len(rows[0])} data)"
    low, high = (claim[end] and claim[end]["value"] for end in ("lower", "upper"))
    _demand(low is not None or high is not None, "both ends of its claim are null", ValueError)
    left = "" if low is None else f"{_decimal(low, ROUND_FLOOR)} <= "
    right = "" if high is None else f" <= {_decimal(high, ROUND_CEILING)}"
    return left + about + right, low, high


def check_margin(x, y, lower, upper, **_):
    """Check lower <= the largest min_i y_i f(x_i) / ||Theta||^2 of nets of any width <= upper."""
    labels = _integers(y, (-1, 1))
    if lower:
        f, squares = outputs(x, lower)
        worst = min(map(mul, labels, f.entries)) * TWO**f.exponent
        _demand(squares > 0 and worst >= lower["value"] * squares, "the net does not prove `lower`")
    if upper:
        p = list(map(mul, labels, upper["q"].entries))
        _demand(min(p) >= 0 < sum(p), "the weights y_i q_i are negative or all zero")
        check_violation(x, upper, 2 * upper["value"] * sum(p) * TWO ** upper["q"].exponent)
    return "largest normalised margin of two-layer ReLU nets of any width"


def check_loss(kind, x, y, l2, reduction, scale, lower, upper, **_):
    """Check lower <= the least regularised loss of nets of any width <= upper."""
    loss, samples = kind.split()[0], len(x.entries) if reduction == "mean" else 1
    labels = y.entries if loss == "squared" else _integers(y, (-1, 1))
    targets = [label * TWO**y.exponent for label in labels]
    _demand(l2 >= 0 < scale, "`l2` is negative, or `scale` is not positive", ValueError)
    if upper:
        f, squares = outputs(x, upper)
        unit = scale * TWO**f.exponent
        data = sum(loss_above(loss, unit * f_i, t) for f_i, t in zip(f.entries, targets))
        _demand(data / samples + l2 * squares <= upper["value"], "the net does not prove `upper`")
    if lower:
        q, unit = lower["q"].entries, TWO ** lower["q"].exponent
        value = sum(dual_below(loss, unit * q_i, t) for q_i, t in zip(q, targets))
        _demand(value >= lower["value"] * samples, "the dual value does not prove `lower`")
        check_violation(x, lower, 2 * l2 * samples / scale)
    form = f"{kind} ({reduction}, l2 = {_decimal(l2)}, scale = {_decimal(scale)})"
    return f"least regularised {form} of two-layer ReLU nets of any width"


def check_svm(gram, y, lower, upper, **_):
    """Check lower <= the largest margin with a positive semidefinite kernel matrix <= upper."""
    labels, unit = _integers(y, (-1, 1)), TWO**gram.exponent
    for end in filter(None, (lower, upper)):
        v, value = end["coef"].entries, end["value"]
        image = [_dot(row, v) for row in gram.entries]
        square, least, p = _dot(v, image), min(map(mul, labels, image)), [*map(mul, labels, v)]
        if end is lower:
            proved = least >= 0 < square and value**2 * square <= least**2 * unit
        else:
            proved = min(p) >= 0 < sum(p) and square * unit <= (value * sum(p)) ** 2
        _demand(proved and value >= 0, "coefficients do not prove their bound")
    return "largest margin of a kernel with this matrix (if semidefinite)"


def check_eigenvalues(gram, lower, upper, **_):
    """Check lower <= lambda_min and lambda_max <= upper."""
    for end, sign in filter(all, ((lower, 1), (upper, -1))):
        shift = math.ceil(sign * end["value"] / TWO ** (gram.exponent - 64))
        rows = ([sign * p << 64 for p in row[: i + 1]] for i, row in enumerate(gram.entries))
        check_semidefinite([[*row[:-1], row[-1] - shift] for row in rows])
    return "spectrum of a symmetric matrix"


def outputs(x, net):
    """Return f(x_i) = sum_j w_j relu(u_j.x_i) for every input, and the sum of squared weights."""
    (u, in_u), (w, in_w) = net["hidden"], net["readout"]
    f = [_dot([max(_dot(x_i, u_j), 0) for u_j in u], w) for x_i in x.entries]
    squares = sum(_dot(u_j, u_j) for u_j in u) * TWO ** (2 * in_u) + _dot(w, w) * TWO ** (2 * in_w)
    return Dyadic(f, x.exponent + in_u + in_w), squares


def loss_above(kind, f, y):
    """Return an upper bound on the loss of one output."""
    if kind != "logistic":
        return (f - y) ** 2 / 2 if kind == "squared" else max(1 - y * f, Fraction(0))
    m = Fraction(math.floor(y * f * 2**100), 2**100)  # the loss falls with the margin
    with localcontext(DIGITS):
        part = min(abs(m), 10_000)  # log(1 + exp(-|m|)) is less than with a smaller |m|
        tail = (1 + (-Decimal(part.numerator) / part.denominator).exp()).ln()
    return max(-m, Fraction(0)) + Fraction(tail) + ROUNDING


def dual_below(kind, q, y):
    """Return a lower bound on the minimum over f of loss(f, y) + q f."""
    c = q * y
    _demand(kind == "squared" or 0 <= c <= 1, "a dual variable y_i q_i is not in [0, 1]")
    if kind != "logistic":
        return c - q**2 / 2 if kind == "squared" else c
    with localcontext(DIGITS):  # -c log c - (1 - c) log(1 - c)
        shares = [Decimal(s.numerator) / s.denominator for s in (c, 1 - c) if s]
        return Fraction(-sum(s * s.ln() for s in shares)) - ROUNDING


def check_violation(x, dual, bound):
    """Demand a proof of ``|sum_i q_i relu(u.x_i)| <= bound`` for every u of the unit ball."""
    _demand(bound >= 0, "a bound on a violation is negative")
    for sign, side in ((1, dual["plus"]), (-1, dual["minus"])):
        q = Dyadic([sign * entry for entry in dual["q"].entries], dual["q"].exponent)
        (check_relaxation if "scales" in side else check_cones)(x, q, bound, **side)


def check_relaxation(x, q, bound, scales, quadratic, transfer, rows, columns, weights, triangles):
    """Demand that multipliers prove sum_i q_i relu(u.x_i) <= bound on the unit ball."""
    n, q = len(x.entries), Dyadic([0, *q.entries], q.exponent)  # the linear part has the number 0
    _demand(len(scales.entries) == n + 1, "`scales` must have n + 1 entries", ValueError)
    e, f = min(q.exponent, transfer.exponent), min(scales.exponent, weights.exponent)
    q, transfer = ([entry << a.exponent - e for entry in a.entries] for a in (q, transfer))
    t, mu = ([entry << a.exponent - f for entry in a.entries] for a in (scales, weights))
    points = [[0] * len(x.entries[0]), *x.entries]
    v = [[max(q_i, 0) * x_k for x_k in x_i] for q_i, x_i in zip(q, points)]
    v[0] = [_dot(q, column) for column in zip(*points)]
    kept = [i for i in range(n + 1) if i == 0 or q[i] > 0]
    others = [j for j in range(1, n + 1) if q[j] <= 0]
    left = [-q_j for q_j in q]  # for k_j r_j, once the transfers are paid
    for i, j, entry in zip(_integers(rows, kept), _integers(columns, others), transfer):
        left[j] -= abs(entry)
        v[i] = [v_k - entry * x_k for v_k, x_k in zip(v[i], points[j])]
    form = [[0] * i + [t_i] for i, t_i in enumerate(t)]  # K, of which the rows `kept` matter
    for mu_c, signed in zip(mu, triangles.entries):
        _integers(Dyadic(list(map(abs, signed)), triangles.exponent), kept)
        _demand(mu_c >= 0, "a weight of a triangle is negative")
        for a, b in product(signed, signed):
            if abs(a) >= abs(b):
                form[abs(a)][abs(b)] -= mu_c if (a < 0) == (b < 0) else -mu_c
    paid, ratio = [0] * (n + 1), TWO ** (2 * (quadratic.exponent + x.exponent - e))
    for j in others:
        k_j, square = quadratic.entries[j - 1], _dot(points[j], points[j])
        enough = min(left[j], k_j) >= 0 and k_j**2 * square * ratio <= left[j] ** 2
        _demand(enough, "a term that is not positive is charged for more than it has")
        paid[j] = 2 * k_j
    tau = 2 * bound - (sum(t[i] for i in kept) - sum(mu)) * TWO**f / 2
    # [[K, -V], [-V', 2 tau I + 2 sum_j k_j x_j x_j']], in units of 2^fine
    fine = min(f, e + x.exponent, quadratic.exponent + 2 * x.exponent) - 64
    matrix = [[form[i][j] << f - fine for j in kept if j <= i] for i in kept]
    by_input = list(zip(*points))
    for m, column in enumerate(by_input):
        weighted = [w << quadratic.exponent + 2 * x.exponent - fine for w in map(mul, paid, column)]
        corner = [_dot(weighted, other) for other in by_input[: m + 1]]
        corner[m] += math.floor(2 * tau / TWO**fine)
        matrix.append([*(-v[i][m] << e + x.exponent - fine for i in kept), *corner])
    check_semidefinite(matrix)


def check_semidefinite(matrix):
    """Demand that the symmetric matrix with this lower triangle is positive semidefinite."""
    # Scaled and cut, it has 119 or 120 bits on the diagonal. An integer Cholesky factor R leaves
    # less than R_jj <= 2^60 off it, and n (2^60 + 1) or more on it, which dominate that and cuts.
    scale = [60 - (row[-1].bit_length() + 1) // 2 for row in matrix]
    spare, factor = len(matrix) * (2**60 + 1), []
    for own, entries in zip(scale, matrix):
        cut = [p << max(own + s, 0) >> max(-own - s, 0) for p, s in zip(entries, scale)]
        row = []
        for entry, other in zip(cut, factor):
            row.append((entry - _dot(row, other)) // other[-1])
        pivot = cut[-1] - _dot(row, row) - spare
        _demand(pivot > 0, "a matrix is not proven to be positive semidefinite")
        factor.append([*row, math.isqrt(pivot)])


def check_cones(x, q, bound, splits, vectors, slopes):
    """Demand that linear functions on cones prove sum_i q_i relu(u.x_i) <= bound on the ball."""
    d, columns, cones = len(x.entries[0]), list(zip(*x.entries)), []
    _demand(d <= 8, "cones are for d <= 8", ValueError)
    unit, limit = TWO ** (q.exponent + x.exponent - vectors.exponent), bound / TWO**vectors.exponent
    w, given = iter(vectors.entries), (entry * TWO**slopes.exponent for entry in slopes.entries)
    for orthant in product((-1, 1), repeat=d):  # a cone: its generators g, each with all g.x_i
        units = [[s * (k == m) for m in range(d)] for k, s in enumerate(orthant)]
        cones.append([(g, [s * z for z in z_k]) for s, g, z_k in zip(orthant, units, columns)])
    for k, m in (_integers(Dyadic(pair, splits.exponent), range(d)) for pair in splits.entries):
        cone = cones.pop() if cones else _demand(False, "there are more splits than cones")
        if k != m:
            middle = tuple([a + b for a, b in zip(*parts)] for parts in zip(cone[k], cone[m]))
            cones += [[middle if r == gone else cone[r] for r in range(d)] for gone in (k, m)]
            continue
        w_k, terms = next(w, [math.inf]), []
        for q_i, *z in zip(q.entries, *(z for _, z in cone)):  # relu(z) >= slope z
            slope = next(given, 2) if q_i < 0 and min(z) < 0 < max(z) else max(z) > 0
            _demand(0 <= slope <= 1, "a slope is missing or not in [0, 1]")
            terms.append((q_i, slope))
        _demand(_dot(w_k, w_k) <= limit**2, "a vector is missing or longer than the bound")
        for g, z in cone:
            f = sum(q_i * (max(t, 0) if q_i > 0 else s * t) for (q_i, s), t in zip(terms, z))
            _demand(f * unit <= _dot(w_k, g), "a vector is too short on its cone")
    _demand(not cones, "a cone is left over")


def read(node, form, known, where):
    """Return what a node of the file holds: scalars as rationals, arrays as `Dyadic`."""
    if isinstance(form, list) and isinstance(form[0], str):
        return node if node in form else _demand(False, f"`{where}` is not in {form}", ValueError)
    if isinstance(form, list):
        form = next((f for f in form if isinstance(node, dict) and set(node) == set(f)), form[0])
    if node is None and where in ("lower", "upper"):
        return None
    names = ["entries", "exponent"] if isinstance(form, str) else list(form)
    right = isinstance(node, dict) and set(node) == set(names)
    _demand(
        right, f"`{where}` must be an object with the keys {names}; got {node!r:.20}", ValueError
    )
    if isinstance(form, dict):
        known = dict(known)
        return {name: read(node[name], part, known, name) for name, part in form.items()}
    level, exponent = [node["entries"]], node["exponent"]
    for letter in form:
        right = all(isinstance(part, list) for part in level)
        size = known.setdefault(letter, len(level[0])) if right and level else 0
        right = right and {*map(len, level)} <= {size} and (size or letter in "kc" or not level)
        _demand(right, f"`{where}` must have the shape {form!r}", ValueError)
        level = [entry for part in level for entry in part]
    right = all(type(entry) is int for entry in [exponent, *level]) and abs(exponent) <= 6000
    right &= form != "nn" or node["entries"] == list(map(list, zip(*node["entries"])))
    _demand(right, f"`{where}` must hold integers, and be symmetric if square", ValueError)
    return Dyadic(node["entries"], exponent) if form else node["entries"] * TWO**exponent


def _unique(pairs):  # `read` refuses this string, as it does numbers that are not integers
    return dict(pairs) if len(dict(pairs)) == len(pairs) else "a key twice"


def _demand(holds, otherwise, error=Unproved):
    if not holds:
        raise error(otherwise)


def _integers(array, allowed):
    right = array.exponent == 0 and set(array.entries) <= set(allowed)
    return array.entries if right else _demand(False, "a label or index is wrong", ValueError)


def _decimal(value, rounding=None):
    return Context(prec=17, rounding=rounding).divide(*map(Decimal, value.as_integer_ratio()))


def _dot(a, b):  # over the first entries if one is longer
    return sum(map(mul, a, b))


def main(paths):
    """Check files, print a line for each, and return the exit status."""
    codes = [0 if paths else 2]
    for path in paths:
        try:
            print(f"{path}: proved: {check(path)[0]}")
        except (OSError, ValueError, RecursionError) as error:
            codes.append(1 if isinstance(error, Unproved) else 2)
            print(f"{path}: {'NOT PROVED' if codes[-1] == 1 else 'not a proof file'}: {error}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
