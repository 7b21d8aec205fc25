"""Reprs and tables of results: short, never a dump, whatever is inside."""

from html.parser import HTMLParser
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernelgap._support import display
from kernelgap._support.display import Html, compact_repr, escape, html_repr, short, table


class Pair(NamedTuple):
    left: Any
    right: Any

    __repr__ = compact_repr
    _repr_html_ = html_repr


class Own(NamedTuple):
    value: Any

    __repr__ = compact_repr
    _repr_html_ = html_repr

    def _entries(self):
        return {"twice": 2 * self.value, "size": self.value.shape[0]}


class Said(NamedTuple):
    value: Any

    _repr_html_ = html_repr

    def __repr__(self):
        return "as the class says"


class Cells(HTMLParser):
    """The texts of a table, and the tags that are open at its end."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.texts, self.tags = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        ("word", "'word'"),
        (1 / 3, "0.333333"),
        (float("inf"), "inf"),
        (np.float64(1 / 3), "0.333333"),
        (np.array(7), "7"),
        (np.array(True), "True"),
        (np.linspace(0, 1, 6).reshape(2, 3), "float64[2, 3] 0..1"),
        (np.full(3, 0.5), "float64[3] 0.5"),
        (np.array([np.nan, 1.0, 2.0]), "float64[3] 1..2, 1 NaN"),
        (np.array([np.nan]), "float64[1] all NaN"),
        (np.array([-np.inf, 2.0]), "float64[2] -inf..2"),
        (np.array([1, -4]), "int64[2] -4..1"),
        (np.array([True, False, True]), "bool[3] 2 true"),
        (np.zeros((0, 3)), "float64[0, 3]"),
        (np.array(["a", "b"]), "<U1[2]"),
        ((1, 5, 14), "(1, 5, 14)"),
        (tuple(range(30)), "(0, 1, 2, ... 30 in all)"),
        ({"a": 1.0, "b": np.zeros(2)}, "{a: 1, b: float64[2] 0}"),
        ([np.zeros(2)] * 7, "tree of 7 arrays, 14 entries"),
        (({"w": np.zeros((2, 3))}, np.zeros(4)), "tree of 2 arrays, 10 entries"),
        (([], ()), "([], ())"),
    ],
)
def test_values_in_a_few_words(value, text):
    assert short(value) == text


def test_jax_arrays():
    assert short(jnp.arange(3, dtype=jnp.bfloat16)) == "bfloat16[3] 0..2"
    assert short(jnp.float32(0.25)) == "0.25"
    assert short(jax.random.key(0)) == "key<fry>[]"
    assert short(jax.random.split(jax.random.key(0), 4)) == "key<fry>[4]"
    assert short(jax.ShapeDtypeStruct((2, 3), jnp.float32)) == "float32[2, 3]"
    gone = jnp.zeros(3, jnp.float32)
    gone.delete()
    assert short(gone) == "float32[3] deleted"


def test_large_arrays_are_not_read():
    large = np.broadcast_to(np.float64(1), (10**6, 10**6))  # 8 TB, if one tried
    assert short(large) == "float64[1000000, 1000000]"
    assert short(np.zeros(display._READ)) == f"float64[{display._READ}] 0"
    assert short(np.zeros(display._READ + 1)) == f"float64[{display._READ + 1}]"


def test_long_texts_and_trees_are_cut():
    assert len(short("x" * 10_000)) == display._LONG
    assert short("x" * 10_000).endswith("...")
    deep = ((("y" * 10_000,),),)
    assert len(short(deep)) == display._LONG


def test_one_line_or_one_per_field():
    assert repr(Pair(1.0, None)) == "Pair(left=1, right=None)"
    long = Pair("a" * 60, Pair(1, "b" * 90))
    assert repr(long).splitlines() == [
        "Pair(",
        f"    left='{'a' * 60}',",
        "    right=Pair(",
        "        left=1,",
        f"        right='{'b' * 90}',",
        "    ),",
        ")",
    ]


def test_entries_and_reprs_of_the_class_itself():
    assert repr(Own(np.ones(2))) == "Own(twice=float64[2] 2, size=2)"
    assert repr(Said(1)) == "as the class says"
    assert Cells(Said(1)._repr_html_()).texts == ["Said", "value", "1"]


def test_trees_of_other_things_than_arrays():
    # JAX makes such in error messages and specifications: a repr must not raise.
    assert repr(jax.tree.map(lambda _: None, Own(np.ones(2)))) == "Own(value=None)"


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.eval_shape])
def test_under_transformations(transform):
    seen = []

    def look(x):
        seen.extend([repr(Pair(x, x)), Pair(x, x)._repr_html_()])
        return jnp.sum(x)

    x = jnp.ones((2, 3) if transform is jax.vmap else 3, jnp.float32)
    (lambda x: transform(look, x))(x) if transform is jax.eval_shape else transform(look)(x)
    assert seen[0] == "Pair(left=float32[3], right=float32[3])"
    assert "float32[3]" in seen[1]


def test_results_stay_pytrees_and_tuples():
    doubled = jax.tree.map(lambda x: 2 * x, Pair(1.0, 2.0))
    assert doubled == (2.0, 4.0)
    assert isinstance(doubled, Pair)


def test_tables_nest_and_escape():
    page = Cells(Pair("<b>&", Pair(1, Html("<i>kept</i>")))._repr_html_())
    assert page.open == []
    assert page.texts == ["Pair", "left", "<b>&", "right", "Pair", "left", "1", "right", "kept"]
    assert "b" not in page.tags
    assert page.tags.count("table") == 2
    assert page.tags.count("i") == 1


def test_table_head_and_caption():
    page = Cells(table([("<r>", 1.0, "x")], head=("<h>", "b", "c"), caption="<c>"))
    assert page.texts == ["<c>", "<h>", "b", "c", "<r>", "1", "x"]
    assert page.tags.count("th") == 4
    assert Cells(table([])).open == []
    assert escape(0.1) == "0.1"
