"""Certificates against exact arithmetic; without their rounding constants every law fails."""

from decimal import Decimal, localcontext
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

import kernelgap as kg
from helpers import x64
from kernelgap.margins import certificate, gap, objective
from kernelgap.margins.certify import (
    cone_bounds,
    cones,
    enumeration,
    loss_bound,
    minimiser,
    relaxation,
    weak_duality,
)

SEEDS = range(40)  # a missing constant does not show on every problem


def exact_outputs(hidden, readout, x):
    units = [[Fraction(float(v)) for v in row] for row in hidden]
    rows = [[Fraction(float(v)) for v in row] for row in x]
    scores = [[sum(a * b for a, b in zip(r, u, strict=True)) for u in units] for r in rows]
    return [
        sum(Fraction(float(w)) * max(s, 0) for w, s in zip(readout, score, strict=True))
        for score in scores
    ]


def exact_squares(*arrays):
    return sum(Fraction(float(v)) ** 2 for a in arrays for v in np.ravel(a))


def network(seed):
    """A net in float64 and inputs that it separates."""
    rng = np.random.default_rng(seed)
    hidden, readout, x = rng.normal(size=(5, 4)), rng.normal(size=5), rng.normal(size=(3, 4))
    outputs = exact_outputs(hidden, readout, x)
    return hidden, readout, x, np.array([1.0 if f > 0 else -1.0 for f in outputs]), outputs


def margin_is_above(seed):
    hidden, readout, x, y, outputs = network(seed)
    least = min(abs(f) for f in outputs) / exact_squares(hidden, readout)
    return Fraction(certificate.margin_below(hidden, readout, x, y)) <= least


def single_point(seed):
    """One point, where h = ||x||: the multipliers t = ||x|| prove no more."""
    x = np.random.default_rng(seed).normal(size=(1, 5))
    relaxed = relaxation.relax(x, np.ones(1))
    start = minimiser.first_variables(relaxed, np.ones(1))
    _, multipliers = relaxation.multipliers(relaxed, start)
    length = float(np.linalg.norm(x))
    tight = [m._replace(scales=0 * m.scales + length) for m in multipliers]
    return x, relaxation.certified_bound(relaxed, np.ones(1), tight)


def relaxation_is_above(seed):
    x, value = single_point(seed)
    return Fraction(value) ** 2 >= exact_squares(x)


def enumeration_is_above(seed):
    x = np.random.default_rng(seed).normal(size=(1, 2))
    value = kg.margins.violation_bound(x, np.ones(1)).value
    return Fraction(value) ** 2 >= exact_squares(x)


def cones_are_above(seed):
    x = np.random.default_rng(seed).normal(size=(1, 4))
    return Fraction(cones.most_violating(x, np.ones(1)).value) ** 2 >= exact_squares(x)


def upper_margin_is_above(seed):
    """One point: gamma* = ||x|| / 2."""
    x = np.random.default_rng(seed).normal(size=(1, 2))
    value = kg.margins.upper_bound(x, np.ones(1)).value
    return Fraction(2 * value) ** 2 >= exact_squares(x)


def decimal(value):
    return Decimal(value.numerator) / Decimal(value.denominator)


def loss_is_below(seed):
    """The loss of the parameters, in fifty digits, is not above the one returned."""
    hidden, readout, x, y, outputs = network(seed)
    model = kg.models.homogeneous_mlp((5,))
    with x64(True):
        params = (jnp.asarray(hidden), jnp.asarray(readout))
        found = kg.margins.duality_gap(model, params, x, y, l2=0.5, steps=0, reduction="sum").loss
    with localcontext() as context:
        context.prec = 50
        data = sum((1 + (-abs(decimal(f))).exp()).ln() for f in outputs)
        penalty = decimal(exact_squares(hidden, readout)) / 2
        return Decimal(found) >= data + penalty


def dual_value_is_below(seed):
    """On one point the best net has r sigmoid(-a r) = 2 lambda: no lower bound is above its loss."""
    rng = np.random.default_rng(seed)
    size, l2 = 1 + rng.random(), 0.05 + 0.15 * rng.random()
    a = np.log(size / (2 * l2) - 1) / size
    model = kg.models.homogeneous_mlp((1,))
    with x64(True):
        params = (jnp.full((1, 1), a**0.5), jnp.full(1, a**0.5))
        found = kg.margins.duality_gap(
            model, params, np.array([[size]]), np.ones(1), l2=l2, steps=0
        )
    with localcontext() as context:
        context.prec = 50
        r, strength = Decimal(size), 2 * Decimal(l2)
        q = (r / strength - 1).ln()
        return Decimal(found.lower) <= (1 + (-q).exp()).ln() + strength * q / r


LAWS = [margin_is_above, relaxation_is_above, enumeration_is_above, cones_are_above,
        upper_margin_is_above,        loss_is_below, dual_value_is_below]  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_certificates_hold_in_exact_arithmetic(law):
    assert all(map(law, SEEDS))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_without_rounding_constants_every_law_fails(law, monkeypatch):
    for module in (
        certificate,
        gap,
        objective,
        loss_bound,
        cones,
        cone_bounds,
        enumeration,
        relaxation,
        weak_duality,
    ):
        for name, planted in {
            "gamma": lambda k: 0.0,
            "above": lambda value, roundings=1: float(value),
            "below": lambda value, roundings=1: float(value),
            "UNIT": 0.0,
            "SAME": 0.0,
        }.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, planted)
    monkeypatch.setattr(relaxation, "largest_eigenvalue_bound", lambda h: np.linalg.eigvalsh(h)[-1])
    assert not all(map(law, SEEDS))


def test_rounding_costs_next_to_nothing():
    for seed in SEEDS:
        x, value = single_point(seed)
        assert value <= np.linalg.norm(x) * (1 + 1e-12)
        hidden, readout, data, y, outputs = network(seed)
        least = float(min(abs(f) for f in outputs) / exact_squares(hidden, readout))
        size = np.linalg.norm(data, axis=1).max()
        assert certificate.margin_below(hidden, readout, data, y) >= least - 1e-13 * size
