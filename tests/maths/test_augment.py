"""What is done to images before the critic sees them, against torch's own ways and brute force."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import steadygan
from steadygan import Context, Game, SteadyganError, build
from steadygan.core.augment.operations import ALWAYS, SOMETIMES
from steadygan.core.context import Samples

ALL = [*(("always", name) for name in ALWAYS), *(("ada", name) for name in SOMETIMES)]
ON, OFF = torch.tensor(1.0), torch.tensor(0.0)


def images(n=3, channels=3, height=6, width=8):
    return torch.rand(n, channels, height, width, dtype=torch.float64) * 2 - 1


def draws(operation, n):
    return torch.rand(n, operation.draws, dtype=torch.float64)


def changed(kind, name, x, u, p=ON):
    return ALWAYS[name].change(x, u) if kind == "always" else SOMETIMES[name].change(x, u, p)


def critic():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(192, 1))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


@pytest.mark.parametrize("kind, name", ALL)
def test_operations_are_affine_and_differentiable_twice(kind, name):
    x = images(2, height=4, width=5)
    u = draws({**SOMETIMES, **ALWAYS}[name] if kind == "always" else SOMETIMES[name], 2)
    y, z = images(2, height=4, width=5), images(2, height=4, width=5)
    middle = changed(kind, name, 0.3 * y + 0.7 * z, u)
    assert torch.allclose(
        middle, 0.3 * changed(kind, name, y, u) + 0.7 * changed(kind, name, z, u), atol=1e-12
    )
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: changed(kind, name, x, u), x)
    assert torch.autograd.gradgradcheck(lambda x: changed(kind, name, x, u), x)


@pytest.mark.parametrize("name", SOMETIMES)
@pytest.mark.parametrize("sides", [(6, 6), (4, 7)])
def test_nothing_is_done_where_p_is_0(name, sides):
    x = images(5, 3, *sides)
    assert torch.allclose(SOMETIMES[name].change(x, draws(SOMETIMES[name], 5), OFF), x, atol=1e-12)


def test_turns_and_flips_are_those_of_torch():
    x = images(4, height=6, width=6)
    u = torch.tensor([[0.0, (k + 0.5) / 4] for k in range(4)])
    turned = SOMETIMES["rotate90"].change(x, u, ON)
    assert all(torch.equal(turned[k], x[k].rot90(k, (1, 2))) for k in range(4))
    wide = images(2)
    half = SOMETIMES["rotate90"].change(wide, torch.tensor([[0.0, 0.2], [0.0, 0.7]]), ON)
    assert torch.equal(half, torch.stack([wide[0], wide[1].rot90(2, (1, 2))]))
    over = SOMETIMES["flip"].change(wide, torch.tensor([[0.0, 0.2], [0.0, 0.7]]), ON)
    assert torch.equal(over, torch.stack([wide[0].flip(-1), wide[1]]))


def test_moves_are_those_of_padding():
    """Up to an eighth of the sides, 8 x 16 here: 1 row and 2 columns."""
    x = images(1, height=8, width=16)
    u = torch.tensor([[0.99, 0.01]])  # +1 row, -2 columns: what is read from where
    zeros = F.pad(x, (2, 2, 1, 1))[:, :, 2:10, 0:16]
    assert torch.equal(ALWAYS["translation"].change(x, u), zeros)
    # torch calls reflect what leaves the edge out; mirrored about the edge it is there twice.
    mirror = torch.cat([x, x.flip(2)], 2)[:, :, 1:9]
    mirror = torch.cat([mirror.flip(3), mirror], 3)[..., 14:30]
    moved = SOMETIMES["translate"].change(x, torch.cat([torch.zeros(1, 1), u], 1), ON)
    assert torch.equal(moved, mirror)


def test_scaling_and_turning_is_grid_sample():
    x, u = images(4, height=7, width=7), draws(SOMETIMES["affine"], 4)
    size = torch.exp2(0.2 * torch.special.ndtri(u[:, 1]))
    angle = math.pi * (2 * u[:, 3] - 1)
    cos, sin = angle.cos() / size, angle.sin() / size
    rows = [torch.stack([cos, -sin, 0 * cos], 1), torch.stack([sin, cos, 0 * cos], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), x.shape, align_corners=False)
    theirs = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    assert (SOMETIMES["affine"].change(x, u, ON) - theirs).abs().max() < 1e-9


def test_cutout_hides_half_of_each_side_at_most():
    x, u = torch.ones(2000, 1, 8, 6), torch.rand(2000, 2)
    hidden = (ALWAYS["cutout"].change(x, u) == 0).float()
    assert hidden.sum((1, 2, 3)).max() == 12 and hidden.any(1).any(0).all()
    # A middle one of 8 rows is hidden from 4 of 9 places, a middle one of 6 columns from 3 of 6.
    assert abs(hidden[:, 0, 4, 3].mean() - 4 / 9 * 3 / 6) < 4 * math.sqrt(0.22 * 0.78 / 2000)


def test_how_often_is_said_by_p():
    n, p = 20_000, 0.3
    x = torch.arange(4.0).view(1, 1, 2, 2).expand(n, 1, 2, 2)
    u = torch.rand(n, 2)
    turned = SOMETIMES["rotate90"].change(x, u, torch.tensor(p))
    for k in range(4):
        share = (turned == x[0].rot90(k, (1, 2))).flatten(1).all(1).float().mean()
        expected = 1 - 3 * p / 4 if k == 0 else p / 4
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("spec", ["diffaugment", "ada:start=0.6"])
def test_penalties_act_at_the_augmented_images(spec):
    """Brute force: the plain game at T x and T G(z) is the augmented game; nothing else is."""
    real, fake = images(4, height=6, width=8).float(), images(4, height=6, width=8).float()
    network, kind = critic(), build("augment", spec)
    rng = torch.Generator().manual_seed(5)
    there = [kind(Samples(x), Context(rng=rng)).x for x in (real, fake)]
    fresh = Context(rng=torch.Generator().manual_seed(5))
    ours = Game("nonsaturating", ["r1r2:gamma=3"], augment=spec).critic_terms(
        network, real, fake, at=fresh
    )
    x = torch.cat(there).requires_grad_()
    (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    penalty = 3 / 2 * 2 * slope.square().flatten(1).sum(1).mean()
    assert torch.allclose(ours.penalty, penalty, rtol=1e-5)
    weights = list(network.parameters())[:3]
    for a, b in zip(
        *(torch.autograd.grad(p, weights) for p in (ours.penalty, penalty)), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    plain = Game("nonsaturating", ["r1r2:gamma=3"]).critic_terms(network, real, fake).penalty
    assert (plain / penalty - 1).abs() > 1e-3


@pytest.mark.parametrize("kind, name, alike", [("ada", "flip", True), ("always", "color", False)])
def test_the_gradient_in_the_original_is_that_by_the_jacobian(kind, name, alike):
    """d D(T x)/dx = J^T (grad D)(T x); of the same length where J is orthogonal, a permutation."""
    x = images(2).requires_grad_()
    u = draws((ALWAYS if kind == "always" else SOMETIMES)[name], 2)
    network = critic().double()
    y = changed(kind, name, x, u)
    outer, inner = torch.autograd.grad(network(y).sum(), (x, y))
    jacobian = torch.autograd.functional.jacobian(lambda x: changed(kind, name, x, u), x)
    pulled = torch.einsum("bchwnijk,bchw->nijk", jacobian, inner)
    assert torch.allclose(outer, pulled, atol=1e-12)
    ratio = outer.norm() / inner.norm()
    assert (abs(ratio - 1) < 1e-12) == alike


def test_the_generator_learns_through_it():
    fake = images(2, height=6, width=8).requires_grad_()
    network, game = critic().double(), Game("nonsaturating", augment="diffaugment")

    def loss(fake):
        at = Context(rng=torch.Generator().manual_seed(2))
        return game.generator_loss(network, None, fake, at=at)

    assert torch.autograd.gradcheck(loss, fake)
    assert torch.autograd.grad(loss(fake), fake)[0].abs().sum() > 0


@pytest.mark.parametrize("signs, then", [([1, 1, 1, -1], 0.28), ([1, 1, 1, 1], 0.32)])
def test_the_controller_moves_p_by_the_images_seen(signs, then):
    """r_t of 4 looks of 5 logits: 0.5 or 1, around the target 0.6; a step is 4 x 5 / 1000."""
    ada, memory = build("augment", "ada:start=0.3,images=1000"), {}
    for k, sign in enumerate(signs):
        assert float(memory.get("augment.p", torch.tensor(0.3))) == pytest.approx(0.3), k
        memory = ada.observe([torch.full((5,), 0.1 * sign)], memory)
    assert float(memory["augment.p"]) == pytest.approx(then)
    assert float(memory["augment.sign"]) == pytest.approx(sum(signs) / 4)


@pytest.mark.parametrize("sizes", [(3,), (3, 5)])
def test_many_logits_of_an_image_are_one_image(sizes):
    game, real = Game("nonsaturating", augment="ada:start=0.3,interval=1,images=40"), images(4)
    heads = nn.ModuleList(nn.Linear(real[0].numel(), size) for size in sizes).double()
    for head in heads:
        nn.init.ones_(head.bias), nn.init.zeros_(head.weight)
    terms = game.critic_terms(lambda x: [head(x.flatten(1)) for head in heads], real, real)
    assert terms.scores["real"].outputs[0].shape == (4, 3)
    assert float(game.observe(terms.scores, {})["augment.p"]) == pytest.approx(0.4)


@pytest.mark.parametrize("start, logit, end", [(0.79, 1.0, 0.8), (0.005, -1.0, 0.0)])
def test_p_stays_where_nothing_leaks(start, logit, end):
    ada, memory = build("augment", f"ada:start={start},images=100"), {}
    for _ in range(8):
        memory = ada.observe([torch.full((5,), logit)], memory)
    assert float(memory["augment.p"]) == pytest.approx(end)


def test_in_ones_own_loop():
    """The p of the loop is that of the game, and a state continues the same draws."""
    real = images(4).float()
    one = steadygan.augment("ada:start=0.5,interval=1,images=40", torch.Generator().manual_seed(0))
    assert one.p is None
    one.observe(torch.ones(4))
    assert one.p == pytest.approx(0.6)
    state, first = one.state_dict(), one(real)
    other = steadygan.augment("ada:start=0.5", torch.Generator())
    other.load_state_dict(state)
    assert torch.equal(other(real), first) and not torch.equal(one(real), first)
    half = one(real.bfloat16())
    assert half.dtype == torch.bfloat16 and half.isfinite().all()


@pytest.mark.parametrize(
    "objective, spec, why",
    [
        ("relativistic", "ada", "signs mean nothing"),
        ("wasserstein", "ada", "signs mean nothing"),
        ("nonsaturating", "ada:most=1", "< 1"),
        ("nonsaturating", "diffaugment:ops=colour", "color"),
        ("nonsaturating", "ada:ops=flip/flip", "each once"),
    ],
)
def test_what_cannot_be_is_refused(objective, spec, why):
    with pytest.raises(SteadyganError, match=why):
        Game(objective, augment=spec)


def test_relativistic_games_keep_p():
    assert Game("relativistic", augment="ada:target=none,start=0.2").augment.start == 0.2
    with pytest.raises(SteadyganError, match="leave it out"):
        Game("minimax", augment="ada").critic_loss(nn.Linear(2, 1), *torch.randn(2, 4, 2))
