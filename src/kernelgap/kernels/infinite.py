"""The infinite-width kernels of a model: NTK and NNGP."""

import importlib.util
from typing import Any, Literal

from kernelgap._numerics import checks
from kernelgap._support.registry import register
from kernelgap.kernels import arccosine, neural_tangents, recursion
from kernelgap.kernels.kernel import Kernel
from kernelgap.models import Activation, Model
from kernelgap.models.fixed_signs import FixedSignSpec
from kernelgap.models.model import MLPSpec, model_of

Engine = Literal["auto", "closed_form", "neural_tangents"]


def ntk(model: Model, *, engine: Engine = "auto") -> Kernel:
    r"""Return the neural tangent kernel of a model at initialisation, in the limit of large widths.

    K(x, z) = lim E <grad f(Theta; x), grad f(Theta; z)> over the model's initial parameters, per
    output, with the model's own parameterization, `init_scale` and layer widths in it. For
    two layers with hidden weights N(0, r_u^2), readout weights N(0, r_w^2) and m units,

        K = m [r_w^2 <x,z> (pi-theta) + r_u^2 ||x|| ||z|| (sin theta + (pi-theta) cos theta)] / 2pi,

    so in the standard parameterization (r_w^2 = 1/m, r_u^2 = 1/d) the second term, that of the
    readout, grows with the width. Use `parameterization="ntk"` for a kernel in which all layers
    have equal weight.

    Args:
        model: An `mlp` or `homogeneous_mlp`.
        engine: `"closed_form"` evaluates homogeneous activations of power 1, 2 or 3 and all smooth
            ones in one fused pass. `tanh` and `silu` have no closed form; for them it takes a mean
            of 36 closed forms in float32 and of 144 in float64, with relative errors of 1e-7 and
            1e-12 per layer at any scale of the inputs. `"neural_tangents"` uses that library,
            which supports power 1, `gelu` and `erf`. `"auto"` is the closed form.

    Returns:
        A `Kernel`, called as `kernel(x1, x2=None) -> (n1, n2)`. By the closed form, values are
        finite and have finite first and second derivatives at equal and at zero inputs, and equal
        inputs give the diagonal value in every block. In float32, with L hidden layers:

        - for a homogeneous activation of power 1, the error is at most 1e-6 sqrt(K(x,x) K(z,z)) for
          inputs at an angle of at least 0.4 L to each other and to each other's opposite, and grows
          like 3e-7 L^2 / angle below; inputs at an angle below 1.4e-3, some up to 1.6e-3, count as
          parallel, which moves the kernel by at most 5e-4 relative per hidden layer (float64: 6e-8,
          7e-8 and 2e-8);
        - for a smooth one, the error is at most 1e-6 (2 + v) sqrt(K(x,x) K(z,z)) for L <= 3, v the
          largest variance of a pre-activation in units of the activation's scale squared.

    Raises:
        ValueError: If `engine` cannot evaluate this activation.
        ImportError: If neural_tangents is asked for and does not import.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 4, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> kernel(x).shape, kernel(x, x[:2]).shape
        ((4, 4), (4, 2))

    References:
        Paper A (the kernel of its separation theorem, up to the factors of the
        parameterization; that form is derived and checked by Monte Carlo).
        Evaluation: see `kernelgap.kernels.recursion`, `arccosine` and `sigmoidal` there.
    """
    return _kernel(model, engine, "ntk")


def nngp(model: Model, *, engine: Engine = "auto") -> Kernel:
    """Return the covariance of the outputs at initialisation, in the limit of large widths.

    K(x, z) = lim E[f(Theta; x) f(Theta; z)]. Up to a factor it is the kernel of training the last
    layer alone, and it is the covariance of the Gaussian process to which wide random nets tend.

    Args:
        model: An `mlp` or `homogeneous_mlp`.
        engine: As in `ntk`.

    Returns:
        A `Kernel`, called as `kernel(x1, x2=None) -> (n1, n2)`.

    Raises:
        ValueError, ImportError: As in `ntk`.

    Example:
        >>> import jax.numpy as jnp, kernelgap as kg
        >>> kernel = kg.kernels.nngp(kg.models.homogeneous_mlp((512,)))
        >>> print(kernel.diag(jnp.ones((1, 10))).round(6))  # E[relu(u)^2] = 1/2 for unit variance
        [0.5]

    References:
        Y. Cho, L. Saul, NeurIPS 2009; J. Lee et al., ICLR 2018.
    """
    return _kernel(model, engine, "nngp")


def checked_spec(model: Model) -> MLPSpec:
    """Return the description of a multi-layer perceptron; raise for any other model."""
    spec = model.spec if isinstance(model, Model) else None
    if isinstance(spec, FixedSignSpec):
        raise TypeError("`model` must be an mlp or homogeneous_mlp; the kernel of a fixed_sign_net "
                        "is scale^2 * width * diversity.diversity_kernel()")  # fmt: skip
    if not isinstance(spec, MLPSpec):
        came = "a Model of your own" if isinstance(model, Model) else type(model).__name__
        hint = ". Nets of your own have kernels.empirical_ntk(apply, params)"
        raise TypeError(f"`model` must be a Model such as models.homogeneous_mlp((512,)), which "
                        f"describes its layers; got {came}{hint}")  # fmt: skip
    return spec


def _kernel(model: Model, engine: Engine, default: str) -> Kernel:
    given = checked_spec(model)
    checks.choice(engine, "engine", ("auto", "closed_form", "neural_tangents"))
    # The kernel does not depend on the number of outputs: one object for all of them.
    spec = given._replace(outputs=None)
    if engine == "neural_tangents":
        neural_tangents.check(spec)
        if importlib.util.find_spec("neural_tangents") is None:
            raise ImportError("engine='neural_tangents' needs the package neural-tangents, "
                              "which is not installed; engine='closed_form' does not")  # fmt: skip
        return Kernel(neural_tangents.gram, neural_tangents.diagonal, spec, default)
    phi = spec.activation
    if spec.widths and isinstance(phi, Activation) and phi.power not in arccosine.POWERS:
        raise ValueError(f"no closed form for activations of power {phi.power:g}; "
                         f"supported powers are {arccosine.POWERS}")  # fmt: skip
    return Kernel(recursion.gram, recursion.diagonal, spec, default)


def _fields(kernel: Kernel) -> dict[str, Any] | None:
    engines = {recursion.gram: "closed_form", neural_tangents.gram: "neural_tangents"}
    if kernel.evaluate not in engines:
        return None
    return {"spec": kernel.spec, "get": kernel.default, "engine": engines[kernel.evaluate]}


def _from_fields(spec: Any, get: str, engine: Engine) -> Kernel:
    checks.choice(get, "get", ("ntk", "nngp"))
    return _kernel(model_of(spec), engine, get)


register(Kernel, _fields, _from_fields, kind="infinite")
