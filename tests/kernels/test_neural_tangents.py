"""The loader of neural_tangents, each case in a fresh interpreter."""

import subprocess
import sys
import textwrap

import pytest


def _run(code: str, warnings: str = "error") -> str:
    done = subprocess.run(
        [sys.executable, "-W", warnings, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_without_tensorflow_and_leaves_jax_as_it_was():
    _run("""
        import sys, jax, jax.interpreters.ad
        def names():
            modules = [jax, jax.core, jax.interpreters.ad]
            return [set(vars(m)) for m in modules], "jax.util" in sys.modules
        import jax.extend.core, kernelgap as kg
        before = names()
        assert "neural_tangents" not in sys.modules
        nt = kg.kernels.neural_tangents.load()
        assert nt is kg.kernels.neural_tangents.load() is sys.modules["neural_tangents"]
        after = names()
        assert after[1] == before[1]
        # Submodules that neural_tangents imports itself may appear; the patched names may not.
        for new, old, patched in zip(after[0], before[0], (
            {"util"}, {"Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var"}, {"zeros_like_p"},
        )):
            assert not (new - old) & patched, (new - old) & patched
        loaded = {name.partition(".")[0] for name in sys.modules}
        assert not loaded & {"tensorflow", "tf2jax"}
        assert "neural_tangents.experimental" not in sys.modules
        assert not hasattr(nt, "experimental")
    """)


def test_the_loaded_library_works():
    """Kernels, batching, Monte Carlo, prediction and the empirical NTK, with jit."""
    _run(
        """
        import jax, jax.numpy as jnp, kernelgap as kg
        nt = kg.kernels.neural_tangents.load()
        init, apply, kernel_fn = nt.stax.serial(
            nt.stax.Dense(64), nt.stax.Erf(), nt.stax.Dense(64), nt.stax.Gelu(), nt.stax.Dense(1))
        x = jax.random.normal(jax.random.key(0), (8, 3))
        k = jax.jit(kernel_fn, static_argnums=2)(x, x, "ntk")
        assert jnp.allclose(nt.batch(kernel_fn, batch_size=4)(x, x, "ntk"), k, rtol=1e-4)
        _, params = init(jax.random.PRNGKey(0), x.shape)
        empirical = nt.empirical_ntk_fn(apply, implementation=nt.NtkImplementation.NTK_VECTOR_PRODUCTS)
        assert empirical(x, None, params).shape == (8, 8)
        predict = nt.predict.gradient_descent_mse(k, jnp.ones((8, 1)))
        assert jnp.isfinite(predict(1.0, 0.0)).all()
    """,
        warnings="ignore",
    )  # its own, about its own calls


def test_a_library_imported_before_is_used_as_it_is():
    _run("""
        import sys, types
        mine = sys.modules["neural_tangents"] = types.ModuleType("neural_tangents")
        import kernelgap as kg
        assert kg.kernels.neural_tangents.load() is mine
    """)


@pytest.mark.parametrize("failure", ["missing", "broken"])
def test_failure_says_what_and_leaves_closed_forms_working(failure):
    _run(f"""
        import sys, jax.numpy as jnp, kernelgap as kg
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "neural_tangents._src" or (name == "neural_tangents" and {failure == "missing"}):
                    raise ImportError("cannot import name 'Foo' from 'jax'")
        sys.meta_path.insert(0, Finder())
        model = kg.models.homogeneous_mlp((5,))
        try:
            kg.kernels.neural_tangents.load()
        except ImportError as error:
            message = str(error)
        for part in ("neural_tangents", "does not import on jax", "Python 3.", "'Foo'", "closed_form"):
            assert part in message, message
        assert not any(name.startswith("neural_tangents") for name in sys.modules)
        assert not hasattr(sys.modules["jax"], "util") or hasattr(__import__("jax.util"), "util")
        assert kg.kernels.ntk(model)(jnp.ones((2, 3))).shape == (2, 2)
    """)


def test_engine_says_when_the_package_is_not_installed():
    _run("""
        import importlib.util, kernelgap as kg
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *a: None if name == "neural_tangents" else found(name, *a)
        try:
            kg.kernels.ntk(kg.models.homogeneous_mlp((5,)), engine="neural_tangents")
        except ImportError as error:
            assert "neural-tangents, which is not installed" in str(error)
        else:
            raise AssertionError
    """)
