"""The configuration of the diversity study, and its presets."""

import dataclasses
from typing import Any

from kernelgap import _checks
from kernelgap.studies.options import at_least, increasing, integers, option, positive, sequence

PARTS = ("spectrum", "discrepancy", "training", "error")
DATA = ("teacher", "digits")
STARTS = ("random", "clustered")


@dataclasses.dataclass(frozen=True)
class DiversityConfig:
    """What the diversity study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import diversity
        >>> diversity.DiversityConfig(widths=(8, 16)).units
        60
    """

    parts: tuple[str, ...] = option(PARTS, "of spectrum, discrepancy, training, error")
    seeds: int = option(20, "samples and initial units, at least 2")
    seed: int = option(0, "base of all random keys")
    dims: tuple[int, ...] = option((15, 1500), "dimensions of the spectra, each at least 2")
    gram_n: int = option(3000, "samples of the Gram matrices of the spectra")
    gram_seeds: int = option(2, "samples for which these are made")
    d: int = option(10, "input dimension of discrepancy and training")
    n: int = option(150, "samples of discrepancy and training")
    units: int = option(60, "units of discrepancy and training")
    clusters: int = option(5, "directions around which clustered units lie")
    spreads: tuple[float, ...] = option(
        (1.0, 0.5, 0.25, 0.1), "sizes of the clusters of discrepancy, relative to the directions"
    )
    spread: float = option(0.25, "size of the clusters of training and error")
    draws: int = option(24, "random arrangements for each sample (discrepancy), at least 3")
    spreading: int = option(300, "Adam steps that minimise the penalty of optimised units")
    steps: int = option(2000, "steps of gradient descent (training)")
    records: int = option(40, "how often training is looked at; divides steps")
    learning_rate: float = option(5.0, "of gradient descent with momentum .9 (training)")
    penalty: float = option(0.1, "strength of the diversity penalty (training)")
    data: tuple[str, ...] = option(DATA, "of teacher, digits, for the test errors")
    mnist: str = option("", "folder with the four MNIST files, to add them to the test errors")
    starts: tuple[str, ...] = option(STARTS, "of random, clustered: initial units (error)")
    widths: tuple[int, ...] = option(
        (8, 16, 32, 64, 128), "units of the nets (error); for images those of at least 16"
    )
    penalties: tuple[float, ...] = option(
        (0.03, 0.3, 1.0, 3.0), "strengths of the diversity penalty to choose from"
    )
    l2s: tuple[float, ...] = option(
        (3e-5, 1e-4, 3e-4, 1e-3), "strengths of the weight decay to choose from"
    )
    teacher_d: int = option(20, "input dimension of the teacher")
    teacher_units: int = option(6, "hidden units of the teacher, at least 2")
    noise: float = option(0.0, "standard deviation of the training labels' noise (teacher)")
    n_train: int = option(300, "training samples (error)")
    n_validation: int = option(400, "samples on which strength and number of steps are chosen")
    n_test: int = option(4000, "fresh test samples for each seed (teacher)")
    adam_steps: int = option(1000, "full-batch Adam steps (error)")
    stops: int = option(10, "numbers of steps to choose from; divides adam_steps")
    adam_rate: float = option(0.01, "learning rate of Adam (error)")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        for name, known in (("parts", PARTS), ("data", DATA), ("starts", STARTS)):
            sequence(self, name, lambda part, name, known=known: _checks.choice(part, name, known))
        sequence(self, "dims", at_least(2))
        sequence(self, "widths", at_least(1))
        for name in ("spreads", "penalties", "l2s"):
            sequence(self, name, positive)
        integers(
            self, seeds=2, seed=0, gram_n=2, gram_seeds=1, d=2, n=2, units=2, clusters=1, draws=3,
            spreading=1, steps=1, records=1, teacher_d=1, teacher_units=2, n_train=2,
            n_validation=1, n_test=2, adam_steps=1, stops=1,
        )  # fmt: skip
        for name in ("spread", "learning_rate", "penalty", "adam_rate"):
            positive(getattr(self, name), name)
        _checks.number(self.noise, "noise", minimum=0)
        if not isinstance(self.mnist, str):
            raise TypeError(f"`mnist` must be the name of a folder; got {self.mnist!r:.40}")
        increasing(self, "widths", "penalties", "l2s")
        images = "digits" in self.data or self.mnist
        if "error" in self.parts and images and self.widths[-1] < 16:
            raise ValueError(f"`widths` must go to 16 or more for ten classes; got {self.widths}")
        for part, whole in (("records", "steps"), ("stops", "adam_steps")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(f"`{part}` must divide `{whole}`; got {getattr(self, part)} and "
                                 f"{getattr(self, whole)}")  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "seeds": 6,
        "gram_n": 800,
        "gram_seeds": 1,
        "n": 80,
        "units": 30,
        "draws": 12,
        "steps": 800,
        "records": 20,
        "widths": (8, 32),
        "starts": ("random",),
        "penalties": (0.1, 1.0),
        "l2s": (1e-5, 1e-4),
        "adam_steps": 600,
        "n_test": 2000,
    },
    "default": {},
    "large": {"seeds": 40, "draws": 50, "widths": (8, 16, 32, 64, 128, 256), "n_train": 600},
}
