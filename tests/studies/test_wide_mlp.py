import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kernelgap import bounds, cli, datasets, kernels, lazy
from kernelgap.datasets import Dataset
from kernelgap.studies import (
    over_seeds,
    seeds,
    wide_mlp,
    wide_mlp_parts as parts,
    wide_mlp_runs as runs,
)
from kernelgap.studies.learners import initial, path_length
from kernelgap.studies.wide_mlp import WideMLPConfig
from kernelgap.studies.wide_mlp_summary import SCALING, exponents

pytestmark = pytest.mark.slow

SMALL = {
    "parts": ("train", "proof", "steps", "spectrum"), "data": ("sphere",), "n": 6, "d": 10,
    "seeds": 2, "n_test": 50, "widths": (8, 128), "depths": (2,), "depth": 2, "steps": 60,
    "records": 3, "proof_n": 4, "proof_widths": (4096,), "transfer_widths": (16, 256),
    "transfer_steps": 8, "spectrum_widths": (16, 1024), "spectrum_seeds": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def small():
    return wide_mlp.STUDY.run(WideMLPConfig(**SMALL))


def column(found, name, **wanted):
    return np.array([r[name] for r in found if all(r[k] == v for k, v in wanted.items())])


def test_rows(small):
    assert len({tuple(row) for row in small.rows}) == 1
    train = [r for r in small.rows if r["part"] == "train"]
    assert len(train) == 2 * 2 * 2 * 4  # losses, widths, seeds, times
    assert sorted(set(column(train, "time"))) == [0, 20, 40, 60]
    for name in ("train_loss", "displacement", "path_length", "lambda_min", "bound", "test_loss"):
        assert np.isfinite(column(train, name)).all(), name
    start = [r for r in train if r["time"] == 0]
    for name in ("displacement", "path_length", "kernel_change", "linearization_error"):
        assert (column(start, name) == 0).all()
    assert (column(start, "kernel_alignment") == 1).all()
    assert np.isnan(column(train, "min_norm_distance", loss="logistic")).all()
    assert np.isnan(column(train, "test_error", loss="squared")).all()
    assert (column(train, "test_error", loss="logistic") <= 1).all()


def test_a_run_is_gradient_descent():
    """Against a loop by hand: losses, path, displacement, kernels, outputs."""
    model, n, d = runs.net(8, 3, "gelu"), 5, 4
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(jax.random.key(1), (2, n, d))
    train, x_test = Dataset(x, jnp.sin(x.sum(axis=2))), 2 * x[:, :3]
    sizes = jnp.array([0.3, 0.1])
    start = initial(model, keys, d)
    made = runs.descend(model, start, train, x_test, sizes, loss="squared", steps=6, records=3)
    for seed, run in enumerate(made):
        first = here = model.init(keys[seed], d)
        data = seeds.each(train)[seed]
        value = jax.jit(lambda p, data=data: jnp.mean((model.apply(p, data.x) - data.y) ** 2) / 2)
        path, gram0 = 0.0, kernels.empirical_ntk(model, first)(data.x)
        slopes = jax.jit(jax.grad(value))
        for t in range(7):
            if t % 2 == 0:
                seen = jax.tree.map(lambda leaf, k=t // 2: leaf[k], run.panel)
                np.testing.assert_allclose(run.path[t // 2], path, rtol=1e-5)
                far = lazy.displacement(first, here)
                np.testing.assert_allclose(seen.displacement, far, rtol=1e-5)
                gram = kernels.empirical_ntk(model, here)(data.x)
                np.testing.assert_allclose(seen.gram, gram, rtol=1e-4, atol=1e-5)
                change = lazy.kernel_change(gram0, gram)
                np.testing.assert_allclose(seen.kernel_change, change, rtol=1e-3, atol=1e-6)
                outputs = model.apply(here, data.x)
                np.testing.assert_allclose(run.outputs[t // 2], outputs, atol=1e-5)
            loss = run.losses[t] if t < 6 else run.last
            np.testing.assert_allclose(loss, value(here), rtol=1e-5)
            there = jax.tree.map(lambda w, g, s=seed: w - sizes[s] * g, here, slopes(here))
            path += float(lazy.displacement(here, there))
            here = there if t < 6 else here
        np.testing.assert_allclose(run.tested, model.apply(here, x_test[seed]), atol=1e-5)


def test_wide_nets_run_one_by_one_to_the_same_numbers():
    model, keys = runs.net(4, 2, "tanh"), jax.random.split(jax.random.key(0), 3)
    together, alone = (initial(model, keys, 3, wide=wide) for wide in (False, True))
    jax.tree.map(np.testing.assert_array_equal, together, alone)


def test_path_length_adds_norms():
    optimizer = optax.chain(optax.sgd(0.5), path_length())
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    state = optimizer.init(params)
    for gradient in ([3.0, 0.0, 4.0], [0.0, -2.0, 0.0]):
        _, state = optimizer.update(
            {"a": jnp.array(gradient[:2]), "b": jnp.array(gradient[2:])}, state, params
        )
    np.testing.assert_allclose(state[-1], 0.5 * 5 + 0.5 * 2)


def test_lengths_of_the_linearised_net():
    """Against gradient descent on a linear model, and the nearest interpolating solution."""
    rng = np.random.default_rng(0)
    features, r, size = rng.normal(size=(4, 9)), rng.normal(size=4), 0.2
    w, far = np.zeros(9), []
    for t in range(2001):
        if t in (0, 3, 2000):
            far.append(np.linalg.norm(w))
        w -= size * features.T @ (features @ w - r) / 4
    gram = features @ features.T
    found = runs.lengths(gram, r, np.array([0, 3, 2000]), size)
    np.testing.assert_allclose(found, far, rtol=1e-6)
    nearest = lazy.min_norm_distance(jnp.asarray(gram, float), jnp.asarray(r, float))
    np.testing.assert_allclose(found[-1], nearest, rtol=1e-4)


def test_no_claim_is_broken(small):
    for part in ("train", "proof"):
        mine = [r for r in small.rows if r["part"] == part and np.isfinite(r["decrease"])]
        assert mine
        assert (column(mine, "loss_ratio") <= 1).all()
        assert (column(mine, "path_ratio") <= 1).all()
        above = column(mine, "train_loss") - column(mine, "certified_loss")
        reached = column(mine, "loss") == "logistic"
        assert (above[~reached] <= 1e-5).all()
    proof = [r for r in small.rows if r["part"] == "proof"]
    assert (column(proof, "nonlinearity") < 1).all()
    assert np.isfinite(column(proof, "decrease")).all()
    assert [e.value for e in small.select("proven")] == [2]
    squared = [r for r in small.rows if r["part"] == "train" and r["loss"] == "squared"]
    assert (column(squared, "nonlinearity") > column(squared, "nonlinearity_of_run")).all()
    assert (column(squared, "displacement") <= column(squared, "path_length") * (1 + 1e-5)).all()


def test_wide_nets_are_lazy_and_stay_near_the_linearised_one(small):
    ends = [r for r in small.rows
            if (r["part"], r["loss"], r["time"]) == ("train", "squared", 60)]  # fmt: skip
    for name in ("kernel_change", "linearization_error", "relative_displacement"):
        narrow, wide = (column(ends, name, width=width) for width in (8, 128))
        assert (wide < narrow).all(), name
    narrow, wide = (
        np.abs(np.log(column(ends, "displacement", width=w)
                      / column(ends, "linear_displacement", width=w))).max()
        for w in (8, 128)
    )  # fmt: skip
    assert wide < narrow
    assert wide < 0.2
    for name in SCALING:
        (exponent,) = small.select(f"exponent_of_{name}", {"loss": "squared"})
        assert exponent.low <= exponent.value <= exponent.high
        assert exponent.high < 0 or name != "kernel_change"


def test_step_sizes_transfer_in_the_ntk_parameterization_only(small):
    tried = [r for r in small.rows if r["part"] == "steps"]
    assert np.isfinite(column(tried, "train_loss")).all()
    largest = {tuple(e.keys.values()): e.value for e in small.select("largest_stable_step")}
    ntk, standard = ([largest[form, w] for w in (16, 256)] for form in ("ntk", "standard"))
    assert ntk[1] / ntk[0] in (0.5, 1, 2, 4)
    assert standard[1] / standard[0] <= 1 / 4
    for (form, width), stable in largest.items():
        keys = {"parameterization": form, "width": width}
        (following,) = small.select("next_step", keys)
        assert following.value == 2 * stable
        first = column(tried, "diverged_at", step_size=following.value, **keys)
        (at,) = small.select("diverged_at_step", keys)
        assert at.value == min(v for v in first if v >= 0)
        mine = [r for r in tried if (r["parameterization"], r["width"]) == (form, width)]
        sizes = sorted(set(column(mine, "step_size")))
        hopeless = [bool((column(mine, "diverged_at", step_size=s) >= 0).all()) for s in sizes]
        assert hopeless[-3:] == [False, True, True]  # two in turn, then no more are tried
        assert sizes[0] == (0.25 if form == "ntk" else 0.25 / 64)
    (exponent,) = small.select("exponent_of_largest_stable_step", {"parameterization": "standard"})
    assert exponent.value < -0.4


def test_smallest_eigenvalues_concentrate_at_the_limit(small):
    for metric in ("deviation", "spread"):
        narrow, wide = small.select(metric)
        assert wide.value < narrow.value
    lambda_min, limit = (
        small.select(name, {"depth": 2, "width": 1024})[0].value
        for name in ("lambda_min_at_the_start", "lambda_min_limit")
    )
    assert abs(lambda_min / limit - 1) < 0.2
    (exponent,) = small.select("exponent_of_deviation")
    assert exponent.value < 0


def test_divergence_is_a_result_with_its_step():
    config = WideMLPConfig(**(SMALL | {"parts": ("train",), "losses": ("squared",),
                                       "widths": (16,), "step_share": 300.0}))  # fmt: skip
    result = wide_mlp.STUDY.run(config)
    assert (column(result.rows, "diverged_at") >= 0).all()
    assert np.isnan(column(result.rows, "decrease")).all()
    for name in ("train_loss", "displacement", "lambda_min", "kernel_change"):
        assert np.isfinite(column(result.rows, name)).all()
    place = {"data": "sphere", "loss": "squared", "depth": 2, "width": 16}
    assert [e.keys for e in result.select("diverged_at")] == [place | {"seed": s} for s in (0, 1)]
    assert "diverged, at step" in result.table()
    result.plot()


def test_laws_of_the_inputs():
    config = WideMLPConfig(**(SMALL | {"parts": ("moments",), "law_d": 12, "law_width": 16,
                                       "laws": ("mixture",), "fourth": 4.5}))  # fmt: skip
    result = wide_mlp.STUDY.run(config)
    assert set(column(result.rows, "fourth_moment", data="mixture")) == {4.5}
    assert (column(result.rows, "lambda_min_limit") > 0).all()
    result.plot()
    keys = jax.random.split(jax.random.key(0), (2, 2))
    x, y = over_seeds(
        parts.law_data, tuple(keys), static=(3000, 4, 2, (("distribution", "uniform"),))
    )
    np.testing.assert_allclose(datasets.even_moments(x[1], (2, 4)), [1, 9 / 5], atol=0.05)
    hidden, readout = datasets.planted_teacher(keys[0, 1], 4, units=2)
    np.testing.assert_allclose(y[1], np.maximum(x[1] @ hidden.T, 0) @ readout, atol=1e-4)


def test_equal_inputs_are_refused_with_their_place():
    change = {"parts": ("moments",), "law_d": 2, "laws": ("sign",), "law_width": 16}
    config = WideMLPConfig(**(SMALL | change))
    with pytest.raises(ValueError, match=r"moments part, sign, depth 2, width 16, seed \d: no "
                       r"linear rate without lambda_min.*singular.*Samples \d and \d"):  # fmt: skip
        wide_mlp.STUDY.run(config)


def test_clipped_losses():
    f, y = np.array([2.0, 0.25, -3.0]), np.array([1.0, 1.0, 1.0])
    assert runs.clipped(f, y, True) == pytest.approx((0 + 0.75 + 1) / 3)
    assert runs.clipped(f, np.array([2.5, 0.25, 0.0]), False) == pytest.approx((0.5 + 0 + 1) / 3)


def test_bounds_on_fresh_loss_are_those_of_near_start(small):
    for r in small.rows:
        if (r["part"], r["time"]) == ("train", SMALL["steps"]):
            floor = r["train_clipped"] + 3 * (np.log(4 / 0.05) / (2 * SMALL["n"])) ** 0.5
            assert floor < r["bound_if_linear"] < r["bound"]
            assert r["test_clipped"] <= r["bound_if_linear"]


def test_bounds_take_the_training_loss_and_the_start():
    model = runs.net(8, 2, "gelu")
    start, x = model.init(jax.random.key(0), 4), jax.random.normal(jax.random.key(1), (5, 4))
    far = np.array([0.0, 1.5])
    panel = lazy.Laziness(far, far, far, gram=np.stack([2 * np.eye(5)] * 2))  # type: ignore[arg-type]
    found = runs.near_start(model, start, Dataset(x, x[:, 0]), panel, 0.7, 0.1)
    linear = bounds.lazy_bound(1.5, trace=10.0, n=5, train_loss=0.7, delta=0.1)
    assert found["bound_if_linear"] == pytest.approx(float(linear.value), rel=1e-6)
    curvature = np.mean(lazy.output_curvature(model, start, x)(2.0))  # 2: the next radius
    assert found["bound"] - found["bound_if_linear"] == pytest.approx(4 * curvature, rel=1e-4)


def test_claims_count_until_the_target():
    losses = np.array([4.0, 3.0, 2.0, 1.0, 0.5, 0.2])
    run = runs.Run(losses, np.array(0.1), np.zeros(4), None, None, None)  # type: ignore[arg-type]
    assert [runs.until(run, target, 4) for target in (5.0, 2.0, 0.3, 0.0)] == [1, 2, 4, 4]
    assert runs.until(run, 0.3, 2) == 2
    known = parts.loss_constants("logistic", 8, 0.7, 0.5)
    assert known == lazy.logistic_loss_constants(8, initial_loss=0.7, target=0.35)
    assert known.smoothness == 1 / 4 / 8  # as in the step sizes
    assert parts.loss_constants("squared", 8, 0.7, 0.5).smoothness == 1 / 8


def test_nothing_is_claimed_of_a_run_that_broke_off():
    def claims(last):
        gram = np.stack([np.eye(2), last * np.eye(2)])
        far = np.array([0.0, 1.0])
        panel = lazy.Laziness(far, far, np.zeros(2), gram=gram)  # type: ignore[arg-type]
        run = runs.Run(np.array([1.0, 0.5]), np.array(0.2), far, panel, np.zeros((2, 2)), None)
        loss = lazy.squared_loss_constants(2)
        descent = runs.Descent(None, None, None, None, run, loss, True, False, 0.5)  # type: ignore[arg-type]
        rate, spectra, _ = runs.along_the_run(descent)
        return bool(rate.holds), len(spectra)

    assert claims(1.0) == (True, 2)
    assert claims(np.nan) == (False, 1)


def test_exponents_of_power_laws():
    made = [
        {"part": 0, "width": w, "seed": s, "a": (s + 1) * w**-0.5, "b": (1 + s * (w > 4)) / w}
        for w in (4, 16, 64) for s in range(5)
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    exact, noisy = exponents(made, ("part",), ("a", "b"), rng)
    np.testing.assert_allclose([exact.value, exact.low, exact.high], -0.5, atol=1e-9)
    assert noisy.low < noisy.value < noisy.high
    assert exponents(made[1:], ("part",), ("a",), rng) == []


def test_digits_and_the_command_line(tmp_path, capsys):
    command = ["run", "wide-mlp", "--preset", "quick", "--out", str(tmp_path), "--no-progress"]
    tiny = ["--parts", "train", "--data", "digits", "--losses", "logistic", "--widths", "8",
            "--depth", "2", "--n", "6", "--seeds", "2", "--steps", "4", "--records", "2"]  # fmt: skip
    assert cli.main([*command, *tiny]) == 0
    out = capsys.readouterr().out
    assert "digits  logistic" in out
    assert (tmp_path / "wide-mlp.png").exists()
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--widths", "0", "8"])
    assert stop.value.code == 2
    assert "--widths must be an integer >= 1; got 0" in " ".join(capsys.readouterr().err.split())
