"""Optional packages: what is said without them, and bars of loops that are compiled."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import kernelgap as kg
from kernelgap._support import extras
from kernelgap.studies import Result


class Bars(list):
    """Stands in for tqdm, and keeps every bar that was made."""

    def __call__(self, *, total, initial, desc, unit, file):
        assert file is sys.stderr
        self.append(Bar(total, initial, desc))
        return self[-1]


class Bar:
    def __init__(self, total, done, name):
        self.total, self.done, self.name, self.closed = total, done, name, False
        self.updates = 0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def update(self, n=1):
        assert not self.closed
        self.done += n
        self.updates += 1

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    made = Bars()
    monkeypatch.setattr("tqdm.tqdm", made)
    return made


MODEL = kg.models.homogeneous_mlp((4,))
DATA = kg.datasets.xor_noise(jax.random.key(0), 20, 3)


def _train(key, progress=True, **more):
    loss = kg.objectives.regularized_logistic(MODEL.apply, l2=1e-3)
    params = MODEL.init(key, 3)
    return kg.optim.train(
        loss, params, DATA, optax.adam(1e-2), steps=250, progress=progress, **more
    )


KEYS = jax.random.split(jax.random.key(1), 5)


@pytest.mark.parametrize("batch", [None, 5])
def test_one_bar_for_a_compiled_loop_and_all_its_seeds(bars, batch):
    run = jax.jit(_train if batch is None else jax.vmap(_train))
    keys = KEYS[0] if batch is None else KEYS
    for expected in (1, 2):  # compiled once, run twice
        trained = run(keys)
        jax.block_until_ready(trained)
        jax.effects_barrier()
        assert len(bars) == expected
        bar = bars[-1]
        assert (bar.total, bar.done, bar.closed) == (250, 250, True)
        assert bar.updates == 125  # about a hundred, however many seeds
    plain = jax.jit(lambda keys: (jax.vmap(_train, (0, None)) if batch else _train)(keys, False))
    np.testing.assert_array_equal(trained.losses, plain(keys).losses)
    assert len(bars) == 2


def test_with_records_and_along_a_path(bars):
    _train(KEYS[0], record=lambda p: p, record_every=50)
    jax.effects_barrier()
    assert [(bar.done, bar.closed) for bar in bars] == [(250, True)]
    params = MODEL.init(KEYS[0], 3)
    kg.margins.regularization_path(
        MODEL, params, *DATA, l2s=[1e-1, 1e-2, 1e-3], steps=2, progress=True
    )
    jax.effects_barrier()
    assert [(bar.name, bar.done, bar.closed) for bar in bars[1:]] == [("path", 3, True)]


def test_a_loop_that_was_interrupted_starts_a_new_bar(bars):
    host = extras._HostBar(10, "loop", "step")
    for done in (2, 4, 2, 4, 10, 5):
        host(np.int32(done))
    assert [bar.done for bar in bars] == [4, 10, 5]
    assert [bar.closed for bar in bars] == [True, True, False]


def test_nothing_is_traced_without_a_bar():
    beat = extras.heartbeat(10, "loop", unit="step", enabled=False)
    assert str(jax.make_jaxpr(lambda x: (beat(x), x)[1])(jnp.int32(1))).count("callback") == 0


def test_off_by_default(capfd):
    _train(KEYS[0], progress=False)
    kg.margins.max_margin(*DATA, key=KEYS[0], width=4, steps=5, rounds=0, upper=False)
    assert capfd.readouterr().err == ""


def test_bars_of_stages_end_full(bars, tmp_path):
    kg.margins.max_margin(*DATA, key=KEYS[0], width=4, steps=20, rounds=9, progress=True)
    assert [(bar.name, bar.total, bar.done) for bar in bars] == [("max_margin", 11, 11)]
    kernel = kg.kernels.ntk(MODEL)
    kg.kernels.gram(kernel, DATA.x, out=tmp_path / "k.npy", tile=8, progress=True)
    assert [(bar.name, bar.total, bar.done) for bar in bars[1:]] == [("gram", 20, 20)]
    with pytest.raises(ValueError, match="`progress` needs `out`, which is filled panel by panel"):
        kg.kernels.gram(kernel, DATA.x, progress=True)


@pytest.mark.parametrize(
    ("package", "match", "call"),
    [
        ("tqdm", "progress bars need tqdm", lambda: _train(KEYS[0])),
        (
            "tqdm",
            "progress bars need tqdm",
            lambda: kg.margins.max_margin(*DATA, key=KEYS[0], progress=True),
        ),
        (
            "matplotlib",
            "figures need matplotlib",
            lambda: kg.kernels.Spectrum(jnp.ones(3), 0.1).plot(),
        ),
        (
            "pandas",
            "data frames need pandas",
            lambda: kg.kernels.Spectrum(jnp.ones(3), 0.1).to_pandas(),
        ),
        ("pandas", "data frames need pandas", lambda: Result(*[None] * 5).to_pandas()),
    ],
)
def test_missing_packages(monkeypatch, package, match, call):
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{match}: pip install 'kernelgap\[studies\]'"):
        call()


def test_batches_of_data_frames():
    frame = extras.data_frame({"a": np.arange(12).reshape(2, 3, 2), "b": 1.0}, axis="part")
    assert list(frame) == ["part0", "part1", "a", "b"]
    assert frame.a.tolist() == list(range(12))
    assert frame.part1.tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert (frame.b == 1).all()
