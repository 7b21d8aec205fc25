import jax
import numpy as np

from kernelgap.studies import samples
from kernelgap.studies.statistics import group_means, interval_text, mean_interval


def test_groups_are_the_means_of_their_rows():
    rng = np.random.default_rng(0)
    rows = [
        {"a": a, "b": b, "seed": s, "share": rng.uniform(0, 0.2), "number": rng.normal()}
        for a in ("x", "y") for b in (2, 1) for s in range(5)
    ]  # fmt: skip
    points = group_means(rows, ("a", "b"), ("share",), ("number",))
    assert [(p["a"], p["b"]) for p in points] == [("x", 2), ("x", 1), ("y", 2), ("y", 1)]
    for p in points:
        own = [row for row in rows if (row["a"], row["b"]) == (p["a"], p["b"])]
        assert p["seeds"] == 5
        for name, lowest in (("share", 0.0), ("number", -np.inf)):
            values = np.array([row[name] for row in own])
            assert p[name] == mean_interval(values, lowest=lowest)._asdict()
            assert p[name]["value"] == np.mean(values)


def test_intervals_of_shares_stop_at_zero_and_others_do_not():
    rows = [{"n": 1, "v": v} for v in (0.0, 1.0)]
    (share,), (number,) = group_means(rows, ("n",), ("v",)), group_means(rows, ("n",), (), ("v",))
    assert share["v"]["low"] == 0
    assert number["v"]["low"] < 0
    assert interval_text(number["v"], ".0f") == "0 [-6, 7]"


def test_a_seed_is_one_stream_of_samples():

    keys = jax.random.split(jax.random.key(0), 2)
    for data in (samples.xor(keys, 30, 4), samples.teacher(keys, keys, 30, 4, units=3)):
        train, test = samples.split(data, 10)
        assert train.x.shape == (2, 10, 4)
        assert test.y.shape == (2, 20)
        for x, y in samples.each(train):
            assert x.shape == (10, 4)
            assert y.shape == (10,)
    sphere = samples.teacher(keys, keys, 30, 4, units=3)
    np.testing.assert_allclose(np.linalg.norm(sphere.x, axis=2), 2, rtol=1e-5)
