"""The configuration of the margin-path study, and its presets."""

import dataclasses
from typing import Any

from kernelgap import _checks
from kernelgap.studies.options import at_least, decreasing, integers, option, positive, sequence

PARTS = ("xor", "line", "digits")


@dataclasses.dataclass(frozen=True)
class MarginPathConfig:
    """What the margin-path study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import margin_path
        >>> margin_path.MarginPathConfig(depths=(2,)).l2s[0]
        0.01
    """

    parts: tuple[str, ...] = option(PARTS, "of xor, line (exact optimum), digits (ten classes)")
    d: int = option(20, "input dimension of xor")
    n: int = option(160, "training samples of xor")
    line_n: int = option(8, "points of the line, two by two of the same label")
    digits_n: int = option(300, "training images of digits")
    depths: tuple[int, ...] = option((2, 3, 4), "layers of the nets; digits goes up to 3")
    width: int = option(128, "hidden units of each layer")
    l2s: tuple[float, ...] = option(
        (1e-2, 3e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12),
        "decreasing strengths of the weight decay; from a large one nets do not come back from 0",
    )
    steps: int = option(1000, "full-batch Adam steps for each l2")
    learning_rate: float = option(0.01, "of Adam, falling to zero for each l2")
    seeds: int = option(5, "samples and initial parameters, at least 2")
    seed: int = option(0, "base of all random keys")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        sequence(self, "parts", lambda part, name: _checks.choice(part, name, PARTS))
        sequence(self, "depths", at_least(2))
        decreasing(self, "l2s")
        integers(self, d=2, n=2, line_n=2, digits_n=10, width=1, steps=1, seeds=2, seed=0)
        positive(self.learning_rate, "learning_rate")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "d": 10,
        "n": 80,
        "digits_n": 100,
        "depths": (2, 3),
        "width": 48,
        "l2s": (1e-2, 1e-4, 1e-6, 1e-8),
        "steps": 500,
        "seeds": 3,
    },
    "default": {},
    "large": {"d": 40, "n": 320, "digits_n": 1000, "width": 256, "steps": 3000, "seeds": 10},
}
