"""What a model is: pure functions, and the static description that kernels are built from."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax

from kernelgap._display import shown
from kernelgap.models.activations import Activation, SmoothActivation

Parameterization = Literal["standard", "ntk", "mean_field"]
Params = tuple[jax.Array, ...]


class MLPSpec(NamedTuple):
    """The static, hashable description of an `mlp` or `homogeneous_mlp`."""

    widths: tuple[int, ...]
    activation: Activation | SmoothActivation
    parameterization: Parameterization
    outputs: int | None
    init_scale: float

    def layers(self, d: int) -> list[tuple[int, int, float, float]]:
        """(fan_in, fan_out, forward factor s_k, initial standard deviation) of each layer."""
        fans = [d, *self.widths, self.outputs or 1]
        described = []
        for k, (fan_in, fan_out) in enumerate(pairwise(fans)):
            root = fan_in**-0.5
            if self.parameterization == "standard":
                factor, std = 1.0, root
            elif self.parameterization == "ntk":
                factor, std = root, 1.0
            else:
                factor, std = (1.0, root) if k == 0 else (1.0 / fan_in, 1.0)
            described.append((fan_in, fan_out, factor, std * self.init_scale))
        return described

    def shapes(self, d: int) -> list[tuple[int, ...]]:
        """The shape of each layer's weights; the last is (fan_in,) when `outputs` is None."""
        shapes: list[tuple[int, ...]] = [(out, fan_in) for fan_in, out, _, _ in self.layers(d)]
        return shapes if self.outputs else [*shapes[:-1], shapes[-1][1:]]

    def neuron_radius(self, d: int) -> float:
        """Radius on which one fresh neuron (w, u) of a two-layer homogeneous net is drawn.

        The output is a mean over neurons, (1/m) sum_j Phi(theta_j / r), with this r: a neuron on
        the sphere of radius r is a unit neuron of the measure of mean-field theory.
        """
        (_, _, first, _), (_, _, second, _) = self.layers(d)
        assert isinstance(self.activation, Activation)  # a smooth net has no `neurons`
        power = self.activation.power
        return (self.widths[0] * second * first**power) ** (-1 / (power + 1))


class Neurons(NamedTuple):
    """How the parameters of a two-layer homogeneous net read as m neurons theta_j = (w_j, u_j).

    Attributes:
        pack: params -> (m, k + d), the rows being neurons, output weights first.
        unpack: (m, k + d) -> params.
        radius: params -> the radius of the sphere on which fresh neurons are drawn.
    """

    pack: Callable[[Params], jax.Array]
    unpack: Callable[[jax.Array], Params]
    radius: Callable[[Params], float]


@shown
class Model(NamedTuple):
    """A network as a pair of pure functions.

    Attributes:
        init: `init(key, d, dtype=None) -> params`.
        apply: `apply(params, x) -> (n,)`, or (n, k) with k outputs.
        degree: the degree of positive homogeneity in the parameters; None for smooth activations.
        spec: static, hashable description: the `MLPSpec` from which `kernels.ntk` builds the kernel
            of an `mlp` or `homogeneous_mlp`, the `FixedSignSpec` of a `fixed_sign_net`.
        neurons: how to read the parameters as neurons; None unless the net is homogeneous and has
            two trained layers.
    """

    init: Callable[..., Params]
    apply: Callable[[Params, jax.Array], jax.Array]
    degree: float | None
    spec: Any
    neurons: Neurons | None

    def _entries(self) -> dict[str, Any]:
        return {"degree": self.degree, "spec": self.spec}


def check_model(model: Model) -> None:
    """Refuse what is no `Model`, such as its `apply` or its parameters."""
    if not isinstance(model, Model):
        raise TypeError(f"`model` must be a Model such as models.homogeneous_mlp((512,)); "
                        f"got {type(model).__name__}")  # fmt: skip


def check_layers(model: Model) -> None:
    """Refuse what is no multi-layer perceptron of this library."""
    check_model(model)
    if not hasattr(model.spec, "layers"):
        raise TypeError(f"`model` must be an mlp, homogeneous_mlp or fixed_sign_net; got one that "
                        f"is described by {type(model.spec).__name__}")  # fmt: skip


def homogeneous_degree(model: Model) -> float:
    """The degree of a homogeneous model; refuse any other."""
    check_model(model)
    if model.degree is None:
        raise ValueError(f"`model` must be positively homogeneous in its parameters, such as "
                         f"models.homogeneous_mlp((512,)); this one has the smooth activation "
                         f"{getattr(model.spec, 'activation', None)!r}")  # fmt: skip
    return model.degree
