"""Multi-layer perceptrons, nets with fixed output signs, their linearizations and activations."""

from kernelgap.models.activations import Activation, SmoothActivation, leaky_relu, relu_power
from kernelgap.models.fixed_signs import fixed_sign_net
from kernelgap.models.forward import preactivations
from kernelgap.models.linearized import linearize
from kernelgap.models.model import Layer as Layer
from kernelgap.models.model import Model, Neurons
from kernelgap.models.model import Parameterization as Parameterization
from kernelgap.models.model import Params as Params
from kernelgap.models.perceptrons import homogeneous_mlp, mlp

__all__ = [
    "Activation",
    "Model",
    "Neurons",
    "SmoothActivation",
    "fixed_sign_net",
    "homogeneous_mlp",
    "leaky_relu",
    "linearize",
    "mlp",
    "preactivations",
    "relu_power",
]
