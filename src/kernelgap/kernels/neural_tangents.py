"""The `neural_tangents` engine, and the one place that imports that library.

neural_tangents 0.6.5 does not import on JAX >= 0.6, because names it uses have moved, and it
always imports TensorFlow, for a part that kernels do not need. While it is being imported, `load`
supplies these names, all of them public, and keeps TensorFlow out; afterwards it removes
everything, so that no other library sees a changed JAX. A neural_tangents that is imported already
is used as it is.
"""

import importlib
import importlib.metadata
import sys
import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any

import jax
import jax.core
import jax.extend.core
import jax.interpreters.ad

from kernelgap._support.warning_filters import ignore_warnings
from kernelgap.kernels.inner import rescaled, scaled_rows
from kernelgap.models import Activation, SmoothActivation
from kernelgap.models.activations import SMOOTH
from kernelgap.models.model import MLPSpec
from kernelgap.typing import PyTree

_EXPERIMENTAL = "neural_tangents.experimental"


def load() -> types.ModuleType:
    """Import neural_tangents on today's JAX, without TensorFlow.

    Returns:
        The module `neural_tangents`.

    Raises:
        ImportError: If it is not installed or does not import; the message states the versions.

    Example:
        >>> import kernelgap as kg
        >>> nt = kg.kernels.neural_tangents.load()
        >>> layers = nt.stax.Dense(64), nt.stax.Relu(), nt.stax.Dense(1)
        >>> init, apply, kernel_fn = nt.stax.serial(*layers)
    """
    with ignore_warnings():  # and one thread at a time
        if "neural_tangents" in sys.modules:
            return sys.modules["neural_tangents"]
        before = set(sys.modules)
        try:
            with ExitStack() as stack:
                for patch in (_moved_names(), _jax_util(), _without_tensorflow()):
                    stack.enter_context(patch)
                return importlib.import_module("neural_tangents")
        except Exception as error:
            for name in set(sys.modules) - before:
                if name.partition(".")[0] == "neural_tangents":
                    del sys.modules[name]
            raise ImportError(
                f"neural_tangents {_version('neural-tangents')} does not import on jax "
                f"{jax.__version__}, Python {sys.version.split()[0]}: {error}. "
                "ReLU-like kernels need no neural_tangents: use engine='closed_form'"
            ) from error


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@contextmanager
def _moved_names() -> Iterator[None]:
    """Names that left jax.core for jax.extend.core, and a primitive that is gone."""
    with ExitStack() as stack:
        for name in ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var"):
            stack.enter_context(_name(jax.core, name, getattr(jax.extend.core, name)))
        # It only keys a table of rules for primitives, of which this one no longer occurs.
        placeholder = jax.extend.core.Primitive("zeros_like")
        stack.enter_context(_name(jax.interpreters.ad, "zeros_like_p", placeholder))
        yield


@contextmanager
def _jax_util() -> Iterator[None]:
    """jax.util.safe_map and safe_zip, which were removed without replacement."""

    def safe_zip(*args: Any) -> list:
        return list(zip(*args, strict=True))

    def safe_map(function: Any, *args: Any) -> list:
        return [function(*items) for items in zip(*args, strict=True)]

    with ExitStack() as stack:
        try:
            util = importlib.import_module("jax.util")
        except ImportError:
            util = types.ModuleType("jax.util")
            stack.enter_context(_module("jax.util", util))
            stack.enter_context(_name(jax, "util", util))
        stack.enter_context(_name(util, "safe_map", safe_map))
        stack.enter_context(_name(util, "safe_zip", safe_zip))
        yield


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Return an empty neural_tangents.experimental, which would import TensorFlow."""
    try:
        with _module(_EXPERIMENTAL, types.ModuleType(_EXPERIMENTAL)):
            yield
    finally:
        package = sys.modules.get("neural_tangents")
        if package is not None:
            vars(package).pop("experimental", None)


@contextmanager
def _name(module: types.ModuleType, name: str, value: Any) -> Iterator[None]:
    if hasattr(module, name):
        yield
        return
    setattr(module, name, value)
    try:
        yield
    finally:
        delattr(module, name)


@contextmanager
def _module(name: str, module: types.ModuleType) -> Iterator[None]:
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]


def check(spec: MLPSpec) -> None:
    """Refuse models for which neural_tangents has no kernel."""
    phi = spec.activation
    if not spec.widths:
        return
    if spec.parameterization == "mup":
        raise ValueError("engine='neural_tangents' evaluates 'standard', 'ntk' and 'mean_field' "
                         "models; this one is 'mup'. Use engine='closed_form'")  # fmt: skip
    if isinstance(phi, Activation):
        if phi.power != 1:
            raise ValueError(f"engine='neural_tangents' evaluates activations of power 1; "
                             f"this one has power {phi.power:g}. "
                             f"Use engine='closed_form'")  # fmt: skip
    elif phi.sigmoid != "erf" or (phi.gated and phi != SMOOTH["gelu"]):
        raise ValueError(f"engine='neural_tangents' evaluates 'relu', 'leaky_relu', 'abs', 'gelu' "
                         f"and 'erf'; got {phi}. Use engine='closed_form'")  # fmt: skip
    elif spec.parameterization == "mean_field" and spec.init_scale != 1:
        raise ValueError(f"engine='neural_tangents' evaluates smooth mean_field models for "
                         f"init_scale=1; got {spec.init_scale:g}. "
                         f"Use engine='closed_form'")  # fmt: skip


@lru_cache(maxsize=64)
def _kernel_fn(spec: MLPSpec, d: int) -> Any:
    """Return neural_tangents' kernel of the model, up to a factor c^-2 for NTKs.

    Its "standard" layers have forward factor 1 and initial variance W_std^2 / fan_in; its "ntk"
    layers draw N(0, 1) weights and multiply by W_std / sqrt(fan_in). With c = init_scale those are
    our layers for W_std = c and for W_std = c s_k sqrt(F_k); but the second differentiates in
    weights that are c times smaller than ours. A mean_field net mixes both kinds.
    """
    stax = load().stax
    c = spec.init_scale
    layers = []
    for k, layer in enumerate(spec.layers(d)):
        if k > 0:
            layers.append(_activation(stax, spec.activation))
        standard = spec.parameterization == "standard" or (
            spec.parameterization == "mean_field" and k == 0
        )
        layers.append(
            stax.Dense(
                layer.fan_out,
                W_std=c if standard else c * layer.scale * layer.fan_in**0.5,
                parameterization="standard" if standard else "ntk",
            )
        )
    return stax.serial(*layers)[2]


def _activation(stax: Any, phi: Activation | SmoothActivation) -> Any:
    if isinstance(phi, Activation):
        # In its ABRelu(a, b) = a min(x, 0) + b max(x, 0).
        return stax.ABRelu(-phi.negative, phi.positive)
    return stax.Gelu() if phi.gated else stax.Erf(b=1 / phi.scale)


def _rescaled(spec: MLPSpec, get: str) -> tuple[float, MLPSpec]:
    """Return a factor, and the model whose kernel it multiplies."""
    lost = -2 if get == "ntk" else 0
    if spec.widths and not isinstance(spec.activation, Activation):
        return spec.init_scale**lost if spec.parameterization == "ntk" else 1.0, spec
    # Weights c Theta have outputs c^a f(Theta) and gradients c^(a-1) grad f(Theta).
    degree = len(spec.widths) + 1
    return spec.init_scale ** (2 * degree + lost), spec._replace(init_scale=1.0)


def gram(spec: MLPSpec, params: PyTree, x1: jax.Array, x2: jax.Array | None, get: str) -> jax.Array:
    """Return the kernel by neural_tangents; see `recursion.gram` for the arguments."""
    del params
    _kernel_fn(_rescaled(spec, get)[1], x1.shape[1])  # import and build outside of any trace
    return _evaluate(spec, x1, x2, get)


@partial(jax.jit, static_argnums=(0, 3))
def _evaluate(spec: MLPSpec, x1: jax.Array, x2: jax.Array | None, get: str) -> jax.Array:
    # The library predates JAX's strict promotion modes.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        factor, model = _rescaled(spec, get)
        kernel_fn = _kernel_fn(model, x1.shape[1])
        if spec.widths and not isinstance(spec.activation, Activation):
            values = factor * kernel_fn(x1, x2, get)
        else:
            rows1, root1 = scaled_rows(x1)
            rows2, root2 = (None, root1) if x2 is None else scaled_rows(x2)
            values = factor * kernel_fn(rows1, rows2, get)
            values = rescaled(values, root1[:, None], root2[None, :], 1)
    return values.astype(x1.dtype)  # its NumPy constants promote float32 under x64


def diagonal(spec: MLPSpec, params: PyTree, x: jax.Array, get: str) -> jax.Array:
    """Return k(x_i, x_i) for each row, by neural_tangents."""
    return jax.vmap(lambda row: gram(spec, params, row[None], None, get)[0, 0])(x)
