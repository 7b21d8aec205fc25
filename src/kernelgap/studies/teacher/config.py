"""The configuration of the teacher study, and its presets."""

import dataclasses
from typing import Any, Literal

from kernelgap import _checks
from kernelgap.studies.options import (
    at_least,
    decreasing,
    increasing,
    integers,
    option,
    positive,
    sequence,
)


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """What the teacher study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import teacher
        >>> teacher.TeacherConfig(sizes=(50, 100)).units
        6
    """

    d: int = option(20, "input dimension")
    units: int = option(6, "hidden units of the teacher, at least 2")
    inputs: Literal["sphere", "gaussian"] = option(
        "sphere", "sphere (of radius sqrt(d)), or gaussian, which has no bounds: no largest norm"
    )
    sizes: tuple[int, ...] = option((25, 50, 100, 200, 400, 800, 1600, 3200), "training sizes n")
    seeds: int = option(10, "teachers with their samples, at least 2")
    seed: int = option(0, "base of all random keys")
    n_test: int = option(10_000, "fresh test samples for each seed")
    width: int = option(128, "hidden units of the net")
    steps: int = option(300, "full-batch Adam steps for each l2")
    learning_rate: float = option(0.02, "of Adam")
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 3e-4, 1e-4), "decreasing strengths of the weight decay"
    )
    delta: float = option(0.05, "probability with which a bound may fail")
    target: float = option(0.1, "test error at which sample sizes are compared")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        _checks.choice(self.inputs, "inputs", ("sphere", "gaussian"))
        sequence(self, "sizes", at_least(2))
        decreasing(self, "l2s")
        integers(self, d=1, units=2, seeds=2, seed=0, n_test=1, width=1, steps=1)
        positive(self.learning_rate, "learning_rate")
        _checks.number(self.target, "target", minimum=0, maximum=0.5, exclusive=True)
        _checks.number(self.delta, "delta", minimum=1e-12, maximum=0.5)
        increasing(self, "sizes")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "sizes": (50, 100, 200, 400, 800),
        "n_test": 4000,
        "width": 64,
        "steps": 200,
        "seeds": 5,
    },
    "default": {},
    "large": {"sizes": (100, 200, 400, 800, 1600, 3200, 6400), "width": 256},
}
