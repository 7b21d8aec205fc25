"""Two results side by side."""

import json

import pytest

import coins
from kernelgap.studies import Estimate, compare
from kernelgap.studies.comparison import Pair

NAN = float("nan")


def _run(**options):
    return coins.COINS.run(coins.CoinsConfig(**options))


def test_two_runs_of_one_configuration_are_the_same():
    found = compare(_run(), _run())
    assert found.config == found.environment == {}
    assert {pair.verdict for pair in found.numbers} == {"same"}
    assert found.only_first == found.only_second == []
    assert "configuration: the same" in found.table()


def test_differences_are_found_and_nothing_else():
    fair, forged = _run(flips=(5, 400), seeds=8), _run(flips=(50, 400), bias=0.9, seeds=8)
    found = compare(fair, forged)
    assert found.config == {"flips": ([5, 400], [50, 400]), "bias": (0.5, 0.9)}
    verdicts = {pair.name: pair for pair in found.numbers}
    pair = verdicts["heads kind=a<b flips=400"]
    assert pair.verdict == "apart"
    assert pair.first.high < 0.7 < pair.second.low
    assert pair.first.value == fair.select("heads", {"flips": 400})[0].value
    assert verdicts["largest"].verdict in ("differ", "same")
    assert verdicts["never_seen"].verdict == "same"
    assert "heads kind=a<b flips=5" in found.only_first
    assert "heads kind=a<b flips=50" in found.only_second
    table = found.table()
    assert "flips: [5, 400] | [50, 400]" in table
    assert "only in the first: " in table
    assert table.count("apart") == 1 + sum(p.verdict == "apart" for p in found.numbers)


def test_versions_and_device_count_but_timings_do_not():
    result = _run()
    other = json.loads(json.dumps(result.provenance))
    other["versions"]["jax"] = "0.0.1"
    other["seconds"]["cells"] = 1e6
    other["dtype"] = "float16"
    found = compare(result, result._replace(provenance=other))
    jax_version = result.provenance["versions"]["jax"]
    assert found.environment["jax"] == (jax_version, "0.0.1")
    assert set(found.environment) == {"jax", "dtype"}


def test_results_of_different_studies():
    with pytest.raises(ValueError, match="of one study can be compared; got coins and dice"):
        compare(_run(), _run()._replace(study=coins.COINS._replace(name="dice")))


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((1, 0, 2), (3, 2, 4), "overlap"),
        ((1, 0, 2), (3, 2.5, 4), "apart"),
        ((3, 2.5, 4), (1, 0, 2), "apart"),
        ((1, 0, 9), (2, 1.5, 4), "overlap"),
        ((1, 0, 2), (1, 0.5, 3), "same"),
        ((1, NAN, NAN), (2, 0, 3), "differ"),
        ((1, NAN, NAN), (1, NAN, NAN), "same"),
        ((NAN, NAN, NAN), (NAN, NAN, NAN), "same"),
        ((NAN, NAN, NAN), (1, 0, 2), "differ"),
        ((1, 0, NAN), (2, 1, 3), "differ"),
    ],
)
def test_verdicts(first, second, verdict):
    estimates = (Estimate("error", {}, *ends) for ends in (first, second))
    assert Pair(*estimates).verdict == verdict


def test_it_shows_itself():
    found = compare(_run(), _run(seeds=3))
    assert repr(found).startswith("Comparison(study='coins', config=('seeds'), environment=()")
    assert len(repr(found)) < 200
    page = found._repr_html_()
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert page.count("<tr>") == 1 + 1 + 1 + len(found.numbers)
    assert repr(coins.COINS).startswith("Study(coins: throws")


def test_as_json():
    text = json.dumps(compare(_run(), _run(seeds=3)).document(), allow_nan=False)
    document = json.loads(text)
    assert document["config"] == {"seeds": [4, 3]}
    assert set(document["numbers"][0]) == {"name", "first", "second", "verdict"}
    assert set(document["numbers"][0]["first"]) == {"metric", "keys", "value", "low", "high"}
