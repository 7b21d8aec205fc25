"""Certificates written as proof files: what they claim, and what is refused."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, strategies as st

import kernelgap as kg
import proof_oracle
from helpers import seeds
from kernelgap.proofs import checker
from kernelgap.proofs.exact import exactly, truncated


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_floats_are_written_exactly(values):
    node = exactly(np.array(values))
    assert checker.read(node, "n", {}, "x").entries == node["entries"]
    for entry, value in zip(node["entries"], values, strict=True):
        assert entry * checker.TWO ** node["exponent"] == value
    down = truncated(np.array(values), -20)
    for entry, value in zip(down, values, strict=True):
        assert abs(entry) * checker.TWO**-20 <= abs(value) < (abs(entry) + 1) * checker.TWO**-20


def _problem(kind):
    rng = np.random.default_rng(5)
    if kind == "xor":
        return kg.datasets.xor_noise(jax.random.key(0), 24, 5)
    if kind == "random labels":
        return rng.normal(size=(12, 6)), np.where(rng.random(12) < 0.5, 1.0, -1.0)
    if kind == "one class":
        return rng.normal(size=(6, 4)), np.ones(6)
    if kind == "tiny":
        return 1e-30 * rng.normal(size=(8, 4)), np.tile([1.0, -1.0], 4)
    if kind == "huge":
        return 1e30 * rng.normal(size=(8, 2)), np.tile([1.0, -1.0], 4)
    if kind == "space":
        return rng.normal(size=(8, 3)), np.tile([1.0, -1.0], 4)
    if kind == "line":
        return rng.normal(size=(5, 1)), np.array([1.0, 1.0, -1.0, 1.0, -1.0]) ** 2
    x = rng.normal(size=(6, 4))
    x[2] = 0 if kind == "zero row" else x[5]
    return x, np.tile([1.0, -1.0, -1.0], 2) if kind == "zero row" else np.tile([1.0, -1.0], 3)


@pytest.mark.parametrize(
    "kind", ["xor", "random labels", "one class", "tiny", "huge", "space", "line"]
)
def test_margins(tmp_path, kind):
    """The file proves the ends of the certificate; by cones the upper one to some millionths."""
    x, y = _problem(kind)
    bound = kg.margins.upper_bound(x, y, max_iterations=40)
    verdict = kg.proofs.write_margin(tmp_path / "margin.json", bound, x, y)
    assert verdict == kg.proofs.verify(tmp_path / "margin.json")
    assert bound.value <= verdict.upper <= bound.value * (1 + 1e-5)
    if bound.violation.multipliers:
        assert verdict.upper == bound.value
    assert verdict.lower is None
    claim = json.loads((tmp_path / "margin.json").read_text())["claim"]
    np.testing.assert_array_equal(proof_oracle.array(claim["x"]), x)


@pytest.mark.parametrize("kind", ["zero row", "equal rows"])
def test_no_margin(tmp_path, kind):
    """gamma* = 0 is proved up to the least number that the relaxation can."""
    x, y = _problem(kind)
    best = kg.margins.max_margin(x, y, key=jax.random.key(1))
    assert best.status == "inseparable"
    verdict = kg.proofs.write_margin(tmp_path / "margin.json", best, x, y)
    assert verdict.lower is None
    assert 0 <= verdict.upper < 1e-14


def test_both_ends_and_one_alone(tmp_path):
    x, y = _problem("space")
    search = {"key": jax.random.key(1), "width": 8, "restarts": 1, "steps": 50, "rounds": 0}
    best = kg.margins.max_margin(x, y, **search)
    verdict = kg.proofs.write_margin(tmp_path / "both.json", best, x, y)
    assert verdict.lower == best.lower
    assert best.upper <= verdict.upper <= best.upper * (1 + 2e-6)
    best = kg.margins.max_margin(x, y, **search, upper=False)
    verdict = kg.proofs.write_margin(tmp_path / "lower.json", best, x, y)
    assert (verdict.lower, verdict.upper) == (best.lower, None)
    assert verdict.statement.startswith(f"{best.lower:.6f}"[:-2])
    assert "Verdict(" in repr(verdict)
    assert verdict._repr_html_().startswith("<table>")


def test_a_certificate_comes_back_from_its_file_with_its_proof(tmp_path):
    x, y = _problem("random labels")
    bound = kg.margins.upper_bound(x, y, max_iterations=20)
    kg.save(tmp_path / "bound.npz", bound)
    again = kg.load(tmp_path / "bound.npz")
    verdict = kg.proofs.write_margin(tmp_path / "margin.json", again, x, y)
    assert verdict.upper == bound.value
    assert "multipliers" not in repr(bound.violation)


@given(seeds)
def test_multipliers_of_a_violation_belong_to_the_points_as_given(seed):
    """Also where points are dropped because their weights vanish."""
    rng = np.random.default_rng(seed)
    x, q = rng.normal(size=(7, 6)), rng.normal(size=7) * 1e3
    q[2] = 0
    bound = kg.margins.violation_bound(x, q, method="relaxation", max_iterations=20)
    proof = kg.proofs.violation.prove_violation(x, q, bound.multipliers)
    np.testing.assert_allclose(proof.bound, bound.value, rtol=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "squared", "hinge"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_losses(tmp_path, loss, reduction):
    """Both ends hold for the loss of the library, in a parameterization with factors."""
    x, y = _problem("random labels")
    model = kg.models.homogeneous_mlp((5,), parameterization="ntk")
    params = model.init(jax.random.key(2), 6)
    verdict = kg.proofs.write_loss(tmp_path / "loss.json", (model, params), x, y, l2=0.05, loss=loss,
                                   reduction=reduction)  # fmt: skip
    f = np.asarray(model.apply(params, x.astype(np.float32)), float)
    values = {"logistic": np.logaddexp(0, -y * f), "squared": (f - y) ** 2 / 2,
              "hinge": np.maximum(0, 1 - y * f)}[loss]  # fmt: skip
    total = values.mean() if reduction == "mean" else values.sum()
    total += 0.05 * sum(float(np.sum(np.square(p))) for p in params)
    np.testing.assert_allclose(verdict.upper, total, rtol=1e-5)
    assert verdict.lower < verdict.upper
    assert f"{loss} loss ({reduction}" in verdict.statement


def test_the_lower_end_of_a_loss_is_that_of_the_duality_gap(tmp_path):
    """In the plane, where the violation is exact, for the dual point of the same network."""
    x, y = kg.datasets.xor_noise(jax.random.key(0), 20, 2)
    model = kg.models.homogeneous_mlp((4,))
    params = jax.tree.map(lambda p: 1.9 * p, kg.datasets.planted_xor(2))
    gap = kg.margins.duality_gap(model, params, x, y, l2=0.01, steps=0)
    verdict = kg.proofs.write_loss(tmp_path / "loss.json", (model, params), x, y, l2=0.01)
    np.testing.assert_allclose([verdict.lower, verdict.upper], [gap.lower, gap.loss], rtol=1e-5)


def test_a_dual_point_and_its_multipliers_can_be_given(tmp_path):
    x, y = _problem("random labels")
    model = kg.models.homogeneous_mlp((5,))
    params = model.init(jax.random.key(2), 6)
    bound = kg.margins.violation_bound(x, y / 12, max_iterations=400)
    first, second = (
        kg.proofs.write_loss(tmp_path / f"{len(given)}.json", (model, params), x, y, l2=0.01,
                             dual=y / 12, multipliers=given)
        for given in ((), bound.multipliers)
    )  # fmt: skip
    np.testing.assert_allclose(first.lower, second.lower, rtol=1e-2)
    with pytest.raises(ValueError, match="`dual` must not be all zero, nor y_i q_i < 0"):
        kg.proofs.write_loss(tmp_path / "a.json", (model, params), x, y, l2=0.01, dual=-y)
    deep = kg.models.homogeneous_mlp((2, 2))
    params3 = deep.init(jax.random.key(0), 4)
    with pytest.raises(ValueError, match="`model` must be a two-layer ReLU network"):
        kg.proofs.write_loss(tmp_path / "a.json", (deep, params3), x, y, l2=0.01)
    with pytest.raises(TypeError, match="`multipliers` must be the two SideMultipliers"):
        kg.proofs.write_loss(tmp_path / "a.json", (model, params), x[:5], y[:5], l2=0.01,
                             multipliers=bound.multipliers)  # fmt: skip


@pytest.mark.parametrize("loss", ["logistic", "squared", "hinge"])
def test_a_global_net_comes_with_its_proof(tmp_path, loss):
    """Both ends as printed, with the triangle inequalities that the minimisation found."""
    x, y = kg.datasets.xor_noise(jax.random.key(0), 24, 6)
    net = kg.margins.global_net(
        x, y, l2=0.02, loss=loss, key=jax.random.key(1), max_iterations=400, tol=1e-6
    )
    assert any(len(side.weights) for side in net.multipliers)
    verdict = kg.proofs.write_loss(tmp_path / "net.json", net, x, y, l2=0.02, loss=loss)
    np.testing.assert_allclose([verdict.lower, verdict.upper], [net.lower, net.loss], rtol=1e-5)
    assert kg.proofs.verify(tmp_path / "net.json").lower == verdict.lower


def test_kernel_machines(tmp_path):
    kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((1,), parameterization="ntk"))
    x, y = kg.datasets.xor_noise(jax.random.key(0), 30, 6, noise="gaussian")
    svm = kg.predictors.hard_margin_svm(kernel, x, y)
    verdict = kg.proofs.write_svm(tmp_path / "svm.json", svm, y)
    np.testing.assert_allclose(verdict.lower, svm.margin, rtol=1e-5)
    gap = 1 - (verdict.lower / verdict.upper) ** 2
    assert abs(gap - svm.duality_gap) < 1e-5
    ends = kg.bounds.eigenvalue_enclosure(kernel(x))
    verdict = kg.proofs.write_eigenvalues(tmp_path / "ends.json", ends, kernel(x))
    assert 0 < ends.lower < verdict.lower <= ends.smallest * (1 + 1e-9)
    assert ends.largest * (1 - 1e-9) <= verdict.upper < ends.upper
    several = kg.predictors.kernel_ridge(kernel, x, np.arange(30) % 3, classes=3, l2=0.1)
    with pytest.raises(ValueError, match=r"one machine .* `coef` has shape \(30, 3\)"):
        kg.proofs.write_svm(tmp_path / "several.json", several, y)
    blocks = np.kron(np.asarray(kernel(x))[:5, :5], np.eye(2)).reshape(5, 2, 5, 2)
    blocks = blocks.transpose(0, 2, 1, 3)
    verdict = kg.proofs.write_eigenvalues(
        tmp_path / "blocks.json", kg.bounds.eigenvalue_enclosure(blocks), blocks
    )
    assert verdict.lower > 0


def test_what_does_not_belong_together_is_not_written(tmp_path):
    x, y = _problem("random labels")
    bound = kg.margins.upper_bound(x, y, max_iterations=20)
    for inputs, labels in ((x, -y), (2 * x, y)):
        with pytest.raises(ValueError, match="`certificate` must be that of these inputs"):
            kg.proofs.write_margin(tmp_path / "margin.json", bound, inputs, labels)
    gram = x @ x.T + np.eye(12)
    ends = kg.bounds.eigenvalue_enclosure(gram)
    with pytest.raises(RuntimeError, match="no Cholesky|not proven to be positive semidefinite"):
        kg.proofs.write_eigenvalues(tmp_path / "ends.json", ends, gram - 0.1 * np.eye(12))
    assert list(tmp_path.iterdir()) == []


def test_files_are_kept(tmp_path):
    gram = np.diag([1.0, 2.0])
    ends = kg.bounds.eigenvalue_enclosure(gram)
    path = tmp_path / "ends.json"
    kg.proofs.write_eigenvalues(path, ends, gram)
    text = path.read_text()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        kg.proofs.write_eigenvalues(path, ends, gram)
    with pytest.raises(RuntimeError, match="no proof"):
        kg.proofs.write_eigenvalues(path, ends, gram / 2, overwrite=True)
    assert path.read_text() == text
    kg.proofs.write_eigenvalues(path, ends._replace(lower=0.5), gram, overwrite=True)
    assert path.read_text() != text
    with pytest.raises(ValueError, match=r"`path` must end in \.json"):
        kg.proofs.write_eigenvalues(tmp_path / "ends.npz", ends, gram)
    with pytest.raises(FileNotFoundError, match="folder"):
        kg.proofs.write_eigenvalues(tmp_path / "no" / "ends.json", ends, gram)
    with pytest.raises(FileNotFoundError):
        kg.proofs.verify(tmp_path / "nowhere.json")
