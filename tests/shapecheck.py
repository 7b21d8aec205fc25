"""Run-time checks of the jaxtyping shapes in kernelgap's annotations, and of nothing else.

Other annotations are for readers and pyright: what users pass wrong must reach kernelgap's own
checks, whose messages the suite tests.
"""

from typing import get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

from kernelgap.typing import Key

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def _has_shape(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return annotation != Key and any(_has_shape(part) for part in get_args(annotation))


def shapes(function):
    """beartype, with the annotations that carry no shape removed."""
    kept = {k: v for k, v in getattr(function, "__annotations__", {}).items() if _has_shape(v)}
    function.__annotations__ = kept
    return _beartype(function)
