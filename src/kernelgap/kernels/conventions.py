"""Factors between the conventions in which NTKs are published.

All of these kernels belong to the same network, with weights N(0, 1): only the factor C of its
outputs differs, f_theirs(W; x) = C f_ours(W; x), because positive homogeneity takes the factor of
every layer out of the net. Hence their NTK and NNGP kernels are C^2 times ours at `init_scale` 1,
and ours grow with `init_scale` c like c^(2a - 2) and c^(2a), where a is the degree of the net.
"""

import math
from typing import Any, Literal, NamedTuple

import jax

from kernelgap._numerics import checks
from kernelgap._support.registry import register
from kernelgap.kernels import neural_tangents, recursion
from kernelgap.kernels.kernel import Kernel
from kernelgap.models import Activation
from kernelgap.models.activations import HOMOGENEOUS
from kernelgap.models.model import MLPSpec
from kernelgap.typing import PyTree

Convention = Literal["neural_tangents", "arora", "eigenpro"]
_CONVENTIONS = ("neural_tangents", "arora", "eigenpro")


class Converted(NamedTuple):
    """Static description of a converted kernel."""

    kernel: Kernel
    convention: str

    def factor(self, d: int, *, get: Literal["ntk", "nngp"] = "ntk") -> float:
        """Return the factor from our kernel to theirs for inputs of dimension d, positive."""
        checks.choice(get, "get", ("ntk", "nngp"))
        d = checks.integer(d, "d", minimum=1)
        return _factor(self.kernel.spec, d, self.convention, get)

    def __repr__(self) -> str:
        return f"{self.kernel}, in the convention {self.convention!r}"


def convert(kernel: Kernel, convention: Convention) -> Kernel:
    r"""Convert an infinite-width kernel to another convention, to compare numbers with other work.

    K_theirs(x, z) = factor * K(x, z); a ridge or an eigenvalue is then in their units. The forward
    factors of layers l = 1..K are

    - ours, `parameterization="ntk"`: 1/sqrt(fan in), weights N(0, c^2) with c = `init_scale`;
    - `"neural_tangents"`: `Dense(W_std=c, parameterization="ntk")` has c/sqrt(fan in) and weights
      N(0, 1), and is differentiated with the factor in the forward pass: c^2 times ours. Its
      `parameterization="standard"` with `W_std=c` is ours of that name: factor 1;
    - `"arora"`: 1 in the first layer and sqrt(c_phi/width) in the others, weights N(0, 1), with
      1/c_phi = E phi(g)^2, g ~ N(0, 1), so that c_phi = 2 for ReLU: d c_phi^(K-1) c^(-2(K-1))
      times ours for activations of power 1;
    - `"eigenpro"`: the function `ntk_relu(x, z, depth=K, bias=0)` of EigenPro, which is `"arora"`
      for ReLU.

    Args:
        kernel: From `kernels.ntk` or `kernels.nngp`, of a model with `parameterization="ntk"`, or
            `"standard"` towards neural_tangents; smooth activations towards neural_tangents only.
            Others are not multiples of each other: other parameterizations weigh the layers
            differently, and no factor comes out of a smooth activation.
        convention: `"neural_tangents"`, `"arora"` or `"eigenpro"`.

    Returns:
        A `Kernel`, for all that takes one. Its `spec.factor(d, get="ntk")` is the factor for inputs
        of dimension d, which holds for empirical kernels at initialisation as well; divide by it to
        come back.

    Raises:
        TypeError: If `kernel` is not a `Kernel` of `ntk` or `nngp`.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> model = kg.models.homogeneous_mlp((512,), parameterization="ntk")
        >>> x = jnp.array([[3.0, 4.0]])
        >>> theirs = kg.kernels.convert(kg.kernels.ntk(model), "arora")
        >>> print(theirs(x).round())  # two layers, and each has ||x||^2
        [[50.]]
        >>> round(theirs.spec.factor(2), 6)
        4.0

    References:
        S. Arora et al., NeurIPS 2019, Section 3 (recalled); neural_tangents' and EigenPro's from
        their code. The factors are derived, and checked against neural_tangents.
    """
    checks.choice(convention, "convention", _CONVENTIONS)
    infinite = (recursion.gram, neural_tangents.gram)
    if not isinstance(kernel, Kernel) or kernel.evaluate not in infinite:
        raise TypeError(f"`kernel` must be a Kernel of kernels.ntk or kernels.nngp; "
                        f"got {kernel!r:.80}")  # fmt: skip
    _check(kernel.spec, convention)
    return Kernel(_gram, _diagonal, Converted(kernel, convention), kernel.default)


def _check(spec: MLPSpec, convention: str) -> None:
    own = convention == "neural_tangents"
    allowed = ("ntk", "standard") if own else ("ntk",)
    if spec.parameterization not in allowed:
        raise ValueError(f"`model` must have parameterization {' or '.join(map(repr, allowed))} "
                         f"for convention={convention!r}: others weigh the layers differently; "
                         f"got {spec.parameterization!r}")  # fmt: skip
    if own or not spec.widths:
        return
    if not isinstance(spec.activation, Activation):
        raise ValueError(f"`model` must have a homogeneous activation for convention="
                         f"{convention!r}: no factor comes out of {spec.activation}")  # fmt: skip
    if convention == "eigenpro" and spec.activation != HOMOGENEOUS["relu"]:
        raise ValueError(f"convention='eigenpro' is for ReLU; got {spec.activation}")


def _factor(spec: MLPSpec, d: int, convention: str, get: str) -> float:
    c = spec.init_scale
    if convention == "neural_tangents":
        return c**2 if get == "ntk" and spec.parameterization == "ntk" else 1.0
    power, moment = 1.0, 1.0
    if spec.widths:
        phi = spec.activation
        assert isinstance(phi, Activation)  # by _check
        power = phi.power
        # E |g|^(2p) = 2^p Gamma(p + 1/2) / Gamma(1/2), half of it on each side.
        whole = 2**power * math.gamma(power + 0.5) / math.gamma(0.5)
        moment = (phi.positive**2 + phi.negative**2) / 2 * whole
    squared, degree = 1.0, 0.0
    for layer in range(len(spec.widths) + 1):  # from the first, whose factor meets every activation
        squared = squared**power * (d if layer == 0 else 1 / moment)
        degree = degree * power + 1
    return squared / c ** (2 * degree - (2 if get == "ntk" else 0))


def _gram(
    spec: Converted, params: PyTree, x1: jax.Array, x2: jax.Array | None, get: str
) -> jax.Array:
    inner = spec.kernel
    factor = _factor(inner.spec, x1.shape[1], spec.convention, get)
    return inner.evaluate(inner.spec, params, x1, x2, get) * factor


def _diagonal(spec: Converted, params: PyTree, x: jax.Array, get: str) -> Any:
    inner = spec.kernel
    factor = _factor(inner.spec, x.shape[1], spec.convention, get)
    return inner.evaluate_diag(inner.spec, params, x, get) * factor


register(
    Kernel,
    lambda kernel: kernel.spec._asdict() if isinstance(kernel.spec, Converted) else None,
    convert,
    kind="converted",
)
