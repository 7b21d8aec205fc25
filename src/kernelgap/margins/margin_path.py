"""What `path` returns: margins, losses and norms against lambda."""

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap import _extras
from kernelgap._display import compact_repr, html_repr
from kernelgap.models import Params
from kernelgap.typing import PyTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


class MarginPath(NamedTuple):
    """What `path` recorded at the end of each lambda: arrays of shape (len,), or (seeds, len).

    Attributes:
        log_l2: log(lambda), decreasing.
        log_loss: log L(Theta_lambda).
        log_data_loss: logarithm of the data term of L alone.
        norm: ||Theta_lambda||.
        margins: normalised margins by name: `"l2"`, `"smooth"` (the smoothed margin in the l2
            norm), and for nets that have them `"layer_product"`, `"balanced"`, `"mean_field"`.
        stationarity: ``||grad L|| / (||grad data term|| + ||grad penalty||)``, between 0 (a
            stationary point) and 1.
        train_error: share of training samples without a positive margin.
        params: parameters at the last lambda.
        records: what `record` returned, stacked; None without `record`.
    """

    log_l2: Float[Array, "... len"]
    log_loss: Float[Array, "... len"]
    log_data_loss: Float[Array, "... len"]
    norm: Float[Array, "... len"]
    margins: dict[str, Float[Array, "... len"]]
    stationarity: Float[Array, "... len"]
    train_error: Float[Array, "... len"]
    params: Params
    records: PyTree

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def l2(self) -> Float[Array, "... len"]:
        """The strengths lambda, 0 where the dtype has no such number."""
        return jnp.exp(self.log_l2)

    @property
    def loss(self) -> Float[Array, "... len"]:
        """L(Theta_lambda), 0 where it underflows."""
        return jnp.exp(self.log_loss)

    @property
    def data_loss(self) -> Float[Array, "... len"]:
        """The data term of L, 0 where it underflows."""
        return jnp.exp(self.log_data_loss)

    @property
    def margin(self) -> Float[Array, "... len"]:
        """The normalised margin min_i y_i f / ||Theta||^a."""
        return self.margins["l2"]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """The normalised margin against lambda, a line per seed (extra `studies`)."""
        ax = _extras.get_axes(ax)
        _extras.plot_curves(
            ax, self._strengths(), np.asarray(self.margin), {"marker": ".", "lw": 1}
        )
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("λ")
        ax.set_ylabel("normalised margin")
        return ax

    def to_pandas(self) -> "DataFrame":
        """A row per lambda, and per seed where there are several (extra `studies`)."""
        names = ("norm", "log_loss", "log_data_loss", "stationarity", "train_error")
        return _extras.data_frame(
            {"log_l2": self.log_l2, "l2": self._strengths()}
            | {f"{name}_margin": margins for name, margins in self.margins.items()}
            | {name: getattr(self, name) for name in names}
        )

    def _strengths(self) -> np.ndarray:
        """Lambda in float64, which has smaller numbers than the dtype of the path."""
        return np.exp(np.asarray(self.log_l2, float))
