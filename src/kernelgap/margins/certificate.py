"""What `max_margin` returns, and what it raises when it is interrupted."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from kernelgap._display import compact_repr, html_repr
from kernelgap.models import Params


class MarginCertificate(NamedTuple):
    """lower <= gamma* <= upper for the best normalised margin gamma* of any width.

    Attributes:
        lower: normalised margin of `params`, a lower bound in spite of rounding; 0 where no
            network with a positive margin was found.
        upper: an upper bound in spite of rounding; inf where none was asked for.
        ratio: upper / lower: 1 if equal, inf if only lower is 0.
        params: of `models.homogeneous_mlp((units,))`, ||Theta|| = 1, with balanced units; zero
            where `lower` is 0, the best network of the unit ball if nothing separates the data.
        weights: (n,) the weights p of the simplex that prove `upper`; where none was asked for,
            the dual weights of the linear programme over the network's units.
    """

    lower: float
    upper: float
    ratio: float
    params: Params
    weights: Float[np.ndarray, " n"]

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def _entries(self) -> dict[str, Any]:
        numbers = {"lower": self.lower, "upper": self.upper, "ratio": self.ratio}
        return numbers | {"units": self.params[1].shape[0]}


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in `max_margin`, which carries what had been found.

    It is a KeyboardInterrupt and ends the program unless it is caught, as Ctrl-C should. In a
    notebook, where the interrupt ends the cell, `sys.last_value.best` still has the network.

    Attributes:
        best: the `MarginCertificate` of the best network until then, of `upper` inf: no upper
            bound was finished.
    """

    def __init__(self, best: MarginCertificate) -> None:
        super().__init__(best)
        self.best = best

    def __str__(self) -> str:
        return f"the best network until then is `best` of this exception: {self.best!r}"
