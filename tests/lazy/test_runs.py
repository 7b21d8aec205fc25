import numpy as np
import pytest

import kernelgap as kg

pytestmark = pytest.mark.slow

lazy = kg.lazy
certificate = lazy.convergence_certificate(
    0.5, lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.02
)
curve = certificate.curve(20)


def test_ratios_and_violations():
    check = lazy.check_run(certificate, curve)
    assert check.kept
    assert check.violation == -1
    np.testing.assert_allclose(check.loss_ratio, 1, rtol=1e-12)
    assert check.path_ratio is None
    worse = curve.copy()
    worse[[7, 9]] *= [1.1, 1.3]
    check = lazy.check_run(certificate, worse)
    assert not check.kept
    assert check.violation == 7
    np.testing.assert_allclose(check.loss_ratio, 1.3, rtol=1e-9)


def test_divergence_is_a_step_and_not_a_nan():
    worse = curve.copy()
    worse[5:] = np.nan
    check = lazy.check_run(certificate, worse)
    assert check.violation == 5
    assert np.isinf(check.loss_ratio)
    assert lazy.check_run(certificate, worse[::2][:3], every=2).violation == -1
    assert lazy.check_run(certificate, worse[1::2][:4] * 0 + np.inf, every=2).violation == 0


def test_recorded_every_few_steps():
    assert lazy.check_run(certificate, curve[::3], every=3).kept
    late = curve[::3].copy()
    late[2] = curve[5]
    assert lazy.check_run(certificate, late, every=3).violation == 6


def test_lengths():
    bound = float(certificate.path_length)
    check = lazy.check_run(
        certificate, curve, path_lengths=[0.0, 0.9 * bound], displacements=0.5 * bound
    )
    assert check.kept
    np.testing.assert_allclose([check.path_ratio, check.displacement_ratio], [0.9, 0.5], rtol=1e-9)
    assert not lazy.check_run(certificate, curve, displacements=[0.0, 1.01 * bound, 1.0]).kept
    lost = lazy.check_run(certificate, curve, path_lengths=[np.nan])
    assert not lost.kept
    assert np.isinf(lost.path_ratio)


def test_rounding_is_that_of_the_dtype():
    for dtype in (np.float32, np.float64):
        slack = 16 * 0.5 * np.finfo(dtype).eps
        within, without = curve.astype(dtype), curve.astype(dtype)
        within[12] += 0.5 * slack
        without[12] += 2 * slack
        assert lazy.check_run(certificate, within).kept
        assert lazy.check_run(certificate, without).violation == 12
    assert lazy.check_run(certificate, curve + 0.01, rounding=0.011).kept


def test_seeds_and_those_without_a_certificate():
    several = lazy.convergence_certificate(
        0.5,
        lazy.squared_loss_constants(10),
        lambda_min=[1.0, 0.0],
        lambda_max=20.0,
        lipschitz=0.02,
    )
    check = lazy.check_run(
        several, np.stack([curve, curve + 9]), path_lengths=np.array([1.0, 99.0])
    )
    np.testing.assert_array_equal(check.claimed, [True, False])
    np.testing.assert_array_equal(check.kept, [True, True])
    np.testing.assert_array_equal([check.loss_ratio[1], check.path_ratio[1]], [0, 0])


def test_nothing_is_claimed_below_the_target():
    constants = lazy.logistic_loss_constants(1, initial_loss=0.5, target=0.3)
    found = lazy.convergence_certificate(
        0.5, constants, lambda_min=1.0, lambda_max=1.0, lipschitz=0.0
    )
    losses = found.curve(2000)
    assert losses.min() == 0.3
    losses[-1] = 0.4  # after the target was reached
    assert lazy.check_run(found, losses).kept
    losses[1] = 0.5
    assert lazy.check_run(found, losses).violation == 1


def test_at_the_optimum():
    still = lazy.convergence_certificate(
        0.0, lazy.squared_loss_constants(10), lambda_min=1.0, lambda_max=20.0, lipschitz=0.02
    )
    assert lazy.check_run(still, np.zeros(3), displacements=[0.0]).kept
    assert not lazy.check_run(still, np.zeros(3), displacements=[0.1]).kept
    assert np.isinf(lazy.check_run(still, [0.0, 0.1]).loss_ratio)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lazy.check_run(curve, curve), TypeError, "`certificate` must come from"),
        (lambda: lazy.check_run(certificate, "low"), TypeError, "`losses` must hold numbers"),
        (lambda: lazy.check_run(certificate, 0.5), ValueError, "`losses` must have shape"),
        (lambda: lazy.check_run(certificate, []), ValueError, "`losses` must have shape"),
        (lambda: lazy.check_run(certificate, curve, every=0), ValueError, "`every`"),
        (lambda: lazy.check_run(certificate, curve, rounding=-1.0), ValueError, "`rounding`"),
        (
            lambda: lazy.check_run(certificate, curve, path_lengths=np.ones((2, 2))),
            ValueError,
            "`path_lengths` must have shape",
        ),
    ],
)
def test_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()
