"""The generator's side of other trainings, against the formulas of three public recipes."""

import pytest
import torch
from torch import nn

from many_outputs import SOUND, Patch, Split, Vocoder
from steadygan import Game, SteadyganError
from steadygan.adversarial import Balancer, Ramp, adaptive_weight, feature_matching


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.fixture
def autoencoder():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 3, 3, 1, 1)
    ).double()


def images(seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 12, 12, generator=rng, dtype=torch.float64)


def sounds(seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, *SOUND, generator=rng, dtype=torch.float64)


# ------------------------------------------------------------ taming-transformers (VQGAN)


@pytest.mark.parametrize("step", [0, 9, 10, 500])
def test_the_generators_loss_of_vqgan(autoencoder, step):
    """rec + d_weight disc_factor g_loss, g_loss = -mean(logits), disc_factor 0 before a step."""
    critic, x = Patch().double(), images()
    rec = (x - (made := autoencoder(x))).abs().mean()
    g_loss = -critic(made).mean()
    last = autoencoder[-1].weight
    rec_slope, g_slope = (torch.autograd.grad(t, last, retain_graph=True)[0] for t in (rec, g_loss))
    d_weight = (rec_slope.norm() / (g_slope.norm() + 1e-4)).clamp(0.0, 1e4).detach() * 0.8
    theirs = rec + d_weight * (1.0 if step >= 10 else 0.0) * g_loss

    ours = Game("hinge").generator_loss(critic, x, made)
    weight = 0.8 * adaptive_weight(rec, ours, last)
    assert not weight.requires_grad and weight > 0
    found = rec + Ramp(start=10)(step) * weight * ours
    close(found, theirs)
    for p, q in zip(
        torch.autograd.grad(found, list(autoencoder.parameters()), retain_graph=True),
        torch.autograd.grad(theirs, list(autoencoder.parameters())),
        strict=True,
    ):
        close(p, q)


@pytest.mark.parametrize("objective", ["hinge", "nonsaturating"])
def test_the_critics_loss_of_vqgan_is_half_of_ours(objective):
    critic, real, fake = Patch().double(), images(1), images(2)
    a, b = critic(real), critic(fake)
    theirs = {
        "hinge": ((1 - a).relu().mean() + (1 + b).relu().mean()) / 2,
        "nonsaturating": (nn.functional.softplus(-a).mean() + nn.functional.softplus(b).mean()) / 2,
    }[objective]
    close(Game(objective).critic_loss(critic, real, fake) / 2, theirs)


def test_the_weight_has_a_largest_value_and_a_floor(autoencoder):
    x = images()
    made, last = autoencoder(x), autoencoder[-1].weight
    rec = (x - made).abs().mean()
    assert adaptive_weight(rec, 1e-12 * made.sum(), last) == pytest.approx(
        torch.autograd.grad(rec, last, retain_graph=True)[0].norm().item() / 1e-4, rel=1e-3
    )
    assert adaptive_weight(rec, 0 * made.sum(), last, floor=1e-9) == 1e4
    assert adaptive_weight(rec, rec, last, floor=0.0) == pytest.approx(1, rel=1e-14)
    for losses in ((rec, made.detach().sum()), (nn.Linear(2, 2).weight.sum(), rec)):
        with pytest.raises(SteadyganError, match="does not depend on the last layer"):
            adaptive_weight(*losses, last)


def test_a_ramp():
    ramp = Ramp(start=100, length=50)
    assert [ramp(t) for t in (0, 99, 100, 125, 150, 10**6)] == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]
    assert [Ramp(3)(t) for t in (2, 3)] == [0.0, 1.0]


# ------------------------------------------------------------ HiFi-GAN


class Doubled(nn.Module):
    """Logits of labels 1 and 0, as of labels 1 and -1."""

    def __init__(self, critic):
        super().__init__()
        self.critic = critic

    def forward(self, x):
        return [(2 * logits - 1, maps) for logits, maps in self.critic(x)]


def test_hifi_gan():
    """Least squares with labels 1 and 0, added up over critics; twice the features' distances."""
    critic, (real, fake) = Vocoder().double().eval(), sounds()
    a, b = critic(real), critic(fake)
    game = Game("least-squares")
    d_loss = sum(((1 - r) ** 2).mean() + (g**2).mean() for (r, _), (g, _) in zip(a, b, strict=True))
    close(game.critic_loss(Doubled(critic), real, fake) / 2, d_loss)
    g_loss = sum(((1 - g) ** 2).mean() for g, _ in b)
    close(game.generator_loss(Doubled(critic), real, fake) / 2, g_loss)
    features = 2 * sum(
        (rl - gl).abs().mean()
        for (_, r), (_, g) in zip(a, b, strict=True)
        for rl, gl in zip(r, g, strict=True)
    )
    scores = game.generator_terms(critic, real, fake).scores
    close(2 * feature_matching(scores["real"].features, scores["fake"].features), features)


# ------------------------------------------------------------ audiocraft, EnCodec


def test_audiocraft():
    """Hinge losses and features averaged over critics; a critic's features over its maps."""
    critic, (real, fake) = Split().double(), sounds()
    (a, fa), (b, fb) = critic(real), critic(fake)
    game = Game("hinge", outputs="each:over=mean")
    d_loss = sum(
        -torch.min(r - 1, torch.zeros_like(r)).mean()
        - torch.min(-g - 1, torch.zeros_like(g)).mean()
        for r, g in zip(a, b, strict=True)
    )
    close(game.critic_loss(critic, real, fake), d_loss / len(a))
    close(game.generator_loss(critic, real, fake), sum(-g.mean() for g in b) / len(b))
    feat = sum(
        sum(nn.functional.l1_loss(g, r) for r, g in zip(x, y, strict=True)) / len(x)
        for x, y in zip(fa, fb, strict=True)
    )
    scores = game.generator_terms(critic, real, fake).scores
    features = scores["real"].features, scores["fake"].features
    close(feature_matching(*features, over="mean"), feat / len(fa))
    relative = sum(
        sum((r - g).abs().mean() / r.abs().mean() for r, g in zip(x, y, strict=True)) / len(x)
        for x, y in zip(fa, fb, strict=True)
    )
    close(feature_matching(*features, over="mean", relative=True), relative / len(fa))


def test_a_balanced_loss_may_have_the_shape_of_one():
    totals, slopes = [], []
    for shape in ((), (1,)):
        x = torch.arange(6.0).reshape(3, 2).requires_grad_()
        losses = {"a": x.sum(), "b": x.square().mean().reshape(shape)}
        totals.append(Balancer({"a": 1, "b": 2}).backward(losses, x))
        slopes.append(x.grad)
    assert torch.equal(*totals) and torch.equal(*slopes) and totals[0].shape == ()


class TheirBalancer:
    """What audiocraft's does with one process: norms per item, moving averages without bias."""

    def __init__(self, weights, total_norm, beta):
        self.weights, self.total_norm, self.beta = weights, total_norm, beta
        self.total, self.fix = dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 0.0)

    def __call__(self, losses, x):
        out, effective = torch.zeros_like(x), 0.0
        grads = {k: torch.autograd.grad(v, [x], retain_graph=True)[0] for k, v in losses.items()}
        for k, g in grads.items():
            self.total[k] = self.total[k] * self.beta + float(g.norm(dim=(1, 2), p=2).mean())
            self.fix[k] = self.fix[k] * self.beta + 1
        for k, g in grads.items():
            ratio = self.weights[k] / sum(self.weights.values())
            scale = ratio * self.total_norm / (1e-12 + self.total[k] / self.fix[k])
            out = out + g * scale
            effective = effective + scale * losses[k].detach()
        return out, effective


def test_the_balancer_of_audiocraft():
    torch.manual_seed(0)
    net, critic = nn.Conv1d(1, 1, 5, padding=2).double(), Split().double()
    weights = {"l1": 0.1, "adv": 4.0, "feat": 4.0}
    ours, theirs = Balancer(weights, total_norm=2.0, decay=0.9), TheirBalancer(weights, 2.0, 0.9)
    for step in range(4):
        real = sounds(step)[0]
        made = net(real)
        terms = Game("hinge").generator_terms(critic, real, made)
        losses = {
            "l1": (step + 1) * (made - real).abs().mean(),
            "adv": terms.loss,
            "feat": feature_matching(terms.scores["real"].features, terms.scores["fake"].features),
        }
        out, effective = theirs(losses, made)
        expected = torch.autograd.grad(made, list(net.parameters()), out, retain_graph=True)
        critic.zero_grad()
        net.zero_grad()
        close(ours.backward(losses, made), effective)
        for p, g in zip(net.parameters(), expected, strict=True):
            close(p.grad, g)
        if step == 1:
            saved = ours.state_dict()
            ours = Balancer(weights, total_norm=2.0, decay=0.9)
            ours.load_state_dict(saved)
        assert all(p.grad is None for p in critic.parameters())


def test_what_cannot_be_matched_or_balanced_is_refused():
    one = [[torch.zeros(2, 3)]]
    for real, fake in ((one, [[torch.zeros(2, 4)]]), (one, [*one, *one]), ([], []), ([()], [()])):
        with pytest.raises(SteadyganError, match="feature matching"):
            feature_matching(real, fake)
    with pytest.raises(SteadyganError, match="in groups"):
        feature_matching(one[0], one[0])
    with pytest.raises(SteadyganError, match="nearest first: mean, sum"):
        feature_matching(one, one, over="men")
    x = torch.ones(2, 3, requires_grad=True)
    other = torch.ones(3, requires_grad=True)
    with pytest.raises(SteadyganError, match="'b' has no weight"):
        Balancer({"a": 1}).backward({"b": x.sum()}, x)
    for loss, at in ((x.detach().sum(), x), (other.sum(), x), (x.sum(), x.detach())):
        with pytest.raises(SteadyganError, match="does not depend"):
            Balancer({"a": 1}).backward({"a": loss}, at)
        with pytest.raises(SteadyganError, match="does not depend"):
            adaptive_weight(loss, x.sum(), at)
    for call in (lambda loss: adaptive_weight(loss, x.sum(), x), balanced(x)):
        with pytest.raises(SteadyganError, match=r"has shape \(2,\): pass one number"):
            call(x.sum(1))
    with pytest.raises(SteadyganError, match="not in Linear"):
        adaptive_weight(x.sum(), x.sum(), torch.nn.Linear(1, 1))
    for losses in ({}, {"b": x.sum()}):
        with pytest.raises(SteadyganError, match="a weight above 0"):
            Balancer({"a": 1, "b": 0}).backward(losses, x)
    for weights in ({}, {"a": 0}, {"a": -1, "b": 2}, {"a": float("nan")}, {"a": float("inf")}):
        with pytest.raises(SteadyganError, match="weights of losses"):
            Balancer(weights)
    with pytest.raises(SteadyganError, match="0 or more steps"):
        Ramp(start=3, length=-2)


def test_the_generators_output_may_be_numbers():
    for shape in ((3,), (3, 1)):
        x = torch.tensor([0.5, 1.0, -2.0]).view(shape).requires_grad_()
        Balancer({"a": 1}, total_norm=2.0).backward({"a": x.square().sum()}, x)
        # 2 g / <|g|>, g = 2 x
        torch.testing.assert_close(x.grad.flatten(), torch.tensor([1.0, 2.0, -4.0]) * 3 / 3.5)


def balanced(x):
    return lambda loss: Balancer({"a": 1}).backward({"a": loss}, x)


def test_a_weight_that_is_computed_anew_gives_way_to_the_parameter_behind_it():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 2))
    made = layer(torch.randn(3, 4))
    with pytest.raises(SteadyganError, match=r"layer\.parametrizations\.weight\.original1"):
        adaptive_weight(made.abs().mean(), made.mean(), layer.weight)
    parameter = layer.parametrizations.weight.original1
    assert adaptive_weight(made.abs().mean(), made.mean(), parameter) > 0
