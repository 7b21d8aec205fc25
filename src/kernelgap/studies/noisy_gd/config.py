"""The configuration of the noisy-gd study, and its presets."""

import dataclasses
from typing import Any

from kernelgap import _checks
from kernelgap.studies.options import (
    at_least,
    increasing,
    integers,
    not_negative,
    option,
    positive,
    sequence,
)


@dataclasses.dataclass(frozen=True)
class NoisyGDConfig:
    """What the noisy-gd study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import noisy_gd
        >>> noisy_gd.NoisyGDConfig(widths=(16, 64)).l2
        0.01
    """

    d: int = option(10, "input dimension of the xor distribution")
    n: int = option(80, "training samples")
    widths: tuple[int, ...] = option((16, 64, 256), "hidden units")
    l2: float = option(1e-2, "strength of the weight decay")
    learning_rate: float = option(0.05, "of gradient descent; time is learning_rate * steps")
    resample_rate: float = option(1e-3, "rate at which the perturbed flow re-draws a neuron")
    temperature: float = option(1e-4, "of the Langevin noise, in mean-field units")
    steps: int = option(8000, "full-batch steps")
    records: int = option(80, "points in time that are recorded; must divide `steps`")
    seeds: int = option(10, "samples with their starts, at least 2")
    seed: int = option(0, "base of all random keys")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        sequence(self, "widths", at_least(1))
        integers(self, d=2, n=2, steps=1, records=1, seeds=2, seed=0)
        for name in ("l2", "learning_rate"):
            positive(getattr(self, name), name)
        for name in ("resample_rate", "temperature"):
            not_negative(getattr(self, name), name)
        _checks.number(
            self.learning_rate * self.resample_rate, "learning_rate * resample_rate", maximum=1
        )
        increasing(self, "widths")
        if self.steps % self.records:
            raise ValueError(f"`records` must divide `steps`; got {self.records} and {self.steps}")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"widths": (16, 128), "learning_rate": 0.1, "steps": 3000, "records": 60, "seeds": 5},
    "default": {},
    "large": {"d": 20, "n": 160, "widths": (16, 64, 256, 1024), "steps": 16_000},
}
