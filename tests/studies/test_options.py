"""Options refuse what they declare that they do not accept, in every study."""

import dataclasses
from typing import Literal

import pytest

import coins
from kernelgap.studies import STUDIES, Config, option
from kernelgap.studies.options import about_options, annotations, choices

CONFIGS = {name: study.config for name, study in STUDIES.items()} | {"coins": coins.CoinsConfig}


def _refusals(config):
    """Yield (option, value, error, text) for everything that the declarations exclude."""
    default = config()
    for field in dataclasses.fields(config):
        name, rules = field.name, field.metadata
        kind = annotations(config)[name]
        many = isinstance(field.default, tuple)

        def given(entry, many=many):
            return (entry,) if many else entry

        yield name, given(None), (TypeError, ValueError), "must be"
        if kind in (int, float):
            yield name, given("7"), TypeError, "must be"
            yield name, given(float("nan")), (TypeError, ValueError), "must be"
        if choices(kind):
            yield name, given("neither"), ValueError, f"one of {choices(kind)[0]!r}"
        if kind is int:
            yield name, given(True), TypeError, "must be an integer"
        if "minimum" in rules:
            yield name, given(rules["minimum"] - 1), ValueError, f">= {rules['minimum']:g}"
        if "maximum" in rules:
            yield name, given(rules["maximum"] + 1), ValueError, f"<= {rules['maximum']:g}"
        if "above" in rules:
            yield name, given(float(rules["above"])), ValueError, f"> {rules['above']:g}"
        if "multiple_of" in rules:
            yield name, field.default + 1, ValueError, f"a multiple of {rules['multiple_of']}"
        if many:
            yield name, list(field.default), TypeError, "must be a non-empty tuple such as"
            yield name, (), TypeError, "must be a non-empty tuple such as"
            yield name, field.default * 2, ValueError, "must not repeat an entry"
        if "length" in rules:
            yield name, field.default[:1], ValueError, f"must have {rules['length']} entries"
        if "increasing" in rules and len(field.default) > 1:
            yield name, field.default[::-1], ValueError, "must increase strictly"
        if "decreasing" in rules:
            yield name, field.default[::-1], ValueError, "must decrease strictly"
        if "divides" in rules:
            whole = getattr(default, rules["divides"])
            yield name, whole + 1, ValueError, f"must divide `{rules['divides']}`"
        if "at_most" in rules:
            limit = getattr(default, rules["at_most"])
            yield name, limit + 1, ValueError, f"must be at most `{rules['at_most']}`"


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_not_declared_is_refused(name):
    config, count = CONFIGS[name], 0
    for option_name, value, error, text in _refusals(config):
        with pytest.raises(error) as refusal:
            config(**{option_name: value})
        assert f"`{option_name}`" in str(refusal.value), (option_name, value)
        assert text in str(refusal.value), (option_name, value, str(refusal.value))
        assert option_name in refusal.value.options
        count += 1
    assert count > 3 * len(dataclasses.fields(config))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_declares_a_range_and_every_path_an_order(name):
    for field in dataclasses.fields(CONFIGS[name]):
        rules, kind = field.metadata, annotations(CONFIGS[name])[field.name]
        assert rules["help"]
        if kind not in (int, float):
            assert choices(kind) or field.name == "mnist"
        else:
            assert {"minimum", "above"} & set(rules), field.name
        if field.name == "l2s":
            assert {"increasing", "decreasing"} & set(rules)


@pytest.mark.parametrize("name", ["gap", "teacher", "width", "margin-path"])
def test_paths_of_regularisation_must_decrease(name):
    with pytest.raises(ValueError, match="`l2s` must decrease strictly"):
        CONFIGS[name](l2s=(1e-4, 1e-2))


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("noisy-gd", {"resample_rate": 1e3}, "`learning_rate` \\* `resample_rate`"),
        ("diversity", {"widths": (8,)}, "`widths` must include 16 or more for ten classes"),
    ],
)
def test_what_cannot_be_declared(name, change, match):
    with pytest.raises(ValueError, match=match) as refusal:
        CONFIGS[name](**change)
    assert set(change) <= set(refusal.value.options)


@dataclasses.dataclass(frozen=True)
class Own(Config):
    kind: Literal["a", "b"] = option("a", "one of two")
    kinds: tuple[Literal["a", "b"], ...] = option(("a",), "some of two")
    size: int = option(3, "any size", minimum=0, maximum=9, multiple_of=3)
    rate: float = option(1, "a whole number by default", above=0)

    def check(self):
        if self.kind in self.kinds:
            return
        raise about_options(ValueError("`kind` must be among `kinds`"), "kind", "kinds")


def test_a_configuration_of_ones_own():
    assert Own(kinds=("b", "a"), size=0).size == 0
    assert choices(annotations(Own)["kinds"]) == ("a", "b")
    assert dict(dataclasses.fields(Own)[2].metadata) == {
        "help": "any size", "minimum": 0, "maximum": 9, "multiple_of": 3}  # fmt: skip
    with pytest.raises(ValueError, match="`kind` must be among") as refusal:
        Own(kind="b")
    assert refusal.value.options == ("kind", "kinds")
    with pytest.raises(ValueError, match="`size` must be an integer <= 9; got 12"):
        Own(size=12)
