import jax.numpy as jnp
import pytest

import kernelgap as kg

net = kg.models.homogeneous_mlp((6, 4), parameterization="ntk")


def test_updates_change_the_acting_weights_by_one_over_the_fan_in():
    scaled = kg.optim.scale_by_fan_in(net, 3)
    ones = (jnp.ones((6, 3)), jnp.ones((4, 6)), jnp.ones(4))
    found, _ = scaled.update(ones, scaled.init(ones))
    assert [float(u.ravel()[0]) for u in found] == pytest.approx([3**0.5, 6**-0.5, 4**-0.5])


def test_refuses():
    with pytest.raises(TypeError, match="`model` must describe its layers"):
        kg.optim.scale_by_fan_in(kg.models.Model(net.init, net.apply, 1.0), 3)
    with pytest.raises(ValueError, match="`d` must be an integer >= 1; got 0"):
        kg.optim.scale_by_fan_in(net, 0)
    with pytest.raises(ValueError, match="`updates` must be a tuple of 3 arrays"):
        kg.optim.scale_by_fan_in(net, 3).update((jnp.ones((6, 3)),), None)
