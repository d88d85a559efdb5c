"""500 steps on the Dirac-GAN from (1, -1) with h = 0.2, generator first: the radii that
equations.md prints.

The fields are written out here in plain Python, which takes milliseconds; the objects must follow
them step for step, and all the way in the slow suite. So each number is held twice: by the formula,
and by the code that trains images.
"""

import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from steadygan.core import Context, Game, build
from support import Fixed, dirac, flat, normal_nodes, optimizer

H, STEPS = 0.2, 500
NODES = normal_nodes(400)


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


def logistic(theta, psi):
    s = sigmoid(theta * psi)
    return psi * s, -theta * s


def nonsaturating(theta, psi):
    s = sigmoid(theta * psi)
    return psi * (1 - s), -theta * s


def wasserstein(theta, psi):
    return psi, -theta


def gradient_penalty(theta, psi):
    return psi, -theta - 0.7 * (abs(psi) - 1) * math.copysign(1, psi)


def r1(gamma, base=logistic):
    def field(theta, psi):
        v, w = base(theta, psi)
        return v, w - gamma * psi

    return field


def js(gamma):
    def field(theta, psi):
        (v, w), s = logistic(theta, psi), sigmoid(theta * psi)
        return v, w - gamma * psi * (0.25 + s * s) - gamma * psi**2 * theta * s * s * (1 - s)

    return field


def noise(theta, psi, e=0.7 * NODES.numpy().ravel()):
    """The mean over nodes of softplus(-psi e) on real and softplus(psi (theta + e)) on fake
    samples, differentiated.

    Written with sigmoid(t) = (1 + tanh(t/2))/2, so that E e = 0 is used exactly and no rounding of
    it is left over near the equilibrium.
    """
    real, fake = np.tanh(psi * e / 2), np.tanh(psi * (theta + e) / 2)
    return psi * (1 + fake.mean()) / 2, -(
        theta + (e * real).mean() + ((theta + e) * fake).mean()
    ) / 2


def consensus(theta, psi):
    """v - grad ||v||^2/2, by hand: ||v||^2 = s^2 (theta^2 + psi^2)."""
    (v, w), s, square = logistic(theta, psi), sigmoid(theta * psi), theta**2 + psi**2
    ds = s * (1 - s)
    return v - s * s * theta - s * ds * psi * square, w - s * s * psi - s * ds * theta * square


# name: field, game, radii printed for simultaneous | alternating n_d = 1 | n_d = 5
ROWS = {
    "gan": (logistic, Game("minimax"), ("3.10", "1.42", "1.85")),
    "nonsaturating": (nonsaturating, Game("nonsaturating"), (".64", ".28", ".14")),
    "wgan": (wasserstein, Game("wasserstein"), ("2.6e4", "1.40", "1.06")),
    "wgan-gp": (
        gradient_penalty,
        Game("wasserstein", ["wgan-gp:gamma=0.7"]),
        ("1.80", "1.22", ".72"),
    ),
    "r1(.3)": (r1(0.3), Game("minimax", ["r1:gamma=0.3"]), ("2.6e-6", "2.3e-7", "9e-34")),
    "r1(1)": (r1(1.0), Game("minimax", ["r1:gamma=1"]), ("1e-21", "7e-17", "5e-12")),
    "nonsaturating+r1(.3)": (
        r1(0.3, nonsaturating),
        Game("nonsaturating", ["r1:gamma=0.3"]),
        ("2.2e-6", "1.5e-7", "4e-34"),
    ),
    "js(.6)": (js(0.6), Game("minimax", ["js:gamma=0.6"]), ("3.2e-6", "2.5e-7", "1e-33")),
    # equations.md prints 4e-17 at the end of this row: that is where float64 stops cancelling E e,
    # not where the game stops.
    "noise .7": (
        noise,
        Game("minimax", smoothing="instance-noise:sigma=0.7"),
        ("5.7e-5", "4e-6", "6.0e-28"),
    ),
    "consensus": (consensus, Game("minimax"), ("2.6e-10", "1.7e-11", "11")),
}
COLUMNS = {"simultaneous": 0, "alternating n_d=1": 1, "alternating n_d=5": 5}


def iterate(field, critic_steps, steps, generator_first=True, c=math.inf, h=H, start=(1.0, -1.0)):
    """The trajectory in plain Python; critic_steps 0 is simultaneous."""
    theta, psi = start
    path = [(theta, psi)]

    def critic():
        nonlocal psi
        psi = min(max(psi + h * field(theta, psi)[1], -c), c)

    for _ in range(steps):
        if critic_steps == 0:
            v, w = field(theta, psi)
            theta, psi = theta + h * v, min(max(psi + h * w, -c), c)
        else:
            if not generator_first:
                for _ in range(critic_steps):
                    critic()
            theta = theta + h * field(theta, psi)[0]
            if generator_first:
                for _ in range(critic_steps):
                    critic()
        path.append((theta, psi))
    return path


def dynamics_of(row: str, critic_steps: int):
    if row == "consensus":
        return build(
            "dynamics",
            f"consensus:gamma=1,alternating=true,critic_steps={critic_steps}"
            if critic_steps
            else "consensus:gamma=1",
        )
    return build(
        "dynamics",
        f"alternating:critic_steps={critic_steps},order=generator-first"
        if critic_steps
        else "simultaneous",
    )


def followed(row: str, critic_steps: int, steps: int) -> list[tuple[float, float]]:
    """The formula's path in the order of the objects: consensus alternates critic first only."""
    return iterate(ROWS[row][0], critic_steps, steps, generator_first=row != "consensus")


def run_objects(row: str, critic_steps: int, steps: int) -> list[tuple[float, float]]:
    _, game, _ = ROWS[row]
    smooth = game.smoothing is not None
    players = optimizer(game, dirac(1.0, -1.0, len(NODES) if smooth else 1), seeded(smooth), lr=H)
    dynamics, path = dynamics_of(row, critic_steps), [(1.0, -1.0)]
    for _ in range(steps):
        dynamics.step(players)
        path.append(tuple(flat(players).tolist()))
    return path


def seeded(smooth: bool) -> Context:
    return Context(rng=Fixed(NODES) if smooth else torch.Generator().manual_seed(0))


def printed(text: str):
    """A printed number stands for all that round to it; a tenth of the last digit more, for how the
    sheet rounded."""
    unit = 10.0 ** int(Decimal(text).as_tuple().exponent)
    return pytest.approx(float(text), abs=0.6 * unit)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_radius_after_500_steps(row, column):
    field, _, table = ROWS[row]
    path = iterate(field, COLUMNS[column], STEPS)
    assert math.hypot(*path[-1]) == printed(table[list(COLUMNS).index(column)])


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_objects_follow_the_formula(row, column):
    steps = 12
    expected = followed(row, COLUMNS[column], steps)
    for found, point in zip(run_objects(row, COLUMNS[column], steps), expected, strict=True):
        assert found == pytest.approx(point, rel=1e-11, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ROWS)
def test_objects_follow_the_formula_to_the_end(row, column):
    expected, found = (run(row, COLUMNS[column], STEPS)[-1] for run in (followed, run_objects))
    # With noise, the nodes' mean is 0 only to rounding, and the objects do not know that it should
    # be.
    assert math.hypot(*found) == pytest.approx(
        math.hypot(*expected), rel=1e-6, abs=1e-15 if row == "noise .7" else 0
    )


@pytest.mark.parametrize("critic_steps", [0, 1, 5])
def test_clipping_cycles_for_ever(critic_steps):
    """WGAN with psi in [-1, 1]: no damping inside, so after any time the orbit still goes round,
    and it never leaves the strip."""
    path = np.array(iterate(wasserstein, critic_steps, 3000, c=1.0))
    late = path[-300:]
    assert 0.98 < abs(late[:, 1]).max() <= 1.0
    assert np.hypot(*late.T).min() > 0.4 and np.hypot(*late.T).max() < 3
    for component in late.T:
        assert (
            np.diff(np.sign(component)) != 0
        ).sum() >= 8  # still crossing zero, about twice each 2 pi / h = 31 steps
    game = Game("wasserstein", constraint="clip:c=1")
    players = optimizer(game, dirac(1.0, -1.0), lr=H)
    for point in path[1:40]:
        dynamics_of("wgan", critic_steps).step(players)
        assert flat(players).tolist() == pytest.approx(point.tolist(), rel=1e-12, abs=1e-12)


def test_the_other_sign_is_another_run():
    """From (1, 1) the logits have the other sign and the GAN's radius is 3.35: the table's sign
    convention matters."""
    assert math.hypot(*iterate(logistic, 0, STEPS, start=(1.0, 1.0))[-1]) == printed("3.35")


def test_nonsaturating_has_a_limit_circle():
    """Simultaneous descent ends on a circle of radius sqrt(2h) as h -> 0: 1.003 of it at h = 0.05
    after 50,000 steps, 1.8 after 500."""
    h = 0.05
    path = iterate(nonsaturating, 0, 50_000, h=h)
    assert math.hypot(*path[-1]) / math.sqrt(2 * h) == pytest.approx(1.003, abs=5e-4)
    assert math.hypot(*path[500]) / math.sqrt(2 * h) == pytest.approx(1.8, abs=0.05)
    players = optimizer(Game("nonsaturating"), dirac(1.0, -1.0), lr=h)
    for point in path[1:201]:
        build("dynamics", "simultaneous").step(players)
        assert flat(players).tolist() == pytest.approx(point, rel=1e-12)


def test_nonsaturating_converges_sublinearly_in_continuous_time():
    """r ~ sqrt(8/t): alternating with a small step keeps close to the flow, so r^2 t/8 tends to 1,
    from below."""
    path = iterate(nonsaturating, 1, 400_000, h=0.005)
    ratios = [
        (theta**2 + psi**2) * (k * 0.005) / 8
        for k, (theta, psi) in ((100_000, path[100_000]), (400_000, path[400_000]))
    ]
    assert ratios[0] < ratios[1] < 1 and ratios[1] == pytest.approx(1, abs=0.02)
