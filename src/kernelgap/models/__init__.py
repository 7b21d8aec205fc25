"""Networks, each a `Model`: a pair of functions that is equal by description.

- `homogeneous_mlp`: bias-free perceptrons of any depth, positively homogeneous in the parameters;
- `mlp`: the same with smooth activations as well;
- `fixed_sign_net`: one hidden layer with fixed output signs, the net of paper B;
- `linearize`: the first-order Taylor expansion of any of these in its parameters;
- `preactivations`: the arguments of the activations in all layers.

Activations are names, an `Activation` (`leaky_relu(slope)`, `relu_power(power)`, or any that is
positively homogeneous) or a `SmoothActivation`. `Neurons` tells `optim.noisy_gd` what the neurons
of a net of your own are.
"""

from kernelgap.models.activations import Activation, SmoothActivation, leaky_relu, relu_power
from kernelgap.models.fixed_signs import fixed_sign_net
from kernelgap.models.forward import preactivations
from kernelgap.models.linearized import linearize
from kernelgap.models.model import (
    Layer as Layer,
    Model,
    Neurons,
    Parameterization as Parameterization,
    Params as Params,
)
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
