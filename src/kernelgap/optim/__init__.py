"""Optimisation: noisy gradient descent as an optax transformation, and a compiled training loop.

`noisy_gd` adds to gradient descent what paper A's global convergence proof needs: a small share of
the neurons is re-drawn at random in every step (the perturbed Wasserstein gradient flow); Langevin
noise is there too. `train` runs any optax optimiser in one compiled loop, and `scale_by_fan_in`
makes one learning rate of Adam suit all widths.
"""

from kernelgap.optim.fan_in import scale_by_fan_in
from kernelgap.optim.noisy import noisy_gd
from kernelgap.optim.training import Trained as Trained, train

__all__ = ["noisy_gd", "scale_by_fan_in", "train"]
