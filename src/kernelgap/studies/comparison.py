"""Two results of one study side by side: what was set, what ran it, which numbers differ.

Numbers are matched by what they are of: the entries of a summary begin with what identifies them
(learner, n, ...). Two 95% intervals that do not overlap differ beyond chance as a rule; two that
overlap may differ all the same.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args

from kernelgap._display import compact_repr, table
from kernelgap.studies.journal import jsonable
from kernelgap.studies.statistics import Estimate
from kernelgap.studies.study import Result

Verdict = Literal["same", "overlap", "apart", "differ"]
_VERDICTS = get_args(Verdict)
_INTERVAL = ("value", "low", "high")


class Pair(NamedTuple):
    """A number in two results.

    Attributes:
        name: what it is.
        first: in the first result; NaN ends where it has no interval.
        second: in the second one.
        verdict: `"same"`: equal; `"overlap"` or `"apart"`: as their intervals are; `"differ"`:
            not equal, and one has no interval.
    """

    name: str
    first: Estimate
    second: Estimate
    verdict: Verdict


class Comparison(NamedTuple):
    """What `compare` returns.

    Attributes:
        study: name of the study.
        config: options that differ, with both values.
        environment: versions, device and dtype that differ, with both values.
        numbers: the numbers that both have.
        only_first: names of numbers that only the first result has.
        only_second: names of numbers that only the second one has.
    """

    study: str
    config: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[Any, Any]]
    numbers: list[Pair]
    only_first: list[str]
    only_second: list[str]

    __repr__ = compact_repr

    def _entries(self) -> dict[str, Any]:
        counts = Counter(pair.verdict for pair in self.numbers)
        differ = {"config": list(self.config), "environment": list(self.environment)}
        return {"study": self.study} | differ | {verdict: counts[verdict] for verdict in _VERDICTS}

    def _repr_html_(self) -> str:
        rows = [(p.name, _text(p.first), _text(p.second), p.verdict) for p in self.numbers]
        differences = [(k, *values) for k, values in (self.config | self.environment).items()]
        head = ("", "first", "second")
        return table(differences, head=head, caption=f"study {self.study}") + table(
            rows, head=(*head, "verdict")
        )

    def table(self) -> str:
        """What differs, as text; equal numbers are counted only."""
        lines = [f"study {self.study}"]
        for title, differences in (
            ("configuration", self.config),
            ("versions and device", self.environment),
        ):
            lines.append(f"{title}: {'' if differences else 'the same'}".rstrip())
            lines += [f"  {k}: {a} | {b}" for k, (a, b) in differences.items()]
        counts = Counter(pair.verdict for pair in self.numbers)
        said = ", ".join(f"{counts[v]} {v}" for v in _VERDICTS)
        lines.append(f"{len(self.numbers)} numbers in both: {said}")
        listed = [pair for pair in self.numbers if pair.verdict != "same"]
        width = max((len(pair.name) for pair in listed), default=0)
        for name, first, second, verdict in listed:
            texts = [_text(first), _text(second)]
            lines.append(f"  {name:{width}}  {texts[0]:32} {texts[1]:32} {verdict}")
        for which, names in (("first", self.only_first), ("second", self.only_second)):
            if names:
                lines.append(f"only in the {which}: {len(names)}, such as {names[0]}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        pairs = [
            pair._asdict() | {"first": pair.first._asdict(), "second": pair.second._asdict()}
            for pair in self.numbers
        ]
        return jsonable(self._asdict() | {"numbers": pairs})


def compare(first: Result, second: Result) -> Comparison:
    """Put two results of one study side by side.

    Args:
        first: a result of a study, from `run` or `studies.load`.
        second: another result of the same study.

    Returns:
        A `Comparison`: what differs in the configurations, in versions, device and dtype, and all
        numbers of the two summaries, with a verdict for each.

    Raises:
        TypeError: if one is no `Result`.
        ValueError: if they are results of different studies.

    Example:
        >>> from kernelgap.studies import compare, noisy_gd
        >>> tiny = {"d": 3, "n": 10, "widths": (4,), "records": 2, "seeds": 2}
        >>> results = [noisy_gd.run(noisy_gd.NoisyGDConfig(steps=k, **tiny)) for k in (10, 20)]
        >>> compare(*results).config
        {'steps': (10, 20)}
    """
    for name, result in (("first", first), ("second", second)):
        if not isinstance(result, Result):
            raise TypeError(f"`{name}` must be a Result, from a study's run or studies.load; "
                            f"got {type(result).__name__}")  # fmt: skip
    names = [result.study.name for result in (first, second)]
    if names[0] != names[1]:
        raise ValueError(f"results of one study can be compared; got {names[0]} and {names[1]}")
    configs = [jsonable(dataclasses.asdict(result.config)) for result in (first, second)]
    environments = [_environment(result.provenance) for result in (first, second)]
    here, there = (dict(_estimates(result.summary)) for result in (first, second))
    return Comparison(
        names[0],
        _differences(*configs),
        _differences(*environments),
        [
            Pair(name, value, there[name], _verdict(value, there[name]))
            for name, value in here.items()
            if name in there
        ],
        [name for name in here if name not in there],
        [name for name in there if name not in here],
    )


def _differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys((*a, *b))
    return {k: (a.get(k), b.get(k)) for k in names if a.get(k) != b.get(k)}


def _environment(provenance: dict[str, Any]) -> dict[str, Any]:
    """What of the provenance is no timing, flat."""
    flat: dict[str, Any] = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            flat |= {} if name == "seconds" else value
        else:
            flat[name] = value
    return flat


def _estimates(summary: dict[str, Any]) -> Iterator[tuple[str, Estimate]]:
    for name, value in summary.items():
        yield from _inside(name, value)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Estimate]]:
    """All numbers of a part of a summary, however deep, by what they are of."""
    if _is_number(value):
        yield name, Estimate(float(value), math.nan, math.nan)
    elif isinstance(value, dict):
        words = [key for key, entry in value.items() if isinstance(entry, str)]
        yield from _of_entry(name, value, words)
    elif isinstance(value, list | tuple):
        for k, entry in enumerate(value):
            identity = _identity(entry) if isinstance(entry, dict) else []
            if identity:
                yield from _of_entry(name, entry, identity)
            else:
                yield from _inside(f"{name}[{k}]", entry)


def _identity(entry: dict[str, Any]) -> list[str]:
    """What tells an entry from the others of its list: all that comes before what was measured."""
    keys = list(entry)
    ends = [key for key in keys if key in ("seeds", "value") or isinstance(entry[key], dict | list)]
    if ends:
        return keys[: keys.index(ends[0])]
    return [key for key in keys if isinstance(entry[key], str)]


def _of_entry(
    name: str, entry: dict[str, Any], identity: list[str]
) -> Iterator[tuple[str, Estimate]]:
    about = " ".join([name, *(f"{key}={_plain(entry[key])}" for key in identity)])
    measured = [key for key in entry if key not in identity]
    if set(_INTERVAL) <= set(measured):
        yield about, Estimate(*(float(entry[key]) for key in _INTERVAL))
        measured = [key for key in measured if key not in _INTERVAL]
    for key in measured:
        if key != "seeds" or len(measured) == 1:  # else said by the configuration
            yield from _inside(f"{about}: {key}", entry[key])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    value = math.nan if value is None else value
    return f"{value:g}" if isinstance(value, float) else str(value)


def _verdict(a: Estimate, b: Estimate) -> Verdict:
    if a.value == b.value or (math.isnan(a.value) and math.isnan(b.value)):
        return "same"
    if any(math.isnan(end) for end in (a.low, a.high, b.low, b.high)):
        return "differ"
    return "overlap" if a.low <= b.high and b.low <= a.high else "apart"


def _text(estimate: Estimate) -> str:
    if math.isnan(estimate.low) and math.isnan(estimate.high):
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"
