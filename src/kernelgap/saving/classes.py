"""What can be saved besides arrays and containers: results, models, kernels.

`RESULTS` are saved field by field. A model is saved by its description and a kernel by its model,
and both are made anew by the functions that make them, which check what they get. To save a new
kind of result, model or kernel, add it to `RESULTS`, `MODELS` or `KERNELS`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from kernelgap import bounds, datasets, diversity, kernels, lazy, margins, models, optim
from kernelgap.kernels.algebra import Combined
from kernelgap.kernels.conventions import Converted
from kernelgap.kernels.empirical import NetworkSpec
from kernelgap.kernels.functions import KernelFunction, checked_block, checked_kernel
from kernelgap.kernels.kernel import Kernel
from kernelgap.models import Model
from kernelgap.models.fixed_signs import FixedSignSpec
from kernelgap.models.model import MLPSpec
from kernelgap.optim.noisy import NoisyGDState
from kernelgap.predictors import KernelPredictor

GIVEN = "GivenKernel"
_PROBES = 4  # inputs at which a kernel that is given again is compared with the one that was saved

RESULTS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        KernelPredictor, NoisyGDState,
        bounds.Bound, lazy.Convergence, bounds.EigenvalueEnclosure, lazy.LossConstants,
        lazy.RunCheck, datasets.Dataset, datasets.Split, FixedSignSpec, MLPSpec,
        models.Activation, models.SmoothActivation,
        kernels.ExtremeEigenvalues, kernels.NearestPair, kernels.Spectrum, kernels.ZonalSpectrum,
        margins.KKTResiduals, margins.DualityGap, margins.MarginCertificate,
        margins.RegularizationPath, margins.Unit, margins.UpperBound, margins.ViolationBound,
        lazy.Laziness, diversity.SmallestSingularValue, diversity.WorstSlice, optim.Trained,
    )
}  # fmt: skip


def _mlp(spec: MLPSpec) -> Model:
    return models.mlp(
        spec.widths,
        activation=spec.activation,
        parameterization=spec.parameterization,
        outputs=spec.outputs,
        init_scale=spec.init_scale,
    )


def _fixed_sign_net(spec: FixedSignSpec) -> Model:
    return models.fixed_sign_net(
        spec.width,
        signs=None if spec.given is None else np.asarray(spec.given),
        outputs=spec.outputs,
        scale=spec.scale,
        init_scale=spec.init_scale,
    )


MODELS: dict[type, Callable[[Any], Model]] = {MLPSpec: _mlp, FixedSignSpec: _fixed_sign_net}
"""How to make the model of a description."""


def _infinite(spec: MLPSpec, get: str, engine: Any) -> Kernel:
    if get not in ("ntk", "nngp"):
        raise ValueError(f"no kernel of a model is called {get!r:.40}")
    make = kernels.ntk if get == "ntk" else kernels.nngp
    return make(_model(spec), engine=engine)


def _describe_infinite(kernel: Kernel) -> dict[str, Any] | None:
    if not isinstance(kernel.spec, MLPSpec) or kernel.default not in ("ntk", "nngp"):
        return None
    for engine in ("closed_form", "neural_tangents"):
        fields = {"spec": kernel.spec, "get": kernel.default, "engine": engine}
        if _infinite(**fields) == kernel:
            return fields
    return None


def _empirical(spec: MLPSpec, params: Any, layers: Any) -> Kernel:
    return kernels.empirical_ntk(_model(spec), params, layers=layers)


def _describe_empirical(kernel: Kernel) -> dict[str, Any] | None:
    if not isinstance(kernel.spec, NetworkSpec):
        return None
    return {"spec": kernel.spec.model, "params": kernel.params, "layers": kernel.spec.layers}


def _describe_diversity(kernel: Kernel) -> dict[str, Any] | None:
    return {} if kernel == diversity.diversity_kernel() else None


def _describe_converted(kernel: Kernel) -> dict[str, Any] | None:
    return kernel.spec._asdict() if isinstance(kernel.spec, Converted) else None


def _combined(operation: str, factor: float | None, parts: tuple) -> Kernel:
    if operation == "multiple":
        return parts[0] * (parts[1] if factor is None else factor)
    return parts[0] + parts[1] if operation == "sum" else parts[0] * parts[1]


def _describe_combined(kernel: Kernel) -> dict[str, Any] | None:
    if not isinstance(kernel.spec, Combined):
        return None
    return {**kernel.spec._asdict(), "parts": kernel.params}


KERNELS: dict[str, tuple[Callable[..., Kernel], Callable[[Kernel], dict[str, Any] | None]]] = {
    "infinite": (_infinite, _describe_infinite),
    "empirical": (_empirical, _describe_empirical),
    "converted": (kernels.convert, _describe_converted),
    "diversity": (diversity.diversity_kernel, _describe_diversity),
    "combined": (_combined, _describe_combined),
}
"""How to make a kernel of its fields, and its fields of a kernel: None if it is another kind."""


def describe(value: Any) -> tuple[str, dict[str, Any]] | None:
    """The name of the value's class and its fields; None if it has none here."""
    cls = type(value)
    if cls is Model:
        return "Model", {"spec": _description(value)}
    if cls is Kernel:
        for name, (_, fields_of) in KERNELS.items():
            fields = fields_of(value)
            if fields is not None:
                return "Kernel", {"kind": name} | fields
        raise TypeError(f"the kernel {value!r:.80} is made of a function, which cannot be saved. "
                        "Save the parameters, and make the kernel of them again")  # fmt: skip
    if cls is KernelPredictor and not isinstance(value.kernel, Kernel):
        return cls.__name__, value._asdict() | {"kernel": _Given(value.kernel, value.x)}
    if cls is _Given:
        return GIVEN, value.fields()
    if RESULTS.get(cls.__name__) is cls:
        return cls.__name__, value._asdict()
    if isinstance(value, tuple) and _optax_state(cls.__name__) is cls:
        return f"optax.{cls.__name__}", value._asdict()  # type: ignore[attr-defined]
    return None


def build(name: str, fields: dict[str, Any]) -> Any:
    """The value of a class, made of its fields."""
    if name == "Model":
        _check_fields(name, fields, ("spec",))
        return _model(fields["spec"])
    if name == "Kernel":
        make = KERNELS.get(fields.pop("kind", None))  # type: ignore[arg-type]
        if make is None:
            raise ValueError("it holds a kernel of a kind that this version does not know")
        _check_fields(name, fields, tuple(inspect.signature(make[0]).parameters))
        return make[0](**fields)
    cls = RESULTS.get(name)
    if cls is None and name.startswith("optax."):
        cls = _optax_state(name.removeprefix("optax."))
    if cls is None:
        raise ValueError(f"it holds a {name!r:.60}, which this version does not know")
    _check_fields(name, fields, cls._fields)  # type: ignore[attr-defined]
    value = cls(**fields)
    if name in _SHAPES:
        _check_shapes(name, value)
    return value


def _check_fields(name: str, fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    if sorted(fields) != sorted(expected):
        raise ValueError(f"its {name} has the fields {sorted(fields)}; this version has "
                         f"{sorted(expected)}")  # fmt: skip


def _model(spec: Any) -> Model:
    make = MODELS.get(type(spec))
    if make is None:
        raise ValueError(f"no model is described by {spec!r:.80}")
    return make(spec)


def _description(model: Model) -> Any:
    """The model's spec, if it says all of it."""
    if model.spec is None:
        raise TypeError("a model of your own cannot be saved, only those of kernelgap.models: save "
                        "its parameters alone")  # fmt: skip
    if type(model.spec) not in MODELS or _model(model.spec) != model:
        raise TypeError(f"this model is not the one that its description makes: {model.spec!r:.80}."
                        " Save its parameters alone")  # fmt: skip
    return model.spec


def _optax_state(name: str) -> type | None:
    """A class of optimiser states that optax offers under this name."""
    cls = getattr(optax, name, None)
    return (
        cls
        if isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")
        else None
    )


# The axes of each field, letters standing for sizes that must agree.
_SHAPES: dict[str, Callable[[Any], dict[str, tuple[Any, str]]]] = {
    "KernelPredictor": lambda p: {
        "x": (p.x, "nd"), "coef": (p.coef, "n" if np.ndim(p.coef) < 2 else "nk"),
        **{name: (value, "k" if np.ndim(value) and np.ndim(p.coef) == 2 else "")
           for name, value in p._asdict().items() if name not in ("kernel", "x", "coef")},
    },
    "MarginCertificate": lambda c: {
        "lower": (c.lower, ""), "upper": (c.upper, ""), "ratio": (c.ratio, ""),
        "params": (c.params[0], "md"), "params (readout)": (c.params[1], "m"),
        "weights": (c.weights, "n"),
    },
    "UpperBound": lambda b: {"value": (b.value, ""), "weights": (b.weights, "n")},
    "DualityGap": lambda g: {"loss": (g.loss, ""), "lower": (g.lower, ""), "gap": (g.gap, "")},
    "Dataset": lambda s: {"x": (s.x, "nd"), "y": (s.y, "n")},
}  # fmt: skip


def _check_shapes(name: str, value: Any) -> None:
    sizes: dict[str, int] = {}
    try:
        fields = _SHAPES[name](value)
        for field, (array, axes) in fields.items():
            shape = np.shape(array)
            wanted = tuple(sizes.setdefault(a, s) for a, s in zip(axes, shape, strict=False))
            if len(shape) != len(axes) or shape != wanted:
                raise ValueError(f"`{field}` has shape {shape}, which does not fit "
                                 f"({', '.join(axes)}) with {sizes}")  # fmt: skip
            if not jax.numpy.issubdtype(np.asarray(array).dtype, np.number):
                raise ValueError(f"`{field}` holds no numbers")
    except (TypeError, IndexError, ValueError) as error:
        raise ValueError(f"its {name} is inconsistent: {error}") from error


class _Given:
    """A kernel that is a plain function: its name, and what it says of some inputs."""

    def __init__(self, kernel: KernelFunction, x: jax.Array) -> None:
        self.kernel, self.x = kernel, x

    def fields(self) -> dict[str, Any]:
        """What is saved in its place."""
        function = getattr(self.kernel, "func", self.kernel)  # of a jax.tree_util.Partial
        name = getattr(function, "__qualname__", type(function).__name__)
        some = self.x[:_PROBES]
        values = checked_block(checked_kernel(self.kernel), some, None)
        return {"name": name, "inputs": np.asarray(some), "values": np.asarray(values)}


def given_kernel(fields: dict[str, Any], kernel: KernelFunction | None) -> KernelFunction:
    """The kernel that stands for one that could not be saved; refused where it differs."""
    _check_fields(GIVEN, fields, ("name", "inputs", "values"))
    name = fields["name"]
    if kernel is None:
        raise ValueError(f"its kernel is the function {name!r:.200}, which could not be saved: "
                         "pass it again, load(path, kernel=...)")  # fmt: skip
    kernel = checked_kernel(kernel)
    values = np.asarray(checked_block(kernel, jax.numpy.asarray(fields["inputs"]), None))
    # Machines differ by rounding, TF32's of a user's product included; other kernels by far more.
    tolerance = 5e-3 * np.abs(fields["values"]).max()
    if not np.allclose(values, fields["values"], rtol=0, atol=tolerance):
        raise ValueError(f"`kernel` is not the function {name!r:.200} that was saved: it returns "
                         f"other values, {values[0, 0]:.4g} in place of "
                         f"{fields['values'][0, 0]:.4g} for the first input")  # fmt: skip
    return kernel
