"""The checker of proof files: it accepts what is proved and nothing else."""

import ast
import copy
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
import proof_oracle
from helpers import seeds
from kernelgap.margins.certify.multipliers import SideMultipliers
from kernelgap.proofs import checker, violation
from kernelgap.proofs.exact import exactly

SCRIPT = Path(checker.__file__)


def _problem(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), np.where(np.arange(n) % 3 > 0, 1.0, -1.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small file of every kind, by name."""
    folder = tmp_path_factory.mktemp("proofs")
    net = kg.models.homogeneous_mlp((3,), parameterization="ntk")

    x, y = _problem(0, 7, 4)
    bound = kg.margins.upper_bound(x, y, max_iterations=60)
    kg.proofs.write_margin(folder / "relaxation.json", bound, x, y)
    params = net.init(jax.random.key(0), 4)
    for loss in ("logistic", "squared", "hinge"):
        q = y * np.random.default_rng(1).uniform(0.1, 1, 7)
        kg.proofs.write_loss(folder / f"{loss}.json", (net, params), x, y, l2=0.1, loss=loss, dual=q,
                             reduction="sum" if loss == "squared" else "mean")  # fmt: skip
    x, y = _problem(2, 5, 2)
    best = kg.margins.max_margin(x, y, key=jax.random.key(0), width=8, restarts=1, steps=50)
    kg.proofs.write_margin(folder / "cones.json", best, x, y)
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
    x = x.astype(np.float32)
    svm = kg.predictors.hard_margin_svm(kernel, x, y.astype(np.float32))
    kg.proofs.write_svm(folder / "svm.json", svm, y)
    gram = np.asarray(kernel(x))
    ends = kg.bounds.eigenvalue_enclosure(gram, singular="keep", gram_error=0.0)
    kg.proofs.write_eigenvalues(folder / "eigenvalues.json", ends, gram)
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("changed") / "proof.json"


def _check(path, document):
    """The outcome of the checker: 0 proved, 1 not proved, 2 malformed."""
    path.write_text(json.dumps(document))
    try:
        checker.check(path)
    except checker.Unproved:
        return 1
    except ValueError:
        return 2
    return 0


def test_every_kind_of_file_is_accepted(files, path):
    assert len(files) == 7
    for document in files.values():
        assert _check(path, document) == 0
        assert proof_oracle.slack(document["claim"]) > -1e-9, document["claim"]["kind"]


def _numbers(node, where=()):
    """The places of all integers of a file, exponents among them."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _numbers(value, (*where, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _numbers(value, (*where, index))
    elif isinstance(node, int):
        yield where


def _mutant(document, rng):
    """The file with one number changed, and what was changed; None if it is the same."""
    changed = copy.deepcopy(document)
    places = list(_numbers(changed["claim"]))
    # One field at random, then one of its numbers: long arrays do not crowd out the others.
    fields = sorted({tuple(k for k in place if isinstance(k, str)) for place in places})
    field = fields[rng.integers(len(fields))]
    own = [p for p in places if tuple(k for k in p if isinstance(k, str)) == field]
    *way, last = own[rng.integers(len(own))]
    node = changed["claim"]
    for key in way:
        node = node[key]
    old, size = node[last], 2 ** int(rng.integers(1, 14))
    step = abs(old) // size or 1
    choices = [old + step, old - step, -old, 0, old + (1 << 60), 2 * old]
    node[last] = int(choices[rng.integers(len(choices))]) if last != "exponent" else (
        old + int(rng.choice([-1, 1]))
    )  # fmt: skip
    return changed, (*way, last, old, node[last]) if node[last] != old else None


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_corrupted_files_are_rejected(files, path, count):
    """Where floating point sees by a margin that the claim is not proved, the checker does too."""
    rng, rejected, accepted = np.random.default_rng(count), 0, 0
    names = sorted(files)
    while rejected < count:
        document, changed = _mutant(files[names[rng.integers(len(names))]], rng)
        with np.errstate(all="ignore"):
            slack = proof_oracle.slack(document["claim"]) if changed else 0.0
        outcome = _check(path, document)
        if slack < -1e-7:
            assert outcome > 0, (slack, changed)
            rejected += 1
        elif slack > 1e-7:
            assert outcome in (0, 2), (slack, changed)
            accepted += outcome == 0
    assert accepted > 0


def test_what_is_accepted_is_true(files, path):
    """Changed claims about points of the plane, whose largest margin can be enumerated."""
    rng, accepted = np.random.default_rng(1), 0
    while accepted < 40:
        document, changed = _mutant(files["cones"], rng)
        if not changed or _check(path, document):
            continue
        accepted += 1
        claim = document["claim"]
        x, y = proof_oracle.array(claim["x"]), proof_oracle.array(claim["y"])
        best = kg.margins.upper_bound(x, y).value
        assert proof_oracle.array(claim["upper"]["value"]) >= best * (1 - 1e-4)
        assert proof_oracle.array(claim["lower"]["value"]) <= best


@given(seeds, st.sampled_from([1, 2, 3]), st.booleans())
def test_any_multipliers_prove_a_true_bound(seed, d, triangles):
    """Random multipliers, cut down to what the q_j afford, prove no less than the exact h."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    x, q = rng.normal(size=(n, d)), rng.normal(size=n)
    sides = []
    for sign in (1, -1):
        positive = np.append(0, 1 + np.flatnonzero(sign * q > 0))
        negative = 1 + np.flatnonzero(sign * q < 0)
        count = 3 * n if len(negative) else 0
        c = 4 if triangles else 0
        triples = rng.choice(positive, (c, 3)) * rng.choice([-1, 1], (c, 3))
        scales = np.zeros(n + 1)
        scales[positive] = rng.uniform(0.1, 2, len(positive))
        sides.append(SideMultipliers(
            scales, np.zeros(n), rng.normal(size=count) / 4, rng.choice(positive, count),
            rng.choice(negative, count) if count else np.zeros(0, int),
            rng.uniform(0, 0.01, c), triples,
        ))  # fmt: skip
    proof = violation.prove_violation(x, q, tuple(sides))
    assert proof.bound >= kg.margins.violation_bound(x, q).value * (1 - 1e-7)
    fields = read_dual(proof.fields)
    data = checker.Dyadic(*(exactly(x)[k] for k in ("entries", "exponent")))
    checker.check_violation(data, fields, Fraction(proof.bound * (1 + 1e-9)))
    with pytest.raises(checker.Unproved):
        checker.check_violation(data, fields, Fraction(proof.bound * (1 - 1e-6)))


def read_dual(fields):
    known = {"2": 2, "3": 3, "n": len(fields["q"]["entries"])}
    value = {"value": {"entries": 1, "exponent": 0}}
    dual = checker.read(fields | value, checker.DUAL, known, "the file")
    return {name: dual[name] for name in ("q", "plus", "minus")}


def _scalar(value):
    return exactly(np.float64(value))


def _vector(values):
    return {"exponent": 0, "entries": list(values)}


def _side(n, **change):
    """Multipliers for integers: nothing transferred, t = 1 everywhere."""
    fields = {
        "scales": _vector([1] * (n + 1)), "quadratic": _vector([0] * n), "transfer": _vector([]),
        "rows": _vector([]), "columns": _vector([]), "weights": _vector([]),
        "triangles": _vector([]),
    }  # fmt: skip
    return fields | change


def _margin_file(x, y, upper, q=None, **sides):
    n = len(x)
    plus, minus = sides.get("plus", _side(n)), sides.get("minus", _side(n))
    dual = {"value": _scalar(upper), "q": _vector(q or y), "plus": plus, "minus": minus}
    claim = {"kind": "margin", "x": _vector(x), "y": _vector(y), "lower": None, "upper": dual}
    return {"format": "kernelgap proof, version 1", "claim": claim}


def _cone_side(splits, vectors, slopes=()):
    return {"splits": _vector(splits), "vectors": _vector(vectors), "slopes": _vector(slopes)}


WHOLE = [[0, 0]] * 4  # the four quadrants, undivided


def test_claims_that_are_true_by_hand(path):
    """Points e1, e2 of one class: gamma* = max min(relu) / ||Theta||^2 = 1 / (2 sqrt 2) of one unit."""
    x, y = [[1, 0], [0, 1]], [1, 1]
    # F(u) = relu(u_1) + relu(u_2) <= sqrt 2 on the ball: h / (2 sum p) = sqrt(2) / 4.
    corner = _cone_side(WHOLE, [[0, 0], [0, 1], [1, 0], [1, 1]][::-1])
    lower = _cone_side(WHOLE, [[0, 0]] * 4)
    exact = np.sqrt(2) / 4
    for upper, outcome in ((exact * (1 + 1e-15), 0), (exact * (1 - 1e-15), 1), (-1.0, 1)):
        document = _margin_file(x, y, upper, plus=corner, minus=lower)
        assert _check(path, document) == outcome
    assert _check(path, _margin_file(x, y, 1.0)) == 0  # by t = 1: (3 + 2 max(1, ..)) / 4 / 2
    assert _check(path, _margin_file(x, y, 0.35)) == 1


X, Y = [[1, 0], [0, 1]], [1, -1]  # largest margin: about .2
FREE = _vector([5])


@pytest.mark.parametrize(
    "document",
    [
        _margin_file(X, Y, 0.0, q=[0, 0], plus=_cone_side(WHOLE, [[0, 0]] * 4),  # weights of zero
                     minus=_cone_side(WHOLE, [[0, 0]] * 4)),
        _margin_file(X, Y, 0.01, q=[1, 1]),  # a negative weight
        _margin_file(X, [1, 1], 0.05, q=[1, 1],  # what a positive point pays for another one
                     plus=_side(2, transfer=_vector([1, 1]), rows=_vector([0, 0]), columns=_vector([1, 2]))),
        _margin_file(X, Y, 0.05, plus=_side(2, quadratic=_vector([0, 9]))),
        _margin_file(X, Y, 0.05, plus=_side(2, quadratic=_vector([-1, -1]))),
        _margin_file(X, Y, 0.05, plus=_side(2, transfer=FREE, rows=_vector([1]), columns=_vector([2]))),
        _margin_file(X, Y, 0.05, plus=_side(2, weights=_vector([-9]), triangles=_vector([[0, 1, 1]]))),
        _margin_file(X, Y, 0.05, plus=_side(2, weights=_vector([9]), triangles=_vector([[0, 1, 2]]))),
        _margin_file(X, Y, 0.05, plus=_side(2, weights=_vector([9]), triangles=_vector([[0, 1, 1]]))),
        _margin_file(X, Y, 0.05, plus=_side(2, scales=_vector([-9, -9, -9]))),
        _margin_file(X, Y, -1.0, plus=_cone_side(WHOLE, [[0, 0]] * 4), minus=_cone_side(WHOLE, [[0, 0]] * 4)),
        _margin_file(X, Y, 0.1, plus=_cone_side(WHOLE[1:], [[0, 0]] * 3), minus=_cone_side(WHOLE[1:], [[0, 0]] * 3)),
        _margin_file(X, Y, 0.1, plus=_cone_side(WHOLE, [[0, 0]] * 4), minus=_cone_side(WHOLE, [[0, 0]] * 4)),
        _margin_file(X, Y, 0.6, plus=_cone_side(WHOLE * 2, [[1, 0]] * 8), minus=_cone_side(WHOLE, [[0, 1]] * 4)),
        _margin_file(X, Y, 0.6, plus=_cone_side(WHOLE, [[1, 0]] * 3), minus=_cone_side(WHOLE, [[0, 1]] * 4)),
    ],
)  # fmt: skip
def test_false_claims_are_refused(path, document):
    """One for each way in which a checker could be fooled."""
    assert _check(path, document) > 0


def _quarters(splits, vectors, slopes):
    half = {"exponent": -1}
    return _cone_side(WHOLE[:splits], [], []) | {
        "vectors": half | {"entries": vectors}, "slopes": half | {"entries": slopes},
    }  # fmt: skip


def test_slopes_beyond_the_unit_interval_prove_nothing(path):
    """F = relu(u_1 + 2 u_2) - relu(u_1 - u_2) is sqrt 5 at most; with slope -1/2 it would be 2.13."""
    x, y = [[1, 2], [1, -1]], [1, -1]
    minus = _quarters(4, [[0, 0], [2, -2], [0, 0], [0, -2]], [0, 0])
    for corner, slope, upper, outcome in (([3, 3], -1, 0.55, 1), ([2, 4], 0, 0.56, 0)):
        plus = _quarters(4, [corner, [0, 0], [0, 4], [0, 0]], [slope, 0])
        assert _check(path, _margin_file(x, y, upper, plus=plus, minus=minus)) == outcome


def test_no_cone_may_be_left_out(path):
    """F = relu(-u_1 - 2 u_2) is largest in the last quadrant."""
    x, y = [[-1, -2]], [1]
    minus = _quarters(4, [[0, 0]] * 4, [0, 0])
    vectors = [[0, 0], [0, -4], [-2, 0], [-2, -4]]
    for count, upper, outcome in ((3, 1.05, 1), (4, 1.05, 1), (4, 1.12, 0)):
        plus = _quarters(count, vectors, [])
        assert _check(path, _margin_file(x, y, upper, plus=plus, minus=minus)) == outcome


def test_what_negative_points_pay_is_limited(path):
    """Points 1 and 2 on the line, q = (4, -1): h = 2, but a large quadratic part would prove 1."""
    x, y = [[1], [2]], [1, -1]
    minus = _side(2, scales={"exponent": -20, "entries": [1, 1, 1]}, transfer=_vector([-2, 2]),
                  rows=_vector([0, 2]), columns=_vector([1, 1]))  # fmt: skip
    for upper, quadratic, outcome in ((0.1, 3, 1), (0.31, 0, 0)):
        plus = _side(2, scales=_vector([2, 4, 1]), quadratic=_vector([0, quadratic]))
        document = _margin_file(x, y, upper, q=[4, -1], plus=plus, minus=minus)
        assert _check(path, document) == outcome


def test_positive_points_pay_nothing(path):
    """Twice the point 1 on the line: h = 2. Transfers to positive points would cancel everything."""
    tiny = {"exponent": -20, "entries": [1, 1, 1]}
    minus = _side(2, scales=tiny, transfer=_vector([-1, -1]), rows=_vector([0, 0]),
                  columns=_vector([1, 2]))  # fmt: skip
    cheat = _side(2, scales=tiny, transfer=_vector([2, 1, 1]), rows=_vector([0, 1, 2]),
                  columns=_vector([1, 1, 2]))  # fmt: skip
    honest = _side(2, scales=_vector([2, 1, 1]))
    for plus, upper, proved in ((cheat, 0.1, False), (honest, 0.5, False), (honest, 0.51, True)):
        outcome = _check(path, _margin_file([[1], [1]], [1, 1], upper, plus=plus, minus=minus))
        assert (outcome == 0) == proved


def test_a_slope_must_be_there_and_in_the_unit_interval(path):
    """Point (1, -1) changes sign in two quadrants; one class, negative: F <= 0 with slope 0 or 1."""
    x, y = [[1, -1]], [-1]
    minus = _cone_side(WHOLE, [[1, 0], [1, -1], [0, 0], [0, -1]])  # of relu(u_1 - u_2)
    for slopes, outcome in (([0, 0], 0), ([0], 1), ([0, 2], 1), ([0, -1], 1)):
        plus = _cone_side(WHOLE, [[0, 0]] * 4, slopes)
        assert _check(path, _margin_file(x, y, 2.0, plus=plus, minus=minus)) == outcome


def test_a_net_of_zeros_has_no_margin(path):
    x, y = [[1, 0]], [1]
    net = {"value": _scalar(5.0), "hidden": _vector([[0, 0]]), "readout": _vector([0])}
    claim = {"kind": "margin", "x": _vector(x), "y": _vector(y), "lower": net, "upper": None}
    assert _check(path, {"format": "kernelgap proof, version 1", "claim": claim}) == 1
    net |= {"hidden": _vector([[1, 0]]), "readout": _vector([1]), "value": _scalar(0.5)}
    document = {"format": "kernelgap proof, version 1", "claim": claim | {"lower": net}}
    assert _check(path, document) == 0
    net["value"] = _scalar(0.5 + 2**-52)
    assert _check(path, document) == 1


@given(seeds, st.integers(1, 6), st.integers(-80, 80))
def test_semidefinite_matrices(seed, n, power):
    """Against eigenvalues in floating point, at any scale of rows and columns."""
    rng = np.random.default_rng(seed)
    factor = rng.integers(-100, 100, (n, n)).astype(float)
    matrix = (factor @ factor.T).astype(int)
    smallest = np.linalg.eigvalsh(matrix)[0]
    for shift in (-int(smallest) - 1, 1, 1000):
        shifted = matrix + shift * np.eye(n, dtype=int)
        powers = (rng.integers(0, 40, n) + max(power, 0)).tolist()
        rows = [
            [int(shifted[i, j]) << powers[i] + powers[j] for j in range(i + 1)] for i in range(n)
        ]
        if smallest + shift > 1e-6:
            checker.check_semidefinite(rows)
        elif smallest + shift < -1e-6:
            with pytest.raises(checker.Unproved):
                checker.check_semidefinite(rows)


def test_a_matrix_that_cutting_makes_semidefinite(path):
    """Its determinant is negative, by less than a unit of the integers that it is cut to."""
    unit = 2**182
    diagonal, off = 2**300 + 3 * unit // 2, 2**300 + 9 * unit // 10
    with pytest.raises(checker.Unproved):
        checker.check_semidefinite([[2**300], [off, diagonal]])
    checker.check_semidefinite([[2**300], [off, 2**300 + 2**250]])


def test_weights_of_triangles_must_not_be_negative(path):
    """One point at 1 on the line: h = 1, but negative weights would prove 1/3."""
    weights = {"exponent": -8, "entries": [-85, -85]}
    scales = {"exponent": -20, "entries": [1, 1]}
    plus = _side(1, scales=scales, weights=weights, triangles=_vector([[0, 1, 1], [0, 0, 1]]))
    paid = {"transfer": _vector([-1]), "rows": _vector([0]), "columns": _vector([1])}
    minus = _side(1, scales=scales, **paid)
    assert _check(path, _margin_file([[1]], [1], 0.2, plus=plus, minus=minus)) == 1
    simple = _side(1, scales=_vector([1, 1]))
    assert _check(path, _margin_file([[1]], [1], 0.51, plus=simple, minus=minus)) == 0


def test_logarithms():
    """The losses and dual values against 50 digits of their series at one half and far away."""
    log2 = Fraction("0.69314718055994530941723212145817656807550013436026")
    half = checker.dual_below("logistic", Fraction(1, 2), Fraction(1))
    assert abs(log2 - half) < Fraction(1, 10**49)
    assert abs(checker.loss_above("logistic", Fraction(0), Fraction(1)) - log2) < Fraction(
        1, 10**49
    )
    for f in (2**40, -(2**40)):
        high = checker.loss_above("logistic", Fraction(f), Fraction(1))
        assert 0 <= high - max(-f, 0) < Fraction(1, 10**50)
    for c in (0, 1):
        assert -Fraction(1, 10**50) < checker.dual_below("logistic", Fraction(c), Fraction(1)) <= 0
    for m in (-3.7, 0.2, 30.0):
        high = checker.loss_above("logistic", Fraction(m), Fraction(1))
        np.testing.assert_allclose(float(high), np.logaddexp(0, -m), rtol=1e-12)


def _replaced(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


MALFORMED = {
    "nothing": lambda text: "",
    "not JSON": lambda text: text[:-20],
    "not text": lambda text: b"\xff\xfe\x00",
    "a list": lambda text: "[]",
    "deep": lambda text: "[" * 100_000,
    "another format": lambda text: _replaced(text, "version 1", "version 2"),
    "another kind": lambda text: _replaced(text, '"margin"', '"magic"'),
    "a kind that is an array": lambda text: _replaced(text, '"margin"', '{"exponent":0,"entries":1}'),
    "a missing field": lambda text: _replaced(text, '"quadratic"', '"quadratics"'),
    "one more field": lambda text: _replaced(text, '"kind"', '"more": 1, "kind"'),
    "a key twice": lambda text: _replaced(text, '"kind"', '"lower": null, "kind"'),
    "a float": lambda text: _replaced(text, '"entries": [1,', '"entries": [1.0,'),
    "NaN": lambda text: _replaced(text, '"entries": [1,', '"entries": [NaN,'),
    "infinity": lambda text: _replaced(text, '"entries": [1,', '"entries": [Infinity,'),
    "true": lambda text: _replaced(text, '"entries": [1,', '"entries": [true,'),
    "a string": lambda text: _replaced(text, '"entries": [1,', '"entries": ["1",'),
    "a number of 5000 digits": lambda text: _replaced(text, '"entries": [1,', f'"entries": [{"9" * 5000},'),
    "a large exponent": lambda text: _replaced(text, '"exponent": 0', '"exponent": 1000000000'),
    "an exponent that is a float": lambda text: _replaced(text, '"exponent": 0', '"exponent": 0.0'),
    "a label 0": lambda text: _replaced(text, '"y": {"exponent": 0, "entries": [1, ', '"y": {"exponent": 0, "entries": [0, '),
    "a row too few": lambda text: _replaced(text, '"x": {"exponent": 0, "entries": [[1, 0], ', '"x": {"exponent": 0, "entries": ['),
    "a ragged row": lambda text: _replaced(text, "[[1, 0], ", "[[1], "),
    "a row that is a number": lambda text: _replaced(text, "[[1, 0], ", "[1, "),
    "a scalar that is a list": lambda text: _replaced(text, '"entries": 1', '"entries": [1]'),
    "no ends": lambda text: json.dumps({"format": "kernelgap proof, version 1", "claim": {
        "kind": "margin", "x": _vector(X), "y": _vector(Y), "lower": None, "upper": None}}),
    "a scale too few": lambda text: _replaced(text, '"scales": {"exponent": 0, "entries": [1, ', '"scales": {"exponent": 0, "entries": ['),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused_clearly(path, name, capsys):
    text = json.dumps(_margin_file([[1, 0], [0, 1]], [1, 1], 1.0))
    changed = MALFORMED[name](text)
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    assert checker.main([str(path)]) == 2
    line = capsys.readouterr().out
    assert line.startswith(f"{path}: not a proof file: ")
    assert len(line) < len(str(path)) + 250
    with pytest.raises(ValueError, match="is not a proof file"):
        kg.proofs.verify(path)


JUNK = (
    None,
    True,
    1,
    -1,
    0.5,
    "",
    "margin",
    [],
    [[]],
    [1, "a"],
    {},
    {"entries": 1},
    [None],
    10**30,
)


def test_no_structure_makes_the_checker_crash(files, path):
    """Whatever stands in the place of a part of a file, it is refused or does not matter."""
    rng = np.random.default_rng(3)
    for name in ("relaxation", "cones", "svm"):
        for _ in range(150):
            document = copy.deepcopy(files[name])
            node, depth = document, int(rng.integers(1, 8))
            while True:
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                key = keys[rng.integers(len(keys))]
                depth -= 1
                if not depth or not isinstance(node[key], dict | list) or not node[key]:
                    break
                node = node[key]
            node[key] = JUNK[rng.integers(len(JUNK))]
            assert _check(path, document) in (0, 1, 2)


def test_the_script_is_alone(files, path, tmp_path, capsys):
    """It runs where neither this library nor any other package can be imported."""
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 300
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [])
        + ([str(node.module)] if isinstance(node, ast.ImportFrom) else [])
    }
    assert imported <= sys.stdlib_module_names
    script = tmp_path / "checker.py"
    script.write_text(text)
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(files["relaxation"]))
    changed = copy.deepcopy(files["relaxation"])
    changed["claim"]["upper"]["value"]["exponent"] -= 1
    bad.write_text(json.dumps(changed))

    def run(*names):
        command = [sys.executable, "-I", "-S", str(script), *map(str, names)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    done = run(good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{good}: proved: largest normalised margin")
    assert run(good, bad).returncode == 1
    assert run(bad, tmp_path / "nowhere.json", good).returncode == 2
    assert checker.main([]) == 2
