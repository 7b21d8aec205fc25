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
        radius: params -> the radius of the sphere on which fresh neurons are drawn. For
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


@shown
class Model(NamedTuple):
    """A network as a pair of pure functions.

    A net of your own is one, too: with its degree (2 for two layers of ReLUs without biases) it
    goes into `metrics.normalized_margin`, `margins.regularization_path` and
    `margins.kkt_residuals`; its `init` is what the laws of `kernelgap.testing` draw parameters
    from.

    Attributes:
        init: `init(key, d, dtype=None) -> params`.
        apply: `apply(params, x) -> (n,)`, or (n, k) with k outputs.
        degree: the degree of positive homogeneity in the parameters; None for smooth activations.
        spec: static, hashable description: the `MLPSpec` from which `kernels.ntk` builds the kernel
            of an `mlp` or `homogeneous_mlp`, the `FixedSignSpec` of a `fixed_sign_net`; None for
            a net of your own.
        neurons: how to read the parameters as neurons; None unless the net is homogeneous and has
            two trained layers.

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

    def _entries(self) -> dict[str, Any]:
        return {"degree": self.degree, "spec": self.spec}


def check_model(model: Model) -> None:
    """Refuse what is no `Model`, such as its `apply` or its parameters."""
    if not isinstance(model, Model):
        raise TypeError("`model` must be a Model, such as models.homogeneous_mlp((512,)), or "
                        "models.Model(init, apply, degree=2) with functions of your own; "
                        f"got {type(model).__name__}")  # fmt: skip


def check_layers(model: Model, who: str = "`model`") -> None:
    """Refuse what does not describe its layers, such as a net of one's own; `who` needs it."""
    check_model(model)
    if not hasattr(model.spec, "layers"):
        raise TypeError(f"{who} must describe its layers, as an mlp, homogeneous_mlp or "
                        f"fixed_sign_net does; got a Model of your own")  # fmt: skip


def homogeneous_degree(model: Model) -> float:
    """The degree of a homogeneous model; refuse anything else."""
    check_model(model)
    if model.degree is None:
        phi = getattr(model.spec, "activation", None)
        why = "has no degree" if phi is None else f"has the smooth activation {phi!r}"
        raise ValueError("`model` must be positively homogeneous in its parameters, such as "
                         f"models.homogeneous_mlp((512,)); this one {why}")  # fmt: skip
    return model.degree
