"""The `Model` type: pure functions, and the static description that kernels are built from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import jax

from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import register, saveable
from kernelgap.models.activations import Activation, SmoothActivation

Parameterization = Literal["standard", "ntk", "mean_field", "mup"]
Params = tuple[jax.Array, ...]


class Layer(NamedTuple):
    """A dense layer z = scale * W h without bias.

    Attributes:
        fan_in: The number of inputs.
        fan_out: The number of outputs.
        scale: The factor of the forward pass.
        init_std: The standard deviation of the initial weights.
    """

    fan_in: int
    fan_out: int
    scale: float
    init_std: float


@saveable()
class MLPSpec(NamedTuple):
    """The static, hashable description of an `mlp` or `homogeneous_mlp`."""

    widths: tuple[int, ...]
    activation: Activation | SmoothActivation
    parameterization: Parameterization
    outputs: int | None
    init_scale: float

    def layers(self, d: int) -> list[Layer]:
        """Return the layers for inputs of dimension d, the first one first."""
        layers = []
        for k, (fan_in, fan_out) in enumerate(pairwise([d, *self.widths, self.outputs or 1])):
            root = fan_in**-0.5
            if self.parameterization == "standard":
                scale, std = 1.0, root
            elif self.parameterization == "ntk":
                scale, std = root, 1.0
            elif self.parameterization == "mean_field":
                scale, std = (1.0, root) if k == 0 else (1.0 / fan_in, 1.0)
            elif k == len(self.widths):  # maximal updates
                scale, std = (1.0, root) if k == 0 else (root, root)
            else:
                scale = (fan_out if k == 0 else fan_out / fan_in) ** 0.5
                std = root / scale
            layers.append(Layer(fan_in, fan_out, scale, std * self.init_scale))
        return layers

    def shapes(self, d: int) -> list[tuple[int, ...]]:
        """Return the shape of each layer's weights; the last is (fan_in,) without `outputs`."""
        shapes: list[tuple[int, ...]] = [(k.fan_out, k.fan_in) for k in self.layers(d)]
        return shapes if self.outputs else [*shapes[:-1], shapes[-1][1:]]

    def neuron_radius(self, d: int) -> float:
        """Return the radius on which a fresh neuron (w, u) of a two-layer homogeneous net is drawn.

        The output is a mean over neurons, (1/m) sum_j Phi(theta_j / r), with this r: a neuron on
        the sphere of radius r is a unit neuron of the measure of mean-field theory.
        """
        first, second = self.layers(d)
        assert isinstance(self.activation, Activation)  # a smooth net has no `neurons`
        power = self.activation.power
        return (self.widths[0] * second.scale * first.scale**power) ** (-1 / (power + 1))


class Neurons(NamedTuple):
    """Functions that read the parameters of a two-layer homogeneous net as m neurons (w_j, u_j).

    Attributes:
        pack: `params -> (m, k + d)`, the rows being neurons, output weights first.
        unpack: (m, k + d) -> params.
        radius: `params` -> the radius of the sphere on which fresh neurons are drawn. For
            f = sum_j w_j relu(u_j . x) paper A's measure has 1 / sqrt(m).

    Example:
        For a net of your own, whose parameters are a dict:

        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> neurons = kg.models.Neurons(
        ...     pack=lambda p: jnp.concatenate([p["readout"][:, None], p["hidden"].T], axis=1),
        ...     unpack=lambda rows: {"hidden": rows[:, 1:].T, "readout": rows[:, 0]},
        ...     radius=lambda p: p["readout"].size**-0.5)
        >>> optimizer = kg.optim.noisy_gd(
        ...     0.1, resample_rate=1e-3, neurons=neurons, key=jax.random.key(0))
    """

    pack: Callable[[Params], jax.Array]
    unpack: Callable[[jax.Array], Params]
    radius: Callable[[Params], float]


@jax.tree_util.register_static
@dataclass(frozen=True, repr=False)
class Model:
    """A network as a pair of pure functions.

    A net of your own is a model, too: with its degree (2 for two layers of ReLUs without biases) it
    goes into `metrics.normalized_margin`, `margins.regularization_path` and
    `margins.kkt_residuals`; the laws of `kernelgap.testing` draw parameters from its `init`.

    Models are equal, and hash alike, if their functions and descriptions are: two calls of
    `homogeneous_mlp` with the same arguments return equal models, and two models of your own are
    equal if they are made of the same functions. A model whose `apply` was replaced equals only
    those with that `apply`. To JAX a model is static: it can be passed to a jitted function like
    any argument, and equal models share what was compiled.

    Attributes:
        init: `init(key, d, dtype=None) -> params`.
        apply: `apply(params, x) -> (n,)`, or (n, k) with k outputs.
        degree: The degree of positive homogeneity in the parameters; None for other models.
        spec: Static, hashable description: the `MLPSpec` from which `kernels.ntk` builds the kernel
            of an `mlp` or `homogeneous_mlp`, the `FixedSignSpec` of a `fixed_sign_net`; None for
            a net of your own.
        neurons: Functions that read the parameters as neurons; None unless the net is homogeneous
            and has two trained layers.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> def init(key, d, dtype=None):
        ...     first, second = jax.random.split(key)
        ...     return {"hidden": jax.random.normal(first, (d, 64), dtype) / 8,
        ...             "readout": jax.random.normal(second, (64,), dtype) / 8}
        >>> def apply(params, x):
        ...     return jax.nn.relu(x @ params["hidden"]) @ params["readout"]
        >>> model = kg.models.Model(init, apply, degree=2)
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> params = model.init(jax.random.key(1), 10)
        >>> kg.metrics.normalized_margin(model, params, x, y).shape
        ()
    """

    init: Callable[..., Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    degree: float | None
    spec: Any = None
    neurons: Neurons | None = None

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def _entries(self) -> dict[str, Any]:
        return {"degree": self.degree, "spec": self.spec}


@singledispatch
def model_of(spec: Any) -> Model:
    """Return the model that a description belongs to; each type of description registers here."""
    raise TypeError(f"no model is described by {spec!r:.80}")


register(
    Model,
    lambda model: None if model.spec is None else {"spec": model.spec},
    lambda spec: model_of(spec),
)


def check_model(model: Model) -> None:
    """Raise TypeError unless `model` is a `Model`; its `apply` or its parameters are not."""
    if not isinstance(model, Model):
        raise TypeError("`model` must be a Model, such as models.homogeneous_mlp((512,)), or "
                        "models.Model(init, apply, degree=2) with functions of your own; "
                        f"got {type(model).__name__}")  # fmt: skip


def check_layers(model: Model, who: str = "`model`") -> None:
    """Raise TypeError unless the model describes its layers, which a net of one's own does not."""
    check_model(model)
    if not hasattr(model.spec, "layers"):
        raise TypeError(f"{who} must describe its layers, as an mlp, homogeneous_mlp or "
                        f"fixed_sign_net does; got a Model of your own")  # fmt: skip


def homogeneous_degree(model: Model) -> float:
    """Return the degree of a homogeneous model; refuse any other."""
    check_model(model)
    if model.degree is None:
        phi = getattr(model.spec, "activation", None)
        why = "has no degree" if phi is None else f"has the smooth activation {phi!r}"
        raise ValueError("`model` must be positively homogeneous in its parameters, such as "
                         f"models.homogeneous_mlp((512,)); this one {why}")  # fmt: skip
    return model.degree
