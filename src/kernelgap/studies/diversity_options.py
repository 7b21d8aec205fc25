"""Options of the diversity study."""

import dataclasses
from typing import Literal, get_args

from kernelgap.studies.diversity_errors import LEAST_UNITS
from kernelgap.studies.options import Config, about_options, option

Part = Literal[
    "spectrum", "discrepancy", "training", "error", "trained", "losses", "orthant", "images"
]


@dataclasses.dataclass(frozen=True)
class DiversityConfig(Config):
    """Options of the diversity study; see the `help` of each field.

    Example:
        >>> from kernelgap.studies import diversity
        >>> tiny = diversity.DiversityConfig(
        ...     parts=("training",), units=12, n=20, steps=20, records=4, seeds=2)
        >>> result = diversity.STUDY.run(tiny)
        >>> all(row["loss"] <= row["certificate"] for row in result.rows)
        True
    """

    parts: tuple[Part, ...] = option(
        ("spectrum", "discrepancy", "training", "error"),
        f"subset of: {', '.join(get_args(Part))}",
    )
    seeds: int = option(8, "repetitions, each with its own sample and units", minimum=2)
    seed: int = option(0, "base of all random keys", minimum=0)
    dims: tuple[int, ...] = option((15, 1500), "dimensions of the spectra", minimum=2)
    gram_n: int = option(3000, "samples of Gram matrices (spectrum, orthant)", minimum=2)
    gram_seeds: int = option(2, "number of Gram matrices for each dimension (spectrum)", minimum=1)
    ranks: int = option(
        0, "largest rank of the population's spectrum if above gram_n (spectrum)", minimum=0
    )
    activations: tuple[Literal["relu", "squared relu"], ...] = option(
        ("relu",), "subset of: relu, squared relu (spectrum)"
    )
    d: int = option(10, "input dimension of discrepancy and training", minimum=2)
    n: int = option(150, "samples of discrepancy and training", minimum=2)
    units: int = option(60, "units of discrepancy and training", minimum=2)
    clusters: int = option(5, "directions around which clustered units lie", minimum=1)
    spreads: tuple[float, ...] = option(
        (1.0, 0.5, 0.25, 0.1),
        "sizes of the clusters relative to their directions (discrepancy)",
        above=0,
    )
    spread: float = option(0.25, "size of the clusters (training, error)", above=0)
    draws: int = option(24, "random arrangements for each sample (discrepancy)", minimum=1)
    arrangements: tuple[Literal["random", "clustered", "optimised"], ...] = option(
        ("random", "clustered", "optimised"),
        "subset of: random, clustered, optimised (discrepancy)",
    )
    spreading: int = option(
        300, "Adam steps that minimise the penalty of optimised units", minimum=1
    )
    steps: int = option(2000, "steps of gradient descent (training)", minimum=1)
    records: int = option(40, "number of recorded times (training)", minimum=1, divides="steps")
    learning_rate: float = option(
        5.0, "learning rate of gradient descent with momentum .9 (training)", above=0
    )
    penalty: float = option(0.1, "strength of the diversity penalty (training)", above=0)
    data: tuple[Literal["teacher", "digits"], ...] = option(
        ("teacher", "digits"), "subset of: teacher, digits (error)"
    )
    mnist: str = option("", "folder with the four MNIST files, to include MNIST (error, images)")
    starts: tuple[Literal["random", "clustered"], ...] = option(
        ("random", "clustered"), "initial units, subset of: random, clustered (error)"
    )
    widths: tuple[int, ...] = option(
        (8, 16, 32, 64),
        "units of the nets (error); images use widths of at least 16",
        minimum=1,
        increasing=True,
    )
    penalties: tuple[float, ...] = option(
        (0.03, 0.3, 1.0, 3.0),
        "strengths of the diversity penalty to choose from",
        above=0,
        increasing=True,
    )
    l2s: tuple[float, ...] = option(
        (3e-5, 1e-4, 3e-4, 1e-3),
        "strengths of the weight decay to choose from",
        above=0,
        increasing=True,
    )
    teacher_d: int = option(20, "input dimension of the teacher", minimum=1)
    teacher_units: int = option(6, "hidden units of the teacher", minimum=2)
    noise: float = option(
        0.0, "standard deviation of the training labels' noise (teacher)", minimum=0
    )
    n_train: int = option(300, "training samples (error)", minimum=2)
    n_validation: int = option(
        400, "samples on which strength and number of steps are chosen", minimum=1
    )
    n_test: int = option(4000, "fresh test samples for each seed (teacher)", minimum=2)
    adam_steps: int = option(1000, "full-batch Adam steps (error)", minimum=1)
    stops: int = option(10, "numbers of steps to choose from", minimum=1, divides="adam_steps")
    adam_rate: float = option(0.01, "Adam learning rate (error)", above=0)

    sgd_seeds: int = option(5, "repetitions of trained, losses, orthant, images", minimum=2)
    sgd_batch: int = option(100, "samples of a batch (trained, losses, images)", minimum=1)
    sgd_rate: float = option(0.1, "learning rate of SGD (trained, losses)", above=0)
    sgd_momentum: float = option(0.9, "momentum of SGD (losses, images)", minimum=0, maximum=0.9999)
    trained_d: int = option(50, "input dimension, and units of the teacher (trained)", minimum=2)
    trained_units: tuple[int, ...] = option(
        (20, 40, 80, 160, 320, 640), "units of the nets (trained)", minimum=2, increasing=True
    )
    trained_steps: int = option(5000, "steps of SGD (trained)", minimum=1)
    losses_d: int = option(100, "input dimension, and units of the teacher (losses)", minimum=2)
    losses_units: tuple[int, ...] = option(
        (100, 150, 200, 300), "units of the nets (losses)", minimum=2, increasing=True
    )
    losses_steps: int = option(300_000, "steps of SGD (losses)", minimum=1)
    losses_records: int = option(
        30, "number of recorded times (losses)", minimum=1, divides="losses_steps"
    )
    losses_samples: int = option(
        10_000, "samples on which the training loss is measured (losses)", minimum=2
    )
    strengths: tuple[float, ...] = option(
        (0.001, 0.01, 0.1, 1.0),
        "strengths of paper B's penalty R to choose from (losses)",
        above=0,
        increasing=True,
    )
    readings: tuple[Literal["fresh", "large", "sample", "gaussian", "signs"], ...] = option(
        ("fresh",), "readings of Table 1, subset of: fresh, large, sample, gaussian, signs (losses)"
    )
    orthant_dims: tuple[int, ...] = option(
        (4, 5, 6, 7), "input dimensions (orthant)", minimum=2, increasing=True
    )
    orthant_units: int = option(100_000, "number of sampled units (orthant)", minimum=1)
    images_units: tuple[int, ...] = option(
        (200, 400, 600, 800), "units of the nets (images)", minimum=LEAST_UNITS, increasing=True
    )
    images_readings: tuple[Literal["softmax", "signs"], ...] = option(
        ("softmax", "signs"), "readings of Table 3, subset of: softmax, signs (images)"
    )
    images_rate: float = option(
        0.1, "learning rate of SGD, with fixed signs 50 times as large (images)", above=0
    )
    images_strengths: tuple[float, ...] = option(
        (1.0, 10.0, 100.0, 1000.0),
        "strengths of R to choose from (images)",
        above=0,
        increasing=True,
    )
    epochs: int = option(30, "passes over the training images (images)", minimum=1)

    def check(self) -> None:
        """Raise if all nets are too narrow for images, or a part lacks what it needs."""
        images = "digits" in self.data or self.mnist
        if "error" in self.parts and images and self.widths[-1] < LEAST_UNITS:
            error = f"`widths` must include 16 or more for ten classes; got {self.widths}"
            raise about_options(ValueError(error), "widths")
        if "discrepancy" in self.parts and "random" not in self.arrangements:
            error = f"`arrangements` must include random; got {self.arrangements}"
            raise about_options(ValueError(error), "arrangements")
        if "images" in self.parts and not self.mnist:
            error = "`mnist` must be the folder of the MNIST files for the part images; got ''"
            raise about_options(ValueError(error), "mnist")
