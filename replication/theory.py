"""Learning dynamics of the two-layer linear network y = W2 W1 x under backpropagation and low-rank feedback.

The teacher is y = T x with white inputs, x ~ N(0, I), so E[y x'] = T and the loss is half the mean of
||y - W2 W1 x||^2 = half the squared Frobenius norm of D, where D = T - W2 W1. With T = U S V', the strength of mode j
is entry (j, j) of U' W2 W1 V; it is learned once it equals the singular value s_j. Time is measured in training
steps throughout: these are the continuous-time limits of the discrete updates, and rates are step sizes.

Source: Saxe, McClelland and Ganguli 2013, arXiv:1312.6120 (modes and the one-mode solution); Hanut and Kadmon,
arXiv:2502.20580 (low-rank feedback).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp
from scipy.special import exprel
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]


def _oja(w1: Array, w2: Array, p: Array, q: Array, d: Array, c: Array) -> Array:
    return c @ p - p @ (p.T @ c @ p)


def _hebb_q(w1: Array, w2: Array, p: Array, q: Array, d: Array, c: Array) -> Array:
    return (p.T @ d) @ w1.T


def _track_p(w1: Array, w2: Array, p: Array, q: Array, d: Array, c: Array) -> Array:
    return (w2 - p @ q) @ q.T


def _track_q(w1: Array, w2: Array, p: Array, q: Array, d: Array, c: Array) -> Array:
    return p.T @ (w2 - p @ q)


# The updates of P and Q under each rule; None is a factor that stays fixed.
_FEEDBACK = {
    "bp": (None, None),
    "fa-lowrank": (None, None),
    "ldfa-p": (_oja, None),
    "ldfa-q": (None, _hebb_q),
    "ldfa": (_oja, _hebb_q),
    "ldfa-track": (_track_p, _track_q),
}


@dataclass(frozen=True)
class Trajectory:
    """A solution of the matrix ODE: curves at `times`, and the matrices at the last of them."""

    times: Array  # (times,), in steps
    modes: Array  # (times, min(m, n)), strengths in the order of the teacher's descending singular values
    loss: Array  # (times,)
    w1: Array  # (k, n)
    w2: Array  # (m, k)
    p: Array  # (m, r), with r = 0 under bp
    q: Array  # (r, k)


def singular_values(teacher: ArrayLike) -> Array:
    """The teacher's singular values in descending order, shape (min(m, n),)."""
    return np.linalg.svd(np.asarray(teacher), compute_uv=False)


def matrix_ode(
    teacher: ArrayLike,
    w1: ArrayLike,
    w2: ArrayLike,
    p: ArrayLike | None,
    q: ArrayLike | None,
    rule: str,
    rate: float,
    feedback_rate: float,
    decay: float,
    times: ArrayLike,
) -> Trajectory:
    """Integrate the learning dynamics from (W1, W2, P, Q) at time 0, and return them at `times`.

        dW2/dt = rate D W1' - decay W2        dW1/dt = rate F' D - decay W1,   D = T - W2 W1

    with F = W2 under `bp` and F = P Q under every other rule. A feedback factor either stays fixed or follows

        dP/dt = feedback_rate (p* - decay/rate P)        dQ/dt = feedback_rate (q* - decay/rate Q)

    where, for C = T T' / max_j (T T')_jj, the covariance of the targets over their largest variance,

        fa-lowrank   P and Q fixed
        ldfa-q       q* = P' D W1', P fixed
        ldfa-p       p* = (I - P P') C P, Q fixed (Oja's subspace rule on the targets)
        ldfa         p* as in ldfa-p and q* as in ldfa-q
        ldfa-track   p* = (W2 - P Q) Q', q* = P' (W2 - P Q)

    Shapes: teacher (m, n), w1 (k, n), w2 (m, k), p (m, r), q (r, k); `bp` ignores p and q. `times` are ascending
    steps from 0 on; the whole state is stored at each, 0.1 MB at n = 128, k = m = 64. The system is solved in the
    teacher's singular bases (W1 V, U' W2, U' P), which changes nothing; the final matrices are in the original ones.
    Raises ValueError for an unknown rule or missing feedback, RuntimeError if the integration fails.
    """
    if rule not in _FEEDBACK:
        raise ValueError(f"unknown rule {rule!r}; the theory covers {', '.join(_FEEDBACK)}")
    if rule == "bp":
        p, q = np.empty((np.shape(w2)[0], 0)), np.empty((0, np.shape(w1)[0]))
    elif p is None or q is None:
        raise ValueError(f"rule {rule!r} needs both feedback factors p and q")
    teacher = np.asarray(teacher, dtype=np.float64)
    u, _, vt = np.linalg.svd(teacher)
    target = u.T @ teacher @ vt.T
    c = target @ target.T / np.sum(teacher**2, axis=1).max()

    start = [np.asarray(w1) @ vt.T, u.T @ w2, u.T @ p, np.asarray(q)]
    shapes = [part.shape for part in start]
    ends = np.cumsum([part.size for part in start])[:-1]

    def unpack(state: Array) -> list[Array]:
        return [part.reshape(shape) for part, shape in zip(np.split(state, ends), shapes, strict=True)]

    def velocity(_: float, state: Array) -> Array:
        w1, w2, p, q = unpack(state)
        d = target - w2 @ w1
        down = w2.T @ d if rule == "bp" else q.T @ (p.T @ d)
        dw1 = rate * down - decay * w1
        dw2 = rate * d @ w1.T - decay * w2
        feedback = [
            feedback_rate * (move(w1, w2, p, q, d, c) - decay / rate * old) if move else np.zeros_like(old)
            for move, old in zip(_FEEDBACK[rule], (p, q), strict=True)
        ]
        return np.concatenate([change.ravel() for change in (dw1, dw2, *feedback)])

    times = np.asarray(times, dtype=np.float64)
    state = np.concatenate([part.ravel() for part in start])
    with threadpool_limits(1):  # the matrices are too small to share between threads
        solution = solve_ivp(velocity, (0, times[-1]), state, "DOP853", t_eval=times, rtol=1e-9, atol=1e-11)
    if not solution.success:
        raise RuntimeError(f"{rule}: {solution.message}")
    products = [w2 @ w1 for w1, w2, _, _ in map(unpack, solution.y.T)]
    w1, w2, p, q = unpack(solution.y[:, -1])
    return Trajectory(
        times=times,
        modes=np.array([np.diag(product) for product in products]),
        loss=np.array([0.5 * np.sum((target - product) ** 2) for product in products]),
        w1=w1 @ vt,
        w2=u @ w2,
        p=u @ p,
        q=q,
    )


def bp_mode(s: ArrayLike, u0: ArrayLike, rate: float, times: ArrayLike) -> Array:
    """Strength of one decoupled mode under backpropagation from the balanced start w1 = w2 = sqrt(u0).

    It solves du/dt = 2 rate u (s - u), the logistic curve of Saxe et al. 2013, arXiv:1312.6120,

        u(t) = s e^(2 s rate t) / (e^(2 s rate t) - 1 + s / u0),

    in a form that neither overflows nor requires s > 0. `s`, `u0` > 0 and `times` broadcast.
    """
    elapsed = 2 * rate * np.asarray(times, dtype=np.float64)
    exponent = -np.multiply(s, elapsed)
    u0 = np.asarray(u0)
    return u0 / (np.exp(exponent) + u0 * elapsed * exprel(exponent))


def feedback_mode(s: float, w1: float, w2: float, b: float, rate: float, times: ArrayLike, learn: bool) -> Array:
    """Strength w2 w1 of one decoupled mode whose error is sent down through the feedback b, at `times` from 0 on.

        dw2/dt = rate (s - w2 w1) w1        dw1/dt = rate b (s - w2 w1)

    If `learn`, db = dw2 (Q learned at the rate of W): b - w2 and b^2 - w1^2 are constant. Else b is fixed, and
    w2 - w1^2 / (2 b) is constant.
    """

    def velocity(_: float, state: Array) -> list[float]:
        w1, w2, b = state
        error = rate * (s - w2 * w1)
        return [b * error, w1 * error, learn * w1 * error]

    span = (0, np.max(times))
    return np.prod(solve_ivp(velocity, span, [w1, w2, b], "DOP853", t_eval=times, rtol=1e-10, atol=1e-12).y[:2], axis=0)
