"""What public functions return shows itself: short reprs, tables, plots, data frames."""

import inspect
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

import kernelgap as kg
from helpers import returned

matplotlib.use("Agg")

ROOMS = [
    getattr(kg, name)
    for name in kg.__all__
    if name not in ("__version__", "load", "save", "studies")
]


RESULTS = sorted(returned(*ROOMS) - {kg.models.Activation}, key=lambda kind: kind.__name__)


def _filled(kind, value):
    if kind is kg.bounds.Bound:
        return kind(value, "derived", "a source")
    return kind(*[value] * len(kind._fields))


def test_the_list_is_not_empty():
    assert {kind.__name__ for kind in RESULTS} >= {
        "Bound", "Dataset", "ExtremeEigenvalues", "KKTResiduals", "KernelPredictor", "DualityGap",
        "MarginCertificate", "RegularizationPath", "NearestPair", "Spectrum", "Trained", "Unit",
        "UpperBound", "ViolationBound", "ZonalSpectrum",
    }  # fmt: skip


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: kind.__name__)
def test_every_result_has_a_short_repr_and_a_table(kind):
    large = np.linspace(0, 1, 60_000).reshape(300, 200)
    result = _filled(kind, large)
    assert len(repr(result)) < 1000
    assert len(result._repr_html_()) < 4000
    assert result._repr_html_().startswith("<table><caption")

    def traced(x):
        result = _filled(kind, x)
        assert len(repr(result)) < 1000
        assert "Tracer" not in repr(result)
        assert result._repr_html_()
        return x

    jax.jit(traced)(jnp.ones((3, 2)))
    jax.vmap(traced)(jnp.ones((3, 2)))
    assert repr(jax.tree.map(lambda _: None, _filled(kind, 1.0)))


@pytest.fixture(scope="module")
def results():
    """One of each result that has a plot or a data frame; seeds along a first axis."""
    model = kg.models.homogeneous_mlp((4,))
    data = kg.datasets.xor_noise(jax.random.key(0), 20, 3)
    keys = jax.random.split(jax.random.key(1), 2)
    loss = kg.objectives.regularized_logistic(model.apply, l2=1e-3)
    kernel = kg.kernels.ntk(model)
    x = jax.random.normal(jax.random.key(2), (12, 5))

    def train(key):
        params = model.init(key, 3)
        return kg.optim.train(loss, params, data, optax.adam(1e-2), steps=6)

    def path(key):
        return kg.margins.regularization_path(
            model, model.init(key, 3), *data, l2s=[1e-1, 1e-3, 1e-60], steps=3
        )

    return {
        "train": train(keys[0]), "trains": jax.vmap(train)(keys),
        "path": path(keys[0]), "paths": jax.vmap(path)(keys),
        "spectrum": kg.kernels.spectrum(kernel, x),
        "zonal": kg.kernels.zonal_spectrum(kernel, 5, degree=6),
        "extreme": kg.kernels.extreme_eigenvalues(kernel, x, k=2),
    }  # fmt: skip


LINES = {"train": 1, "trains": 2, "path": 1, "paths": 2, "spectrum": 2, "zonal": 2}


@pytest.mark.parametrize("name", LINES)
def test_plots_are_axes_and_take_axes(results, name):
    ax = results[name].plot()
    try:
        assert isinstance(ax, Axes)
        assert ax.figure.number in pyplot.get_fignums()  # notebooks display it
        assert len(ax.lines) == LINES[name]
        assert ax.get_xlabel()
        assert ax.get_ylabel()
        ax.figure.canvas.draw()  # scales that cannot be drawn warn here
        other = pyplot.figure().subplots(1, 2)[1]
        assert results[name].plot(ax=other) is other
        assert len(other.lines) == LINES[name]
    finally:
        pyplot.close("all")
    with pytest.raises(TypeError, match="`ax` must be a matplotlib Axes, or None.*got Figure"):
        results[name].plot(ax=pyplot.Figure())


def test_what_the_plots_show(results):
    try:
        ax = results["paths"].plot()
        for line, margins in zip(ax.lines, results["paths"].margin, strict=True):
            np.testing.assert_allclose(line.get_xdata(), [1e-1, 1e-3, 1e-60], rtol=1e-4)
            np.testing.assert_array_equal(line.get_ydata(), margins)
        assert ax.xaxis_inverted()
        line, level = results["spectrum"].plot().lines
        assert level.get_ydata()[0] == results["spectrum"].error
        np.testing.assert_array_equal(line.get_ydata(), results["spectrum"].values[::-1])
        zonal = results["zonal"]
        values, shares = results["zonal"].plot().lines
        sure = np.abs(zonal.values) > zonal.errors
        assert 2 < sure.sum() < len(sure)  # odd degrees beyond 1 are 0
        np.testing.assert_array_equal(values.get_xdata(), np.flatnonzero(sure))
        np.testing.assert_array_equal(shares.get_ydata(), zonal.shares[sure])
        (line,) = results["train"].plot().lines
        np.testing.assert_array_equal(line.get_ydata(), results["train"].losses)
    finally:
        pyplot.close("all")


def test_data_frames(results):
    frame = results["train"].to_pandas()
    assert list(frame) == ["step", "loss"]
    frame = results["trains"].to_pandas()
    assert list(frame) == ["seed", "step", "loss"]
    np.testing.assert_array_equal(frame.loss, np.ravel(results["trains"].losses))
    assert frame.seed.tolist() == [0] * 6 + [1] * 6
    frame = results["paths"].to_pandas()
    assert len(frame) == 6
    np.testing.assert_allclose(frame.l2[:3], [1e-1, 1e-3, 1e-60], rtol=1e-4)
    np.testing.assert_array_equal(frame.l2_margin, np.ravel(results["paths"].margin))
    assert "balanced_margin" in frame
    frame = results["zonal"].to_pandas()
    assert frame.multiplicity.tolist() == list(results["zonal"].multiplicities)
    assert len(results["spectrum"].to_pandas()) == 12
    frame = results["extreme"].to_pandas()
    assert (frame.lower <= frame.value).all()
    assert (frame.value <= frame.upper).all()


def test_numbers_of_a_certificate():
    certificate = kg.margins.MarginCertificate(
        0.5, 0.75, 1.5, (jnp.ones((3, 2)), jnp.ones(3)), np.ones(4), "converged"
    )
    assert repr(certificate) == (
        "MarginCertificate(lower=0.5, upper=0.75, ratio=1.5, units=3, status='converged')"
    )
    found = kg.bounds.kernel_margin_bound(0.5, n=10_000, radius=1.0)
    assert "error &lt;=" in found._repr_html_()
    assert "derived" in found._repr_html_()
    assert repr(kg.models.homogeneous_mlp((4,))).startswith("Model(")
    assert "function" not in repr(kg.models.homogeneous_mlp((4,)))


def test_a_study_shows_itself_too():
    from matplotlib import pyplot

    import coins

    result, before = coins.COINS.run(), pyplot.get_fignums()
    assert len(result.plot().axes) == 1
    assert pyplot.get_fignums() == before  # nothing is kept in memory
    text = result._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "0.5" in text
    assert "<details>" in text


@pytest.mark.parametrize("room", [kg, kg.kernels, kg.testing], ids=lambda room: room.__name__)
def test_tab_completion_offers_what_is_public(room):
    extra = {"kernelgap": {"sklearn"}, "kernelgap.kernels": {"neural_tangents"}}
    assert set(dir(room)) == set(room.__all__) | extra.get(room.__name__, set())
    for name in dir(room):
        assert getattr(room, name) is not None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older Pythons spell aliases out")
def test_help_names_types():
    signature = str(inspect.signature(kg.datasets.xor_noise))
    assert "(key: Key, n: int" in signature
    assert "dtype: DTypeLike" in signature
    assert "x: ArrayLike, y: ArrayLike" in str(inspect.signature(kg.predictors.kernel_ridge))
