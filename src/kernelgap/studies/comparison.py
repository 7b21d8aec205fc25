"""Two results of one study side by side: options, environment, and the numbers that differ.

Estimates are matched by their metric and keys. Two 95% intervals that do not overlap differ beyond
chance as a rule; two that overlap may differ all the same.
"""

import dataclasses
import math
from collections import Counter
from typing import Any, Literal, NamedTuple, get_args

from kernelgap._support.display import compact_repr, table
from kernelgap.studies.estimates import Estimate
from kernelgap.studies.store import encode
from kernelgap.studies.study import Result
from kernelgap.studies.tables import interval_text

Verdict = Literal["same", "overlap", "apart", "differ"]
_VERDICTS = get_args(Verdict)


class Pair(NamedTuple):
    """One metric at one place in two results.

    Attributes:
        first: The estimate of the first result.
        second: The estimate of the second result.
    """

    first: Estimate
    second: Estimate

    @property
    def name(self) -> str:
        """The metric and its keys on one line."""
        return self.first.name

    @property
    def verdict(self) -> Verdict:
        """The relation of the two estimates.

        `"same"`: the values are equal; `"overlap"` or `"apart"`: their intervals overlap or do not;
        `"differ"`: the values are not equal, and one has no interval.
        """
        a, b = self.first, self.second
        if a.value == b.value or (math.isnan(a.value) and math.isnan(b.value)):
            return "same"
        if any(math.isnan(end) for end in (a.low, a.high, b.low, b.high)):
            return "differ"
        return "overlap" if a.low <= b.high and b.low <= a.high else "apart"


class Comparison(NamedTuple):
    """Two results of one study, as `compare` returns them.

    Attributes:
        study: Name of the study.
        config: Options that differ, with both values.
        environment: Versions, device and dtype that differ, with both values.
        numbers: The estimates that both have.
        only_first: Names of the estimates that only the first result has.
        only_second: Names of the estimates that only the second result has.
    """

    study: str
    config: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[Any, Any]]
    numbers: list[Pair]
    only_first: list[str]
    only_second: list[str]

    __repr__ = compact_repr

    def _entries(self) -> dict[str, Any]:
        differ = {"config": list(self.config), "environment": list(self.environment)}
        return {"study": self.study} | differ | self._counts()

    def _counts(self) -> dict[str, int]:
        counts = Counter(pair.verdict for pair in self.numbers)
        return {verdict: counts[verdict] for verdict in _VERDICTS}

    def _repr_html_(self) -> str:
        differences = [(k, *values) for k, values in (self.config | self.environment).items()]
        head = ("", "first", "second")
        return table(differences, head=head, caption=f"study {self.study}") + table(
            map(_texts, self.numbers), head=(*head, "verdict")
        )

    def table(self) -> str:
        """Return the differences as text; equal numbers are only counted."""
        lines = [f"study {self.study}"]
        for title, differences in (
            ("configuration", self.config),
            ("versions and device", self.environment),
        ):
            lines.append(f"{title}: {'' if differences else 'the same'}".rstrip())
            lines += [f"  {k}: {a} | {b}" for k, (a, b) in differences.items()]
        counts = ", ".join(f"{count} {verdict}" for verdict, count in self._counts().items())
        lines.append(f"{len(self.numbers)} numbers in both: {counts}")
        listed = [_texts(pair) for pair in self.numbers if pair.verdict != "same"]
        widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
        for texts in listed:
            cells = (text.ljust(width) for text, width in zip(texts, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
        for which, names in (("first", self.only_first), ("second", self.only_second)):
            if names:
                lines.append(f"only in the {which}: {len(names)}, such as {names[0]}")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        pairs = [
            {"name": pair.name, "verdict": pair.verdict}
            | {name: estimate._asdict() for name, estimate in pair._asdict().items()}
            for pair in self.numbers
        ]
        return encode(self._asdict() | {"numbers": pairs})


def _texts(pair: Pair) -> tuple[str, str, str, str]:
    first, second = (interval_text(estimate, ".4g") for estimate in pair)
    return pair.name, first, second, pair.verdict


def compare(first: Result, second: Result) -> Comparison:
    """Put two results of one study side by side.

    Args:
        first: A result of a study, from its `run` or from `kernelgap.load`.
        second: Another result of the same study.

    Returns:
        The differences in configurations, versions, device and dtype, and all estimates that both
        results have, with a verdict for each.

    Example:
        >>> from kernelgap.studies import compare, noisy_gd
        >>> tiny = {"d": 3, "n": 10, "widths": (4,), "records": 2, "seeds": 2}
        >>> results = [
        ...     noisy_gd.STUDY.run(noisy_gd.NoisyGDConfig(steps=k, **tiny)) for k in (10, 20)
        ... ]
        >>> compare(*results).config
        {'steps': (10, 20)}
    """
    for name, result in (("first", first), ("second", second)):
        if not isinstance(result, Result):
            raise TypeError(f"`{name}` must be a Result, from a study's run or kernelgap.load; "
                            f"got {type(result).__name__}")  # fmt: skip
    names = [result.study.name for result in (first, second)]
    if names[0] != names[1]:
        raise ValueError(f"results of one study can be compared; got {names[0]} and {names[1]}")
    configs = [encode(dataclasses.asdict(result.config)) for result in (first, second)]
    environments = [_environment(result.provenance) for result in (first, second)]
    ours, theirs = ({e.name: e for e in result.estimates} for result in (first, second))
    return Comparison(
        names[0],
        _differences(*configs),
        _differences(*environments),
        [Pair(ours[name], theirs[name]) for name in ours if name in theirs],
        [name for name in ours if name not in theirs],
        [name for name in theirs if name not in ours],
    )


def _differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys((*a, *b))
    return {k: (a.get(k), b.get(k)) for k in names if a.get(k) != b.get(k)}


def _environment(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance without timings, flat."""
    flat: dict[str, Any] = {}
    for name, value in provenance.items():
        if isinstance(value, dict):
            flat |= {} if name == "seconds" else value
        else:
            flat[name] = value
    return flat
