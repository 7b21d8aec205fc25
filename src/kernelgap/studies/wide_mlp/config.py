"""The configuration of the wide-mlp study, and its presets."""

import dataclasses
from typing import Any, Literal

from kernelgap import _checks
from kernelgap.studies.options import (
    at_least,
    increasing,
    integers,
    option,
    positive,
    sequence,
    two_digits,
)

PARTS = ("train", "proof", "moments", "steps", "spectrum")
LAWS = ("sign", "uniform", "gaussian", "mixture", "student_t")


@dataclasses.dataclass(frozen=True)
class WideMLPConfig:
    """What the wide-mlp study runs; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import wide_mlp
        >>> wide_mlp.WideMLPConfig(widths=(32, 128)).depths
        (2, 3, 4)
    """

    parts: tuple[str, ...] = option(
        PARTS,
        "of train (rates, paths, gaps, laziness), proof (a tiny problem with a proven rate), "
        "moments (laws of the inputs), steps (step size against width), spectrum (lambda_min)",
    )
    activation: Literal["gelu", "silu", "tanh", "erf"] = option("gelu", "gelu, silu, tanh or erf")
    seeds: int = option(5, "samples and initial parameters, at least 2")
    seed: int = option(0, "base of all random keys")
    n: int = option(32, "training samples")
    d: int = option(10, "input dimension on the sphere of radius sqrt(d)")
    units: int = option(6, "ReLU units of the teacher, at least 2")
    n_test: int = option(2000, "fresh test samples on the sphere")
    classes: tuple[int, ...] = option((3, 8), "two digits")
    data: tuple[str, ...] = option(("sphere", "digits"), "of sphere (teacher) and digits")
    losses: tuple[str, ...] = option(("squared", "logistic"), "of squared and logistic")
    widths: tuple[int, ...] = option((16, 64, 256, 1024), "units of each hidden layer")
    depths: tuple[int, ...] = option((2, 3, 4), "layers of the nets")
    depth: int = option(3, "layers for the problems that are run at one depth")
    steps: int = option(1000, "steps of gradient descent")
    records: int = option(10, "times at which kernels are recorded; divides `steps`")
    step_share: float = option(0.5, "step size over 1 / (Lambda lambda_max(K_0))")
    target: float = option(0.1, "logistic loss down to which a rate is claimed")
    delta: float = option(0.05, "probability with which a generalisation bound may fail")
    proof_n: int = option(6, "samples of the tiny problem")
    proof_residual: float = option(0.05, "standard deviation of y - f_0 there")
    proof_widths: tuple[int, ...] = option((64, 256, 1024, 4096, 16384), "units there; two layers")
    laws: tuple[str, ...] = option(LAWS, "laws of the inputs' coordinates")
    law_d: int = option(20, "input dimension for them")
    law_width: int = option(256, "units of each hidden layer for them")
    freedom: float = option(5.0, "degrees of freedom of student_t, above 2")
    fourth: float = option(6.0, "fourth moment of mixture, at least 1")
    transfer_widths: tuple[int, ...] = option((64, 256, 1024, 4096), "units for the step sizes")
    transfer_steps: int = option(30, "gradient steps with each step size")
    transfer_seeds: int = option(2, "initial parameters for the step sizes, at most `seeds`")
    largest_step: float = option(512.0, "the largest step size tried")
    smallest_step: float = option(
        0.25, "the smallest, doubled again and again; 64 times lower in the standard form"
    )
    spectrum_widths: tuple[int, ...] = option((16, 64, 256, 1024), "units for lambda_min")
    spectrum_seeds: int = option(10, "initial parameters for lambda_min")

    def __post_init__(self) -> None:
        """Check every field, and turn lists into tuples."""
        for name, known in (
            ("parts", PARTS), ("data", ("sphere", "digits")),
            ("losses", ("squared", "logistic")), ("laws", LAWS),
        ):  # fmt: skip
            sequence(
                self, name, lambda value, name, known=known: _checks.choice(value, name, known)
            )
        _checks.choice(self.activation, "activation", ("gelu", "silu", "tanh", "erf"))
        for name in ("widths", "proof_widths", "transfer_widths", "spectrum_widths"):
            sequence(self, name, at_least(1))
        sequence(self, "depths", at_least(2))
        increasing(self, "widths", "depths", "proof_widths", "transfer_widths", "spectrum_widths")
        integers(
            self, seeds=2, seed=0, n=2, d=2, units=2, n_test=1, depth=2, steps=1, records=1,
            proof_n=2, law_d=2, law_width=1, transfer_steps=1, transfer_seeds=1, spectrum_seeds=2,
        )  # fmt: skip
        for name in ("step_share", "target", "proof_residual", "smallest_step", "largest_step"):
            positive(getattr(self, name), name)
        two_digits(self, "classes")
        _checks.number(self.delta, "delta", minimum=1e-12, maximum=0.5)
        _checks.number(self.freedom, "freedom", minimum=2, exclusive=True)
        _checks.number(self.fourth, "fourth", minimum=1)
        if self.steps % self.records:
            raise ValueError(f"`records` must divide `steps`; got {self.records} and {self.steps}")
        if self.transfer_seeds > self.seeds:
            raise ValueError(f"`transfer_seeds` must be at most `seeds`; got {self.transfer_seeds} "
                             f"and {self.seeds}")  # fmt: skip
        if self.largest_step < self.smallest_step:
            raise ValueError(f"`largest_step` must be at least `smallest_step`; got "
                             f"{self.largest_step} and {self.smallest_step}")  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "seeds": 3,
        "n": 16,
        "n_test": 500,
        "data": ("sphere",),
        "widths": (32, 256),
        "depths": (2, 3),
        "steps": 400,
        "proof_widths": (64, 16384),
        "laws": ("sign", "student_t"),
        "law_width": 64,
        "transfer_widths": (64, 1024),
        "transfer_steps": 20,
        "spectrum_widths": (32, 256),
        "spectrum_seeds": 5,
    },
    "default": {},
    "large": {
        "seeds": 8,
        "n": 64,
        "widths": (16, 64, 256, 1024, 2048),
        "steps": 4000,
        "transfer_widths": (64, 128, 256, 512, 1024, 2048, 4096),
        "spectrum_widths": (16, 64, 256, 1024, 4096),
        "spectrum_seeds": 20,
    },
}
