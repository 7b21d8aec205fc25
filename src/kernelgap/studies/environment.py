"""What a number depends on besides its configuration: versions, device, dtype."""

import importlib.metadata
import os
import platform
from typing import Any

import jax
import jax.numpy as jnp


def describe_environment() -> dict[str, Any]:
    """Versions, device and dtype: what a number depends on besides its configuration."""
    device = jax.devices()[0]
    packages = ("kernelgap", "jax", "jaxlib", "numpy", "scipy", "optax", "neural-tangents")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "host_cores": os.cpu_count(),
        },
        "dtype": str(jnp.zeros(()).dtype),
        "x64": x64(),
    }


def version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def x64() -> bool:
    """Whether JAX's default is double precision."""
    return jnp.zeros(()).dtype == jnp.float64
