r"""The best two-layer ReLU network found, with a proof of how far it is from the best of any width.

gamma* = max over networks of any width of min_i y_i f(Theta; x_i) / ||Theta||^2. A network gives a
lower bound; weights p of the simplex on the samples give an upper bound (`upper_bound`). Both are
evaluated in float64 with room for rounding, so that lower <= gamma* <= upper.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._support.extras import progress_bar
from kernelgap.margins.certificate import (
    MarginCertificate,
    certify_network,
    inseparable,
    with_bound,
)
from kernelgap.margins.certify.weak_duality import bound_margin, bound_with_units
from kernelgap.margins.problem import prepare_problem
from kernelgap.margins.search.columns import best_over
from kernelgap.margins.search.networks import search_networks
from kernelgap.models import Params
from kernelgap.typing import ArrayLike, Key

_CLOSE = 5e-4  # ratio - 1 that is not improved any further
_PROVED = 1e-3  # nor, where cutting planes found both ends, this


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in `max_margin`, `global_net` or `global_path`; carries the best network until then.

    It is a KeyboardInterrupt and ends the program unless it is caught, as Ctrl-C should. In a
    notebook, where the interrupt ends the cell, `sys.last_value.best` still has the network.

    Attributes:
        best: The `MarginCertificate` of the best network until then, whose `upper` is inf unless
            the upper bound was finished; or the `GlobalNet`, with the bound of its own dual point.
    """

    def __init__(self, best: Any) -> None:
        super().__init__(best)
        self.best = best

    def __str__(self) -> str:
        return f"the best network until then is `best` of this exception: {self.best!r}"


def max_margin(
    x: ArrayLike,
    y: ArrayLike,
    *,
    key: Key,
    width: int = 64,
    restarts: int = 4,
    steps: int | None = None,
    rounds: int = 3,
    start: Params | None = None,
    upper: bool = True,
    progress: bool = False,
) -> MarginCertificate:
    r"""Search the two-layer ReLU network of largest normalised margin, and certify it.

    gamma* = max_Theta min_i y_i f(Theta; x_i) / ||Theta||^2 with f = sum_j w_j relu(u_j . x), over
    all widths. The search:

    1. Networks of random weights climb the smoothed margin (several temperatures and step sizes).
    2. Over the directions of their units, the l1-SVM is solved as a linear programme; units that
       violate its dual solution are added.
    3. At most `rounds` times: the best few networks climb again from where they are, and step 2
       follows. The margin never falls.

    The upper bound comes after step 2. Both it and step 3 end as soon as upper / lower <= 1.0005.
    Where `upper_bound` is exact for d = 4 and 5, its cutting planes find a network too, and
    upper / lower <= 1.001.

    It runs on the host, in NumPy and SciPy, and cannot be traced; nothing is compiled. The
    upper bound is for two layers and one output; for deeper and multi-class networks only
    `metrics.normalized_margin` is known.

    Args:
        x: Inputs of shape (n, d).
        y: (n,) labels, -1 or +1; one class is fine.
        key: JAX random key.
        width: Hidden units of the networks of step 1; the result has as many as it needs.
        restarts: Number of networks of step 1.
        steps: Number of steps of a climb in step 1, twice those in step 3; None takes 3n, but at
            least 1000 and at most 2000.
        rounds: Number of rounds of step 3, at least 0.
        start: Parameters ``(hidden, readout)`` of shapes (m, d) and (m,), of a network whose units
            join those of step 1: the margin found is at least its own, up to rounding.
        upper: False skips the upper bound, which takes half of the time or more.
        progress: Show a bar over the stages on stderr (extra `studies`).

    Returns:
        A `MarginCertificate`. Data that no network separates (a zero row, equal rows with different
        labels) have gamma* = 0: `lower` is 0, `params` are zero, and `upper` is 0, or nearly 0
        where rows are equal up to scaling or rounding only.

    Raises:
        TypeError: If an argument is traced.
        RuntimeError: If all solvers of a linear programme of the search fail.
        Interrupted: On Ctrl-C, once a network has been found; it carries that network.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = jnp.array([[3.0, 4.0]]), jnp.array([1.0])  # one sample: gamma* = ||x|| / 2
        >>> kg.margins.max_margin(x, y, key=jax.random.key(0), width=8, steps=10)
        MarginCertificate(lower=2.5, upper=2.5, ratio=1, units=1, status='converged')

    References:
        Paper A: the margin, and its l1-SVM form (T4). The search and both certificates are ours.
    """
    problem = prepare_problem(x, y)
    n, d = problem.x.shape
    checks.random_key(key)
    if not array_checks.is_concrete(key):
        raise TypeError("`key` is traced: max_margin solves linear programmes on the host. Call it "
                        "outside of jit, vmap and grad")  # fmt: skip
    width = checks.integer(width, "width", minimum=1)
    restarts = checks.integer(restarts, "restarts", minimum=1)
    if steps is not None:
        steps = checks.integer(steps, "steps", minimum=1)
    rounds = checks.integer(rounds, "rounds", minimum=0)
    given = None if start is None else _checked_start(start, d)
    if problem.conflict is not None:  # there is nothing to search for
        return inseparable(problem, bound_margin(problem).value if upper else float(np.inf))
    networks = search_networks(
        [problem], [key], width=width, restarts=restarts, rounds=rounds,
        steps=steps or _usual_steps(n), start=given,
    )  # fmt: skip
    with progress_bar(
        1 + rounds + bool(upper), "max_margin", unit="stage", enabled=progress
    ) as stages:
        ((network, dual),) = next(networks)
        best, bound = certify_network(network, dual, problem, None), None
        stages.update()
        try:
            units = network.units[:0]
            if upper:  # a start from dual weights was slower, not tighter
                goal = (1 + _CLOSE) * best.lower
                bound, units = bound_with_units(problem, network.units, goal=goal)
                best = with_bound(best, bound)
                if len(units) and best.ratio > 1 + _CLOSE:  # the cutting planes' own network
                    other = certify_network(
                        best_over(problem.x, problem.y, units), dual, problem, bound
                    )
                    best = max(best, other, key=lambda certificate: certificate.lower)
                stages.update()
            left, close = rounds, 1 + (_PROVED if len(units) else _CLOSE)
            while left and best.ratio > close and (better := next(networks, None)):
                better = certify_network(*better[0], problem, bound)
                best = max(best, better, key=lambda certificate: certificate.lower)
                stages.update()
                left -= 1
            stages.update(left)  # rounds that were not needed
        except KeyboardInterrupt as stop:
            raise Interrupted(best) from stop
    return best


def max_margins(
    x: ArrayLike,
    y: ArrayLike,
    *,
    keys: Sequence[Key],
    restarts: int,
    rounds: int,
    start: Params,
    certified: int = 0,
) -> list[MarginCertificate]:
    """Return `max_margin` of data sets x (sets, n, d), y (sets, n), in far less time together.

    Only the first `certified` of them get an upper bound.
    """
    problems = [prepare_problem(*data) for data in zip(np.asarray(x), np.asarray(y), strict=True)]
    results = [inseparable(p, float(np.inf)) if p.conflict else None for p in problems]
    left = [k for k, result in enumerate(results) if result is None]
    if left:
        n, d = problems[0].x.shape
        *_, last = search_networks(
            [problems[k] for k in left], [keys[k] for k in left], width=64, restarts=restarts,
            rounds=rounds, steps=_usual_steps(n), start=_checked_start(start, d),
        )  # fmt: skip
        for k, networks in zip(left, last, strict=True):
            best = certify_network(*networks, problems[k], None)
            if k < certified:
                goal = (1 + _CLOSE) * best.lower
                best = with_bound(best, bound_with_units(problems[k], goal=goal)[0])
            results[k] = best
    return [result for result in results if result is not None]


def _usual_steps(n: int) -> int:
    return int(np.clip(3 * n, 1000, 2000))


def _checked_start(start: Params, d: int) -> tuple[np.ndarray, np.ndarray]:
    leaves = jax.tree.leaves(array_checks.parameters(start, "start"))
    if not array_checks.is_concrete(*leaves):
        raise TypeError("`start` is traced: max_margin runs on the host. Call it outside of jit, "
                        "vmap and grad")  # fmt: skip
    shapes = [leaf.shape for leaf in leaves]
    if len(shapes) != 2 or len(shapes[1]) != 1 or shapes[0] != (*shapes[1], d):
        raise ValueError(f"`start` must be (hidden, readout) of shapes (m, {d}) and (m,); "
                         f"got {', '.join(map(str, shapes))}")  # fmt: skip
    hidden, readout = (np.asarray(leaf, float) for leaf in leaves)
    return hidden, readout
