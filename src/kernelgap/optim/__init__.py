"""Optimisation: noisy gradient descent as an optax transformation, and a compiled training loop.

`noisy_gd` adds to gradient descent what paper A's global convergence proof needs: a small share of
the neurons is re-drawn at random in every step (the perturbed Wasserstein gradient flow); Langevin
noise is there too. `train` runs any optax optimiser in one compiled loop.
"""

from kernelgap.optim.noisy import noisy_gd
from kernelgap.optim.training import Trained as Trained, train

__all__ = ["noisy_gd", "train"]
