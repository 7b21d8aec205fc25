import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from kernelgap import kernels, predictors
from kernelgap.studies import gap, learners, seeds

pytestmark = pytest.mark.slow

TINY = {
    "dims": (4, 6), "net_ratios": (2, 8), "svm_ratios": (0.5, 2), "span_ratios": (0.5, 2),
    "margin_ratios": (2, 8), "certified_ratios": (8,), "rounds": 1,
    "seeds": 3, "n_test": 300, "width": 16, "steps": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    return gap.STUDY.run(gap.GapConfig(**TINY), workers=2)


@pytest.fixture(scope="module")
def small():
    """One dimension at real size: what the study is about, in a few seconds."""
    config = gap.GapConfig(
        dims=(20,),
        net_ratios=(2, 8),
        margin_ratios=(2, 4),
        certified_ratios=(4,),
        svm_ratios=(0.25, 1, 2),
        span_ratios=(0.25, 0.75),
        n_test=4000,
    )
    return gap.STUDY.run(config)


def test_the_gap_is_there(small):
    error = {(e.keys["learner"], e.keys["n"]): e for e in small.select("error")}
    assert error["net", 40].value > 0.35
    assert error["net", 160].value < 0.01  # n = 8d
    assert abs(error["svm", 100].value - 0.43) < 0.03  # n = d^2 / 4
    assert abs(error["svm", 400].value - 0.13) < 0.03  # n = d^2
    assert error["svm", 800].value < 0.005  # n = 2 d^2
    assert error["max_margin", 40].value > 0.25
    assert error["max_margin", 80].value < 0.03  # n = 4d: mostly the planted net
    assert abs(error["span", 100].value - 0.42) < 0.04
    assert error["span", 300].value < 0.005
    for e in error.values():
        assert 0 <= e.low <= e.value <= e.high <= 1
    gaps = small.select("largest_duality_gap", {"learner": "svm"})
    assert max(e.value for e in gaps) <= 1e-4
    assert len(gaps) == 3


def test_what_is_proved(small):
    floor = {e.keys["n"]: e.value for e in small.select("squared_error")}
    assert floor[100] > 0.9  # n = d^2 / 4: no beta
    assert floor[300] < 0.1
    (ratio,) = small.select("largest_upper_over_lower")
    assert 1 <= ratio.value < 1.03
    for row in small.rows:
        certified = row["learner"] == "max_margin" and row["n"] == 80 and row["seed"] == 0
        assert np.isfinite(row["upper"]) == certified
        assert not certified or row["margin"] <= row["upper"]
        if row["learner"] == "max_margin":
            assert row["margin"] >= 1 / 8 * (1 - 1e-6)  # the planted net's, from which it starts


def test_rows(tiny):
    assert len(tiny.rows) == 2 * 2 * 4 * 3
    for row in tiny.rows:
        assert 0 <= row["error"] <= 1
    nets = [r for r in tiny.rows if r["learner"] == "net"]
    assert len({r["error"] for r in nets if r["d"] == 6 and r["n"] == 12}) > 1  # seeds differ


def test_threads_do_not_change_a_number(tiny):
    again = gap.STUDY.run(gap.GapConfig(**TINY), workers=1)
    np.testing.assert_equal(again.rows, tiny.rows)
    np.testing.assert_equal(again.estimates, tiny.estimates)


def test_provenance(tiny, tmp_path):
    assert [p.name for p in tiny.save(tmp_path)] == [
        "gap.journal.jsonl", "gap.csv", "gap.json", "gap.png"]  # fmt: skip
    provenance = tiny.provenance
    assert {"jax", "jaxlib", "numpy", "kernelgap", "python"} <= set(provenance["versions"])
    assert provenance["device"]["platform"]
    assert provenance["dtype"] == str(jax.numpy.zeros(()).dtype)
    assert provenance["seconds"]["cells"] > 0


def test_table_figure_and_pandas(tiny):
    table = tiny.table()
    for word in ("net", "svm", "span", "d=4", "exponent"):
        assert word in table
    assert table in repr(tiny)
    figure = tiny.plot()
    assert [ax.get_xlabel() for ax in figure.axes] == ["n / d", "n / d²", "d", "n / d"]
    assert tiny.to_pandas().shape == (48, 10)


class _Stop(Exception):
    pass


def test_resuming_gives_the_same_rows(tiny, tmp_path):
    config, calls = gap.GapConfig(**TINY), []

    def failing(config, identity):
        if len(calls) == 5:
            raise _Stop
        calls.append(identity)
        return gap.STUDY.run_cell(config, identity)

    def counting(config, identity):
        calls.append(identity)
        return gap.STUDY.run_cell(config, identity)

    with pytest.raises(_Stop):
        gap.STUDY._replace(run_cell=failing).run(config, out=tmp_path, workers=1)
    with pytest.raises(FileExistsError):
        gap.STUDY.run(config, out=tmp_path)
    with pytest.raises(ValueError, match="seeds is 3 there and 4 here"):
        gap.STUDY.run(dataclasses.replace(config, seeds=4), out=tmp_path, resume=True)
    counted = gap.STUDY._replace(run_cell=counting)
    resumed = counted.run(config, out=tmp_path, resume=True, workers=1)
    assert len(calls) == len(set(calls)) == 16  # nothing was run twice
    np.testing.assert_equal(resumed.rows, tiny.rows)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_killed_runs_go_on_to_the_same_csv(tmp_path, how):
    options = ["--dims", "4", "6", "--net-ratios", "2", "4", "8", "--svm-ratios", "0.5", "1", "2",
               "--span-ratios", "0.5", "1", "2", "--seeds", "3", "--n-test", "300", "--width", "16",
               "--steps", "60", "--no-progress", "--workers", "1"]  # fmt: skip

    def command(folder, *more):
        return [
            sys.executable,
            "-m",
            "kernelgap",
            "run",
            "gap",
            "--out",
            str(folder),
            *options,
            *more,
        ]

    cut, whole = tmp_path / "cut", tmp_path / "whole"
    journal = cut / "gap.journal.jsonl"
    for _ in range(5):  # on a busy machine the run may end before the signal arrives
        shutil.rmtree(cut, ignore_errors=True)
        process = subprocess.Popen(
            command(cut), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= 4:
                os.kill(process.pid, how)
                break
            time.sleep(0.02)
        stderr = process.communicate(timeout=500)[1]
        if process.returncode != 0 and not (cut / "gap.csv").exists():
            break
    if how == signal.SIGINT:
        assert process.returncode == 130, stderr
        assert "interrupted; finished cells are safe in" in stderr
        assert "Traceback" not in stderr
    assert not (cut / "gap.csv").exists()
    subprocess.run(command(cut, "--resume"), check=True, capture_output=True)
    subprocess.run(command(whole), check=True, capture_output=True)
    assert (cut / "gap.csv").read_bytes() == (whole / "gap.csv").read_bytes()
    a, b = (json.loads((f / "gap.json").read_text())["estimates"] for f in (cut, whole))
    assert a == b


def test_digits(tmp_path):
    config = gap.GapConfig(data="digits", sizes=(20, 160), seeds=3, width=32, steps=100)
    result = gap.STUDY.run(config, out=tmp_path)
    errors = {(e.keys["learner"], e.keys["n"]): e.value for e in result.select("error")}
    for learner in ("net", "svm"):
        assert errors[learner, 160] < 0.05
        assert errors[learner, 160] < errors[learner, 20] < 0.5
    assert all(row["margin"] > 0 for row in result.rows)
    assert "margin" in result.table()
    assert len(result.plot().axes) == 2


def test_label_flips_and_other_forms_run():
    gaussian = gap.GapConfig(
        **(TINY | {"noise": "gaussian", "signal": "cube", "flip": 0.1, "dims": (4,)})
    )
    result = gap.STUDY.run(gaussian)
    assert result.select("exponent") == []
    assert "-" in result.table()
    result.plot()


def test_a_target_that_is_never_reached_is_said():
    result = gap.STUDY.run(gap.GapConfig(**(TINY | {"target": 0.001, "net_ratios": (1, 2)})))
    values = [e.value for e in result.select("n_at_target", {"learner": "net"})]
    assert len(values) == 2
    assert np.isnan(values).all()
    result.plot()


def test_presets_are_valid_configurations():
    largest = {
        name: max(gap.GapConfig(**preset).dims) for name, preset in gap.STUDY.presets.items()
    }
    assert largest == {"quick": 20, "default": 40, "large": 160, "huge": 320}


def test_the_span_stops_at_its_limit():
    config = gap.GapConfig(
        dims=(4, 6), net_ratios=(2,), svm_ratios=(1,), span_ratios=(1,), span_limit=5, seeds=2,
        n_test=100, width=4, steps=2,
    )  # fmt: skip
    result = gap.STUDY.run(config)
    assert {row["d"] for row in result.rows if row["learner"] == "span"} == {4}
    assert {row["d"] for row in result.rows if row["learner"] == "net"} == {4, 6}
    (at_target,) = result.select("n_at_target", {"learner": "span"})
    assert at_target.keys["d"] == 4
    assert result.select("exponent", {"learner": "span"}) == []
    assert gap.GapConfig().dims == (10, 14, 20, 28, 40)


def test_samples_beyond_n_change_nothing():
    """Nets of several n share a program; only the first n samples have weight in it."""
    config = gap.GapConfig(**(TINY | {"steps": 5}))
    keys = jax.random.split(jax.random.key(0), (3, 2))
    stream, test = seeds.xor(keys[0], 40, 4), seeds.xor(keys[1], 200, 4)
    model = learners.two_layer_net(8)
    own, other = (
        learners.annealed_nets(model, keys[2], seeds.first(stream, size), 10, test, config)
        for size in (10, 40)
    )
    for a, b in zip(own, other, strict=True):
        assert a == pytest.approx(b, rel=1e-4, nan_ok=True)


def test_copies_change_no_kernel_machine():
    keys = jax.random.split(jax.random.key(0), (2, 1))
    (train,), (test,) = (
        seeds.each(seeds.xor(k, n, 6)) for k, n in zip(keys, (40, 300), strict=True)
    )
    kernel = kernels.ntk(learners.KERNEL_NET)
    row = learners.kernel_svm(kernel, train, test)  # 40 are padded to 128
    svm = predictors.hard_margin_svm(kernel, *train)
    assert row["margin"] == pytest.approx(float(svm.margin), rel=1e-4)
    assert row["error"] == pytest.approx(1 - float(svm.score(*test)), abs=1e-6)
