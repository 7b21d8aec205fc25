"""The configuration of the width study, and its presets."""

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
    two_digits,
)


@dataclasses.dataclass(frozen=True)
class WidthConfig:
    """What the width study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import width
        >>> width.WidthConfig(widths=(4, 16, 64)).units
        10
    """

    data: Literal["teacher", "digits"] = option("teacher", "teacher, or digits (scikit-learn)")
    widths: tuple[int, ...] = option((4, 8, 16, 32, 64, 128, 256, 512, 1024), "hidden units")
    d: int = option(20, "input dimension (teacher)")
    units: int = option(10, "hidden units of the teacher, at least 2")
    n: int = option(64, "training samples")
    classes: tuple[int, ...] = option((3, 8), "the two digits to tell apart (digits)")
    seeds: int = option(10, "samples, each of its own teacher; at least 2")
    seed: int = option(0, "base of all random keys")
    restarts: int = option(3, "nets for each seed and width, of which the largest margin counts")
    n_test: int = option(10_000, "fresh test samples for each seed (teacher)")
    l2s: tuple[float, ...] = option(
        (1e-3, 1e-4, 1e-5, 1e-7, 1e-11, 1e-19, 1e-35), "decreasing strengths of the weight decay"
    )
    steps: int = option(400, "full-batch Adam steps for each l2")
    learning_rate: float = option(0.01, "of Adam; it falls to 0 over the steps of each l2")
    certified: int = option(
        10, "seeds whose best margin of any width is bounded, which takes longest; 0 for none"
    )
    delta: float = option(0.05, "probability with which a bound may fail")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        _checks.choice(self.data, "data", ("teacher", "digits"))
        sequence(self, "widths", at_least(1))
        decreasing(self, "l2s")
        two_digits(self, "classes")
        integers(
            self, d=1, units=2, n=2, seeds=2, seed=0, restarts=1, n_test=1, steps=1, certified=0,
        )  # fmt: skip
        positive(self.learning_rate, "learning_rate")
        _checks.number(self.delta, "delta", minimum=1e-12, maximum=0.5)
        increasing(self, "widths")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "widths": (4, 16, 64, 256),
        "seeds": 5,
        "restarts": 2,
        "n_test": 4000,
        "steps": 300,
        "certified": 0,
    },
    "default": {},
    "large": {"n": 160, "restarts": 5, "steps": 1000},
}
