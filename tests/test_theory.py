"""Linear-network theory: against discrete updates, closed forms, conservation laws and invariances."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from bench.models.linear import BALANCED
from bench.sweeps.experiments import experiment
from replication import predictions
from replication.predictions import ode
from replication.theory import bp_mode, feedback_mode, matrix_ode

RULES = ["bp", "fa-lowrank", "ldfa-p", "ldfa-q", "ldfa", "ldfa-track"]
M, K, N, S, R = 4, 5, 7, 3, 2


@pytest.fixture
def problem():
    """A random teacher of rank S and a random start, W1, W2, P (orthonormal) and Q."""
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(M, S)) @ rng.normal(size=(S, N)) / 2
    w1, w2, q = (rng.normal(size=shape) / 4 for shape in [(K, N), (M, K), (R, K)])
    return teacher, (w1, w2, np.linalg.qr(rng.normal(size=(M, R)))[0], q)


@pytest.fixture
def decoupled(problem):
    """The teacher's singular values and a start diagonal in its bases, with weights a (W1), c (W2), b (feedback)."""
    u, s, vt = np.linalg.svd(problem[0])
    a, c, b = np.array([[0.1, 0.2, 0.05, 0.3], [0.2, 0.1, 0.3, 0.1], [0.5, 1.0, 0.7, 0.4]])

    def start(a, c, b):
        return np.eye(K, M) * a @ vt[:M], u @ (np.eye(M, K) * c[:, None]), u, np.eye(M, K) * b[:, None]

    return s, (a, c, b), start


def move(teacher, parts, rule, rate, feedback_rate, decay):
    """One step's change of W1, W2, P and Q, written in the original bases from the update equations."""
    w1, w2, p, q = parts
    error = teacher - w2 @ w1
    feedback = w2 if rule == "bp" else p @ q
    gap, targets = w2 - p @ q, teacher @ teacher.T
    oja = (np.eye(M) - p @ p.T) @ targets @ p / np.diag(targets).max()
    dp = {"ldfa-p": oja, "ldfa": oja, "ldfa-track": gap @ q.T}.get(rule)
    hebb = p.T @ error @ w1.T
    dq = {"ldfa-q": hebb, "ldfa": hebb, "ldfa-track": p.T @ gap}.get(rule)
    return [
        rate * feedback.T @ error - decay * w1,
        rate * error @ w1.T - decay * w2,
        *(
            0 * old if new is None else feedback_rate * new - feedback_rate * decay / rate * old
            for old, new in [(p, dp), (q, dq)]
        ),
    ]


def close(one, other, tolerance):
    return np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rule", RULES)
def test_gap_to_the_discrete_updates_is_proportional_to_the_rate(problem, rule):
    teacher, start = problem
    gaps = []
    for steps in (400, 800):
        rates = np.array([20.0, 10.0, 0.5]) / steps
        parts = start
        for _ in range(steps):
            parts = [old + step for old, step in zip(parts, move(teacher, parts, rule, *rates), strict=True)]
        ode = matrix_ode(teacher, *start, rule, *rates, times=[steps])
        gaps.append(np.abs(parts[1] @ parts[0] - ode.w2 @ ode.w1).max())
    assert gaps[0] < 0.05
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("rule", RULES)
def test_singular_bases_equal_the_original_ones(problem, rule):
    teacher, start = problem
    rates, times = (0.02, 0.01, 0.001), [0, 10, 50, 200]
    ode = matrix_ode(teacher, *start, rule, *rates, times)
    ends = np.cumsum([part.size for part in start])[:-1]

    def parts(state):
        return [part.reshape(old.shape) for part, old in zip(np.split(state, ends), start, strict=True)]

    def flat(parts):
        return np.concatenate([part.ravel() for part in parts])

    def velocity(_, state):
        return flat(move(teacher, parts(state), rule, *rates))

    plain = solve_ivp(velocity, (0, 200), flat(start), t_eval=times, rtol=1e-9, atol=1e-11).y.T
    products = [w2 @ w1 for w1, w2, _, _ in map(parts, plain)]
    u, _, vt = np.linalg.svd(teacher)
    close(ode.modes, [np.diag(u.T @ product @ vt.T) for product in products], 1e-6)
    close(ode.loss, [np.sum((teacher - product) ** 2) / 2 for product in products], 1e-6)
    for got, expected in zip([ode.w1, ode.w2, ode.p, ode.q], parts(plain[-1]), strict=True):
        if got.size:
            close(got, expected, 1e-6)


@pytest.mark.parametrize("s", [0.0, 0.3, 40.0])
def test_bp_mode_solves_its_equation(s):
    times = np.linspace(0, 5000, 50)
    ode = solve_ivp(lambda _, u: 0.01 * u * (s - u), (0, 5000), [1e-3], "LSODA", times, rtol=1e-10, atol=1e-12)
    close(bp_mode(s, 1e-3, 0.005, times), ode.y[0], 1e-6)


@pytest.mark.parametrize("learn", [False, True])
def test_feedback_mode_keeps_its_first_integrals(learn):
    s, w1, w2, b, rate = 2.0, 0.1, 0.2, 0.5, 0.01

    def others(a):
        """w2 and b as the constants of motion give them at w1 = a."""
        if learn:
            now = np.sqrt(b**2 + a**2 - w1**2)
            return w2 + now - b, now
        return w2 + (a**2 - w1**2) / (2 * b), b

    def velocity(_, a):
        c, now = others(a)
        return rate * now * (s - c * a)

    times = np.linspace(0, 1000, 20)
    a = solve_ivp(velocity, (0, 1000), [w1], t_eval=times, rtol=1e-9, atol=1e-11).y[0]
    close(feedback_mode(s, w1, w2, b, rate, times, learn), others(a)[0] * a, 1e-6)


def test_decoupled_bp_is_the_logistic_curve_of_each_mode(decoupled, problem):
    s, (a, _, b), start = decoupled
    times = np.linspace(0, 1000, 20)
    ode = matrix_ode(problem[0], *start(a, a, b), "bp", 0.01, 0.0, 0.0, times)
    close(ode.modes, bp_mode(s, a**2, 0.01, times[:, None]), 1e-6)


@pytest.mark.parametrize(("rule", "learn"), [("fa-lowrank", False), ("ldfa-q", True)])
def test_decoupled_feedback_is_the_solution_of_each_mode(decoupled, problem, rule, learn):
    s, weights, start = decoupled
    times = np.linspace(0, 500, 20)
    ode = matrix_ode(problem[0], *start(*weights), rule, 0.01, 0.01, 0.0, times)
    modes = [feedback_mode(*mode, 0.01, times, learn) for mode in zip(s, *weights, strict=True)]
    close(ode.modes.T, modes, 1e-6)


def test_bp_keeps_the_layers_balanced(problem):
    teacher, (w1, w2, _, _) = problem
    ode = matrix_ode(teacher, w1, w2, None, None, "bp", 0.05, 0.0, 0.0, [500])
    assert ode.loss[-1] < 1e-4
    close(ode.w1 @ ode.w1.T - ode.w2.T @ ode.w2, w1 @ w1.T - w2.T @ w2, 1e-6)


def test_learned_q_keeps_its_distance_to_the_weights(problem):
    teacher, (w1, w2, p, q) = problem
    ode = matrix_ode(teacher, w1, w2, p, q, "ldfa-q", 0.05, 0.05, 0.0, [500])
    assert np.abs(ode.q - q).max() > 0.1
    close(ode.q - p.T @ ode.w2, q - p.T @ w2, 1e-6)
    close(ode.p, p, 1e-12)


def test_oja_finds_the_leading_directions_of_the_targets(problem):
    teacher, start = problem
    middle, end = (matrix_ode(teacher, *start, "ldfa-p", 0.01, 0.05, 0.0, [time]).p for time in (20, 20_000))
    close(middle.T @ middle, np.eye(R), 1e-6)
    close(end.T @ end, np.eye(R), 1e-6)
    leading = np.linalg.svd(teacher)[0][:, :R]
    close(end @ end.T, leading @ leading.T, 1e-6)


@pytest.mark.parametrize("rule", ["kp", "ldfa"])
def test_a_start_the_theory_cannot_follow_is_refused(problem, rule):
    teacher, (w1, w2, _, _) = problem
    with pytest.raises(ValueError, match="unknown rule 'kp'" if rule == "kp" else "needs both"):
        matrix_ode(teacher, w1, w2, None, None, rule, 0.01, 0.01, 0.0, [1])


def test_a_solution_is_solved_once_and_a_damaged_one_anew(tmp_path, monkeypatch):
    """From the cache it is the same to the bit; other inputs and a damaged file are never taken for it."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    run = next(c for c in experiment("linear").configs("quick") if (c.rule, c.rank) == ("ldfa", "8"))
    history = [{"epoch": step} for step in (0, 25, 50)]
    solved = []

    def modes(**changes):
        config = replace(run, **changes)
        predictions._solved.clear()
        return ode({"config": asdict(config), "digest": config.digest, "history": history}).modes

    monkeypatch.setattr(predictions, "matrix_ode", lambda **inputs: solved.append(1) or matrix_ode(**inputs))
    first = modes()
    assert (modes() == first).all() and len(solved) == 1
    assert (modes(seed=1) != first).any() and (modes(lr=0.001) != first).any() and len(solved) == 3
    for path in (tmp_path / "theory").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    assert (modes() == first).all() and len(solved) == 4
    monkeypatch.setenv("BENCH_CACHE", "/dev/null/none")
    assert (modes() == first).all() and len(solved) == 5


def test_a_balanced_start_is_that_of_the_run():
    balanced = next(c for c in experiment("linear").configs("quick") if c.model_options == {"start": "balanced"})
    found = ode({"config": asdict(balanced), "digest": balanced.digest, "history": [{"epoch": 0}, {"epoch": 200}]})
    close(found.modes[0, :8], BALANCED, 1e-12)
    assert found.modes[0, 8:].max() < 1e-12 and found.modes[1, 0] == pytest.approx(13.94, abs=0.01)
