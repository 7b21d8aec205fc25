"""The configuration of the regularization study, and its presets."""

import dataclasses
from typing import Any, Literal

from kernelgap import _checks
from kernelgap.studies.options import integers, option, positive, two_digits


@dataclasses.dataclass(frozen=True)
class RegularizationConfig:
    """What the regularization study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import regularization
        >>> regularization.RegularizationConfig(data="digits").l2
        0.003
    """

    data: Literal["xor", "digits"] = option("xor", "xor (paper A) or digits (scikit-learn)")
    d: int = option(20, "input dimension (xor)")
    n: int = option(160, "training samples")
    signal: Literal["axis", "cube"] = option("axis", "form of the xor signal: axis or cube")
    noise: Literal["sign", "gaussian"] = option("sign", "law of the noise: sign or gaussian")
    classes: tuple[int, ...] = option((3, 8), "the two digits to tell apart (digits)")
    seeds: int = option(10, "independent repetitions, at least 2")
    seed: int = option(0, "base of all random keys")
    n_test: int = option(10_000, "fresh test samples for each repetition (xor)")
    width: int = option(512, "hidden units, even: they start in pairs that cancel")
    init_scale: float = option(4.0, "factor on the initial weights; large means lazy")
    l2: float = option(3e-3, "strength of the weight decay of the regularised net")
    learning_rate: float = option(0.02, "of gradient descent")
    momentum: float = option(0.9, "of gradient descent, in [0, 1)")
    steps: int = option(6000, "full-batch steps")
    records: int = option(60, "points in time that are recorded, at most `steps`")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        _checks.choice(self.data, "data", ("xor", "digits"))
        _checks.choice(self.signal, "signal", ("axis", "cube"))
        _checks.choice(self.noise, "noise", ("sign", "gaussian"))
        two_digits(self, "classes")
        integers(self, d=2, n=2, seeds=2, seed=0, n_test=1, width=2, steps=1, records=1)
        for name in ("init_scale", "l2", "learning_rate"):
            positive(getattr(self, name), name)
        _checks.number(self.momentum, "momentum", minimum=0, maximum=0.999)
        if self.width % 2:
            raise ValueError(f"`width` must be even: units start in pairs; got {self.width}")
        if self.steps % self.records:
            raise ValueError(f"`records` must divide `steps`; got {self.records} and {self.steps}")


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"width": 256, "n_test": 4000, "seeds": 5, "steps": 4000, "records": 40},
    "default": {},
    "large": {"d": 40, "n": 400, "width": 1024, "steps": 12_000},
}
