"""Multi-layer perceptrons, homogeneous or smooth, and their activations."""

from kernelgap.models.activations import Activation, SmoothActivation, leaky_relu, relu_power
from kernelgap.models.forward import preactivations
from kernelgap.models.mlp import homogeneous_mlp, mlp
from kernelgap.models.model import MLPSpec, Model, Neurons
from kernelgap.models.model import Parameterization as Parameterization
from kernelgap.models.model import Params as Params

__all__ = [
    "Activation",
    "MLPSpec",
    "Model",
    "Neurons",
    "SmoothActivation",
    "homogeneous_mlp",
    "leaky_relu",
    "mlp",
    "preactivations",
    "relu_power",
]
