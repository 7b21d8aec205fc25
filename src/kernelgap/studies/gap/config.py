"""The configuration of the gap study, and its presets."""

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
class GapConfig:
    """What the gap study runs; see the `help` of each field, or `kernelgap run gap --help`.

    Example:
        >>> from kernelgap.studies import gap
        >>> gap.GapConfig(dims=(10, 20)).seeds
        10
    """

    data: Literal["xor", "digits"] = option("xor", "xor (paper A) or digits (scikit-learn)")
    dims: tuple[int, ...] = option((10, 14, 20, 28, 40), "input dimensions d (xor)")
    signal: Literal["axis", "cube"] = option("axis", "form of the xor signal: axis or cube")
    noise: Literal["sign", "gaussian"] = option("sign", "law of the noise: sign or gaussian")
    flip: float = option(0.0, "share of training labels flipped, in [0, 0.5] (xor)")
    classes: tuple[int, ...] = option((3, 8), "the two digits to tell apart (digits)")
    sizes: tuple[int, ...] = option((10, 20, 40, 80, 160, 240), "training sizes n (digits)")
    net_ratios: tuple[float, ...] = option(
        (1, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 12), "n / d at which the net is trained (xor)"
    )
    svm_ratios: tuple[float, ...] = option(
        (0.125, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2), "n / d^2 for the kernel SVM (xor)"
    )
    span_ratios: tuple[float, ...] = option(
        (0.125, 0.25, 0.4, 0.45, 0.5, 0.55, 0.6, 0.75, 1), "n / d^2 for the best in the span (xor)"
    )
    span_limit: int = option(80, "largest d for the best in the span, which costs most (xor)")
    seeds: int = option(10, "independent repetitions of each point, at least 2")
    seed: int = option(0, "base of all random keys")
    n_test: int = option(10_000, "fresh test samples for each repetition (xor)")
    width: int = option(128, "hidden units of the net")
    steps: int = option(300, "full-batch Adam steps for each l2")
    learning_rate: float = option(0.02, "of Adam")
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 3e-4, 1e-4), "decreasing strengths of the weight decay"
    )
    population: int = option(16, "population sample of the span learner, in multiples of n")
    target: float = option(0.1, "test error at which sample sizes are compared")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        _checks.choice(self.data, "data", ("xor", "digits"))
        _checks.choice(self.signal, "signal", ("axis", "cube"))
        _checks.choice(self.noise, "noise", ("sign", "gaussian"))
        _checks.number(self.flip, "flip", minimum=0, maximum=0.5)
        sequence(self, "dims", at_least(2))
        sequence(self, "sizes", at_least(2))
        two_digits(self, "classes")
        for name in ("net_ratios", "svm_ratios", "span_ratios"):
            sequence(self, name, positive)
        decreasing(self, "l2s")
        integers(self, seeds=2, seed=0, n_test=1, width=1, steps=1, population=1, span_limit=1)
        positive(self.learning_rate, "learning_rate")
        _checks.number(self.target, "target", minimum=0, maximum=0.5, exclusive=True)
        increasing(self, "dims", "sizes", "net_ratios", "svm_ratios", "span_ratios")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "dims": (10, 14, 20),
        "net_ratios": (1, 2, 3, 4, 6, 8),
        "svm_ratios": (0.25, 0.5, 1, 1.5, 2),
        "span_ratios": (0.25, 0.45, 0.55, 0.75),
        "n_test": 4000,
        "width": 64,
        "steps": 200,
    },
    "default": {},
    "large": {
        "dims": (20, 40, 80, 160),
        "net_ratios": (1, 2, 3, 3.5, 4, 5, 6, 8),
        "svm_ratios": (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2),
        "span_ratios": (0.25, 0.45, 0.5, 0.55, 0.6, 0.75),
        "seeds": 5,
        "width": 256,
        "population": 8,
    },
    "huge": {
        "dims": (40, 80, 160, 320),
        "net_ratios": (1, 2, 3, 3.5, 4, 5, 6, 8),
        "svm_ratios": (0.5, 0.75, 1, 1.25),
        "span_ratios": (0.25, 0.45, 0.5, 0.55, 0.6, 0.75),
        "seeds": 3,
        "width": 512,
        "population": 8,
    },
}
