"""Positively homogeneous multi-layer perceptrons and their activations."""

from kernelgap.models.activations import Activation, leaky_relu, relu_power
from kernelgap.models.mlp import homogeneous_mlp, preactivations
from kernelgap.models.model import MLPSpec, Model, Neurons
from kernelgap.models.model import Parameterization as Parameterization
from kernelgap.models.model import Params as Params

__all__ = [
    "Activation",
    "MLPSpec",
    "Model",
    "Neurons",
    "homogeneous_mlp",
    "leaky_relu",
    "preactivations",
    "relu_power",
]
